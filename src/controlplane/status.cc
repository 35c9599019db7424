#include "controlplane/status.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/strings.h"
#include "controlplane/names.h"

namespace basalt::controlplane {

using controller::Condition;
using data::Value;

namespace {

// {fields…, checksum, lastUpdate}: the time moves only with the checksum.
Value stamped(Value fields, const std::string& checksum, const Value& previous, WallTime now) {
    fields.set("checksum", checksum);
    bool same = previous["checksum"].as_string() == checksum && !previous["lastUpdate"].empty();
    fields.set("lastUpdate", same ? previous["lastUpdate"] : Value(format_rfc3339(now)));
    return fields;
}

// {fields…, lastUpdate}: the time moves only with the fields.
Value dated(Value fields, const Value& previous, WallTime now) {
    Value before = previous;
    before.erase("lastUpdate");
    const bool same = before == fields && !previous["lastUpdate"].empty();
    fields.set("lastUpdate", same ? previous["lastUpdate"] : Value(format_rfc3339(now)));
    return fields;
}

// As autoscalers want it: "a=b,c=d". That of an adopted Deployment is not ours.
std::string selector_text(const Value& deployment, const std::string& name) {
    std::map<std::string, std::string> labels;
    for (const data::Member& label : deployment["spec"]["selector"]["matchLabels"].members())
        labels[std::string(label.key())] = label.value.str();
    if (labels.empty()) labels[std::string(names::kNameLabel)] = name;
    std::vector<std::string> parts;
    for (const auto& [key, value] : labels) parts.push_back(fmt::format("{}={}", key, value));
    return join(parts, ",");
}

class Builder {
 public:
    explicit Builder(const StatusInputs& inputs)
        : in_(inputs), settings_(*inputs.settings), old_((*inputs.previous)["status"]) {}

    Value secret(const std::string& name, const Value& previous) const {
        auto found = in_.checksums.find(name);
        if (found == in_.checksums.end()) return previous;
        return stamped(Value::object({{"secretName", name}}), found->second, previous, in_.now);
    }

    Value storage() const {
        const std::string& name = settings_.name;
        const Value& old = old_["storage"];
        Value storage = Value::object();
        storage.set_unless_empty(
            "driver", in_.datastore_driver.empty() ? old["driver"] : Value(in_.datastore_driver));
        Value config = secret(names::datastore_config(name), old["config"]);
        config.erase("lastUpdate");
        storage.set_unless_empty("config", config);
        storage.set_unless_empty("certificate",
                                 secret(names::datastore_certificate(name), old["certificate"]));
        auto setup = in_.checksums.find(names::datastore_config(name));
        if (setup == in_.checksums.end()) {
            // Not before something may be there: until then the spec can be corrected.
            storage.set_unless_empty("dataStoreName", old["dataStoreName"]);
            storage.set_unless_empty("setup", old["setup"]);
            if (old["overrides"].is_array()) storage.set("overrides", old["overrides"]);
        } else {
            storage.set("dataStoreName", settings_.datastore);
            storage.set("overrides", recorded_overrides(settings_, in_.former_datastores));
            storage.set(
                "setup",
                stamped(Value::object({{"schema", settings_.schema}, {"user", settings_.user}}),
                        setup->second, old["setup"], in_.now));
        }
        return storage;
    }

    Value certificates() const {
        const std::string& name = settings_.name;
        const Value& old = old_["certificates"];
        Value out = Value::object();
        out.set_unless_empty("ca", secret(names::ca(name), old["ca"]));
        out.set_unless_empty("apiServer", secret(names::api_server(name), old["apiServer"]));
        out.set_unless_empty("apiServerKubeletClient",
                             secret(names::kubelet_client(name), old["apiServerKubeletClient"]));
        out.set_unless_empty("frontProxyCA",
                             secret(names::front_proxy_ca(name), old["frontProxyCA"]));
        out.set_unless_empty("frontProxyClient",
                             secret(names::front_proxy_client(name), old["frontProxyClient"]));
        out.set_unless_empty("sa", secret(names::service_account(name), old["sa"]));
        return out;
    }

    Value kubeconfig() const {
        const std::string& name = settings_.name;
        const Value& old = old_["kubeconfig"];
        Value out = Value::object();
        out.set_unless_empty("admin", secret(names::admin_kubeconfig(name), old["admin"]));
        out.set_unless_empty("controllerManager", secret(names::controller_manager_kubeconfig(name),
                                                         old["controllerManager"]));
        out.set_unless_empty("scheduler",
                             secret(names::scheduler_kubeconfig(name), old["scheduler"]));
        return out;
    }

    Value kubeadm_config() const {
        std::string name = names::kubeadm_config(settings_.name);
        auto found = in_.checksums.find(name);
        if (found == in_.checksums.end()) return old_["kubeadmconfig"];
        return stamped(Value::object({{"configmapName", name}}), found->second,
                       old_["kubeadmconfig"], in_.now);
    }

    Value addon(bool enabled, const Value& previous) const {
        return dated(Value::object({{"enabled", enabled}}), previous, in_.now);
    }

    /// Something in the tenant's cluster, as soon as it was applied.
    Value applied(Value fields, const Value& previous) const {
        if (in_.tenant_objects_checksum.empty()) return previous;
        return dated(std::move(fields), previous, in_.now);
    }

    Value tunnel(const TunnelSettings& settings, const Value& previous) const {
        const std::string& name = settings_.name;
        const Value agent = Value::object(
            {{"name", names::kTunnelAgent}, {"namespace", names::kTunnelAgentNamespace}});
        Value mode = agent;
        mode.set("mode", settings.agent_mode);
        Value out = Value::object({{"enabled", true}});
        out.set_unless_empty("configMap",
                             config_map(names::egress_selector(name), previous["configMap"]));
        out.set_unless_empty("certificate",
                             secret(names::tunnel_certificate(name), previous["certificate"]));
        out.set_unless_empty("kubeconfig",
                             secret(names::tunnel_kubeconfig(name), previous["kubeconfig"]));
        out.set_unless_empty("sa", applied(agent, previous["sa"]));
        out.set_unless_empty("clusterrolebinding",
                             applied(Value::object({{"name", names::kTunnelServerUser}}),
                                     previous["clusterrolebinding"]));
        out.set_unless_empty("agent", applied(std::move(mode), previous["agent"]));
        out.set_unless_empty("service", service(settings.server_port, previous["service"]));
        return out;
    }

    Value addons() const {
        const Value& old = old_["addons"];
        Value out = Value::object();
        out.set("coreDNS", addon(settings_.core_dns.has_value(), old["coreDNS"]));
        out.set("kubeProxy", addon(settings_.kube_proxy.has_value(), old["kubeProxy"]));
        out.set("konnectivity", settings_.tunnel ? tunnel(*settings_.tunnel, old["konnectivity"])
                                                 : Value::object({{"enabled", false}}));
        return out;
    }

    std::string old_version() const {
        return old_["kubernetesResources"]["version"]["version"].str();
    }

    // An upgrade is over when all Pods serve: Ready comes when the new controller manager leads,
    // for which it may have to wait until the old one's lease is over.
    std::string installed_version() const {
        bool upgraded = !old_version().empty() && in_.progress.is_done(kPodsReady);
        if (upgraded || in_.progress.all_done() || settings_.asleep())
            return settings_.kubernetes.version.to_string();
        return old_version();
    }

    std::string word() const {
        if (settings_.asleep()) return "Sleeping";
        const Value& workload = in_.deployment.is_null() ? old_["kubernetesResources"]["deployment"]
                                                         : in_.deployment["status"];
        const bool serving = workload["readyReplicas"].as_int() > 0;
        std::string at_work = settings_.write_permissions.any() ? "WriteLimited" : "Ready";
        if (in_.progress.all_done()) return at_work;
        if (old_version().empty()) return "Provisioning";
        if (installed_version() != settings_.kubernetes.version.to_string()) return "Upgrading";
        if (!serving) return "NotReady";
        // A pass that was stopped later than at the Pods, or earlier in what it carried out before,
        // does not take the API server away.
        const bool current = in_.progress.is_done(kPodsReady) ||
                             old_["observedGeneration"].as_int() == settings_.generation;
        return current ? at_work : "Upgrading";
    }

    // What was not seen in this pass is as it was.
    Value resources() const {
        const Value& old = old_["kubernetesResources"];
        Value out = Value::object();
        out.set("version", Value::object({{"version", installed_version()}, {"status", word()}}));
        out.set_unless_empty("deployment", deployment(old["deployment"]));
        out.set_unless_empty("service", service(settings_.network.port, old["service"]));
        return out;
    }

 private:
    Value deployment(const Value& previous) const {
        if (in_.deployment.is_null()) return previous;
        Value out = in_.deployment["status"];
        if (!out.is_object()) out = Value::object();
        out.set("name", settings_.name).set("namespace", settings_.namespace_name);
        out.set("selector", selector_text(in_.deployment, settings_.name));
        return dated(std::move(out), previous, in_.now);
    }

    Value service(int64_t port, const Value& previous) const {
        if (in_.service.is_null()) return previous;
        Value out = in_.service["status"];
        if (!out.is_object()) out = Value::object();
        out.set("name", settings_.name).set("namespace", settings_.namespace_name);
        out.set("port", port);
        return out;
    }

    Value config_map(const std::string& name, const Value& previous) const {
        auto found = in_.checksums.find(name);
        if (found == in_.checksums.end()) return previous;
        return Value::object({{"name", name}, {"checksum", found->second}});
    }

    const StatusInputs& in_;
    const Settings& settings_;
    const Value& old_;
};

void set_conditions(const StatusInputs& in, int64_t generation, Value& status) {
    auto set = [&](std::string_view type, std::string_view value, std::string_view reason,
                   std::string_view message) {
        controller::set_condition(status, Condition(type, value, reason, message, generation),
                                  in.now);
    };
    for (const auto& [type, handler] : kSteps) {
        auto step =
            std::find_if(in.progress.steps.begin(), in.progress.steps.end(),
                         [wanted = type](const Condition& done) { return done.type == wanted; });
        if (step != in.progress.steps.end()) {
            set(type, step->status, step->reason, step->message);
        } else {
            set(type, controller::kUnknown, "Waiting", "An earlier step is not done yet");
        }
    }
    const Condition* failure = in.progress.first_failure();
    bool asleep = in.settings != nullptr && in.settings->asleep();
    if (asleep && failure == nullptr) {
        set(kReady, controller::kFalse, "Sleeping",
            "Replicas are 0: set them to 1 or more to wake it");
        set(kProgressing, controller::kFalse, "Sleeping", "");
    } else if (failure == nullptr) {
        const bool limited = in.settings != nullptr && in.settings->write_permissions.any();
        set(kReady, controller::kTrue, limited ? "WriteLimited" : "Joinable",
            limited ? "It serves; what writes are refused, nodes that join included, is in "
                      "spec.writePermissions"
                    : "Nodes can join");
        set(kProgressing, controller::kFalse, "Done", "");
    } else {
        set(kReady, controller::kFalse, failure->reason, failure->message);
        set(kProgressing, controller::kTrue, failure->reason, failure->message);
    }
    if (in.write_limits && in.write_limits->empty()) {
        controller::remove_condition(status, kWriteLimited);
    } else if (in.write_limits) {
        set(kWriteLimited, controller::kTrue, "InForce", *in.write_limits);
    }
    if (in.settings == nullptr || in.settings->unsupported.empty()) {
        controller::remove_condition(status, kUnsupportedCondition);
    } else {
        set(kUnsupportedCondition, controller::kTrue, "NotInForce",
            fmt::format("{}", fmt::join(in.settings->unsupported, "; ")));
    }
}

}  // namespace

void Progress::done(std::string_view type, std::string_view reason, std::string_view message) {
    steps.emplace_back(type, controller::kTrue, reason, message);
}

void Progress::stopped(std::string_view type, std::string_view reason, std::string_view message) {
    steps.emplace_back(type, controller::kFalse, reason, message);
}

bool Progress::is_done(std::string_view type) const {
    return std::any_of(steps.begin(), steps.end(), [type](const Condition& step) {
        return step.type == type && step.status == controller::kTrue;
    });
}

bool Progress::all_done() const {
    return first_failure() == nullptr && steps.size() == std::size(kSteps);
}

const Condition* Progress::first_failure() const {
    for (const Condition& step : steps) {
        if (step.status != controller::kTrue) return &step;
    }
    return nullptr;
}

Value recorded_overrides(const Settings& settings, const std::vector<std::string>& former) {
    Value list = Value::array();
    for (const auto& [resource, store] : settings.datastore_overrides) {
        list.push_back(Value::object({{"resource", resource}, {"dataStoreName", store}}));
    }
    for (const std::string& store : former) {
        list.push_back(Value::object({{"resource", kMovableResource}, {"dataStoreName", store}}));
    }
    return list;
}

bool rollout_finished(const Value& deployment) {
    const Value& status = deployment["status"];
    int64_t wanted = deployment["spec"]["replicas"].as_int(1);
    return status["observedGeneration"].as_int() >= deployment["metadata"]["generation"].as_int() &&
           status["updatedReplicas"].as_int() == wanted && status["replicas"].as_int() == wanted &&
           status["readyReplicas"].as_int() == wanted;
}

Value build_status(const StatusInputs& inputs) {
    const Value& old = (*inputs.previous)["status"];
    int64_t generation = (*inputs.previous)["metadata"]["generation"].as_int();
    Value status = Value::object();
    if (inputs.settings == nullptr) {
        // Nothing can be said about the parts: they stay as they were.
        status = old;
        status.mutable_members();
    } else {
        Builder builder(inputs);
        status.set_unless_empty("storage", builder.storage());
        status.set_unless_empty("certificates", builder.certificates());
        status.set_unless_empty("kubeconfig", builder.kubeconfig());
        status.set_unless_empty("kubeadmconfig", builder.kubeadm_config());
        status.set("kubernetesResources", builder.resources());
        status.set("addons", builder.addons());
        std::string endpoint =
            inputs.endpoint ? inputs.endpoint->host_port() : old["controlPlaneEndpoint"].str();
        status.set_unless_empty("controlPlaneEndpoint", endpoint);
        if (!inputs.tenant_objects_checksum.empty()) {
            status.set(
                "kubeadmPhase",
                Value::object({{"bootstrapToken",
                                stamped(Value::object(), inputs.tenant_objects_checksum,
                                        old["kubeadmPhase"]["bootstrapToken"], inputs.now)}}));
        } else {
            status.set_unless_empty("kubeadmPhase", old["kubeadmPhase"]);
        }
        status.set("conditions", old["conditions"]);
        status.at("conditions").mutable_items();
    }
    const Progress& progress = inputs.progress;
    const bool asleep = inputs.settings != nullptr && inputs.settings->asleep() &&
                        progress.is_done(kPodsReady) && progress.first_failure() == nullptr;
    const Value& observed = old["observedGeneration"];
    if (progress.all_done() || asleep) {
        status.set("observedGeneration", generation);
    } else if (!observed.is_null()) {
        status.set("observedGeneration", observed);
    }
    set_conditions(inputs, generation, status);
    return status;
}

}  // namespace basalt::controlplane
