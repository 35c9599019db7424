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

/// In the tenant's cluster.
inline constexpr std::string_view kTunnelAgent = "konnectivity-agent";
inline constexpr std::string_view kTunnelAgentNamespace = "kube-system";
inline constexpr std::string_view kTunnelServerUser = "system:konnectivity-server";

/// A Secret of a control plane; called with the control plane's name it gives the Secret's.
struct SecretName {
    std::string_view suffix;
    std::string_view component;  ///< Value of kComponentLabel.
    std::string_view lifecycle;  ///< Value of kCertificateLifecycleLabel: "x509", "kubeconfig", "".
    std::string_view pod_label;  ///< Which of the Pods' labels carries its checksum; "" for none.

    std::string operator()(std::string_view tcp) const { return std::string(tcp).append(suffix); }
};

// They are called like the functions beside them.
// NOLINTBEGIN(readability-identifier-naming)

/// Without a lifecycle label, as Kamaji's: who selects by it to have certificates rotated means
/// leaves.
inline constexpr SecretName ca{"-ca", "ca", "", "ca"};
inline constexpr SecretName front_proxy_ca{
    "-front-proxy-ca-certificate", "front-proxy-ca-certificate", "", "front-proxy-ca-certificate"};
inline constexpr SecretName service_account{"-sa-certificate", "sa-certificate", "",
                                            "service-account"};
inline constexpr SecretName api_server{"-api-server-certificate", "api-server-certificate", "x509",
                                       "api-server-certificate"};
inline constexpr SecretName kubelet_client{"-api-server-kubelet-client-certificate",
                                           "api-server-kubelet-client-certificate", "x509",
                                           "api-server-kubelet-client-certificate"};
inline constexpr SecretName front_proxy_client{"-front-proxy-client-certificate",
                                               "front-proxy-client-certificate", "x509",
                                               "front-proxy-client-certificate"};
inline constexpr SecretName admin_kubeconfig{"-admin-kubeconfig", "admin-kubeconfig", "kubeconfig",
                                             ""};
inline constexpr SecretName controller_manager_kubeconfig{
    "-controller-manager-kubeconfig", "controller-manager-kubeconfig", "kubeconfig",
    "controller-manager-kubeconfig"};
inline constexpr SecretName scheduler_kubeconfig{"-scheduler-kubeconfig", "scheduler-kubeconfig",
                                                 "kubeconfig", "scheduler-kubeconfig"};
inline constexpr SecretName datastore_config{"-datastore-config", "datastore-config", "", ""};
inline constexpr SecretName datastore_certificate{"-datastore-certificate", "datastore-certificate",
                                                  "x509", ""};
inline constexpr SecretName tunnel_certificate{"-konnectivity-certificate",
                                               "konnectivity-certificate", "x509", ""};
inline constexpr SecretName tunnel_kubeconfig{"-konnectivity-kubeconfig", "konnectivity-kubeconfig",
                                              "kubeconfig", ""};
// NOLINTEND(readability-identifier-naming)

/// All of them.
inline constexpr SecretName kSecrets[] = {ca,
                                          front_proxy_ca,
                                          service_account,
                                          api_server,
                                          kubelet_client,
                                          front_proxy_client,
                                          admin_kubeconfig,
                                          controller_manager_kubeconfig,
                                          scheduler_kubeconfig,
                                          datastore_config,
                                          datastore_certificate,
                                          tunnel_certificate,
                                          tunnel_kubeconfig};

inline std::string egress_selector(std::string_view tcp) {
    return std::string(tcp) + "-konnectivity-egress-selector-configuration";
}
inline std::string kubeadm_config(std::string_view tcp) {
    return std::string(tcp) + "-kubeadmconfig";
}

}  // namespace basalt::controlplane::names
