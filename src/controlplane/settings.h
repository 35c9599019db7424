// Settings: what a TenantControlPlane asks for, with every default applied.
//
// The one place that knows where a field lives in the spec and what it means when it is missing;
// all planning works on this value. Pure: no clock, no I/O. Source of the defaults: Kamaji's API,
// except where docs/design/control-planes.md says otherwise.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "controlplane/version.h"
#include "data/value.h"

namespace basalt::controlplane {

/// apiServer, controllerManager, scheduler: index into per-component arrays.
enum class Component : size_t { kApiServer = 0, kControllerManager = 1, kScheduler = 2 };
inline constexpr size_t kComponentsCount = 3;

struct ComponentSettings {
    std::string image;
    data::Value resources;  ///< ResourceRequirements; never empty.
    std::vector<std::string> extra_args;
    data::Value extra_volume_mounts;
    data::Value security_context;
    /// Merged ProbeSpec for liveness, readiness, startup: only what the user set.
    data::Value liveness, readiness, startup;
};

struct Metadata {
    std::map<std::string, std::string> labels;
    std::map<std::string, std::string> annotations;
};

struct DeploymentSettings {
    int64_t replicas = 2;
    ComponentSettings components[kComponentsCount];
    data::Value strategy;
    data::Value node_selector, tolerations, affinity, topology_spread_constraints;
    data::Value pod_security_context;
    data::Value additional_init_containers, additional_containers, additional_volumes;
    std::string runtime_class_name, service_account_name;
    std::optional<bool> automount_service_account_token;
    Metadata metadata, pod_metadata;

    const ComponentSettings& operator[](Component component) const {
        return components[static_cast<size_t>(component)];
    }
};

struct ServiceSettings {
    std::string type;
    Metadata metadata;
    data::Value additional_ports;
    std::optional<bool> allocate_load_balancer_node_ports;
};

struct NetworkSettings {
    std::string address;            ///< Fixed endpoint, or "".
    std::string advertise_address;  ///< Where tenants reach it when that differs, or "".
    bool address_as_external_ip = false;
    int64_t port = 6443;
    std::vector<std::string> cert_sans;
    std::vector<std::string> service_cidrs, pod_cidrs;  ///< Sorted, without duplicates.
    std::vector<std::string> dns_service_ips;
    std::string cluster_domain;
    std::vector<std::string> load_balancer_source_ranges;
    std::string load_balancer_class;
};

struct KubernetesSettings {
    Version version;
    std::vector<std::string> admission_plugins;
    std::vector<std::string> preferred_address_types;
    std::string cgroup_driver;
    data::Value kubelet_patches;  ///< RFC 6902 operations on the KubeletConfiguration.
};

/// Of the container that makes the API server's connections: small requests, and, of our own
/// program, a limit that it keeps clear of (docs/design/tunnel.md, Limits).
data::Value egress_resources(bool is_ours);

struct AddonImage {
    std::string repository;  ///< "" = the default of that add-on.
    std::string tag;
};

struct TunnelSettings {
    int64_t server_port = 8132;
    std::string server_image, agent_image;  ///< Complete references, or "" for our own.
    data::Value server_resources, server_security_context;
    std::vector<std::string> server_extra_args, agent_extra_args;
    data::Value agent_tolerations, agent_resources;
    bool agent_host_network = false;
    std::string agent_mode;  ///< DaemonSet or Deployment.
    int64_t agent_replicas = 1;

    /// The server is our own program, not upstream's.
    bool is_ours() const { return server_image.empty(); }
};

struct WritePermissions {
    bool block_creation = false, block_update = false, block_deletion = false;
    bool any() const { return block_creation || block_update || block_deletion; }
};

struct Settings {
    std::string name, namespace_name, uid;
    int64_t generation = 0;
    bool paused = false;

    KubernetesSettings kubernetes;
    NetworkSettings network;
    DeploymentSettings deployment;
    ServiceSettings service;
    std::optional<AddonImage> core_dns, kube_proxy;
    std::optional<TunnelSettings> tunnel;
    WritePermissions write_permissions;

    std::string
        datastore;  ///< Name of the DataStore in force: status wins, for it cannot be changed yet.
    std::string schema;  ///< Key prefix (without slashes) and name of the role.
    std::string user;
    /// resource -> DataStore, as they are in force: objects of a resource stay where they are.
    std::map<std::string, std::string> datastore_overrides;
    /// DataStores of overrides that were in force and are not any more; to be cleaned.
    std::vector<std::string> former_datastores;

    /// "field: why" of what the spec asks for and nobody acts on yet.
    std::vector<std::string> unsupported;

    /// All DataStores in use: the main one first, each once.
    std::vector<std::string> used_datastores() const;
    std::string key() const { return namespace_name + "/" + name; }
    bool asleep() const { return deployment.replicas == 0; }
};

struct SettingsDefaults {
    std::string datastore = "default";  ///< For control planes that name none.
};

/// InvalidArgument names the field and the remedy; nothing is planned from such a spec.
Result<Settings> read_settings(const data::Value& tenant_control_plane,
                               const SettingsDefaults& defaults);

/// What an override can be changed for at any time: events end by themselves, so that nobody misses
/// those of before. Objects of all other resources would be out of sight.
inline constexpr std::string_view kMovableResource = "/events";

/// The address of the cluster's DNS in a service range: network + 10 (IPv4) or + 0x10 (IPv6).
Result<std::string> dns_address(const std::string& service_cidr);

}  // namespace basalt::controlplane
