// What kubeadm keeps in a cluster: its configuration, the kubelet's, cluster-info, and the RBAC
// rules that let a node with a bootstrap token join.
#include <fmt/format.h>

#include "base/ip.h"
#include "controlplane/args.h"
#include "controlplane/names.h"
#include "controlplane/objects.h"
#include "controlplane/template.h"
#include "controlplane/tenant_objects.h"
#include "data/base64.h"
#include "data/json.h"
#include "data/patch.h"
#include "data/yaml.h"

namespace basalt::controlplane {

using data::Value;

namespace {

constexpr std::string_view kBootstrapRbac = R"yaml(
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "kubeadm:cluster-admins"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "kubeadm:cluster-admins"}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: "kubeadm:get-nodes"}
rules:
- {apiGroups: [""], resources: [nodes], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "kubeadm:get-nodes"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "kubeadm:get-nodes"}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:bootstrappers:kubeadm:default-node-token"}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "kubeadm:kubelet-bootstrap"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:node-bootstrapper"}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:bootstrappers:kubeadm:default-node-token"}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "kubeadm:node-autoapprove-bootstrap"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:certificates.k8s.io:certificatesigningrequests:nodeclient"}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:bootstrappers:kubeadm:default-node-token"}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "kubeadm:node-autoapprove-certificate-rotation"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient"}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:nodes"}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "kubeadm:apiserver-kubelet-client"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:kubelet-api-admin"}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: kube-apiserver-kubelet-client}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: "kubeadm:bootstrap-signer-clusterinfo", namespace: kube-public}
rules:
- {apiGroups: [""], resources: [configmaps], resourceNames: [cluster-info], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: "kubeadm:bootstrap-signer-clusterinfo", namespace: kube-public}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: "kubeadm:bootstrap-signer-clusterinfo"}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: "system:anonymous"}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: "kubeadm:nodes-kubeadm-config", namespace: kube-system}
rules:
- {apiGroups: [""], resources: [configmaps], resourceNames: [kubeadm-config], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: "kubeadm:nodes-kubeadm-config", namespace: kube-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: "kubeadm:nodes-kubeadm-config"}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:nodes"}
- {apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:bootstrappers:kubeadm:default-node-token"}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: "kubeadm:kubelet-config", namespace: kube-system}
rules:
- {apiGroups: [""], resources: [configmaps], resourceNames: [kubelet-config], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: "kubeadm:kubelet-config", namespace: kube-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: "kubeadm:kubelet-config"}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:nodes"}
- {apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:bootstrappers:kubeadm:default-node-token"}
)yaml";

constexpr std::string_view kConfigMaps = R"yaml(
apiVersion: v1
kind: ConfigMap
metadata: {name: kubeadm-config, namespace: kube-system}
data: {ClusterConfiguration: "${cluster_configuration}"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: kubelet-config, namespace: kube-system}
data: {kubelet: "${kubelet_configuration}"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: cluster-info, namespace: kube-public}
data: {kubeconfig: "${cluster_info}"}
)yaml";

constexpr std::string_view kKubeletConfiguration = R"yaml(
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {cacheTTL: 0s, enabled: true}
  x509: {clientCAFile: /etc/kubernetes/pki/ca.crt}
authorization:
  mode: Webhook
  webhook: {cacheAuthorizedTTL: 0s, cacheUnauthorizedTTL: 0s}
cgroupDriver: "${cgroup_driver}"
clusterDNS: "${cluster_dns}"
clusterDomain: "${cluster_domain}"
healthzBindAddress: 127.0.0.1
healthzPort: 10248
rotateCertificates: true
staticPodPath: /etc/kubernetes/manifests
)yaml";

Value cluster_info(const TenantInputs& inputs) {
    Value cluster = Value::object(
        {{"certificate-authority-data", data::base64_encode(inputs.ca_certificate_pem)},
         {"server", "https://" + inputs.endpoint.advertise_host_port()}});
    return Value::object(
        {{"apiVersion", "v1"},
         {"kind", "Config"},
         {"clusters", Value::array({Value::object({{"name", ""}, {"cluster", cluster}})})},
         {"contexts", Value::array()},
         {"current-context", ""},
         {"preferences", Value::object()},
         {"users", Value::array()}});
}

std::string join(const std::vector<std::string>& items) {
    return fmt::format("{}", fmt::join(items, ","));
}

}  // namespace

Value build_cluster_configuration(const Settings& settings, const Endpoint& endpoint) {
    return Value::object(
        {{"apiVersion", "kubeadm.k8s.io/v1beta4"},
         {"kind", "ClusterConfiguration"},
         {"clusterName", settings.name},
         {"certificatesDir", "/etc/kubernetes/pki"},
         {"controlPlaneEndpoint", endpoint.advertise_host_port()},
         {"imageRepository", "registry.k8s.io"},
         {"kubernetesVersion", settings.kubernetes.version.to_string()},
         {"encryptionAlgorithm", "ECDSA-P256"},
         {"caCertificateValidityPeriod", "87600h0m0s"},
         {"certificateValidityPeriod", "8760h0m0s"},
         {"apiServer", Value::object({{"certSANs", Value::from(settings.network.cert_sans)}})},
         {"controllerManager", Value::object()},
         {"scheduler", Value::object()},
         {"dns", Value::object()},
         {"proxy", Value::object()},
         {"etcd", Value::object({{"local", Value::object({{"dataDir", "/var/lib/etcd"}})}})},
         {"networking", Value::object({{"dnsDomain", settings.network.cluster_domain},
                                       {"podSubnet", join(settings.network.pod_cidrs)},
                                       {"serviceSubnet", join(settings.network.service_cidrs)}})}});
}

Result<Value> build_kubelet_configuration(const Settings& settings) {
    Value configuration =
        instantiate(kKubeletConfiguration,
                    {{"cgroup_driver", settings.kubernetes.cgroup_driver},
                     {"cluster_dns", Value::from(settings.network.dns_service_ips)},
                     {"cluster_domain", settings.network.cluster_domain}})
            .front();
    if (settings.kubernetes.kubelet_patches.empty()) return configuration;
    auto patched = data::apply_json_patch(configuration, settings.kubernetes.kubelet_patches);
    if (!patched.ok()) {
        return std::move(patched).error().context(
            "spec.kubernetes.kubelet.configurationJSONPatches");
    }
    return patched;
}

std::vector<Value> build_bootstrap_objects(const Settings&, const TenantInputs&) {
    return instantiate(kBootstrapRbac, {});
}

Value build_kubeadm_config(const Settings& settings, const Endpoint& endpoint) {
    Value init = Value::object(
        {{"apiVersion", "kubeadm.k8s.io/v1beta4"},
         {"kind", "InitConfiguration"},
         {"localAPIEndpoint", Value::object({{"advertiseAddress", endpoint.advertise_address},
                                             {"bindPort", endpoint.port}})}});
    return build_config_map(
        settings, names::kubeadm_config(settings.name), "kubeadmconfig",
        {{"InitConfiguration", data::to_json(init)},
         {"ClusterConfiguration", data::to_json(build_cluster_configuration(settings, endpoint))}});
}

Result<std::vector<Value>> build_tenant_objects(const Settings& settings,
                                                const TenantInputs& inputs) {
    BASALT_ASSIGN(Value kubelet, build_kubelet_configuration(settings));
    std::vector<Value> objects = build_bootstrap_objects(settings, inputs);
    Placeholders texts = {
        {"cluster_configuration",
         data::to_yaml(build_cluster_configuration(settings, inputs.endpoint))},
        {"kubelet_configuration", data::to_yaml(kubelet)},
        {"cluster_info", data::to_yaml(cluster_info(inputs))},
    };
    for (auto& part : {instantiate(kConfigMaps, texts), build_core_dns(settings),
                       build_kube_proxy(settings, inputs), build_tunnel_agent(settings, inputs)}) {
        objects.insert(objects.end(), part.begin(), part.end());
    }
    for (Value& object : objects) {
        object.at("metadata").at("labels").set(kTenantLabel, kTenantLabelValue);
    }
    return objects;
}

const std::vector<TenantKind>& tenant_kinds() {
    static const std::vector<TenantKind> kinds = {
        {"v1", "ConfigMap", "configmaps"},
        {"v1", "Service", "services"},
        {"v1", "ServiceAccount", "serviceaccounts"},
        {"apps/v1", "Deployment", "deployments"},
        {"apps/v1", "DaemonSet", "daemonsets"},
        {"rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles"},
        {"rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings"},
        {"rbac.authorization.k8s.io/v1", "Role", "roles"},
        {"rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings"},
    };
    return kinds;
}

}  // namespace basalt::controlplane
