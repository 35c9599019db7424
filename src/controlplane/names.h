// Names, keys, labels and annotations of everything that belongs to a control plane.
//
// They are Kamaji's, so that tools, Cluster API providers and existing objects keep working.
#pragma once

#include <string>
#include <string_view>

namespace basalt::controlplane::names {

inline constexpr std::string_view kFieldManager = "basalt-controller";

inline constexpr std::string_view kProjectLabel = "kamaji.clastix.io/project";
inline constexpr std::string_view kProject = "kamaji";
inline constexpr std::string_view kNameLabel = "kamaji.clastix.io/name";
inline constexpr std::string_view kComponentLabel = "kamaji.clastix.io/component";
inline constexpr std::string_view kCertificateLifecycleLabel =
    "kamaji.clastix.io/certificate_lifecycle_controller";
inline constexpr std::string_view kChecksumAnnotation = "kamaji.clastix.io/checksum";
inline constexpr std::string_view kRotateAnnotation = "certs.kamaji.clastix.io/rotate";
inline constexpr std::string_view kPausedAnnotation = "kamaji.clastix.io/paused";
/// Of a control plane that `basalt sleep` put to sleep: how many replicas it wakes up with.
inline constexpr std::string_view kReplicasAnnotation = "basalt.dev/replicas-before-sleep";
/// Of Pods: checksum of what the tunnel's server reads once, at its start.
inline constexpr std::string_view kTunnelKubeconfigAnnotation =
    "basalt.dev/konnectivity-kubeconfig";
inline constexpr std::string_view kFinalizer = "finalizer.kamaji.clastix.io";
/// Left by Kamaji's per-tenant managers; removed with the control plane.
inline constexpr std::string_view kSootFinalizer = "finalizer.kamaji.clastix.io/soot";
inline constexpr std::string_view kDataStoreSecretFinalizer =
    "finalizer.kamaji.clastix.io/datastore-secret";
inline constexpr std::string_view kDataStoreFinalizer = "kamaji.clastix.io/TenantControlPlane";

inline std::string ca(std::string_view tcp) { return std::string(tcp) + "-ca"; }
inline std::string front_proxy_ca(std::string_view tcp) {
    return std::string(tcp) + "-front-proxy-ca-certificate";
}
inline std::string service_account(std::string_view tcp) {
    return std::string(tcp) + "-sa-certificate";
}
inline std::string api_server(std::string_view tcp) {
    return std::string(tcp) + "-api-server-certificate";
}
inline std::string kubelet_client(std::string_view tcp) {
    return std::string(tcp) + "-api-server-kubelet-client-certificate";
}
inline std::string front_proxy_client(std::string_view tcp) {
    return std::string(tcp) + "-front-proxy-client-certificate";
}
inline std::string admin_kubeconfig(std::string_view tcp) {
    return std::string(tcp) + "-admin-kubeconfig";
}
inline std::string controller_manager_kubeconfig(std::string_view tcp) {
    return std::string(tcp) + "-controller-manager-kubeconfig";
}
inline std::string scheduler_kubeconfig(std::string_view tcp) {
    return std::string(tcp) + "-scheduler-kubeconfig";
}
inline std::string datastore_config(std::string_view tcp) {
    return std::string(tcp) + "-datastore-config";
}
inline std::string datastore_certificate(std::string_view tcp) {
    return std::string(tcp) + "-datastore-certificate";
}
inline std::string tunnel_certificate(std::string_view tcp) {
    return std::string(tcp) + "-konnectivity-certificate";
}
inline std::string tunnel_kubeconfig(std::string_view tcp) {
    return std::string(tcp) + "-konnectivity-kubeconfig";
}
inline std::string egress_selector(std::string_view tcp) {
    return std::string(tcp) + "-konnectivity-egress-selector-configuration";
}
inline std::string kubeadm_config(std::string_view tcp) {
    return std::string(tcp) + "-kubeadmconfig";
}

}  // namespace basalt::controlplane::names
