// Add-ons inside a tenant's cluster: CoreDNS, kube-proxy, the tunnel's agents.
#include <fmt/format.h>

#include "base/ip.h"
#include "controlplane/template.h"
#include "controlplane/tenant_objects.h"
#include "data/yaml.h"

namespace basalt::controlplane {

using data::Value;

namespace {

// What kubeadm 1.31 to 1.36 deploys where the user names no tag.
constexpr struct {
    int minor;
    const char* core_dns;
} kCoreDnsTags[] = {{36, "v1.14.2"}, {35, "v1.13.1"}, {34, "v1.12.1"},
                    {33, "v1.12.0"}, {32, "v1.11.3"}, {31, "v1.11.3"}};

constexpr std::string_view kCoreDns = R"yaml(
apiVersion: v1
kind: ServiceAccount
metadata: {name: coredns, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: "system:coredns"}
rules:
- {apiGroups: [""], resources: [endpoints, services, pods, namespaces], verbs: [list, watch]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "system:coredns"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:coredns"}
subjects: [{kind: ServiceAccount, name: coredns, namespace: kube-system}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: coredns, namespace: kube-system}
data: {Corefile: "${corefile}"}
---
apiVersion: v1
kind: Service
metadata:
  name: kube-dns
  namespace: kube-system
  labels: {k8s-app: kube-dns, kubernetes.io/cluster-service: "true", kubernetes.io/name: CoreDNS}
  annotations: {prometheus.io/port: "9153", prometheus.io/scrape: "true"}
spec:
  clusterIP: "${dns_address}"
  clusterIPs: "${dns_addresses}"
  ipFamilyPolicy: "${ip_family_policy}"
  selector: {k8s-app: kube-dns}
  ports:
  - {name: dns, port: 53, protocol: UDP, targetPort: 53}
  - {name: dns-tcp, port: 53, protocol: TCP, targetPort: 53}
  - {name: metrics, port: 9153, protocol: TCP, targetPort: 9153}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: coredns, namespace: kube-system, labels: {k8s-app: kube-dns}}
spec:
  replicas: 2
  strategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 1}}
  selector: {matchLabels: {k8s-app: kube-dns}}
  template:
    metadata: {labels: {k8s-app: kube-dns}}
    spec:
      priorityClassName: system-cluster-critical
      serviceAccountName: coredns
      dnsPolicy: Default
      nodeSelector: {kubernetes.io/os: linux}
      tolerations:
      - {key: CriticalAddonsOnly, operator: Exists}
      - {key: node-role.kubernetes.io/control-plane, effect: NoSchedule}
      affinity:
        podAntiAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
          - weight: 100
            podAffinityTerm:
              topologyKey: kubernetes.io/hostname
              labelSelector: {matchExpressions: [{key: k8s-app, operator: In, values: [kube-dns]}]}
      containers:
      - name: coredns
        image: "${image}"
        imagePullPolicy: IfNotPresent
        args: [-conf, /etc/coredns/Corefile]
        resources: {limits: {memory: 170Mi}, requests: {cpu: 100m, memory: 70Mi}}
        ports:
        - {name: dns, containerPort: 53, protocol: UDP}
        - {name: dns-tcp, containerPort: 53, protocol: TCP}
        - {name: metrics, containerPort: 9153, protocol: TCP}
        securityContext:
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          capabilities: {add: [NET_BIND_SERVICE], drop: [ALL]}
        livenessProbe:
          httpGet: {path: /health, port: 8080, scheme: HTTP}
          initialDelaySeconds: 60
          timeoutSeconds: 5
          failureThreshold: 5
        readinessProbe:
          httpGet: {path: /ready, port: 8181, scheme: HTTP}
          periodSeconds: 2
        volumeMounts: [{name: config-volume, mountPath: /etc/coredns, readOnly: true}]
      volumes:
      - name: config-volume
        configMap: {name: coredns, items: [{key: Corefile, path: Corefile}]}
)yaml";

constexpr std::string_view kCorefile = R"({{
    .:53 {{
        errors
        health {{
           lameduck 5s
        }}
        ready
        kubernetes {0} in-addr.arpa ip6.arpa {{
           pods insecure
           fallthrough in-addr.arpa ip6.arpa
           ttl 30
        }}
        prometheus :9153
        forward . /etc/resolv.conf {{
           max_concurrent 1000
        }}
        cache 30 {{
           disable success {0}
           disable denial {0}
        }}
        loop
        reload
        loadbalance
    }}
)";

constexpr std::string_view kKubeProxy = R"yaml(
apiVersion: v1
kind: ServiceAccount
metadata: {name: kube-proxy, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "kubeadm:node-proxier"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:node-proxier"}
subjects: [{kind: ServiceAccount, name: kube-proxy, namespace: kube-system}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: kube-proxy, namespace: kube-system}
rules:
- {apiGroups: [""], resources: [configmaps], resourceNames: [kube-proxy], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: kube-proxy, namespace: kube-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: kube-proxy}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:bootstrappers:kubeadm:default-node-token"}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: kube-proxy, namespace: kube-system, labels: {app: kube-proxy}}
data: {config.conf: "${configuration}", kubeconfig.conf: "${kubeconfig}"}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: kube-proxy, namespace: kube-system, labels: {k8s-app: kube-proxy}}
spec:
  selector: {matchLabels: {k8s-app: kube-proxy}}
  updateStrategy: {type: RollingUpdate}
  template:
    metadata: {labels: {k8s-app: kube-proxy}}
    spec:
      priorityClassName: system-node-critical
      serviceAccountName: kube-proxy
      hostNetwork: true
      nodeSelector: {kubernetes.io/os: linux}
      tolerations: [{operator: Exists}]
      containers:
      - name: kube-proxy
        image: "${image}"
        imagePullPolicy: IfNotPresent
        command: [/usr/local/bin/kube-proxy, --config=/var/lib/kube-proxy/config.conf, --hostname-override=$(NODE_NAME)]
        env: [{name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]
        securityContext: {privileged: true}
        volumeMounts:
        - {name: kube-proxy, mountPath: /var/lib/kube-proxy}
        - {name: xtables-lock, mountPath: /run/xtables.lock}
        - {name: lib-modules, mountPath: /lib/modules, readOnly: true}
      volumes:
      - {name: kube-proxy, configMap: {name: kube-proxy}}
      - {name: xtables-lock, hostPath: {path: /run/xtables.lock, type: FileOrCreate}}
      - {name: lib-modules, hostPath: {path: /lib/modules}}
)yaml";

constexpr std::string_view kKubeProxyConfiguration = R"yaml(
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
bindAddress: 0.0.0.0
clientConnection: {kubeconfig: /var/lib/kube-proxy/kubeconfig.conf}
clusterCIDR: "${pod_cidrs}"
mode: "${mode}"
---
apiVersion: v1
kind: Config
clusters:
- name: default
  cluster: {certificate-authority: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt, server: "https://${server}"}
contexts: [{name: default, context: {cluster: default, namespace: default, user: default}}]
current-context: default
users: [{name: default, user: {tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token}}]
)yaml";

constexpr std::string_view kTunnelAgentRbac = R"yaml(
apiVersion: v1
kind: ServiceAccount
metadata: {name: konnectivity-agent, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "system:konnectivity-server"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:auth-delegator"}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: "system:konnectivity-server"}]
)yaml";

// Its token is good for one audience, the tunnel's server, and bears no rights in the API.
constexpr std::string_view kTunnelAgent = R"yaml(
apiVersion: apps/v1
kind: "${kind}"
metadata: {name: konnectivity-agent, namespace: kube-system, labels: {k8s-app: konnectivity-agent}}
spec:
  selector: {matchLabels: {k8s-app: konnectivity-agent}}
  template:
    metadata: {labels: {k8s-app: konnectivity-agent}}
    spec:
      priorityClassName: system-cluster-critical
      serviceAccountName: konnectivity-agent
      automountServiceAccountToken: false
      hostNetwork: "${host_network}"
      nodeSelector: {kubernetes.io/os: linux}
      tolerations: "${tolerations}"
      containers:
      - name: konnectivity-agent
        image: "${image}"
        imagePullPolicy: IfNotPresent
        command: ["${program}"]
        args: "${args}"
        resources: "${resources}"
        securityContext:
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          runAsNonRoot: true
          runAsUser: 65532
          capabilities: {drop: [ALL]}
          seccompProfile: {type: RuntimeDefault}
        livenessProbe:
          httpGet: {path: /healthz, port: 8134}
          initialDelaySeconds: 10
          timeoutSeconds: 10
        volumeMounts:
        - {name: konnectivity-agent-token, mountPath: /var/run/secrets/tokens, readOnly: true}
      volumes:
      - name: konnectivity-agent-token
        projected:
          sources:
          - serviceAccountToken: {path: konnectivity-agent-token, audience: "system:konnectivity-server", expirationSeconds: 3600}
          - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
)yaml";

std::string addon_image(const AddonImage& addon, std::string_view repository, std::string_view name,
                        const std::string& tag) {
    return fmt::format("{}/{}:{}", addon.repository.empty() ? repository : addon.repository, name,
                       addon.tag.empty() ? tag : addon.tag);
}

std::string core_dns_tag(const Version& version) {
    for (const auto& known : kCoreDnsTags) {
        if (known.minor == version.minor) return known.core_dns;
    }
    return kCoreDnsTags[0].core_dns;
}

}  // namespace

std::vector<std::string> cluster_dns_addresses(const NetworkSettings& network) {
    const std::string& first = network.dns_service_ips.front();
    std::vector<std::string> addresses = {first};
    for (const std::string& address : network.dns_service_ips) {
        if (network.service_cidrs.size() < 2 || is_ipv6_address(address) == is_ipv6_address(first))
            continue;
        addresses.push_back(address);
        break;
    }
    return addresses;
}

std::vector<Value> build_core_dns(const Settings& settings) {
    if (!settings.core_dns) return {};
    const NetworkSettings& network = settings.network;
    const std::vector<std::string> addresses = cluster_dns_addresses(network);
    // The leading brace of the pattern keeps fmt's escapes readable; it is cut off.
    std::string corefile = fmt::format(kCorefile, network.cluster_domain).substr(2);
    return instantiate(
        kCoreDns, {{"corefile", corefile},
                   {"dns_address", addresses.front()},
                   {"dns_addresses", Value::from(addresses)},
                   {"ip_family_policy", addresses.size() > 1 ? "RequireDualStack" : "SingleStack"},
                   {"image", addon_image(*settings.core_dns, "registry.k8s.io/coredns", "coredns",
                                         core_dns_tag(settings.kubernetes.version))}});
}

std::vector<Value> build_kube_proxy(const Settings& settings, const TenantInputs& inputs) {
    if (!settings.kube_proxy) return {};
    std::string cidrs = fmt::format("{}", fmt::join(settings.network.pod_cidrs, ","));
    // nftables mode is stable from 1.33 on.
    const char* mode = settings.kubernetes.version.minor >= 33 ? "nftables" : "iptables";
    std::vector<Value> configuration = instantiate(
        kKubeProxyConfiguration,
        {{"pod_cidrs", cidrs}, {"mode", mode}, {"server", inputs.endpoint.advertise_host_port()}});
    return instantiate(kKubeProxy,
                       {{"configuration", data::to_yaml(configuration[0])},
                        {"kubeconfig", data::to_yaml(configuration[1])},
                        {"image", addon_image(*settings.kube_proxy, "registry.k8s.io", "kube-proxy",
                                              settings.kubernetes.version.to_string())}});
}

std::vector<Value> build_tunnel_agent(const Settings& settings, const TenantInputs& inputs) {
    if (!settings.tunnel) return {};
    const TunnelSettings& tunnel = *settings.tunnel;
    bool ours = tunnel.agent_image.empty();
    std::map<std::string, std::string> defaults = {
        {"--admin-server-port", "8133"},
        {"--ca-cert", "/var/run/secrets/tokens/ca.crt"},
        {"--health-server-port", "8134"},
        {"--logtostderr", "true"},
        {"--proxy-server-host", inputs.endpoint.advertise_address},
        {"--proxy-server-port", std::to_string(tunnel.server_port)},
        {"--service-account-token-path", "/var/run/secrets/tokens/konnectivity-agent-token"},
    };
    std::vector<std::string> args = merge_args({}, defaults, tunnel.agent_extra_args);
    if (ours) args.insert(args.begin(), "agent");
    std::vector<Value> objects = instantiate(kTunnelAgentRbac, {});
    Value workload =
        instantiate(kTunnelAgent,
                    {{"kind", tunnel.agent_mode},
                     {"host_network", tunnel.agent_host_network},
                     {"tolerations", tunnel.agent_tolerations},
                     {"image", ours ? inputs.tunnel_image : tunnel.agent_image},
                     {"program", ours ? "/usr/local/bin/basalt-tunnel" : "/proxy-agent"},
                     {"args", Value::from(args)},
                     {"resources", tunnel.agent_resources}})
            .front();
    if (tunnel.agent_mode == "Deployment")
        workload.at("spec").set("replicas", tunnel.agent_replicas);
    objects.push_back(std::move(workload));
    return objects;
}

}  // namespace basalt::controlplane
