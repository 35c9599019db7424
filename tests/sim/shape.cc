#include "tests/sim/shape.h"

#include <deque>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <fmt/format.h>

#include "data/pointer.h"
#include "data/yaml.h"

namespace basalt::sim {

namespace {

// Each entry is a kind or a part of one. A member is: a name of another entry; "atomic"; "set";
// "[]Entry" (an atomic list); [keys…, Entry] (a list map); "=text" (a default); or the members of
// an entry in place.
constexpr const char* kBuiltIn = R"(
Meta: {ownerReferences: [uid, Whole], finalizers: set}
Whole: atomic
Open: {}
Condition: {}
ServicePort: {protocol: "=TCP"}
Service:
  metadata: Meta
  spec:
    ports: [port, protocol, ServicePort]
    selector: atomic
    type: "=ClusterIP"
    sessionAffinity: "=None"
    internalTrafficPolicy: "=Cluster"
  status: {conditions: [type, Condition]}
Container:
  env: [name, EnvVar]
  ports: [containerPort, protocol, ContainerPort]
  volumeMounts: [mountPath, Open]
  volumeDevices: [devicePath, Open]
  terminationMessagePath: "=/dev/termination-log"
  terminationMessagePolicy: "=File"
  resources: {default: "={}", claims: [name, Open]}
  livenessProbe: Probe
  readinessProbe: Probe
  startupProbe: Probe
ContainerPort: {protocol: "=TCP"}
EnvVar: {valueFrom: {fieldRef: atomic, secretKeyRef: atomic, configMapKeyRef: atomic, resourceFieldRef: atomic}}
Probe:
  timeoutSeconds: "=1"
  periodSeconds: "=10"
  successThreshold: "=1"
  failureThreshold: "=3"
  httpGet: {scheme: "=HTTP", path: "=/"}
Volume:
  configMap: {defaultMode: "=420"}
  secret: {defaultMode: "=420"}
  projected: {defaultMode: "=420", sources: "[]Open"}
PodSpec:
  containers: [name, Container]
  initContainers: [name, Container]
  ephemeralContainers: [name, Container]
  volumes: [name, Volume]
  imagePullSecrets: [name, Open]
  topologySpreadConstraints: [topologyKey, whenUnsatisfiable, Spread]
  hostAliases: [ip, Open]
  schedulingGates: [name, Open]
  nodeSelector: atomic
  securityContext: {default: "={}"}
  restartPolicy: "=Always"
  dnsPolicy: "=ClusterFirst"
  terminationGracePeriodSeconds: "=30"
  schedulerName: "=default-scheduler"
Spread: {labelSelector: atomic}
PodTemplate: {metadata: Meta, spec: PodSpec}
Deployment:
  metadata: Meta
  spec:
    selector: atomic
    replicas: "=1"
    revisionHistoryLimit: "=10"
    progressDeadlineSeconds: "=600"
    template: PodTemplate
  status: {conditions: [type, Condition]}
ReplicaSet:
  metadata: Meta
  spec: {selector: atomic, replicas: "=1", template: PodTemplate}
  status: {conditions: [type, Condition]}
DaemonSet:
  metadata: Meta
  spec: {selector: atomic, revisionHistoryLimit: "=10", template: PodTemplate}
  status: {conditions: [type, Condition]}
Pod:
  metadata: Meta
  spec: PodSpec
  status: {conditions: [type, Condition], podIPs: [ip, Open]}
PodDisruptionBudget:
  metadata: Meta
  spec: {selector: atomic}
  status: {conditions: [type, Condition]}
PolicyPort: {protocol: "=TCP"}
PolicyRule: {ports: "[]PolicyPort"}
NetworkPolicy: {metadata: Meta, spec: {podSelector: atomic, ingress: "[]PolicyRule", egress: "[]PolicyRule"}}
Role: {metadata: Meta}
RoleBinding: {metadata: Meta, roleRef: atomic, subjects: "[]Open"}
ServiceAccount: {metadata: Meta, secrets: [name, Open]}
Secret: {metadata: Meta, type: "=Opaque"}
Plain: {metadata: Meta}
Node:
  metadata: Meta
  status: {conditions: [type, Condition], addresses: [type, Open]}
Namespace:
  metadata: Meta
  spec: {finalizers: "[]Open"}
  status: {conditions: [type, Condition]}
)";

constexpr const char* kTemplateGeneration = "deprecated.daemonset.template.generation";

std::string read_file(const std::string& path) {
    std::ifstream file(path);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

class Table {
 public:
    Table() : source_(data::parse_yaml(kBuiltIn).value()) {
        for (const data::Member& entry : source_.members())
            entries_[std::string(entry.key())] = fresh();
        for (const data::Member& entry : source_.members())
            fill(*entries_.at(std::string(entry.key())), entry.value);
    }
    const Shape* entry(const std::string& name) const { return entries_.at(name); }

 private:
    Shape* fresh() { return shapes_.emplace_back(std::make_unique<Shape>()).get(); }

    void fill(Shape& shape, const Value& text) {
        if (text.is_string()) {
            if (text.as_string() == "atomic") shape.kind = Shape::Kind::kAtomic;
            return;
        }
        for (const data::Member& member : text.members()) {
            if (member.key() == "default") {
                shape.default_value = data::parse_yaml(member.value.str().substr(1)).value();
            } else {
                shape.fields[std::string(member.key())] = member_shape(member.value);
            }
        }
    }

    const Shape* member_shape(const Value& text) {
        if (text.is_string()) {
            const std::string word = text.str();
            if (entries_.contains(word)) return entries_.at(word);
            Shape* shape = fresh();
            if (word == "set") shape->kind = Shape::Kind::kListSet;
            if (word == "atomic") shape->kind = Shape::Kind::kAtomic;
            if (word.starts_with("[]")) shape->item = entries_.at(word.substr(2));
            if (word.starts_with("="))
                shape->default_value = data::parse_yaml(word.substr(1)).value();
            return shape;
        }
        Shape* shape = fresh();
        if (text.is_array()) {
            shape->kind = Shape::Kind::kListMap;
            for (const Value& part : text.items()) shape->keys.push_back(part.str());
            shape->item = entries_.at(shape->keys.back());
            shape->keys.pop_back();
        } else {
            fill(*shape, text);
        }
        return shape;
    }

    Value source_;
    std::map<std::string, Shape*> entries_;
    std::vector<std::unique_ptr<Shape>> shapes_;
};

const Table& table() {
    static const Table* const kTable = new Table();
    return *kTable;
}

/// Shapes of custom resources; they live as long as the program.
Shape* new_shape() {
    static std::deque<Shape> shapes;
    return &shapes.emplace_back();
}

/// From a structural schema.
const Shape* shape_of_schema(const Value& schema) {
    Shape* shape = new_shape();
    shape->default_value = schema["default"];
    const std::string_view type = schema["type"].as_string();
    if (type == "array") {
        const std::string_view list = schema["x-kubernetes-list-type"].as_string();
        if (list == "map") {
            shape->kind = Shape::Kind::kListMap;
            shape->keys = schema["x-kubernetes-list-map-keys"].as_string_list();
        } else if (list == "set") {
            shape->kind = Shape::Kind::kListSet;
        }
        shape->item = shape_of_schema(schema["items"]);
        return shape;
    }
    if (schema["x-kubernetes-map-type"].as_string() == "atomic") shape->kind = Shape::Kind::kAtomic;
    for (const data::Member& property : schema["properties"].members()) {
        shape->fields[std::string(property.key())] = shape_of_schema(property.value);
    }
    if (schema["additionalProperties"].is_object())
        shape->rest = shape_of_schema(schema["additionalProperties"]);
    shape->closed = type == "object" && shape->rest == nullptr && !shape->fields.empty() &&
                    !schema["x-kubernetes-preserve-unknown-fields"].as_bool();
    return shape;
}

Kind built_in(const kube::Resource& resource, const char* entry, bool has_status,
              bool has_generation) {
    Kind kind;
    kind.resource = resource;
    kind.shape = table().entry(entry);
    kind.has_status = has_status;
    kind.has_generation = has_generation;
    return kind;
}

Kind custom(const std::string& path) {
    const Value crd = data::parse_yaml(read_file(path)).value();
    const Value& spec = crd["spec"];
    const Value& version = spec["versions"][0];
    Kind kind;
    kind.resource = kube::Resource(spec["group"].str() + "/" + version["name"].str(),
                                   spec["names"]["plural"].str(), spec["names"]["kind"].str(),
                                   spec["scope"].as_string() == "Namespaced");
    auto* shape = const_cast<Shape*>(shape_of_schema(version["schema"]["openAPIV3Schema"]));
    shape->fields["metadata"] = table().entry("Meta");
    shape->fields.try_emplace("apiVersion", &open_shape());
    shape->fields.try_emplace("kind", &open_shape());
    kind.shape = shape;
    kind.has_status = version["subresources"].contains("status");
    kind.scale = version["subresources"]["scale"];
    kind.has_generation = true;
    kind.custom = true;
    return kind;
}

void default_workload(Value& object, const char* strategy, const char* surge, Value surge_value,
                      Value unavailable) {
    Value& part = object.at("spec").at(strategy);
    if (part["type"].empty()) part.set("type", "RollingUpdate");
    if (part["type"].as_string() != "RollingUpdate") return;
    Value& rolling = part.at("rollingUpdate");
    if (rolling[surge].is_null()) rolling.set(surge, std::move(surge_value));
    if (rolling["maxUnavailable"].is_null()) rolling.set("maxUnavailable", std::move(unavailable));
}

void default_field_reference(Value& holder) {
    Value* reference = holder.find("fieldRef");
    if (reference != nullptr && (*reference)["apiVersion"].empty())
        reference->set("apiVersion", "v1");
}

void default_container(Value& container) {
    if (container["imagePullPolicy"].empty()) {
        const std::string image = container["image"].str();
        const size_t colon = image.rfind(':');
        const bool newest = colon == std::string::npos || image.substr(colon) == ":latest" ||
                            image.find('/', colon) != std::string::npos;
        container.set("imagePullPolicy", newest ? "Always" : "IfNotPresent");
    }
    Value* variables = container.find("env");
    if (variables == nullptr) return;
    for (Value& variable : variables->mutable_items()) {
        if (Value* source = variable.find("valueFrom")) default_field_reference(*source);
    }
}

/// What depends on other fields.
void default_pod_spec(Value& spec) {
    for (const char* list : {"containers", "initContainers"}) {
        Value* containers = spec.find(list);
        if (containers == nullptr) continue;
        for (Value& container : containers->mutable_items()) default_container(container);
    }
    if (Value* volumes = spec.find("volumes")) {
        for (Value& volume : volumes->mutable_items()) {
            Value* projected = volume.find("projected");
            Value* sources = projected == nullptr ? nullptr : projected->find("sources");
            if (sources == nullptr) continue;
            for (Value& source : sources->mutable_items()) {
                Value* downward = source.find("downwardAPI");
                Value* items = downward == nullptr ? nullptr : downward->find("items");
                if (items == nullptr) continue;
                for (Value& item : items->mutable_items()) default_field_reference(item);
            }
        }
    }
    // An old name and a new one of the same field.
    if (!spec["serviceAccountName"].empty()) {
        spec.set("serviceAccount", spec["serviceAccountName"].str());
    } else if (!spec["serviceAccount"].empty()) {
        spec.set("serviceAccountName", spec["serviceAccount"].str());
    }
}

/// Counts that are shown when they are zero, too.
void default_counts(Value& object, std::initializer_list<const char*> names) {
    Value& status = object.at("status");
    for (const char* name : names) {
        if (status[name].is_null()) status.set(name, 0);
    }
}

void default_service(Value& object) {
    Value& spec = object.at("spec");
    const std::string type = spec["type"].str();
    if (type == "LoadBalancer" || type == "NodePort") {
        if (spec["externalTrafficPolicy"].empty()) spec.set("externalTrafficPolicy", "Cluster");
    }
    if (type == "LoadBalancer" && spec["allocateLoadBalancerNodePorts"].is_null()) {
        spec.set("allocateLoadBalancerNodePorts", true);
    }
    if (type != "ExternalName") {
        if (spec["ipFamilies"].empty()) spec.set("ipFamilies", Value::array({"IPv4"}));
        if (spec["ipFamilyPolicy"].empty()) spec.set("ipFamilyPolicy", "SingleStack");
    }
    if (Value* ports = spec.find("ports")) {
        for (Value& port : ports->mutable_items()) {
            if (port["targetPort"].is_null()) port.set("targetPort", port["port"]);
        }
    }
}

void fill_defaults(const Shape& shape, Value& value) {
    if (value.is_array()) {
        for (Value& item : value.mutable_items()) fill_defaults(shape.items(), item);
        return;
    }
    if (!value.is_object()) return;
    for (const auto& [name, field] : shape.fields) {
        if (!field->default_value.is_null() && value[name].is_null())
            value.set(name, field->default_value);
    }
    for (data::Member& member : value.mutable_members())
        fill_defaults(shape.field(member.key()), member.value);
}

}  // namespace

const Shape& open_shape() {
    static const Shape kOpen;
    return kOpen;
}

const Shape& Shape::field(std::string_view name) const {
    auto found = fields.find(std::string(name));
    if (found != fields.end()) return *found->second;
    return rest != nullptr ? *rest : open_shape();
}

const Shape& Shape::items() const { return item != nullptr ? *item : open_shape(); }

const std::vector<Kind>& built_in_kinds() {
    namespace r = kube::resources;
    static const std::vector<Kind> kinds = {
        built_in(r::namespaces(), "Namespace", true, false),
        built_in(r::nodes(), "Node", true, false),
        built_in(r::secrets(), "Secret", false, false),
        built_in(r::config_maps(), "Plain", false, false),
        built_in(r::services(), "Service", true, false),
        built_in(r::service_accounts(), "ServiceAccount", false, false),
        built_in(r::pods(), "Pod", true, true),
        built_in(r::deployments(), "Deployment", true, true),
        built_in(r::replica_sets(), "ReplicaSet", true, true),
        built_in(r::daemon_sets(), "DaemonSet", true, true),
        built_in(r::pod_disruption_budgets(), "PodDisruptionBudget", true, true),
        built_in(r::network_policies(), "NetworkPolicy", false, true),
        built_in(r::leases(), "Plain", false, false),
        built_in(r::events(), "Plain", false, false),
        built_in(r::endpoint_slices(), "Plain", false, true),
        built_in(r::roles(), "Role", false, false),
        built_in(r::role_bindings(), "RoleBinding", false, false),
        built_in(r::cluster_roles(), "Role", false, false),
        built_in(r::cluster_role_bindings(), "RoleBinding", false, false),
    };
    return kinds;
}

const std::vector<Kind>& custom_kinds() {
    static const std::vector<Kind> kinds = [] {
        std::vector<Kind> found;
        for (const auto& file :
             std::filesystem::directory_iterator(std::string(BASALT_SOURCE_DIR) + "/deploy/crds")) {
            if (file.path().extension() == ".yaml") found.push_back(custom(file.path().string()));
        }
        return found;
    }();
    return kinds;
}

void apply_defaults(const Kind& kind, Value& object) {
    const std::string& name = kind.resource.kind;
    fill_defaults(*kind.shape, object);
    if (kind.custom) return;
    if (name == "Deployment") default_workload(object, "strategy", "maxSurge", "25%", "25%");
    if (name == "DaemonSet") default_workload(object, "updateStrategy", "maxSurge", 0, 1);
    if (name == "Service") default_service(object);
    if (name == "Pod" && object["spec"].is_object()) default_pod_spec(object.at("spec"));
    if (object["spec"]["template"]["spec"].is_object())
        default_pod_spec(object.at("spec").at("template").at("spec"));
    if (name == "PodDisruptionBudget") {
        default_counts(object,
                       {"currentHealthy", "desiredHealthy", "disruptionsAllowed", "expectedPods"});
    }
    if (name == "DaemonSet") {
        default_counts(object, {"currentNumberScheduled", "desiredNumberScheduled",
                                "numberMisscheduled", "numberReady"});
        Value& annotation = object.at("metadata").at("annotations").at(kTemplateGeneration);
        if (annotation.empty()) annotation = Value("1");
    }
    if (Value* subjects = object.find("subjects");
        subjects != nullptr && name.ends_with("RoleBinding")) {
        for (Value& subject : subjects->mutable_items()) {
            const bool account = subject["kind"].as_string() == "ServiceAccount";
            if (!account && subject["apiGroup"].empty())
                subject.set("apiGroup", "rbac.authorization.k8s.io");
        }
    }
}

std::string undeclared_field(const Shape& shape, const Value& value) {
    if (value.is_array()) {
        for (size_t i = 0; i < value.size(); ++i) {
            const std::string inside = undeclared_field(shape.items(), value[i]);
            if (!inside.empty()) return fmt::format("[{}]{}", i, inside);
        }
        return "";
    }
    for (const data::Member& member : value.members()) {
        const std::string name(member.key());
        if (shape.closed && !shape.fields.contains(name)) return "." + name;
        const std::string inside = undeclared_field(shape.field(name), member.value);
        if (!inside.empty()) return fmt::format(".{}{}", name, inside);
    }
    return "";
}

void prune_unknown(const Shape& shape, Value& value) {
    if (value.is_array()) {
        for (Value& item : value.mutable_items()) prune_unknown(shape.items(), item);
        return;
    }
    if (!value.is_object()) return;
    if (shape.closed) {
        std::erase_if(value.mutable_members(), [&](const data::Member& member) {
            return !shape.fields.contains(std::string(member.key()));
        });
    }
    for (data::Member& member : value.mutable_members())
        prune_unknown(shape.field(member.key()), member.value);
}

}  // namespace basalt::sim
