#include "controlplane/settings.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/ip.h"
#include "controlplane/names.h"
#include "controlplane/write_permissions.h"

namespace basalt::controlplane {
namespace {

using data::Value;

// Small requests, so that no container is BestEffort and the first to be killed. Memory: measured
// idle use is about 230, 77 and 42 MB. Processor time is needed when somebody asks for something,
// so it can be shared: less than the measured idle use of 3 to 4 % of a core, in the proportions of
// their work, so that thirty control planes find room on one core.
constexpr struct {
    const char* field;
    const char* image_field;
    const char* image;
    const char* cpu;
    const char* memory;
} kComponents[kComponentsCount] = {
    {"apiServer", "apiServerImage", "kube-apiserver", "20m", "256Mi"},
    {"controllerManager", "controllerManagerImage", "kube-controller-manager", "6m", "80Mi"},
    {"scheduler", "schedulerImage", "kube-scheduler", "3m", "48Mi"},
};

// Readers that stop make it keep 260 MB (tests/bench/tunnel_bench), 4,096 agents about as much
// again. What a tenant may cost the node is not left to that arithmetic.
constexpr const char* kEgressMemoryLimit = "1Gi";

constexpr const char* kDefaultAdmissionPlugins[] = {"CertificateApproval",
                                                    "CertificateSigning",
                                                    "CertificateSubjectRestriction",
                                                    "DefaultIngressClass",
                                                    "DefaultStorageClass",
                                                    "DefaultTolerationSeconds",
                                                    "LimitRanger",
                                                    "MutatingAdmissionWebhook",
                                                    "NamespaceLifecycle",
                                                    "PersistentVolumeClaimResize",
                                                    "Priority",
                                                    "ResourceQuota",
                                                    "RuntimeClass",
                                                    "ServiceAccount",
                                                    "StorageObjectInUseProtection",
                                                    "TaintNodesByCondition",
                                                    "ValidatingAdmissionWebhook"};

std::string text_or(const Value& value, std::string_view fallback) {
    return value.empty() ? std::string(fallback) : value.str();
}

std::optional<bool> optional_bool(const Value& value) {
    if (!value.is_bool()) return std::nullopt;
    return value.as_bool();
}

Metadata read_metadata(const Value& value) {
    return {value["labels"].as_string_map(), value["annotations"].as_string_map()};
}

// Global probe settings first, the component's over them, field by field.
Value merge_probe(const Value& probes, const char* component, const char* probe) {
    Value merged = Value::object();
    for (const Value* source : {&probes[probe], &probes[component][probe]}) {
        for (const data::Member& member : source->members()) merged.set(member.key(), member.value);
    }
    return merged;
}

Value default_resources(const char* cpu, const char* memory) {
    return Value::object({{"requests", Value::object({{"cpu", cpu}, {"memory", memory}})}});
}

void read_components(const Value& deployment, const Version& version, DeploymentSettings& out) {
    const Value& registry = deployment["registrySettings"];
    const Value& probes = deployment["probes"];
    for (size_t i = 0; i < kComponentsCount; ++i) {
        const auto& known = kComponents[i];
        ComponentSettings& component = out.components[i];
        component.image =
            fmt::format("{}/{}:{}{}", text_or(registry["registry"], "registry.k8s.io"),
                        text_or(registry[known.image_field], known.image), version.to_string(),
                        registry["tagSuffix"].as_string());
        component.resources = deployment["resources"][known.field];
        if (component.resources.empty()) {
            component.resources = default_resources(known.cpu, known.memory);
        }
        component.extra_args = deployment["extraArgs"][known.field].as_string_list();
        component.extra_volume_mounts = deployment["additionalVolumeMounts"][known.field];
        component.security_context = deployment["containerSecurityContexts"][known.field];
        component.liveness = merge_probe(probes, known.field, "liveness");
        component.readiness = merge_probe(probes, known.field, "readiness");
        component.startup = merge_probe(probes, known.field, "startup");
    }
}

// As Kamaji: new Pods are ready before old ones leave unless there is something else in
// rollingUpdate, and with another type there is none. What is left out beside another field has
// Kubernetes's default, in so many words: a default that nobody owns would stay when the type
// changes, and be refused then.
Value read_strategy(const Value& strategy) {
    const std::string type = text_or(strategy["type"], "RollingUpdate");
    Value out = Value::object({{"type", type}});
    if (type != "RollingUpdate") return out;
    const Value& from_user = strategy["rollingUpdate"];
    Value rolling = Value::object({{"maxSurge", "100%"}, {"maxUnavailable", 0}});
    if (!from_user.empty())
        rolling = Value::object({{"maxSurge", "25%"}, {"maxUnavailable", "25%"}});
    for (const data::Member& member : from_user.members()) rolling.set(member.key(), member.value);
    out.set("rollingUpdate", std::move(rolling));
    return out;
}

DeploymentSettings read_deployment(const Value& deployment, const Version& version) {
    DeploymentSettings out;
    out.replicas = deployment["replicas"].as_int(2);
    read_components(deployment, version, out);
    out.strategy = read_strategy(deployment["strategy"]);
    out.node_selector = deployment["nodeSelector"];
    out.tolerations = deployment["tolerations"];
    out.affinity = deployment["affinity"];
    out.topology_spread_constraints = deployment["topologySpreadConstraints"];
    out.pod_security_context = deployment["podSecurityContext"];
    out.additional_init_containers = deployment["additionalInitContainers"];
    out.additional_containers = deployment["additionalContainers"];
    out.additional_volumes = deployment["additionalVolumes"];
    out.runtime_class_name = deployment["runtimeClassName"].str();
    out.service_account_name = text_or(deployment["serviceAccountName"], "default");
    out.automount_service_account_token = optional_bool(deployment["automountServiceAccountToken"]);
    out.metadata = read_metadata(deployment["additionalMetadata"]);
    out.pod_metadata = read_metadata(deployment["podAdditionalMetadata"]);
    return out;
}

// The plural field wins; the singular one is its deprecated spelling.
std::vector<std::string> read_cidrs(const Value& profile, const char* plural, const char* singular,
                                    const char* fallback) {
    std::vector<std::string> cidrs = profile[plural].as_string_list();
    if (cidrs.empty()) cidrs.push_back(text_or(profile[singular], fallback));
    std::sort(cidrs.begin(), cidrs.end());
    cidrs.erase(std::unique(cidrs.begin(), cidrs.end()), cidrs.end());
    return cidrs;
}

Result<NetworkSettings> read_network(const Value& profile) {
    NetworkSettings out;
    out.address = profile["address"].str();
    out.advertise_address = profile["advertiseAddress"].str();
    out.address_as_external_ip = profile["allowAddressAsExternalIP"].as_bool();
    out.port = profile["port"].as_int(6443);
    out.cert_sans = profile["certSANs"].as_string_list();
    out.service_cidrs = read_cidrs(profile, "serviceCidrs", "serviceCidr", "10.96.0.0/16");
    out.pod_cidrs = read_cidrs(profile, "podCidrs", "podCidr", "10.244.0.0/16");
    out.cluster_domain = text_or(profile["clusterDomain"], "cluster.local");
    out.load_balancer_source_ranges = profile["loadBalancerSourceRanges"].as_string_list();
    out.load_balancer_class = profile["loadBalancerClass"].str();
    out.dns_service_ips = profile["dnsServiceIPs"].as_string_list();
    if (out.dns_service_ips.empty()) {
        for (const std::string& cidr : out.service_cidrs) {
            BASALT_ASSIGN(std::string address, dns_address(cidr));
            out.dns_service_ips.push_back(address);
        }
    }
    return out;
}

Result<KubernetesSettings> read_kubernetes(const Value& kubernetes) {
    KubernetesSettings out;
    auto version = Version::parse(kubernetes["version"].as_string());
    if (!version.ok()) return std::move(version).error().context("spec.kubernetes.version");
    out.version = *version;
    BASALT_TRY(check_supported(out.version));
    out.admission_plugins = kubernetes["admissionControllers"].as_string_list();
    if (out.admission_plugins.empty()) {
        out.admission_plugins.assign(std::begin(kDefaultAdmissionPlugins),
                                     std::end(kDefaultAdmissionPlugins));
    }
    const Value& kubelet = kubernetes["kubelet"];
    out.preferred_address_types = kubelet["preferredAddressTypes"].as_string_list();
    if (out.preferred_address_types.empty()) {
        out.preferred_address_types = {"InternalIP", "ExternalIP", "Hostname"};
    }
    out.cgroup_driver = text_or(kubelet["cgroupfs"], "systemd");
    out.kubelet_patches = kubelet["configurationJSONPatches"];
    return out;
}

std::optional<AddonImage> read_addon(const Value& addon) {
    if (!addon.is_object()) return std::nullopt;
    return AddonImage{addon["imageRepository"].str(), addon["imageTag"].str()};
}

// "" when the user named neither image nor version: then our own tunnel runs.
std::string tunnel_image(const Value& part, const char* upstream, const Version& kubernetes) {
    if (part["image"].empty() && part["version"].empty()) return "";
    return fmt::format("{}:{}", text_or(part["image"], upstream),
                       text_or(part["version"], fmt::format("v0.{}.0", kubernetes.minor)));
}

std::optional<TunnelSettings> read_tunnel(const Value& addon, const Version& version) {
    if (!addon.is_object()) return std::nullopt;
    const Value& server = addon["server"];
    const Value& agent = addon["agent"];
    TunnelSettings out;
    out.server_port = server["port"].as_int(8132);
    out.server_image =
        tunnel_image(server, "registry.k8s.io/kas-network-proxy/proxy-server", version);
    out.agent_image = tunnel_image(agent, "registry.k8s.io/kas-network-proxy/proxy-agent", version);
    out.server_resources = server["resources"];
    if (out.server_resources.empty()) out.server_resources = egress_resources(out.is_ours());
    out.server_security_context = server["securityContext"];
    out.server_extra_args = server["extraArgs"].as_string_list();
    out.agent_extra_args = agent["extraArgs"].as_string_list();
    out.agent_resources = agent["resources"];
    if (out.agent_resources.empty()) out.agent_resources = default_resources("10m", "16Mi");
    out.agent_tolerations = agent["tolerations"];
    if (out.agent_tolerations.is_null()) {
        out.agent_tolerations =
            Value::array({Value::object({{"key", "CriticalAddonsOnly"}, {"operator", "Exists"}})});
    }
    out.agent_host_network = agent["hostNetwork"].as_bool();
    out.agent_mode = text_or(agent["mode"], "DaemonSet");
    out.agent_replicas = agent["replicas"].as_int(1);
    return out;
}

// Without a record of ours in the status the spec is in force as it is: a new control plane, or one
// that Kamaji made.
void read_overrides(const Value& object, Settings& out) {
    std::map<std::string, std::string> wanted;
    for (const Value& item : object["spec"]["dataStoreOverrides"].items())
        wanted[item["resource"].str()] = item["dataStore"].str();
    const Value& recorded = object["status"]["storage"]["overrides"];
    std::map<std::string, std::string> kept;
    for (const Value& item : recorded.items()) {
        if (item["resource"].as_string() == kMovableResource) continue;
        kept[item["resource"].str()] = item["dataStoreName"].str();
    }
    for (const auto& [resource, store] : wanted) {
        const bool fixed = recorded.is_array() && resource != kMovableResource;
        auto found = kept.find(resource);
        if (fixed && (found == kept.end() || found->second != store)) {
            out.unsupported.push_back(fmt::format(
                "spec.dataStoreOverrides[{}]: objects stay in {}, moving them is not supported",
                resource, found == kept.end() ? out.datastore : found->second));
        } else {
            out.datastore_overrides[resource] = store;
        }
    }
    for (const auto& [resource, store] : kept) {
        if (!wanted.contains(resource)) {
            out.unsupported.push_back(fmt::format(
                "spec.dataStoreOverrides[{}]: was removed, but its objects stay in {}, moving them "
                "is not supported",
                resource, store));
        }
        out.datastore_overrides[resource] = store;
    }
    const std::vector<std::string> used = out.used_datastores();
    for (const Value& item : recorded.items()) {
        std::string store = item["dataStoreName"].str();
        auto known = [&](const std::vector<std::string>& list) {
            return std::find(list.begin(), list.end(), store) != list.end();
        };
        if (!known(used) && !known(out.former_datastores))
            out.former_datastores.push_back(std::move(store));
    }
}

void read_datastore(const Value& object, const SettingsDefaults& defaults, Settings& out) {
    const Value& spec = object["spec"];
    const Value& setup = object["status"]["storage"]["setup"];
    std::string wanted = text_or(spec["dataStore"], defaults.datastore);
    out.datastore = text_or(object["status"]["storage"]["dataStoreName"], wanted);
    if (out.datastore != wanted) {
        out.unsupported.push_back(fmt::format(
            "spec.dataStore: data stays in {}, moving it is not supported", out.datastore));
    }
    // What was used before stays, whatever the default is now: the data is there.
    out.schema = text_or(setup["schema"], text_or(spec["dataStoreSchema"], out.uid));
    out.user = text_or(setup["user"], text_or(spec["dataStoreUsername"], out.uid));
    read_overrides(object, out);
}

}  // namespace

data::Value egress_resources(bool is_ours) {
    Value resources = default_resources("2m", "16Mi");
    if (is_ours) resources.set("limits", Value::object({{"memory", kEgressMemoryLimit}}));
    return resources;
}

std::vector<std::string> Settings::used_datastores() const {
    std::vector<std::string> names = {datastore};
    for (const auto& [resource, store] : datastore_overrides) {
        if (std::find(names.begin(), names.end(), store) == names.end()) names.push_back(store);
    }
    return names;
}

Result<std::string> dns_address(const std::string& service_cidr) {
    auto network = IpNetwork::parse(service_cidr);
    if (!network.ok())
        return std::move(network).error().context("spec.networkProfile.serviceCidrs");
    return network->address_at(network->is_v6() ? 0x10 : 10);
}

Result<Settings> read_settings(const Value& object, const SettingsDefaults& defaults) {
    const Value& meta = object["metadata"];
    const Value& spec = object["spec"];
    const Value& plane = spec["controlPlane"];
    Settings out;
    out.name = meta["name"].str();
    out.namespace_name = meta["namespace"].str();
    out.uid = meta["uid"].str();
    out.generation = meta["generation"].as_int();
    out.paused = meta["annotations"].contains(names::kPausedAnnotation);

    BASALT_ASSIGN(out.kubernetes, read_kubernetes(spec["kubernetes"]));
    BASALT_ASSIGN(out.network, read_network(spec["networkProfile"]));
    const Version& version = out.kubernetes.version;
    out.deployment = read_deployment(plane["deployment"], version);
    const Value& service = plane["service"];
    out.service.type = text_or(service["serviceType"], "ClusterIP");
    out.service.metadata = read_metadata(service["additionalMetadata"]);
    out.service.additional_ports = service["additionalPorts"];
    out.service.allocate_load_balancer_node_ports =
        optional_bool(service["allocateLoadBalancerNodePorts"]);

    const Value& addons = spec["addons"];
    out.core_dns = read_addon(addons["coreDNS"]);
    out.kube_proxy = read_addon(addons["kubeProxy"]);
    out.tunnel = read_tunnel(addons["konnectivity"], version);
    const Value& permissions = spec["writePermissions"];
    out.write_permissions = {
        permissions["blockCreation"].as_bool() || permissions["blockCreate"].as_bool(),
        permissions["blockUpdate"].as_bool(),
        permissions["blockDeletion"].as_bool() || permissions["blockDelete"].as_bool()};
    const std::string hindrance = find_hindrance(out.deployment[Component::kApiServer].extra_args);
    if (out.write_permissions.any() && !hindrance.empty()) {
        out.write_permissions = {};
        out.unsupported.push_back(fmt::format(
            "spec.writePermissions: writes are not refused beside {} in extraArgs", hindrance));
    }
    read_datastore(object, defaults, out);

    if (plane["ingress"].is_object()) {
        out.unsupported.push_back(
            "spec.controlPlane.ingress: the control plane is reached by its Service");
    }
    if (plane["gateway"].is_object()) {
        out.unsupported.push_back(
            "spec.controlPlane.gateway: the control plane is reached by its Service");
    }
    return out;
}

}  // namespace basalt::controlplane
