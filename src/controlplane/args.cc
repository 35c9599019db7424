// Command lines of the control plane's components.
#include <set>

#include <fmt/format.h>

#include "base/ip.h"
#include "controlplane/args.h"
#include "controlplane/objects.h"

namespace basalt::controlplane {
namespace {

using Args = std::map<std::string, std::string>;

std::string join(const std::vector<std::string>& items) {
    return fmt::format("{}", fmt::join(items, ","));
}

std::string flag_name(const std::string& argument) {
    return argument.substr(0, argument.find('='));
}

// The datastore's members as URLs.
std::string etcd_urls(const std::vector<std::string>& endpoints, const char* separator) {
    std::vector<std::string> urls;
    for (const std::string& endpoint : endpoints) urls.push_back("https://" + endpoint);
    return fmt::format("{}", fmt::join(urls, separator));
}

void add_etcd_args(const Settings& settings, const Surroundings& surroundings, Args& managed) {
    managed["--etcd-cafile"] = std::string(kEtcdDir) + "/ca.crt";
    managed["--etcd-certfile"] = std::string(kEtcdDir) + "/server.crt";
    managed["--etcd-keyfile"] = std::string(kEtcdDir) + "/server.key";
    managed["--etcd-prefix"] = "/" + settings.schema;
    managed["--etcd-servers"] = etcd_urls(surroundings.etcd_endpoints, ",");
    // A tenant's user may not compact the shared store; the store compacts itself.
    managed["--etcd-compaction-interval"] = "0";
    std::vector<std::string> overrides;
    for (const auto& [resource, endpoints] : surroundings.override_endpoints) {
        overrides.push_back(fmt::format("{}#{}", resource, etcd_urls(endpoints, ";")));
    }
    if (!overrides.empty()) managed["--etcd-servers-overrides"] = join(overrides);
}

}  // namespace

std::vector<std::string> merge_args(const Args& managed, const Args& defaults,
                                    const std::vector<std::string>& user_args) {
    std::set<std::string> named_by_user;
    std::vector<std::string> user;
    for (const std::string& argument : user_args) {
        if (managed.contains(flag_name(argument))) continue;
        named_by_user.insert(flag_name(argument));
        user.push_back(argument);
    }
    std::set<std::string> ours;
    for (const auto& [flag, value] : managed) ours.insert(fmt::format("{}={}", flag, value));
    for (const auto& [flag, value] : defaults) {
        if (!named_by_user.contains(flag)) ours.insert(fmt::format("{}={}", flag, value));
    }
    std::vector<std::string> merged(ours.begin(), ours.end());
    merged.insert(merged.end(), user.begin(), user.end());
    return merged;
}

std::vector<std::string> api_server_args(const Settings& settings, const Endpoint& endpoint,
                                         const Surroundings& surroundings) {
    const std::string pki(kPkiDir);
    Args managed = {
        {"--client-ca-file", pki + "/ca.crt"},
        {"--enable-admission-plugins", join(settings.kubernetes.admission_plugins)},
        {"--kubelet-client-certificate", pki + "/apiserver-kubelet-client.crt"},
        {"--kubelet-client-key", pki + "/apiserver-kubelet-client.key"},
        {"--kubelet-preferred-address-types", join(settings.kubernetes.preferred_address_types)},
        {"--proxy-client-cert-file", pki + "/front-proxy-client.crt"},
        {"--proxy-client-key-file", pki + "/front-proxy-client.key"},
        {"--requestheader-allowed-names", "front-proxy-client"},
        {"--requestheader-client-ca-file", pki + "/front-proxy-ca.crt"},
        {"--secure-port", std::to_string(settings.network.port)},
        {"--service-account-key-file", pki + "/sa.pub"},
        {"--service-account-signing-key-file", pki + "/sa.key"},
        {"--service-cluster-ip-range", join(settings.network.service_cidrs)},
        {"--tls-cert-file", pki + "/apiserver.crt"},
        {"--tls-private-key-file", pki + "/apiserver.key"},
    };
    if (is_ip_address(endpoint.advertise_address)) {
        managed["--advertise-address"] = endpoint.advertise_address;
    }
    add_etcd_args(settings, surroundings, managed);
    managed["--egress-selector-config-file"] =
        std::string(kTunnelConfigDir) + "/egress-selector-configuration.yaml";
    Args defaults = {
        {"--allow-privileged", "true"},
        {"--authorization-mode", "Node,RBAC"},
        {"--enable-bootstrap-token-auth", "true"},
        {"--profiling", "false"},
        {"--requestheader-extra-headers-prefix", "X-Remote-Extra-"},
        {"--requestheader-group-headers", "X-Remote-Group"},
        {"--requestheader-username-headers", "X-Remote-User"},
        {"--service-account-issuer",
         "https://kubernetes.default.svc." + settings.network.cluster_domain},
        // The old Pod serves until endpoints have moved, so that an upgrade with one replica loses
        // nothing.
        {"--shutdown-delay-duration", fmt::format("{}s", kShutdownDelaySeconds)},
        {"--shutdown-send-retry-after", "true"},
    };
    const auto& user_args = settings.deployment[Component::kApiServer].extra_args;
    for (const std::string& argument : user_args) {
        // A structured authorization configuration takes the place of the mode; both together are
        // refused.
        if (flag_name(argument) == "--authorization-config") defaults.erase("--authorization-mode");
    }
    return merge_args(managed, defaults, user_args);
}

namespace {

// Requests to the component's own port are authenticated by the tenant's CAs, without asking the
// API server while it may not serve yet: that look-up would end the process.
Args serving_args(const std::string& kubeconfig) {
    const std::string pki(kPkiDir);
    const std::string serving = std::string(kKubeconfigDir) + "/serving";
    return {{"--authentication-kubeconfig", kubeconfig},
            {"--authentication-skip-lookup", "true"},
            {"--authorization-kubeconfig", kubeconfig},
            {"--bind-address", "0.0.0.0"},
            {"--client-ca-file", pki + "/ca.crt"},
            {"--kubeconfig", kubeconfig},
            {"--leader-elect", "true"},
            {"--profiling", "false"},
            {"--requestheader-client-ca-file", pki + "/front-proxy-ca.crt"},
            {"--tls-cert-file", serving + ".crt"},
            {"--tls-private-key-file", serving + ".key"}};
}

}  // namespace

std::vector<std::string> controller_manager_args(const Settings& settings) {
    const std::string pki(kPkiDir);
    Args defaults = serving_args(std::string(kKubeconfigDir) + "/controller-manager.conf");
    defaults.insert({
        {"--allocate-node-cidrs", "true"},
        {"--cluster-cidr", join(settings.network.pod_cidrs)},
        {"--cluster-name", settings.name},
        {"--cluster-signing-cert-file", pki + "/ca.crt"},
        {"--cluster-signing-key-file", pki + "/ca.key"},
        {"--controllers", "*,bootstrapsigner,tokencleaner"},
        // It makes an account and a token for each of its controllers before any of them runs;
        // upstream's 20 requests a second let a new cluster wait (docs/design/benchmarks.md).
        {"--kube-api-burst", "200"},
        {"--kube-api-qps", "50"},
        {"--root-ca-file", pki + "/ca.crt"},
        {"--service-account-private-key-file", pki + "/sa.key"},
        {"--service-cluster-ip-range", join(settings.network.service_cidrs)},
        {"--use-service-account-credentials", "true"},
    });
    return merge_args({}, defaults, settings.deployment[Component::kControllerManager].extra_args);
}

std::vector<std::string> scheduler_args(const Settings& settings) {
    Args defaults = serving_args(std::string(kKubeconfigDir) + "/scheduler.conf");
    return merge_args({}, defaults, settings.deployment[Component::kScheduler].extra_args);
}

std::vector<std::string> tunnel_server_args(const Settings& settings) {
    const TunnelSettings& tunnel = *settings.tunnel;
    const std::string pki(kPkiDir);
    Args managed = {
        {"--agent-port", std::to_string(tunnel.server_port)},
        {"--cluster-cert", pki + "/apiserver.crt"},
        {"--cluster-key", pki + "/apiserver.key"},
        {"--delete-existing-uds-file", "true"},
        // Probes of the whole Pod ask there.
        {"--health-port", "8134"},
        {"--mode", "grpc"},
        {"--server-port", "0"},
        {"--uds-name", std::string(kTunnelSocketDir) + "/konnectivity-server.socket"},
    };
    Args defaults = {
        {"--admin-port", "8133"},
        {"--agent-namespace", "kube-system"},
        {"--agent-service-account", "konnectivity-agent"},
        {"--authentication-audience", "system:konnectivity-server"},
        {"--kubeconfig", std::string(kKubeconfigDir) + "/konnectivity-server.conf"},
    };
    if (tunnel.is_ours()) {
        // Siblings find each other through the Service and count themselves: nothing here depends
        // on the number of replicas, so that scaling restarts nothing.
        managed["--peer-address"] =
            fmt::format("{}.{}.svc:{}", settings.name, settings.namespace_name, tunnel.server_port);
        managed["--commands-limit"] = fmt::format("{}s", kCommandsLimitSeconds);
        managed["--graceful-shutdown-timeout"] = fmt::format("{}s", kTunnelGraceSeconds);
        managed["--start-gate"] = std::string(kStartGate);
    } else {
        defaults["--server-count"] =
            std::to_string(std::max<int64_t>(1, settings.deployment.replicas));
    }
    return merge_args(managed, defaults, tunnel.server_extra_args);
}

std::vector<std::string> direct_egress_args(const Settings& settings,
                                            const Surroundings& surroundings) {
    std::vector<std::string> args = {
        "direct",
        fmt::format("--api-server=127.0.0.1:{}", settings.network.port),
        "--health-port=8134",
        fmt::format("--commands-limit={}s", kCommandsLimitSeconds),
        fmt::format("--graceful-shutdown-timeout={}s", kTunnelGraceSeconds),
        fmt::format("--start-gate={}", kStartGate),
        fmt::format("--uds-name={}/konnectivity-server.socket", kTunnelSocketDir),
    };
    // Nobody said what is the provider's: then nothing is anybody else's.
    if (surroundings.protected_ranges.empty()) {
        args.emplace_back("--deny-all");
    } else {
        args.push_back("--deny=" + join(denied_destinations(surroundings)));
    }
    return args;
}

}  // namespace basalt::controlplane
