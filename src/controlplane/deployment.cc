// The Deployment of a control plane: kube-apiserver, kube-scheduler, kube-controller-manager and
// the tunnel's server in one Pod, each seeing only the keys it needs.
#include <fmt/format.h>

#include "controlplane/args.h"
#include "controlplane/names.h"
#include "controlplane/objects.h"

namespace basalt::controlplane {

using data::Value;

namespace {

constexpr int64_t kNonRootUser = 65532;
// Key material is readable for the Pod's group only. A security context of the user's without a
// group leaves it with root's, and programs that are not root, or are it without its capabilities,
// could not read it: then it is readable for all who have it mounted.
constexpr int kSecretMode = 0440;
constexpr int kSecretModeWithoutGroup = 0444;
// Startup is probed every second so that Ready is not quantised, for five minutes so that a loaded
// machine slows a start down and does not kill it.
constexpr int kStartupPeriodSeconds = 1;
constexpr int kStartupFailures = 300;
// Where basalt-tunnel answers as soon as the server has started, it takes five seconds to say that
// it has not; a second while basalt-tunnel itself does not run.
constexpr int kHeldStartupFailures = 120;
// Then seldom: /readyz is a TLS handshake and two requests to etcd, in each of many Pods on a node.
// A Pod that is told to end leaves the Service without it, and the first probe follows the startup
// probe at once.
constexpr int kReadinessPeriodSeconds = 5;
constexpr int kReadinessFailures = 3;
constexpr int kLivenessPeriodSeconds = 10;
constexpr int kLivenessFailures = 8;
constexpr int kProbeTimeoutSeconds = 15;
// The tunnel's page costs nothing, and a takeover waits for it.
constexpr int kTunnelReadinessPeriodSeconds = 2;
constexpr int kControllerManagerPort = 10257;
constexpr int kSchedulerPort = 10259;
constexpr int kTunnelHealthPort = 8134;
constexpr const char* kTunnelProgram = "/usr/local/bin/basalt-tunnel";
constexpr const char* kStartVolume = "basalt-start";
constexpr const char* kStartProgram = "/usr/local/bin/basalt-start";
// What starts after the API server starts without it after this time.
constexpr int kStartGateSeconds = 240;
static_assert(kStartGateSeconds < kStartupFailures * kStartupPeriodSeconds);

/// Of a Secret of the control plane, the keys that a volume needs.
struct SecretKeys {
    names::SecretName secret;
    std::vector<const char*> keys;
};

/// Key material as containers mount it: each volume has what its container needs, and no more.
struct KeyVolume {
    const char* name;
    bool of_tunnel;  ///< Only with a tunnel.
    std::vector<SecretKeys> sources;
};

const std::vector<KeyVolume>& key_volumes() {
    static const std::vector<KeyVolume> volumes = {
        {"apiserver-pki",
         false,
         {{names::ca, {"ca.crt"}},
          {names::api_server, {"apiserver.crt", "apiserver.key"}},
          {names::kubelet_client, {"apiserver-kubelet-client.crt", "apiserver-kubelet-client.key"}},
          {names::front_proxy_ca, {"front-proxy-ca.crt"}},
          {names::front_proxy_client, {"front-proxy-client.crt", "front-proxy-client.key"}},
          {names::service_account, {"sa.pub", "sa.key"}}}},
        {"etcd-pki",
         false,
         {{names::datastore_certificate, {"ca.crt", "server.crt", "server.key"}}}},
        {"controller-manager-pki",
         false,
         {{names::ca, {"ca.crt", "ca.key"}},
          {names::front_proxy_ca, {"front-proxy-ca.crt"}},
          {names::service_account, {"sa.key"}}}},
        {"controller-manager-kubeconfig",
         false,
         {{names::controller_manager_kubeconfig,
           {"controller-manager.conf", "serving.crt", "serving.key"}}}},
        {"scheduler-pki",
         false,
         {{names::ca, {"ca.crt"}}, {names::front_proxy_ca, {"front-proxy-ca.crt"}}}},
        {"scheduler-kubeconfig",
         false,
         {{names::scheduler_kubeconfig, {"scheduler.conf", "serving.crt", "serving.key"}}}},
        {"tunnel-pki",
         true,
         {{names::ca, {"ca.crt"}}, {names::api_server, {"apiserver.crt", "apiserver.key"}}}},
        {"tunnel-kubeconfig", true, {{names::tunnel_kubeconfig, {"konnectivity-server.conf"}}}},
    };
    return volumes;
}

int secret_mode(const Settings& settings) {
    const Value& from_user = settings.deployment.pod_security_context;
    return from_user.empty() || from_user.contains("fsGroup") ? kSecretMode
                                                              : kSecretModeWithoutGroup;
}

Value build_key_volume(const KeyVolume& volume, const Settings& settings) {
    Value sources = Value::array();
    for (const SecretKeys& source : volume.sources) {
        Value items = Value::array();
        for (const char* key : source.keys)
            items.push_back(Value::object({{"key", key}, {"path", key}}));
        Value secret = Value::object({{"name", source.secret(settings.name)}, {"items", items}});
        sources.push_back(Value::object({{"secret", std::move(secret)}}));
    }
    Value projected =
        Value::object({{"defaultMode", secret_mode(settings)}, {"sources", std::move(sources)}});
    return Value::object({{"name", volume.name}, {"projected", std::move(projected)}});
}

Value mount(std::string_view name, std::string_view path, bool read_only = true) {
    Value value = Value::object({{"name", name}, {"mountPath", path}});
    if (read_only) value.set("readOnly", true);
    return value;
}

/// What carries the API server's connections is ours: it tells when no command goes over them, and
/// when the API server is ready.
bool has_our_egress(const Settings& settings) {
    return !settings.tunnel || settings.tunnel->is_ours();
}

Value build_volumes(const Settings& settings) {
    const std::string& name = settings.name;
    Value volumes = settings.deployment.additional_volumes;
    volumes.mutable_items();
    for (const KeyVolume& volume : key_volumes()) {
        if (!volume.of_tunnel || settings.tunnel)
            volumes.push_back(build_key_volume(volume, settings));
    }
    volumes.push_back(
        Value::object({{"name", "tmp"}, {"emptyDir", Value::object({{"sizeLimit", "64Mi"}})}}));
    volumes.push_back(
        Value::object({{"name", "konnectivity-config"},
                       {"configMap", Value::object({{"name", names::egress_selector(name)}})}}));
    // Nothing but a socket is in it; what is written there counts as memory.
    volumes.push_back(
        Value::object({{"name", "konnectivity-uds"},
                       {"emptyDir", Value::object({{"medium", "Memory"}, {"sizeLimit", "1Mi"}})}}));
    if (has_our_egress(settings)) {
        // In memory: directories of the kubelet may be mounted without the right to execute.
        volumes.push_back(Value::object(
            {{"name", kStartVolume},
             {"emptyDir", Value::object({{"medium", "Memory"}, {"sizeLimit", "8Mi"}})}}));
    }
    return volumes;
}

struct ProbeTarget {
    const char* path;
    int64_t port;
    const char* scheme = "HTTPS";
    bool answers_when_started = false;  ///< Instead of saying at once that it has not.
};

// `user` is what was set in the spec: it wins field by field.
Value probe(const ProbeTarget& target, int period_s, int failures, const Value& user) {
    Value value = Value::object(
        {{"httpGet",
          Value::object({{"path", target.path}, {"port", target.port}, {"scheme", target.scheme}})},
         {"periodSeconds", period_s},
         {"failureThreshold", failures},
         {"timeoutSeconds", kProbeTimeoutSeconds},
         {"successThreshold", 1}});
    for (const data::Member& member : user.members()) value.set(member.key(), member.value);
    return value;
}

void set_startup_and_liveness(Value& container, const ProbeTarget& at_startup,
                              const ProbeTarget& alive, const ComponentSettings& user) {
    const int failures = at_startup.answers_when_started ? kHeldStartupFailures : kStartupFailures;
    container.set("startupProbe", probe(at_startup, kStartupPeriodSeconds, failures, user.startup));
    container.set("livenessProbe",
                  probe(alive, kLivenessPeriodSeconds, kLivenessFailures, user.liveness));
}

/// Where the kubelet hears that a component has started: from what stands beside it and knows of
/// all of them, which saves up to two seconds of the kubelet's intervals; else from itself.
ProbeTarget startup_target(const char* started_page, const ProbeTarget& itself,
                           const Settings& settings) {
    if (!has_our_egress(settings)) return itself;
    return {started_page, kTunnelHealthPort, "HTTP", true};
}

Value readiness(const ProbeTarget& target, const Value& user) {
    return probe(target, kReadinessPeriodSeconds, kReadinessFailures, user);
}

Value container_security(const Value& from_user) {
    if (!from_user.empty()) return from_user;
    return Value::object({{"allowPrivilegeEscalation", false},
                          {"readOnlyRootFilesystem", true},
                          {"capabilities", Value::object({{"drop", Value::array({"ALL"})}})}});
}

Value base_container(const char* name, const std::string& image, const std::string& program,
                     const std::vector<std::string>& args) {
    return Value::object(
        {{"name", name},
         {"image", image},
         // Versions are immutable: a registry that is down must not hinder a restart.
         {"imagePullPolicy", "IfNotPresent"},
         {"command", Value::array({program})},
         {"args", Value::from(args)},
         {"terminationMessagePolicy", "FallbackToLogsOnError"}});
}

void add_component(Value& container, const ComponentSettings& component, Value mounts) {
    for (const Value& extra : component.extra_volume_mounts.items()) mounts.push_back(extra);
    container.set("volumeMounts", std::move(mounts));
    container.set("resources", component.resources);
    container.set("securityContext", container_security(component.security_context));
}

// An exec, a log that is followed, a forwarded port ends with the API server that carries it. Other
// connections come to its replacement meanwhile: a Pod that is deleted leaves the Service at once.
Value stopped_after_commands() {
    Value idle =
        Value::object({{"path", "/idle"}, {"port", kTunnelHealthPort}, {"scheme", "HTTP"}});
    return Value::object({{"preStop", Value::object({{"httpGet", std::move(idle)}})}});
}

Value api_server_container(const Settings& settings, const Endpoint& endpoint,
                           const Surroundings& surroundings) {
    const ComponentSettings& component = settings.deployment[Component::kApiServer];
    Value container = base_container("kube-apiserver", component.image, "kube-apiserver",
                                     api_server_args(settings, endpoint, surroundings));
    Value mounts =
        Value::array({mount("apiserver-pki", kPkiDir), mount("etcd-pki", kEtcdDir),
                      mount("tmp", "/tmp", false), mount("konnectivity-config", kTunnelConfigDir),
                      mount("konnectivity-uds", kTunnelSocketDir, false)});
    add_component(container, component, std::move(mounts));
    int64_t port = settings.network.port;
    container.set(
        "ports", Value::array({Value::object(
                     {{"name", "kube-apiserver"}, {"containerPort", port}, {"protocol", "TCP"}})}));
    // /readyz, so that readiness holds at the first try after it.
    set_startup_and_liveness(container,
                             startup_target("/started/kube-apiserver", {"/readyz", port}, settings),
                             {"/livez", port}, component);
    container.set("readinessProbe", readiness({"/readyz", port}, component.readiness));
    if (has_our_egress(settings)) container.set("lifecycle", stopped_after_commands());
    return container;
}

// Controller manager and scheduler are held until the API server is ready, by basalt-start in front
// of them: they take no processor time from its start, and the controller manager's first request
// for its lease is granted; refused, it would ask again only after two to four seconds. Their
// containers run meanwhile: the kubelet sees all of the Pod at once, which is what it needs to
// find it Ready soon.
Value companion_container(const char* name, Component component, const char* kubeconfig,
                          const char* pki, int port, const Settings& settings) {
    const ComponentSettings& own = settings.deployment[component];
    Value container = base_container(name, own.image, name,
                                     component == Component::kControllerManager
                                         ? controller_manager_args(settings)
                                         : scheduler_args(settings));
    Value mounts = Value::array(
        {mount(kubeconfig, kKubeconfigDir), mount(pki, kPkiDir), mount("tmp", "/tmp", false)});
    if (has_our_egress(settings)) {
        mounts.push_back(mount(kStartVolume, kStartDir));
        container.set("command",
                      Value::array({fmt::format("{}/basalt-start", kStartDir), "run", kStartGate,
                                    std::to_string(kStartGateSeconds), name}));
    }
    add_component(container, own, std::move(mounts));
    const ProbeTarget health{"/healthz", port};
    const std::string started_page = fmt::format("/started/{}", name);
    set_startup_and_liveness(container, startup_target(started_page.c_str(), health, settings),
                             health, own);
    if (!own.readiness.empty()) {
        container.set("readinessProbe", readiness(health, own.readiness));
    }
    return container;
}

// The kubelet starts containers in their order, each after the hook of the one before it: with this
// hook those that come later find basalt-start.
void provide_start_program(Value& container) {
    Value command =
        Value::array({kStartProgram, "install", fmt::format("{}/basalt-start", kStartDir)});
    Value exec = Value::object({{"command", std::move(command)}});
    container.set("lifecycle", Value::object({{"postStart", Value::object({{"exec", exec}})}}));
    container.at("volumeMounts").push_back(mount(kStartVolume, kStartDir, false));
}

Value tunnel_container(const Settings& settings, const Surroundings& surroundings) {
    const TunnelSettings& tunnel = *settings.tunnel;
    std::vector<std::string> args = tunnel_server_args(settings);
    bool ours = tunnel.is_ours();
    if (ours) args.insert(args.begin(), "server");
    Value container = base_container("konnectivity-server",
                                     ours ? surroundings.tunnel_image : tunnel.server_image,
                                     ours ? kTunnelProgram : "/proxy-server", args);
    container.set(
        "volumeMounts",
        Value::array({mount("tunnel-pki", kPkiDir), mount("tunnel-kubeconfig", kKubeconfigDir),
                      mount("konnectivity-uds", kTunnelSocketDir, false)}));
    container.set("resources", tunnel.server_resources);
    container.set("securityContext", container_security(tunnel.server_security_context));
    container.set(
        "ports",
        Value::array({Value::object(
            {{"name", "agentport"}, {"containerPort", tunnel.server_port}, {"protocol", "TCP"}})}));
    const ProbeTarget health{"/healthz", kTunnelHealthPort, "HTTP"};
    set_startup_and_liveness(container, health, health, ComponentSettings());
    // Not Ready before it reaches nodes through its sibling. Upstream's has no such page.
    if (ours) {
        provide_start_program(container);
        container.set("readinessProbe",
                      probe({"/readyz", kTunnelHealthPort, "HTTP"}, kTunnelReadinessPeriodSeconds,
                            kReadinessFailures, Value()));
    }
    return container;
}

// Without a tunnel the API server's connections are made here, so that what a tenant asks for is
// looked at: the address behind a name, the Pod's own loopback, the provider's networks.
Value direct_egress_container(const Settings& settings, const Surroundings& surroundings) {
    Value container = base_container("egress", surroundings.tunnel_image, kTunnelProgram,
                                     direct_egress_args(settings, surroundings));
    container.set("volumeMounts",
                  Value::array({mount("konnectivity-uds", kTunnelSocketDir, false)}));
    container.set("resources", egress_resources(true));
    container.set("securityContext", container_security(Value()));
    provide_start_program(container);
    const ProbeTarget health{"/healthz", kTunnelHealthPort, "HTTP"};
    set_startup_and_liveness(container, health, health, ComponentSettings());
    return container;
}

Value build_containers(const Settings& settings, const Endpoint& endpoint,
                       const Surroundings& surroundings) {
    const DeploymentSettings& deployment = settings.deployment;
    Value containers = deployment.additional_containers;
    containers.mutable_items();
    containers.push_back(api_server_container(settings, endpoint, surroundings));
    // What takes connections to nodes, then those that wait for the API server.
    containers.push_back(settings.tunnel ? tunnel_container(settings, surroundings)
                                         : direct_egress_container(settings, surroundings));
    containers.push_back(companion_container(
        "kube-controller-manager", Component::kControllerManager, "controller-manager-kubeconfig",
        "controller-manager-pki", kControllerManagerPort, settings));
    containers.push_back(companion_container("kube-scheduler", Component::kScheduler,
                                             "scheduler-kubeconfig", "scheduler-pki",
                                             kSchedulerPort, settings));
    return containers;
}

// What the user gives is the whole context, as with Kamaji: nothing of ours is mixed in, but for
// the port that the API server could not listen on otherwise.
Value pod_security(const Settings& settings) {
    Value context = settings.deployment.pod_security_context;
    if (context.empty()) {
        context = Value::object({{"runAsNonRoot", true},
                                 {"runAsUser", kNonRootUser},
                                 {"runAsGroup", kNonRootUser},
                                 {"fsGroup", kNonRootUser},
                                 {"seccompProfile", Value::object({{"type", "RuntimeDefault"}})}});
    }
    if (settings.network.port < 1024 && !context.contains("sysctls")) {
        context.set("sysctls",
                    Value::array({Value::object(
                        {{"name", "net.ipv4.ip_unprivileged_port_start"}, {"value", "0"}})}));
    }
    return context;
}

Value spread_over(const Settings& settings, const char* topology_key) {
    return Value::object(
        {{"maxSkew", 1},
         {"topologyKey", topology_key},
         {"whenUnsatisfiable", "ScheduleAnyway"},
         {"labelSelector",
          Value::object({{"matchLabels", Value::object({{names::kNameLabel, settings.name}})}})}});
}

Value topology_spread(const Settings& settings) {
    const Value& from_user = settings.deployment.topology_spread_constraints;
    if (from_user.empty()) {
        // With one replica, too: a template that depends on their number restarts all when scaled.
        return Value::array({spread_over(settings, "kubernetes.io/hostname"),
                             spread_over(settings, "topology.kubernetes.io/zone")});
    }
    Value constraints = from_user;
    for (Value& constraint : constraints.mutable_items()) {
        if (!constraint["labelSelector"].is_null()) continue;
        constraint.set(
            "labelSelector",
            Value::object({{"matchLabels", Value::object({{names::kNameLabel, settings.name}})}}));
    }
    return constraints;
}

Value pod_meta(const Settings& settings, const Surroundings& surroundings, const Value& selector) {
    Value labels = Value::object(
        {{names::kNameLabel, settings.name}, {names::kProjectLabel, names::kProject}});
    for (const auto& [suffix, checksum] : surroundings.secret_checksums) {
        labels.set("component.kamaji.clastix.io/" + suffix, checksum);
    }
    labels.set("component.kamaji.clastix.io/datastore", surroundings.datastore_name);
    Value annotations = Value::object(
        {{"storage.kamaji.clastix.io/config", surroundings.datastore_config_checksum},
         {"storage.kamaji.clastix.io/certificate", surroundings.datastore_certificate_checksum}});
    if (settings.tunnel) {
        annotations.set(names::kTunnelKubeconfigAnnotation,
                        surroundings.tunnel_kubeconfig_checksum);
    }
    for (const data::Member& member : selector["matchLabels"].members()) {
        labels.set(member.key(), member.value);
    }
    Value meta = Value::object({{"labels", labels}, {"annotations", annotations}});
    add_metadata(meta, settings.deployment.pod_metadata);
    return meta;
}

int grace_seconds(const Settings& settings) {
    return has_our_egress(settings) ? kTerminationGraceSeconds : kUpstreamTerminationGraceSeconds;
}

// Nothing of ours speaks to the management cluster. Containers of the user's may: with them it is
// as with Kamaji, unless the user says otherwise; nullopt: as the ServiceAccount says.
std::optional<bool> automounts_token(const DeploymentSettings& deployment) {
    if (deployment.automount_service_account_token)
        return deployment.automount_service_account_token;
    const bool alone =
        deployment.additional_containers.empty() && deployment.additional_init_containers.empty();
    return alone ? std::optional<bool>(false) : std::nullopt;
}

Value build_pod_spec(const Settings& settings, const Endpoint& endpoint,
                     const Surroundings& surroundings) {
    const DeploymentSettings& deployment = settings.deployment;
    Value spec = Value::object({{"containers", build_containers(settings, endpoint, surroundings)},
                                {"volumes", build_volumes(settings)},
                                {"securityContext", pod_security(settings)},
                                {"serviceAccountName", deployment.service_account_name},
                                {"enableServiceLinks", false},
                                {"terminationGracePeriodSeconds", grace_seconds(settings)}});
    if (std::optional<bool> automount = automounts_token(deployment))
        spec.set("automountServiceAccountToken", *automount);
    spec.set_unless_empty("initContainers", deployment.additional_init_containers);
    spec.set_unless_empty("nodeSelector", deployment.node_selector);
    spec.set_unless_empty("tolerations", deployment.tolerations);
    spec.set_unless_empty("affinity", deployment.affinity);
    spec.set_unless_empty("runtimeClassName", deployment.runtime_class_name);
    spec.set_unless_empty("topologySpreadConstraints", topology_spread(settings));
    return spec;
}

}  // namespace

Value build_deployment(const Settings& settings, const Endpoint& endpoint,
                       const Surroundings& surroundings) {
    Value selector = surroundings.existing_selector;
    if (selector.empty()) {
        selector =
            Value::object({{"matchLabels", Value::object({{names::kNameLabel, settings.name}})}});
    }
    Value deployment = Value::object({{"apiVersion", "apps/v1"}, {"kind", "Deployment"}});
    Value& meta = deployment.at("metadata") = object_meta(settings, settings.name, "deployment");
    add_metadata(meta, settings.deployment.metadata);
    deployment.set(
        "spec",
        Value::object(
            {{"replicas", settings.deployment.replicas},
             {"revisionHistoryLimit", 2},
             {"progressDeadlineSeconds", 600},
             {"selector", selector},
             {"strategy", settings.deployment.strategy},
             {"template",
              Value::object({{"metadata", pod_meta(settings, surroundings, selector)},
                             {"spec", build_pod_spec(settings, endpoint, surroundings)}})}}));
    return deployment;
}

Value build_disruption_budget(const Settings& settings) {
    if (settings.deployment.replicas < 2) return Value();
    return Value::object(
        {{"apiVersion", "policy/v1"},
         {"kind", "PodDisruptionBudget"},
         {"metadata", object_meta(settings, settings.name, "disruption-budget")},
         {"spec",
          Value::object({{"maxUnavailable", 1},
                         {"selector",
                          Value::object({{"matchLabels", Value::object({{names::kNameLabel,
                                                                         settings.name}})}})}})}});
}

Value build_egress_selector(const Settings& settings) {
    // `etcd` stays direct: it is the provider's. All else a tenant can steer.
    static constexpr std::string_view kConfiguration =
        "apiVersion: apiserver.k8s.io/v1beta1\n"
        "kind: EgressSelectorConfiguration\n"
        "egressSelections:\n"
        "- name: cluster\n"
        "  connection: &tunnel\n"
        "    proxyProtocol: GRPC\n"
        "    transport:\n"
        "      uds:\n"
        "        udsName: /run/konnectivity/konnectivity-server.socket\n"
        "- name: controlplane\n"
        "  connection: *tunnel\n";
    return build_config_map(settings, names::egress_selector(settings.name),
                            "konnectivity-egress-selector-configuration",
                            {{"egress-selector-configuration.yaml", std::string(kConfiguration)}});
}

}  // namespace basalt::controlplane
