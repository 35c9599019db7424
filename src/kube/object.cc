#include "kube/object.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/strings.h"

namespace basalt::kube {

std::string ObjectKey::to_string() const {
    return ns.empty() ? name : fmt::format("{}/{}", ns, name);
}

std::string Gvk::api_version() const {
    return group.empty() ? version : fmt::format("{}/{}", group, version);
}

std::string Gvk::to_string() const {
    return group.empty() ? fmt::format("{}.{}", kind, version)
                         : fmt::format("{}.{}.{}", kind, version, group);
}

Resource::Resource(std::string_view api_version, std::string plural_name, std::string kind_name,
                   bool is_namespaced)
    : plural(std::move(plural_name)), kind(std::move(kind_name)), namespaced(is_namespaced) {
    std::tie(group, version) = split_api_version(api_version);
}

std::string Resource::api_version() const { return gvk().api_version(); }

std::string Resource::to_string() const {
    return group.empty() ? fmt::format("{}.{}", plural, version)
                         : fmt::format("{}.{}.{}", plural, version, group);
}

std::pair<std::string, std::string> split_api_version(std::string_view api_version) {
    const auto parts = cut(api_version, "/");
    if (!parts) return {"", std::string(api_version)};
    return {std::string(parts->first), std::string(parts->second)};
}

namespace resources {

#define BASALT_RESOURCE(function, api_version, plural, kind, namespaced)       \
    const Resource& function() {                                               \
        static const Resource resource(api_version, plural, kind, namespaced); \
        return resource;                                                       \
    }
BASALT_RESOURCE(pods, "v1", "pods", "Pod", true)
BASALT_RESOURCE(services, "v1", "services", "Service", true)
BASALT_RESOURCE(secrets, "v1", "secrets", "Secret", true)
BASALT_RESOURCE(config_maps, "v1", "configmaps", "ConfigMap", true)
BASALT_RESOURCE(namespaces, "v1", "namespaces", "Namespace", false)
BASALT_RESOURCE(nodes, "v1", "nodes", "Node", false)
BASALT_RESOURCE(service_accounts, "v1", "serviceaccounts", "ServiceAccount", true)
BASALT_RESOURCE(endpoints, "v1", "endpoints", "Endpoints", true)
BASALT_RESOURCE(persistent_volumes, "v1", "persistentvolumes", "PersistentVolume", false)
BASALT_RESOURCE(persistent_volume_claims, "v1", "persistentvolumeclaims", "PersistentVolumeClaim",
                true)
BASALT_RESOURCE(deployments, "apps/v1", "deployments", "Deployment", true)
BASALT_RESOURCE(replica_sets, "apps/v1", "replicasets", "ReplicaSet", true)
BASALT_RESOURCE(stateful_sets, "apps/v1", "statefulsets", "StatefulSet", true)
BASALT_RESOURCE(daemon_sets, "apps/v1", "daemonsets", "DaemonSet", true)
BASALT_RESOURCE(jobs, "batch/v1", "jobs", "Job", true)
BASALT_RESOURCE(leases, "coordination.k8s.io/v1", "leases", "Lease", true)
BASALT_RESOURCE(events, "events.k8s.io/v1", "events", "Event", true)
BASALT_RESOURCE(endpoint_slices, "discovery.k8s.io/v1", "endpointslices", "EndpointSlice", true)
BASALT_RESOURCE(pod_disruption_budgets, "policy/v1", "poddisruptionbudgets", "PodDisruptionBudget",
                true)
BASALT_RESOURCE(network_policies, "networking.k8s.io/v1", "networkpolicies", "NetworkPolicy", true)
BASALT_RESOURCE(ingresses, "networking.k8s.io/v1", "ingresses", "Ingress", true)
BASALT_RESOURCE(roles, "rbac.authorization.k8s.io/v1", "roles", "Role", true)
BASALT_RESOURCE(role_bindings, "rbac.authorization.k8s.io/v1", "rolebindings", "RoleBinding", true)
BASALT_RESOURCE(cluster_roles, "rbac.authorization.k8s.io/v1", "clusterroles", "ClusterRole", false)
BASALT_RESOURCE(cluster_role_bindings, "rbac.authorization.k8s.io/v1", "clusterrolebindings",
                "ClusterRoleBinding", false)
BASALT_RESOURCE(storage_classes, "storage.k8s.io/v1", "storageclasses", "StorageClass", false)
BASALT_RESOURCE(priority_classes, "scheduling.k8s.io/v1", "priorityclasses", "PriorityClass", false)
BASALT_RESOURCE(api_services, "apiregistration.k8s.io/v1", "apiservices", "APIService", false)
BASALT_RESOURCE(custom_resource_definitions, "apiextensions.k8s.io/v1", "customresourcedefinitions",
                "CustomResourceDefinition", false)
BASALT_RESOURCE(validating_webhook_configurations, "admissionregistration.k8s.io/v1",
                "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", false)
BASALT_RESOURCE(mutating_webhook_configurations, "admissionregistration.k8s.io/v1",
                "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", false)
BASALT_RESOURCE(validating_admission_policies, "admissionregistration.k8s.io/v1",
                "validatingadmissionpolicies", "ValidatingAdmissionPolicy", false)
BASALT_RESOURCE(validating_admission_policy_bindings, "admissionregistration.k8s.io/v1",
                "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", false)
BASALT_RESOURCE(token_reviews, "authentication.k8s.io/v1", "tokenreviews", "TokenReview", false)
BASALT_RESOURCE(subject_access_reviews, "authorization.k8s.io/v1", "subjectaccessreviews",
                "SubjectAccessReview", false)
BASALT_RESOURCE(certificate_signing_requests, "certificates.k8s.io/v1",
                "certificatesigningrequests", "CertificateSigningRequest", false)
#undef BASALT_RESOURCE

}  // namespace resources

Value make_object(const Resource& resource, const ObjectKey& key) {
    Value metadata = Value::object({{"name", key.name}});
    metadata.set_unless_empty("namespace", key.ns);
    Value object = Value::object({{"apiVersion", resource.api_version()}, {"kind", resource.kind}});
    object.set("metadata", std::move(metadata));
    return object;
}

Gvk gvk_of(const Value& object) {
    auto [group, version] = split_api_version(object["apiVersion"].as_string());
    return Gvk(std::move(group), std::move(version), object["kind"].str());
}

ObjectKey key_of(const Value& object) {
    const Value& metadata = object["metadata"];
    return ObjectKey(metadata["namespace"].str(), metadata["name"].str());
}

std::string describe(const Value& object) {
    return fmt::format("{} {}", object["kind"].as_string(), key_of(object).to_string());
}

std::string_view label_of(const Value& object, std::string_view name) {
    return object["metadata"]["labels"][name].as_string();
}

std::string_view annotation_of(const Value& object, std::string_view name) {
    return object["metadata"]["annotations"][name].as_string();
}

void set_label(Value& object, std::string_view name, std::string_view value) {
    object.at("metadata").at("labels").set(name, value);
}

void set_annotation(Value& object, std::string_view name, std::string_view value) {
    object.at("metadata").at("annotations").set(name, value);
}

bool has_finalizer(const Value& object, std::string_view name) {
    const data::Array& items = object["metadata"]["finalizers"].items();
    return std::any_of(items.begin(), items.end(),
                       [&](const Value& item) { return item.as_string() == name; });
}

bool insert_finalizer(Value& object, std::string_view name) {
    if (has_finalizer(object, name)) return false;
    object.at("metadata").at("finalizers").push_back(name);
    return true;
}

bool erase_finalizer(Value& object, std::string_view name) {
    if (!has_finalizer(object, name)) return false;
    data::Array& items = object.at("metadata").at("finalizers").mutable_items();
    std::erase_if(items, [&](const Value& item) { return item.as_string() == name; });
    return true;
}

std::vector<OwnerReference> owner_references(const Value& object) {
    std::vector<OwnerReference> references;
    for (const Value& item : object["metadata"]["ownerReferences"].items()) {
        references.push_back({item["apiVersion"].str(), item["kind"].str(), item["name"].str(),
                              item["uid"].str(), item["controller"].as_bool()});
    }
    return references;
}

std::optional<OwnerReference> controller_of(const Value& object) {
    for (OwnerReference& reference : owner_references(object)) {
        if (reference.controller) return std::move(reference);
    }
    return std::nullopt;
}

bool is_owned_by(const Value& object, std::string_view owner_uid) {
    const data::Array& items = object["metadata"]["ownerReferences"].items();
    return std::any_of(items.begin(), items.end(),
                       [&](const Value& item) { return item["uid"].as_string() == owner_uid; });
}

Value controller_reference(const Value& owner) {
    return Value::object({{"apiVersion", owner["apiVersion"]},
                          {"kind", owner["kind"]},
                          {"name", owner["metadata"]["name"]},
                          {"uid", owner["metadata"]["uid"]},
                          {"controller", true},
                          {"blockOwnerDeletion", true}});
}

Result<void> set_controller_reference(Value& object, const Value& owner) {
    const std::optional<OwnerReference> present = controller_of(object);
    if (present && present->uid != uid_of(owner)) {
        return failed_precondition(fmt::format("{} is controlled by {} {}", describe(object),
                                               present->kind, present->name));
    }
    data::Array& items = object.at("metadata").at("ownerReferences").mutable_items();
    std::erase_if(items,
                  [&](const Value& item) { return item["uid"].as_string() == uid_of(owner); });
    items.push_back(controller_reference(owner));
    return {};
}

namespace {

using Operator = LabelSelector::Operator;

bool requirement_matches(const LabelSelector::Requirement& requirement, const Value& labels) {
    const Value* value = labels.find(requirement.key);
    const auto is_listed = [&] {
        return std::find(requirement.values.begin(), requirement.values.end(),
                         value->as_string()) != requirement.values.end();
    };
    switch (requirement.op) {
        case Operator::kIn: return value != nullptr && is_listed();
        case Operator::kNotIn: return value == nullptr || !is_listed();
        case Operator::kExists: return value != nullptr;
        case Operator::kDoesNotExist: return value == nullptr;
    }
    return false;
}

/// "a in (x,y),b=c" at the commas outside of parentheses.
std::vector<std::string_view> split_requirements(std::string_view text) {
    std::vector<std::string_view> parts;
    size_t start = 0;
    int depth = 0;
    for (size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '(') ++depth;
        if (text[i] == ')') --depth;
        if (text[i] == ',' && depth <= 0) {
            parts.push_back(trim(text.substr(start, i - start)));
            start = i + 1;
        }
    }
    parts.push_back(trim(text.substr(start)));
    return parts;
}

/// Of the characters that keys ("/" too) and values may have; all others would be read back as
/// something else.
bool is_label_text(std::string_view text, bool is_key) {
    return std::all_of(text.begin(), text.end(), [is_key](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '-' || c == '_' || c == '.' || (is_key && c == '/');
    });
}

Result<LabelSelector::Requirement> checked(LabelSelector::Requirement requirement,
                                           std::string_view text) {
    if (requirement.key.empty() || !is_label_text(requirement.key, true))
        return invalid_argument(fmt::format("label selector: bad key in \"{}\"", text));
    for (const std::string& value : requirement.values) {
        if (!is_label_text(value, false))
            return invalid_argument(fmt::format("label selector: bad value in \"{}\"", text));
    }
    return requirement;
}

Result<LabelSelector::Requirement> parse_set_requirement(std::string_view text, size_t open) {
    if (text.back() != ')')
        return invalid_argument(fmt::format("label selector: no ')' in \"{}\"", text));
    const std::string_view head = trim(text.substr(0, open));
    const size_t space = head.find_last_of(" \t");
    if (space == std::string_view::npos) {
        return invalid_argument(
            fmt::format("label selector: \"{}\" lacks a key or an operator", text));
    }
    LabelSelector::Requirement requirement;
    requirement.key = trim(head.substr(0, space));
    const std::string_view op = head.substr(space + 1);
    if (op != "in" && op != "notin") {
        return invalid_argument(fmt::format("label selector: unknown operator \"{}\"", op));
    }
    requirement.op = op == "in" ? Operator::kIn : Operator::kNotIn;
    for (std::string_view value : split(text.substr(open + 1, text.size() - open - 2), ',')) {
        requirement.values.emplace_back(trim(value));
    }
    return checked(std::move(requirement), text);
}

Result<LabelSelector::Requirement> parse_requirement(std::string_view text) {
    if (const size_t open = text.find('('); open != std::string_view::npos) {
        return parse_set_requirement(text, open);
    }
    LabelSelector::Requirement requirement;
    std::optional<std::pair<std::string_view, std::string_view>> parts = cut(text, "!=");
    requirement.op = parts ? Operator::kNotIn : Operator::kIn;
    if (!parts) parts = cut(text, "==");
    if (!parts) parts = cut(text, "=");
    if (!parts) {
        const bool negated = text.starts_with("!");
        requirement.op = negated ? Operator::kDoesNotExist : Operator::kExists;
        if (negated) text = trim(text.substr(1));
    }
    requirement.key = trim(parts ? parts->first : text);
    if (parts) requirement.values.emplace_back(trim(parts->second));
    return checked(std::move(requirement), text);
}

std::string requirement_to_string(const LabelSelector::Requirement& requirement) {
    const bool single = requirement.values.size() == 1;
    switch (requirement.op) {
        case Operator::kExists: return requirement.key;
        case Operator::kDoesNotExist: return "!" + requirement.key;
        case Operator::kIn:
            if (single) return fmt::format("{}={}", requirement.key, requirement.values[0]);
            return fmt::format("{} in ({})", requirement.key, join(requirement.values, ","));
        case Operator::kNotIn:
            if (single) return fmt::format("{}!={}", requirement.key, requirement.values[0]);
            return fmt::format("{} notin ({})", requirement.key, join(requirement.values, ","));
    }
    return {};
}

}  // namespace

Result<LabelSelector> LabelSelector::parse(std::string_view text) {
    LabelSelector selector;
    if (trim(text).empty()) return selector;
    for (std::string_view part : split_requirements(text)) {
        if (part.empty()) return invalid_argument("label selector: empty requirement");
        BASALT_ASSIGN(Requirement requirement, parse_requirement(part));
        selector.requirements_.push_back(std::move(requirement));
    }
    return selector;
}

Result<LabelSelector> LabelSelector::from_value(const Value& value) {
    LabelSelector selector;
    if (!value.is_object()) {
        selector.nothing_ = true;
        return selector;
    }
    for (const data::Member& member : value["matchLabels"].members()) {
        selector.requirements_.push_back(
            {std::string(member.key()), Operator::kIn, {member.value.str()}});
    }
    for (const Value& item : value["matchExpressions"].items()) {
        Requirement requirement{item["key"].str(), Operator::kExists,
                                item["values"].as_string_list()};
        const std::string_view op = item["operator"].as_string();
        if (op == "In") {
            requirement.op = Operator::kIn;
        } else if (op == "NotIn") {
            requirement.op = Operator::kNotIn;
        } else if (op == "DoesNotExist") {
            requirement.op = Operator::kDoesNotExist;
        } else if (op != "Exists") {
            return invalid_argument(fmt::format("label selector: unknown operator \"{}\"", op));
        }
        selector.requirements_.push_back(std::move(requirement));
    }
    return selector;
}

LabelSelector LabelSelector::equals(std::string key, std::string value) {
    std::vector<Requirement> requirements;
    requirements.push_back({std::move(key), Operator::kIn, {std::move(value)}});
    return LabelSelector(std::move(requirements));
}

bool LabelSelector::matches_labels(const Value& labels) const {
    if (nothing_) return false;
    return std::all_of(
        requirements_.begin(), requirements_.end(),
        [&](const Requirement& requirement) { return requirement_matches(requirement, labels); });
}

std::string LabelSelector::to_string() const {
    std::vector<std::string> parts;
    for (const Requirement& requirement : requirements_)
        parts.push_back(requirement_to_string(requirement));
    return join(parts, ",");
}

}  // namespace basalt::kube
