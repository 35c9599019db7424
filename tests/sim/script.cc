#include "tests/sim/script.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/assert.h"
#include "controlplane/control_plane_controller.h"
#include "controlplane/kubeconfig_generator.h"
#include "controlplane/names.h"
#include "data/base64.h"
#include "data/json.h"
#include "data/yaml.h"
#include "tests/sim/instance.h"

namespace basalt::sim {

using namespace std::chrono_literals;
namespace r = kube::resources;
namespace names = controlplane::names;

namespace {

constexpr size_t kControlPlanesMax = 4;
const std::vector<std::string> kNamespaces = {"team-a", "team-b"};

Value patch_of(const char* yaml) { return data::parse_yaml(yaml).value(); }

}  // namespace

Script::Script(World& world, bool misfortune) : world_(world) {
    for (const std::string& ns : kNamespaces) world.make_namespace(ns);
    world.make_datastore("default");
    world.make_datastore("second");
    actions_ = {{6, "create", [this] { return create(); }},
                {8, "change", [this] { return change_spec(); }},
                {1, "events", [this] { return move_events(); }},
                {4, "upgrade", [this] { return upgrade(); }},
                {4, "sleep", [this] { return sleep_or_wake(); }},
                {1, "pause", [this] { return pause_or_resume(); }},
                {3, "delete", [this] { return remove_control_plane(); }},
                {2, "generator", [this] { return make_generator(); }}};
    if (!misfortune) return;
    const std::vector<Action> more = {
        {6, "delete owned", [this] { return delete_owned(); }},
        {6, "edit owned", [this] { return edit_owned(); }},
        {3, "break secret", [this] { return break_secret(); }},
        {2, "rotate", [this] { return rotate(); }},
        {6, "tenant", [this] { return edit_tenant(); }},
        {2, "datastore down", [this] { return break_datastore(); }},
        {1, "datastore full", [this] { return fill_datastore(); }},
        {1, "datastore slow", [this] { return slow_datastore(); }},
        {1, "datastore secret", [this] { return break_datastore_secret(); }},
        {4, "watches", [this] { return disturb_watches(); }},
        {8, "crash", [this] { return crash(); }},
        {8, "second process", [this] { return start_second(); }},
        {3, "end", [this] { return end_one(); }},
        {3, "cut off", [this] { return cut_off(); }},
        {4, "freeze", [this] { return freeze(); }},
        {5, "busy leader", [this] { return stop_busy_leader(); }},
        {3, "kill pod", [this] { return kill_pod(); }},
        {1, "clock", [this] { return jump_clock(); }},
        {2, "clock put back", [this] { return put_clock_back(); }},
        {2, "controller manager", [this] { return stop_controller_manager(); }}};
    actions_.insert(actions_.end(), more.begin(), more.end());
}

void Script::say(const std::string& what) {
    log_.push_back(format_rfc3339(world_.loop().wall_now()) + " " + what);
    if (world_.verbose) fmt::print(stderr, "== {}\n", log_.back());
}

void Script::act() {
    int total = 0;
    for (const Action& action : actions_) total += action.weight;
    int drawn = static_cast<int>(world_.chaos().below(static_cast<uint64_t>(total)));
    for (const Action& action : actions_) {
        drawn -= action.weight;
        if (drawn >= 0) continue;
        const std::string done = action.run();
        if (!done.empty()) say(std::string(action.name) + ": " + done);
        return;
    }
}

// ---- users
// ------------------------------------------------------------------------------------------------------

std::vector<SharedValue> Script::control_planes() const {
    return world_.api().list(controlplane::tenant_control_planes());
}
size_t Script::control_planes_count() const { return control_planes().size(); }
bool Script::has_lasting_control_plane() const {
    const std::vector<SharedValue> all = control_planes();
    return std::any_of(all.begin(), all.end(),
                       [](const SharedValue& object) { return !kube::is_deleting(*object); });
}

SharedValue Script::some_control_plane() {
    std::vector<SharedValue> all = control_planes();
    std::erase_if(all, [](const SharedValue& object) { return kube::is_deleting(*object); });
    return all.empty() ? nullptr : world_.chaos().pick(all);
}

Value Script::new_spec() {
    Chaos& chaos = world_.chaos();
    Value spec = patch_of(R"(
controlPlane: {deployment: {replicas: 1}, service: {serviceType: LoadBalancer}}
kubernetes: {version: v1.35.4}
networkProfile: {port: 6443}
addons: {coreDNS: {}, kubeProxy: {}, konnectivity: {}}
)");
    if (chaos.chance(0.4)) spec.at("kubernetes").set("version", "v1.36.3");
    if (chaos.chance(0.3)) spec.at("controlPlane").at("deployment").set("replicas", 2);
    if (chaos.chance(0.3)) spec.at("controlPlane").at("service").set("serviceType", "ClusterIP");
    for (const char* addon : {"coreDNS", "kubeProxy", "konnectivity"}) {
        if (chaos.chance(0.2)) spec.at("addons").erase(addon);
    }
    const bool in_second = chaos.chance(0.3);
    if (in_second) spec.set("dataStore", "second");
    if (chaos.chance(0.2)) {
        Value overrides = Value::array();
        for (const char* resource : {"/events", "coordination.k8s.io/leases"}) {
            if (overrides.size() > 0 && chaos.chance(0.5)) break;
            overrides.push_back(Value::object(
                {{"resource", resource}, {"dataStore", in_second ? "default" : "second"}}));
        }
        spec.set("dataStoreOverrides", std::move(overrides));
    }
    if (chaos.chance(0.2)) spec.set("dataStoreSchema", fmt::format("schema-{}", names_));
    if (chaos.chance(0.2))
        spec.at("networkProfile").set("certSANs", Value::array({"api.example.com", "192.0.2.7"}));
    return spec;
}

std::string Script::create() {
    if (control_planes_count() >= kControlPlanesMax) return "";
    const ObjectKey key(world_.chaos().pick(kNamespaces), fmt::format("cp-{}", ++names_ % 6));
    Value object = kube::make_object(controlplane::tenant_control_planes(), key);
    object.set("spec", new_spec());
    Result<Value> created =
        world_.api().create(controlplane::tenant_control_planes(), object, "user");
    return created.ok() ? key.to_string() : "";
}

std::string Script::change(const SharedValue& control_plane, const Value& patch,
                           const std::string& what) {
    const ObjectKey key = kube::key_of(*control_plane);
    Result<Value> changed =
        world_.api().patch(controlplane::tenant_control_planes(), key, patch, "user");
    return changed.ok() ? key.to_string() + " " + what : "";
}

std::string Script::change_spec() {
    SharedValue object = some_control_plane();
    if (object == nullptr) return "";
    static const std::vector<const char*> kPatches = {
        "{spec: {controlPlane: {deployment: {replicas: 1}}}}",
        "{spec: {controlPlane: {deployment: {replicas: 3}}}}",
        "{spec: {controlPlane: {deployment: {extraArgs: {apiServer: "
        "['--max-requests-inflight=100']}}}}}",
        "{spec: {controlPlane: {deployment: {extraArgs: null}}}}",
        "{spec: {controlPlane: {deployment: {podAdditionalMetadata: {labels: "
        "{tier: gold}, "
        "annotations: {a: b}}}}}}",
        "{spec: {controlPlane: {deployment: {podAdditionalMetadata: null}}}}",
        "{spec: {controlPlane: {deployment: {additionalMetadata: {labels: {cost: "
        "low}}}}}}",
        "{spec: {controlPlane: {deployment: {additionalMetadata: null}}}}",
        "{spec: {controlPlane: {deployment: {nodeSelector: {disk: ssd}}}}}",
        "{spec: {controlPlane: {deployment: {nodeSelector: null}}}}",
        "{spec: {controlPlane: {deployment: {resources: {apiServer: {limits: "
        "{memory: 1Gi}}}}}}}",
        "{spec: {controlPlane: {deployment: {resources: null}}}}",
        "{spec: {controlPlane: {deployment: {strategy: {type: Recreate}}}}}",
        "{spec: {controlPlane: {deployment: {strategy: {type: RollingUpdate, "
        "rollingUpdate: "
        "{maxSurge: 1}}}}}}",
        "{spec: {controlPlane: {service: {serviceType: ClusterIP}}}}",
        "{spec: {controlPlane: {service: {serviceType: LoadBalancer}}}}",
        "{spec: {controlPlane: {service: {additionalMetadata: {annotations: "
        "{pool: blue}}}}}}",
        "{spec: {controlPlane: {service: {additionalMetadata: null}}}}",
        "{spec: {networkProfile: {certSANs: [other.example.com]}}}",
        "{spec: {networkProfile: {certSANs: null}}}",
        "{spec: {networkProfile: {port: 7443}}}",
        "{spec: {networkProfile: {port: 6443}}}",
        "{spec: {networkProfile: {clusterDomain: tenant.local}}}",
        "{spec: {addons: {coreDNS: {imageTag: v1.12.0}}}}",
        "{spec: {addons: {coreDNS: null}}}",
        "{spec: {addons: {kubeProxy: {}}}}",
        "{spec: {addons: {kubeProxy: null}}}",
        "{spec: {addons: {konnectivity: {agent: {mode: Deployment, replicas: "
        "2}}}}}",
        "{spec: {addons: {konnectivity: {}}}}",
        "{spec: {addons: {konnectivity: null}}}",
        "{spec: {kubernetes: {kubelet: {cgroupfs: cgroupfs}}}}",
        "{spec: {writePermissions: {blockCreation: true}}}",
        "{spec: {writePermissions: {blockCreation: true, blockUpdate: true, blockDeletion: true}}}",
        "{spec: {writePermissions: null}}",
        "{metadata: {labels: {owner: someone}}}",
    };
    const char* patch = world_.chaos().pick(kPatches);
    return change(object, patch_of(patch), patch);
}

/// The only override that may come and go.
std::string Script::move_events() {
    SharedValue object = some_control_plane();
    if (object == nullptr) return "";
    Value overrides = Value::array();
    for (const Value& item : (*object)["spec"]["dataStoreOverrides"].items()) {
        if (item["resource"].as_string() != "/events") overrides.push_back(item);
    }
    const bool in_second = (*object)["spec"]["dataStore"].as_string() == "second";
    const std::string other = in_second ? "default" : "second";
    const bool moved = overrides.size() == (*object)["spec"]["dataStoreOverrides"].size();
    if (moved) {
        overrides.push_back(Value::object({{"resource", "/events"}, {"dataStore", other}}));
    }
    Value patch = Value::object();
    patch.at("spec").set("dataStoreOverrides", std::move(overrides));
    return change(object, patch, moved ? "to " + other : "back");
}

std::string Script::upgrade() {
    SharedValue object = some_control_plane();
    if (object == nullptr || (*object)["spec"]["kubernetes"]["version"].as_string() == "v1.36.3")
        return "";
    return change(object, patch_of("{spec: {kubernetes: {version: v1.36.3}}}"), "to v1.36.3");
}

std::string Script::sleep_or_wake() {
    SharedValue object = some_control_plane();
    if (object == nullptr) return "";
    const bool asleep = (*object)["spec"]["controlPlane"]["deployment"]["replicas"].as_int(2) == 0;
    const Value patch = patch_of(asleep ? "{spec: {controlPlane: {deployment: {replicas: 1}}}}"
                                        : "{spec: {controlPlane: {deployment: {replicas: 0}}}}");
    return change(object, patch, asleep ? "wakes" : "falls asleep");
}

std::string Script::pause_or_resume() {
    SharedValue object = some_control_plane();
    if (object == nullptr) return "";
    const bool paused = (*object)["metadata"]["annotations"].contains(names::kPausedAnnotation);
    Value patch = Value::object();
    patch.at("metadata")
        .at("annotations")
        .set(names::kPausedAnnotation, paused ? Value() : Value(""));
    return change(object, patch, paused ? "goes on" : "is paused");
}

std::string Script::remove_control_plane() {
    SharedValue object = some_control_plane();
    if (object == nullptr) return "";
    const ObjectKey key = kube::key_of(*object);
    Value options = Value::object();
    if (world_.chaos().chance(0.3)) options.set("propagationPolicy", "Foreground");
    (void)world_.api().remove(controlplane::tenant_control_planes(), key, "user", options);
    return key.to_string();
}

/// Or changes it, or takes it away.
std::string Script::make_generator() {
    Chaos& chaos = world_.chaos();
    const ObjectKey key(fmt::format("generator-{}", chaos.below(2)));
    const kube::Resource& resource = controlplane::kubeconfig_generators();
    const bool present = world_.api().get(resource, key) != nullptr;
    if (present && chaos.chance(0.3)) {
        (void)world_.api().remove(resource, key, "user");
        return key.name + " deleted";
    }
    Value spec = patch_of("{user: {stringValue: someone}, groups: [{stringValue: readers}]}");
    if (chaos.chance(0.5)) spec.set("user", patch_of("{fromDefinition: metadata.name}"));
    if (chaos.chance(0.5)) spec.set("controlPlaneEndpointFrom", "admin.conf");
    if (chaos.chance(0.3)) {
        spec.set("tenantControlPlaneSelector", patch_of("{matchLabels: {owner: someone}}"));
    }
    Value object = kube::make_object(resource, key);
    object.set("spec", std::move(spec));
    const Result<Value> done = present ? world_.api().patch(resource, key, object, "user")
                                       : world_.api().create(resource, object, "user");
    return done.ok() ? key.name : "";
}

void Script::delete_all() {
    const kube::Resource& generators = controlplane::kubeconfig_generators();
    for (const SharedValue& object : world_.api().list(generators)) {
        (void)world_.api().remove(generators, kube::key_of(*object), "user");
    }

    for (const SharedValue& object : control_planes()) {
        (void)world_.api().remove(controlplane::tenant_control_planes(), kube::key_of(*object),
                                  "user");
    }
}

// ---- hands that should have stayed away
// -------------------------------------------------------------------------

SharedValue Script::some_owned(const SharedValue& control_plane) {
    std::vector<SharedValue> owned;
    const std::string ns(kube::namespace_of(*control_plane));
    for (const kube::Resource* resource : {&r::secrets(), &r::config_maps(), &r::services(),
                                           &r::deployments(), &r::pod_disruption_budgets()}) {
        for (const SharedValue& object : world_.api().list(*resource, ns)) {
            if (kube::is_owned_by(*object, kube::uid_of(*control_plane))) owned.push_back(object);
        }
    }
    return owned.empty() ? nullptr : world_.chaos().pick(owned);
}

std::string Script::delete_owned() {
    SharedValue control_plane = some_control_plane();
    SharedValue object = control_plane == nullptr ? nullptr : some_owned(control_plane);
    if (object == nullptr) return "";
    const std::string key = kube::key_of(*object).to_string();
    if ((*object)["kind"].as_string() == "Secret") broken_secrets_.erase(key);
    (void)world_.api().remove(kind_of(*object).resource, kube::key_of(*object), "user");
    return kube::describe(*object);
}

/// What somebody may do to our fields of an object, as merge patches. Fields that nobody of ours
/// owns are left alone: those stay, by the rules of server-side apply.
std::vector<Value> Script::edits_of(const Value& object) {
    // Another value of a label that it has: one that somebody adds is theirs, and stays.
    const Value& labels = object["metadata"]["labels"];
    Value relabel = Value::object();
    if (labels.size() > 0) {
        const bool named = labels.contains(names::kNameLabel);
        relabel.at("metadata")
            .at("labels")
            .set(named ? names::kNameLabel : labels.members().front().key(), "other");
    }
    std::vector<Value> edits = {std::move(relabel),
                                patch_of("{metadata: {labels: {kamaji.clastix.io/project: null}}}"),
                                patch_of("{metadata: {labels: null, annotations: null}}")};
    const std::string kind = object["kind"].str();
    if (kind == "ConfigMap") {
        edits.push_back(patch_of("{data: null}"));
    } else if (kind == "Service") {
        edits.push_back(patch_of("{spec: {selector: {app: other}}}"));
        edits.push_back(patch_of("{spec: {type: ClusterIP}}"));
        Value ports = object["spec"]["ports"];
        for (Value& port : ports.mutable_items()) port.set("targetPort", 1);
        edits.push_back(Value::object({{"spec", Value::object({{"ports", std::move(ports)}})}}));
    } else if (kind == "Deployment") {
        edits.push_back(patch_of("{spec: {replicas: 5}}"));
        edits.push_back(patch_of("{spec: {template: {metadata: {annotations: null}}}}"));
        Value containers = object["spec"]["template"]["spec"]["containers"];
        for (Value& container : containers.mutable_items())
            container.set("image", "example.com/other:v1").erase("args");
        Value edit = Value::object();
        edit.at("spec").at("template").at("spec").set("containers", std::move(containers));
        edits.push_back(std::move(edit));
    } else if (kind == "PodDisruptionBudget") {
        edits.push_back(patch_of("{spec: {maxUnavailable: 0}}"));
    }
    return edits;  // The content of Secrets is for break_secret(), which remembers it.
}

std::string Script::edit_owned() {
    SharedValue control_plane = some_control_plane();
    SharedValue object = control_plane == nullptr ? nullptr : some_owned(control_plane);
    if (object == nullptr) return "";
    const Value patch = world_.chaos().pick(edits_of(*object));
    Result<Value> edited =
        world_.api().patch(kind_of(*object).resource, kube::key_of(*object), patch, "user");
    std::string text = data::to_json(patch).substr(0, 100);
    return edited.ok() ? kube::describe(*object) + " " + text : "";
}

const Kind& Script::kind_of(const Value& object) {
    for (const Kind* kind : world_.api().kinds()) {
        if (kind->resource.kind == object["kind"].as_string()) return *kind;
    }
    BASALT_ASSERT(false);
    return *world_.api().kinds().front();
}

std::string Script::break_secret() {
    SharedValue control_plane = some_control_plane();
    SharedValue object = control_plane == nullptr ? nullptr : some_owned(control_plane);
    if (object == nullptr || (*object)["kind"].as_string() != "Secret") return "";
    const std::string key = kube::key_of(*object).to_string();
    const Value& data = (*object)["data"];
    if (data.size() == 0) return "";
    const data::Member& victim = data.members()[world_.chaos().below(data.size())];
    broken_secrets_.emplace(key, data);
    Value patch = Value::object();
    const bool away = world_.chaos().chance(0.3);
    patch.at("data").set(victim.key(),
                         away ? Value() : Value(data::base64_encode("-----BEGIN NONSENSE-----")));
    (void)world_.api().patch(r::secrets(), kube::key_of(*object), patch, "user");
    return key + " " + std::string(victim.key()) + (away ? " removed" : " broken");
}

std::string Script::rotate() {
    SharedValue control_plane = some_control_plane();
    SharedValue object = control_plane == nullptr ? nullptr : some_owned(control_plane);
    if (object == nullptr || (*object)["kind"].as_string() != "Secret") return "";
    const std::string name(kube::name_of(*object));
    // Rotation of authorities is refused, in words: that is another test's.
    if (name.ends_with("-ca") || name.ends_with("-ca-certificate") ||
        name.ends_with("-sa-certificate"))
        return "";
    Value patch = Value::object();
    patch.at("metadata").at("annotations").set(names::kRotateAnnotation, "");
    (void)world_.api().patch(r::secrets(), kube::key_of(*object), patch, "user");
    return name;
}

std::string Script::edit_tenant() {
    SharedValue control_plane = some_control_plane();
    Tenant* tenant = control_plane == nullptr ? nullptr : world_.tenant_of(*control_plane);
    if (tenant == nullptr || tenant->pods.empty()) return "";
    std::vector<std::pair<kube::Resource, SharedValue>> objects;
    for (const Kind* kind : tenant->api->kinds()) {
        for (const SharedValue& object : tenant->api->list(kind->resource)) {
            if (kube::label_of(*object, names::kProjectLabel) == names::kProject) {
                objects.emplace_back(kind->resource, object);
            }
        }
    }
    if (objects.empty()) return "";
    const auto& [resource, object] = world_.chaos().pick(objects);
    const ObjectKey key = kube::key_of(*object);
    const std::string what = fmt::format("{} {} {}", kube::key_of(*control_plane).to_string(),
                                         resource.kind, key.to_string());
    switch (world_.chaos().below(4)) {
        case 0: (void)tenant->api->remove(resource, key, "tenant"); return what + " deleted";
        case 1: {
            (void)tenant->api->patch(
                resource, key, patch_of("{metadata: {labels: {kamaji.clastix.io/project: null}}}"),
                "tenant");
            return what + " label removed";
        }
        case 2: {
            if (resource.kind != "ConfigMap") return "";
            (void)tenant->api->patch(resource, key, patch_of("{data: null}"), "tenant");
            return what + " emptied";
        }
        default: {
            Value extra = kube::make_object(
                r::config_maps(), ObjectKey("kube-system", fmt::format("x-{}", ++names_)));
            kube::set_label(extra, names::kProjectLabel, names::kProject);
            (void)tenant->api->create(r::config_maps(), extra, "tenant");
            return what + " and a stranger";
        }
    }
}

// ---- misfortune
// -------------------------------------------------------------------------------------------------

std::string Script::break_datastore() {
    if (!down_.empty()) {
        const std::string name = down_.back();
        down_.pop_back();
        world_.set_datastore_down(name, false);
        return name + " is back";
    }
    const std::string name = world_.chaos().chance(0.7) ? "default" : "second";
    down_.push_back(name);
    world_.set_datastore_down(name, true);
    return name;
}

std::string Script::slow_datastore() {
    const std::string name = world_.chaos().chance(0.7) ? "default" : "second";
    const Duration duration = world_.chaos().between(10s, 3min);
    world_.datastore(name).slow_until = world_.loop().now() + duration;
    return name + " for " + format_duration(duration);
}

std::string Script::fill_datastore() {
    const std::string name = world_.chaos().chance(0.7) ? "default" : "second";
    Datastore& store = world_.datastore(name);
    if (!full_.empty()) {
        world_.datastore(full_.back()).model.data.erase("/garbage");
        full_.pop_back();
        return "mended";
    }
    store.model.quota = 100'000;
    store.model.data["/garbage"] = std::string(200'000, 'x');
    store.model.file_size = 200'000;
    store.model.no_space = true;
    full_.push_back(name);
    return name;
}

std::string Script::break_datastore_secret() {
    const std::string name = world_.chaos().chance(0.7) ? "default-root" : "second-root";
    const ObjectKey key("basalt-system", name);
    SharedValue secret = world_.api().get(r::secrets(), key);
    if (secret == nullptr || broken_secrets_.contains(key.to_string())) return "";
    broken_secrets_.emplace(key.to_string(), (*secret)["data"]);
    (void)world_.api().patch(r::secrets(), key, patch_of("{data: {tls.crt: bm9uc2Vuc2U=}}"),
                             "user");
    return name;
}

std::string Script::disturb_watches() {
    ApiServer& api = world_.api();
    switch (world_.chaos().below(5)) {
        case 0: api.compact(); return "compacted";
        case 1: api.break_watches("connection reset by peer"); return "broken";
        case 2: api.end_watches(); return "ended";
        case 3:
            api.compact();
            api.break_watches("connection reset by peer");
            return "compacted and broken";
        default:
            api.supports_watch_list = !api.supports_watch_list;
            return "streaming lists switched";
    }
}

std::string Script::crash() {
    const auto& instances = world_.instances();
    if (instances.empty()) {
        world_.start_instance();
        return "started";
    }
    const size_t index = world_.chaos().below(instances.size());
    const std::string name = instances[index]->name();
    if (world_.chaos().chance(0.2)) {
        world_.crash_instance(index);
        return name;
    }
    if (world_.chaos().chance(0.4)) {
        // At any await: so many turns of the loop from now.
        const uint64_t turns = world_.chaos().below(3000);
        for (uint64_t i = 0; i < turns && !instances[index]->ended(); ++i) world_.loop().run_one();
        world_.crash_instance(index);
        return fmt::format("{} {} turns later", name, turns);
    }
    const uint64_t count = 1 + world_.chaos().below(60);
    const bool after = world_.chaos().chance(0.5);
    instances[index]->crash_at_write(count, after);
    return fmt::format("{} {} its write number {}", name, after ? "after" : "before", count);
}

/// Between being asked to end and having ended it is as alive as ever.
std::string Script::end_one() {
    if (world_.instances().empty()) return "";
    Instance& instance = *world_.chaos().pick(world_.instances());
    instance.ask_to_end();
    return instance.name();
}

/// Short of the lease's duration and beyond it.
std::string Script::cut_off() {
    if (world_.instances().empty()) return "";
    Instance& instance = *world_.chaos().pick(world_.instances());
    if (instance.is_disturbed()) return "";
    const Duration duration = world_.chaos().between(5s, 60s);
    instance.cut_off(duration);
    return instance.name() + " for " + format_duration(duration);
}

std::string Script::freeze() {
    if (world_.instances().empty()) return "";
    Instance& instance = *world_.chaos().pick(world_.instances());
    if (instance.is_disturbed()) return "";
    const Duration duration = world_.chaos().between(5s, 60s);
    instance.freeze(duration);
    return instance.name() + " for " + format_duration(duration);
}

/// While another waits for the lease its holder is stopped in the middle of what a change has it
/// do, for longer than the lease lasts. What it goes on with then is another's to write.
std::string Script::stop_busy_leader() {
    Chaos& chaos = world_.chaos();
    Instance* leader = world_.leader();
    if (leader == nullptr || leader->is_disturbed()) return "";
    const std::string work = chaos.chance(0.3) ? create() : change_spec();
    if (work.empty()) return "";
    if (world_.instances().size() < 2) world_.start_instance();
    const uint64_t start = leader->link().writes_count;
    const uint64_t writes = chaos.below(12);
    const bool wrote = world_.loop().run_until(
        [&] { return leader->ended() || leader->link().writes_count >= start + writes; }, 5s);
    for (uint64_t turns = chaos.below(100); turns > 0 && !leader->ended(); --turns)
        world_.loop().run_one();
    if (leader->ended()) return "";
    const Duration duration = chaos.between(20s, 60s);
    const char* how = "frozen";
    switch (chaos.below(4)) {
        case 0: {
            leader->cut_off(duration);
            how = "cut off";
            break;
        }
        case 1: {
            leader->slow_down(duration, chaos.between(20ms, 500ms));
            how = "slow";
            break;
        }
        default: leader->freeze(duration, chaos.between(0s, 10s));
    }
    return fmt::format("{} {} for {}, {} writes into: {}", leader->name(), how,
                       format_duration(duration), wrote ? writes : 0, work);
}

std::string Script::start_second() {
    if (world_.instances().size() >= 2) return "";
    return world_.start_instance().name();
}

std::string Script::jump_clock() {
    const Duration by = world_.chaos().between(-10min, 10min);
    world_.loop().jump_wall_clock(by);
    clock_offset_ += by;
    clock_furthest_ = std::max(clock_furthest_, clock_offset_);
    return format_duration(by);
}

/// Of one machine: all else has the right time. No key may be made anew for that (keys.h).
std::string Script::put_clock_back() {
    if (world_.instances().empty()) return "";
    Instance& instance = *world_.chaos().pick(world_.instances());
    const Duration by = world_.chaos().between(1min, 20h);
    instance.set_clock(-by);
    // A change has certificates looked at again.
    const std::string change = change_spec();
    return fmt::format("{} by {} {}", instance.name(), format_duration(by), change);
}

std::string Script::stop_controller_manager() {
    SharedValue control_plane = some_control_plane();
    Tenant* tenant = control_plane == nullptr ? nullptr : world_.tenant_of(*control_plane);
    if (tenant == nullptr) return "";
    world_.stop_controller_manager(*tenant, world_.chaos().between(1s, 5min));
    return kube::key_of(*control_plane).to_string();
}

std::string Script::kill_pod() {
    std::vector<SharedValue> pods = world_.api().list(r::pods());
    if (pods.empty()) return "";
    const ObjectKey key = kube::key_of(*world_.chaos().pick(pods));
    if (world_.chaos().chance(0.5)) {
        world_.api().erase(r::pods(), key, "user");
    } else {
        (void)world_.api().remove(r::pods(), key, "user");
    }
    return key.to_string();
}

// ---- the end
// ----------------------------------------------------------------------------------------------------

void Script::mend() {
    for (const auto& [name, store] : world_.datastores()) {
        world_.set_datastore_down(name, false);
        store->model.data.erase("/garbage");
        store->model.quota = 2'000'000'000;
        store->slow_until = TimePoint();
    }
    for (const auto& instance : world_.instances()) instance->mend();
    down_.clear();
    full_.clear();
    world_.api().supports_watch_list = true;
    world_.mend_controller_managers();
    // No clock is behind any more: what expires does so in time, and what is valid from some time
    // on is valid.
    world_.loop().jump_wall_clock(clock_furthest_ - clock_offset_);
    clock_offset_ = clock_furthest_ = Duration(0);
    for (const auto& [text, data] : broken_secrets_) {
        const size_t slash = text.find('/');
        const ObjectKey key(text.substr(0, slash), text.substr(slash + 1));
        (void)world_.api().patch(r::secrets(), key, Value::object({{"data", data}}), "user");
    }
    broken_secrets_.clear();
    for (const SharedValue& object : control_planes()) {
        Value patch = Value::object();
        patch.at("metadata").at("annotations").set(names::kPausedAnnotation, Value());
        (void)world_.api().patch(controlplane::tenant_control_planes(), kube::key_of(*object),
                                 patch, "user");
    }
    say("mended");
}

std::vector<SharedValue> Script::sleeping() const {
    std::vector<SharedValue> found;
    for (const SharedValue& object : control_planes()) {
        if ((*object)["spec"]["controlPlane"]["deployment"]["replicas"].as_int(2) == 0)
            found.push_back(object);
    }
    return found;
}

void Script::wake_all() {
    for (const SharedValue& object : sleeping())
        change(object, patch_of("{spec: {controlPlane: {deployment: {replicas: 1}}}}"), "");
    say("all wake");
}

}  // namespace basalt::sim
