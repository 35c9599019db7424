#include "tests/sim/cluster.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/strings.h"
#include "data/base64.h"
#include "data/hash.h"
#include "data/patch.h"

namespace basalt::sim {

using namespace std::chrono_literals;
namespace r = kube::resources;

namespace {

constexpr Duration kMountRetry = 2s;
constexpr Duration kRestartDelay = 5s;
/// Of a Pod whose containers run and that is not Ready yet.
constexpr const char* kStarting = "Starting";

bool is_ready(const Value& pod) {
    for (const Value& condition : pod["status"]["conditions"].items()) {
        if (condition["type"].as_string() == "Ready")
            return condition["status"].as_string() == "True";
    }
    return false;
}

/// A count or a percentage of `total`.
int64_t share(const Value& value, int64_t total, bool up) {
    if (!value.is_string()) return value.as_int();
    const int64_t percent =
        parse_number<int64_t>(
            trim(std::string_view(value.as_string()).substr(0, value.as_string().size() - 1)))
            .value_or(0);
    return (total * percent + (up ? 99 : 0)) / 100;
}

/// Of a Deployment and of its set, which has a label more. Compared at every step: nothing is
/// copied.
bool same_template(const Value& of_deployment, const Value& of_set) {
    constexpr std::string_view kHash = "pod-template-hash";
    const Value& wanted = of_deployment["metadata"];
    const Value& present = of_set["metadata"];
    const Value& labels = present["labels"];
    const auto is_wanted = [&](const data::Member& label) {
        return label.key() == kHash || wanted["labels"][label.key()] == label.value;
    };
    return wanted["labels"].size() + (labels.contains(kHash) ? 1 : 0) == labels.size() &&
           std::all_of(labels.members().begin(), labels.members().end(), is_wanted) &&
           wanted["annotations"] == present["annotations"] &&
           of_deployment["spec"] == of_set["spec"];
}

Value owner_reference(const Value& owner) {
    Value reference = kube::controller_reference(owner);
    return Value::array({reference});
}

}  // namespace

Cluster::Cluster(async::Loop& loop, Chaos& chaos, ApiServer& api, Workload& workload)
    : loop_(loop), chaos_(chaos), api_(api), workload_(workload) {}

Cluster::~Cluster() {
    if (timer_ != 0) loop_.cancel_timer(timer_);
}

Duration Cluster::soon(Duration low, Duration high) {
    return calm ? low : chaos_.between(low, high);
}

void Cluster::wake(Duration low, Duration high) {
    const TimePoint at = loop_.now() + soon(low, high);
    if (timer_ != 0) {
        if (timer_at_ <= at) return;
        loop_.cancel_timer(timer_);
    }
    timer_at_ = at;
    timer_ = loop_.call_at(at, [this] {
        timer_ = 0;
        step();
    });
}

void Cluster::note(const Write& write) {
    const std::string& kind = write.kind->resource.kind;
    if (kind == "Lease" || kind == "Event") return;
    wake(1ms, 500ms);
}

void Cluster::touch() {
    for (auto& [uid, state] : pods_) state.probe_again = true;
    wake(1ms, 1s);
}

void Cluster::step() {
    sync_deployments();
    sync_replica_sets();
    sync_pods();
    sync_services();
    api_.collect();
}

std::vector<SharedValue> Cluster::owned(const kube::Resource& resource, const Value& owner) const {
    std::vector<SharedValue> found;
    for (const SharedValue& object : api_.list(resource, std::string(kube::namespace_of(owner)))) {
        if (kube::is_owned_by(*object, kube::uid_of(owner))) found.push_back(object);
    }
    return found;
}

// ---- Deployments
// ------------------------------------------------------------------------------------------------

void Cluster::sync_deployments() {
    for (const SharedValue& deployment : api_.list(r::deployments())) {
        if (!kube::is_deleting(*deployment)) sync_deployment(*deployment);
    }
}

SharedValue Cluster::current_set(const Value& deployment, const std::vector<SharedValue>& sets) {
    const Value& wanted = deployment["spec"]["template"];
    int64_t revision = 0;
    for (const SharedValue& set : sets) {
        if (same_template(wanted, (*set)["spec"]["template"])) return set;
        revision = std::max(revision, (*set)["metadata"]["annotations"]["revision"].as_int());
    }
    const ObjectKey key = kube::key_of(deployment);
    const std::string hash = fmt::format("h{}", ++names_);
    Value set = kube::make_object(r::replica_sets(), ObjectKey(key.ns, key.name + "-" + hash));
    Value& metadata = set.at("metadata");
    metadata.set("ownerReferences", owner_reference(deployment));
    Value pod_template = deployment["spec"]["template"];
    pod_template.at("metadata").at("labels").set("pod-template-hash", hash);
    metadata.set("labels", pod_template["metadata"]["labels"]);
    Value selector = deployment["spec"]["selector"];
    selector.at("matchLabels").set("pod-template-hash", hash);
    set.set("spec",
            Value::object({{"replicas", 0}, {"selector", selector}, {"template", pod_template}}));
    Result<Value> created = api_.create(r::replica_sets(), set, "deployment-controller");
    if (!created.ok()) return nullptr;
    return std::make_shared<const Value>(std::move(*created));
}

void Cluster::scale(const Value& set, int64_t replicas) {
    if (set["spec"]["replicas"].as_int() == replicas) return;
    const Value patch = Value::object({{"spec", Value::object({{"replicas", replicas}})}});
    (void)api_.patch(r::replica_sets(), kube::key_of(set), patch, "deployment-controller");
}

void Cluster::sync_deployment(const Value& deployment) {
    std::vector<SharedValue> sets = owned(r::replica_sets(), deployment);
    SharedValue current = current_set(deployment, sets);
    if (current == nullptr) return;
    const std::string name(kube::name_of(*current));
    const int64_t wanted = deployment["spec"]["replicas"].as_int(1);
    const Value& strategy = deployment["spec"]["strategy"];
    const bool recreate = strategy["type"].as_string() == "Recreate";
    int64_t surge = share(strategy["rollingUpdate"]["maxSurge"], wanted, true);
    int64_t unavailable = share(strategy["rollingUpdate"]["maxUnavailable"], wanted, false);
    if (surge == 0 && unavailable == 0) unavailable = 1;

    int64_t total = 0;
    int64_t ready = 0;
    int64_t old_pods = 0;
    for (const SharedValue& set : sets) {
        total += (*set)["spec"]["replicas"].as_int();
        for (const SharedValue& pod : owned(r::pods(), *set)) {
            if (kube::name_of(*set) != name) ++old_pods;
            if (!kube::is_deleting(*pod) && is_ready(*pod)) ++ready;
        }
    }
    const int64_t present = (*current)["spec"]["replicas"].as_int();
    int64_t target = wanted;
    if (recreate && old_pods > 0) target = 0;
    if (!recreate && present < wanted)
        target = std::min(wanted, present + std::max<int64_t>(0, wanted + surge - total));
    scale(*current, target);

    int64_t may_go = ready - (wanted - unavailable);
    for (const SharedValue& set : sets) {
        const int64_t replicas = (*set)["spec"]["replicas"].as_int();
        if (kube::name_of(*set) == name || replicas == 0) continue;
        int64_t healthy = 0;
        for (const SharedValue& pod : owned(r::pods(), *set))
            healthy += !kube::is_deleting(*pod) && is_ready(*pod);
        // What does not serve anyway goes first.
        int64_t keep = recreate || wanted == 0 ? 0 : healthy;
        const int64_t leave = std::clamp<int64_t>(may_go, 0, keep);
        keep -= leave;
        may_go -= leave;
        scale(*set, std::min(replicas, keep));
    }
    write_deployment_status(deployment, owned(r::replica_sets(), deployment), name);
}

void Cluster::write_deployment_status(const Value& deployment, const std::vector<SharedValue>& sets,
                                      const std::string& current) {
    int64_t replicas = 0;
    int64_t wished = 0;
    int64_t ready = 0;
    int64_t updated = 0;
    std::vector<SharedValue> empty;
    for (const SharedValue& set : sets) {
        int64_t pods = 0;
        wished += (*set)["spec"]["replicas"].as_int();
        for (const SharedValue& pod : owned(r::pods(), *set)) {
            if (kube::is_deleting(*pod)) continue;
            ++pods;
            ready += is_ready(*pod);
        }
        replicas += pods;
        if (kube::name_of(*set) == current) {
            updated = pods;
        } else if (pods == 0 && (*set)["spec"]["replicas"].as_int() == 0) {
            empty.push_back(set);
        }
    }
    const auto limit = static_cast<size_t>(deployment["spec"]["revisionHistoryLimit"].as_int(10));
    for (size_t i = 0; i + limit < empty.size(); ++i) {
        (void)api_.remove(r::replica_sets(), kube::key_of(*empty[i]), "deployment-controller");
    }
    const int64_t wanted = deployment["spec"]["replicas"].as_int(1);
    Value status = Value::object({{"observedGeneration", kube::generation_of(deployment)}});
    auto set_count = [&](const char* name, int64_t count) {
        status.set(name, count > 0 ? Value(count) : Value());
    };
    set_count("replicas", replicas);
    set_count("updatedReplicas", updated);
    set_count("readyReplicas", ready);
    set_count("availableReplicas", ready);
    set_count("unavailableReplicas", std::max<int64_t>(0, wished - ready));
    const Value& rolling = deployment["spec"]["strategy"]["rollingUpdate"];
    const bool available = ready >= wanted - share(rolling["maxUnavailable"], wanted, false);
    status.set(
        "conditions",
        Value::array({Value::object(
            {{"type", "Available"},
             {"status", available ? "True" : "False"},
             {"reason", available ? "MinimumReplicasAvailable" : "MinimumReplicasUnavailable"}})}));
    if (data::apply_merge_patch(deployment["status"], status) == deployment["status"]) return;
    (void)api_.patch(r::deployments(), kube::key_of(deployment),
                     Value::object({{"status", status}}), "deployment-controller", "status");
}

void Cluster::sync_replica_sets() {
    for (const SharedValue& set : api_.list(r::replica_sets())) {
        if (kube::is_deleting(*set)) continue;
        std::vector<SharedValue> active;
        for (const SharedValue& pod : owned(r::pods(), *set)) {
            if (!kube::is_deleting(*pod)) active.push_back(pod);
        }
        const auto wanted = static_cast<size_t>((*set)["spec"]["replicas"].as_int(1));
        for (size_t i = active.size(); i < wanted; ++i) {
            const ObjectKey key(std::string(kube::namespace_of(*set)),
                                fmt::format("{}-p{}", kube::name_of(*set), ++names_));
            Value pod = kube::make_object(r::pods(), key);
            const Value& pod_template = (*set)["spec"]["template"];
            pod.at("metadata").set("labels", pod_template["metadata"]["labels"]);
            pod.at("metadata")
                .set_unless_empty("annotations", pod_template["metadata"]["annotations"]);
            pod.at("metadata").set("ownerReferences", owner_reference(*set));
            pod.set("spec", pod_template["spec"]);
            pod.at("spec").set("nodeName", "node-1");
            pod.set("status", Value::object({{"phase", "Pending"}}));
            (void)api_.create(r::pods(), pod, "replicaset-controller");
        }
        std::stable_sort(active.begin(), active.end(),
                         [](const auto& a, const auto& b) { return is_ready(*a) < is_ready(*b); });
        for (size_t i = 0; i + wanted < active.size(); ++i) {
            (void)api_.remove(r::pods(), kube::key_of(*active[i]), "replicaset-controller");
        }
    }
}

// ---- Pods
// -------------------------------------------------------------------------------------------------------

void Cluster::sync_pods() {
    std::map<std::string, PodState> left;
    for (const SharedValue& pod : api_.list(r::pods())) {
        const std::string uid(kube::uid_of(*pod));
        auto node = pods_.extract(uid);
        PodState state;
        if (node) {
            state = std::move(node.mapped());
        } else {
            state.due = loop_.now() + soon(10ms, 200ms);
        }
        if (kube::is_deleting(*pod) && state.restarts >= 0) {
            state.restarts = -1;  // Its last timer.
            state.due = loop_.now() + soon(500ms, 12s);
        }
        sync_pod(*pod, state);
        if (state.due > loop_.now()) wake(state.due - loop_.now(), state.due - loop_.now());
        if (api_.get(r::pods(), kube::key_of(*pod)) != nullptr) left.emplace(uid, std::move(state));
    }
    for (const auto& [uid, state] : pods_) {
        if (state.serving) workload_.stopped(uid);
    }
    pods_ = std::move(left);
}

std::string pod_address(std::string_view uid) {
    const uint64_t hash = data::fnv1a(uid);
    return fmt::format("10.1.{}.{}", hash % 250, 1 + hash / 250 % 250);
}

void Cluster::sync_pod(const Value& pod, PodState& state) {
    if (state.restarts < 0) {
        if (loop_.now() < state.due) return;
        if (state.serving) workload_.stopped(std::string(kube::uid_of(pod)));
        state.ready = state.serving = false;
        api_.erase(r::pods(), kube::key_of(pod), "kubelet");
        return;
    }
    if (state.ready) {
        if (!std::exchange(state.probe_again, false)) return;
        const std::string why = workload_.probe(*state.running);
        if (why.empty()) return;
        state.ready = state.serving = false;
        workload_.stopped(std::string(kube::uid_of(pod)));
        report(pod, "NotReady", why);
        state.due = loop_.now() + soon(1s, 5s);
        return;
    }
    if (loop_.now() < state.due) return;
    if (state.running == nullptr) {
        auto running = std::make_shared<RunningPod>();
        const std::string missing = mount(pod, *running);
        if (!missing.empty()) {
            report(pod, "ContainerCreating", missing);
            state.due = loop_.now() + kMountRetry;
            return;
        }
        running->pod = std::make_shared<const Value>(pod);
        state.running = std::move(running);
        state.due = loop_.now() + soon(500ms, 4s);
        return;
    }
    const std::string why = workload_.probe(*state.running);
    if (!why.empty()) {
        if (std::exchange(state.serving, false)) workload_.stopped(std::string(kube::uid_of(pod)));
        ++state.restarts;
        report(pod, "CrashLoopBackOff", why);
        // Started again it finds the Secrets as they are then: the kubelet keeps volumes up to
        // date.
        state.running = nullptr;
        state.due = loop_.now() + kRestartDelay;
        return;
    }
    if (!state.serving) {
        // The kubelet's probes see it a little later.
        state.serving = true;
        workload_.serving(*state.running);
        report(pod, kStarting, "");
        state.due = loop_.now() + soon(100ms, 2s);
        return;
    }
    state.ready = true;
    report(pod, "", "");
}

/// Reads all volumes; says what is missing.
std::string Cluster::mount(const Value& pod, RunningPod& running) const {
    const std::string ns(kube::namespace_of(pod));
    std::string missing;
    auto read = [&](const std::string& volume, const kube::Resource& resource, const Value& source,
                    const std::string& name) {
        SharedValue object = api_.get(resource, ObjectKey(ns, name));
        if (object == nullptr) {
            missing =
                fmt::format("MountVolume.SetUp failed: {} \"{}\" not found", resource.kind, name);
            return;
        }
        for (const Value& item : source["items"].items()) {
            const Value& content = (*object)["data"][item["key"].as_string()];
            if (content.is_null()) {
                missing = fmt::format("references non-existent key {} of {} {}",
                                      item["key"].as_string(), resource.kind, name);
                return;
            }
            const bool encoded = resource.kind == "Secret";
            running.files[volume + "/" + item["path"].str()] =
                encoded ? data::base64_decode(content.as_string()).value_or("") : content.str();
        }
    };
    for (const Value& volume : pod["spec"]["volumes"].items()) {
        const std::string name = volume["name"].str();
        for (const Value& source : volume["projected"]["sources"].items()) {
            if (source["secret"].is_object())
                read(name, r::secrets(), source["secret"], source["secret"]["name"].str());
            if (source["configMap"].is_object()) {
                read(name, r::config_maps(), source["configMap"],
                     source["configMap"]["name"].str());
            }
        }
        if (volume["secret"].is_object())
            read(name, r::secrets(), volume["secret"], volume["secret"]["secretName"].str());
        if (volume["configMap"].is_object()) {
            read(name, r::config_maps(), volume["configMap"], volume["configMap"]["name"].str());
        }
        if (!missing.empty()) return missing;
    }
    return "";
}

void Cluster::report(const Value& pod, const std::string& reason, const std::string& message) {
    const bool ready = reason.empty();
    Value statuses = Value::array();
    for (const Value& container : pod["spec"]["containers"].items()) {
        Value status = Value::object(
            {{"name", container["name"]}, {"ready", ready}, {"image", container["image"]}});
        if (ready || reason == kStarting) {
            status.set("state",
                       Value::object(
                           {{"running",
                             Value::object({{"startedAt", format_rfc3339(loop_.wall_now())}})}}));
        } else if (reason != "NotReady") {
            status.set(
                "state",
                Value::object(
                    {{"waiting", Value::object({{"reason", reason}, {"message", message}})}}));
        }
        if (reason == "CrashLoopBackOff") {
            status.set("lastState",
                       Value::object({{"terminated",
                                       Value::object({{"exitCode", 1}, {"message", message}})}}));
        }
        statuses.push_back(std::move(status));
    }
    Value status = Value::object(
        {{"phase", ready ? "Running" : "Pending"},
         {"podIP", pod_address(kube::uid_of(pod))},
         {"conditions",
          Value::array({Value::object({{"type", "Ready"}, {"status", ready ? "True" : "False"}})})},
         {"containerStatuses", std::move(statuses)}});
    (void)api_.patch(r::pods(), kube::key_of(pod), Value::object({{"status", status}}), "kubelet",
                     "status");
}

// ---- load balancer
// ----------------------------------------------------------------------------------------------

void Cluster::sync_services() {
    for (const SharedValue& service : api_.list(r::services())) {
        const bool wants = (*service)["spec"]["type"].as_string() == "LoadBalancer";
        const bool has = (*service)["status"]["loadBalancer"]["ingress"].size() > 0;
        if (wants == has) continue;
        if (wants && !calm && chaos_.chance(0.5)) {
            wake(100ms, 3s);
            continue;
        }
        const uint64_t hash = data::fnv1a(kube::key_of(*service).to_string());
        Value ingress = Value::array(
            {Value::object({{"ip", fmt::format("172.18.{}.{}", hash % 250, 1 + hash / 250 % 250)},
                            {"ipMode", "VIP"}})});
        Value balancer = Value::object({{"ingress", wants ? std::move(ingress) : Value()}});
        (void)api_.patch(
            r::services(), kube::key_of(*service),
            Value::object({{"status", Value::object({{"loadBalancer", std::move(balancer)}})}}),
            "load-balancer", "status");
    }
}

}  // namespace basalt::sim
