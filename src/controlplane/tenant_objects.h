// The objects that a control plane keeps in place inside its tenant's cluster: what kubeadm would
// have uploaded, so that stock `kubeadm join` works, and the add-ons. Pure functions of Settings.
//
// Sources: kubeadm's upload-config, bootstrap-token and addon phases (names, RBAC rules, keys),
// CoreDNS's Kubernetes deployment, upstream's konnectivity agent.
#pragma once

#include <string>
#include <vector>

#include "controlplane/objects.h"
#include "controlplane/settings.h"
#include "data/value.h"

namespace basalt::controlplane {

/// On every object we keep in a tenant: finds them again by watch.
inline constexpr std::string_view kTenantLabel = "kamaji.clastix.io/project";
inline constexpr std::string_view kTenantLabelValue = "kamaji";

struct TenantInputs {
    std::string ca_certificate_pem;
    Endpoint endpoint;
    std::string tunnel_image;  ///< Of our own agent.
};

/// Everything, in an order in which it can be applied. InvalidArgument when the user's kubelet
/// patches do not fit the configuration.
Result<std::vector<data::Value>> build_tenant_objects(const Settings& settings,
                                                      const TenantInputs& inputs);

std::vector<data::Value> build_bootstrap_objects(const Settings& settings,
                                                 const TenantInputs& inputs);
Result<data::Value> build_kubelet_configuration(const Settings& settings);
data::Value build_cluster_configuration(const Settings& settings, const Endpoint& endpoint);
std::vector<data::Value> build_core_dns(const Settings& settings);
/// What the Service kube-dns gets of dnsServiceIPs: the first address, and the first one of the
/// other family. Kubernetes never changes them.
std::vector<std::string> cluster_dns_addresses(const NetworkSettings& network);
std::vector<data::Value> build_kube_proxy(const Settings& settings, const TenantInputs& inputs);
std::vector<data::Value> build_tunnel_agent(const Settings& settings, const TenantInputs& inputs);

/// group/version/plural of all kinds that build_tenant_objects() can return; what a session
/// watches.
struct TenantKind {
    const char* api_version;
    const char* kind;
    const char* plural;
};
const std::vector<TenantKind>& tenant_kinds();

}  // namespace basalt::controlplane
