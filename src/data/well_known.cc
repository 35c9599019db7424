#include "data/well_known.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>

namespace basalt::data {
namespace {

constexpr std::string_view kNames[] = {
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "ownerReferences",
    "blockOwnerDeletion",
    "resourceVersionMatch",
    "remainingItemCount",
    "observedGeneration",
    "lastTransitionTime",
    "lastHeartbeatTime",
    "containerStatuses",
    "initContainerStatuses",
    "ephemeralContainerStatuses",
    "ephemeralContainers",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "imagePullPolicy",
    "imagePullSecrets",
    "securityContext",
    "initialDelaySeconds",
    "successThreshold",
    "failureThreshold",
    "terminationGracePeriodSeconds",
    "serviceAccountName",
    "serviceAccountToken",
    "automountServiceAccountToken",
    "enableServiceLinks",
    "preemptionPolicy",
    "priorityClassName",
    "podAntiAffinity",
    "requiredDuringSchedulingIgnoredDuringExecution",
    "preferredDuringSchedulingIgnoredDuringExecution",
    "nodeSelectorTerms",
    "matchExpressions",
    "namespaceSelector",
    "topologySpreadConstraints",
    "whenUnsatisfiable",
    "tolerationSeconds",
    "persistentVolumeClaim",
    "persistentVolumeReclaimPolicy",
    "volumeClaimTemplates",
    "volumeAttributes",
    "volumeBindingMode",
    "storageClassName",
    "configMapKeyRef",
    "resourceFieldRef",
    "expirationSeconds",
    "allowPrivilegeEscalation",
    "readOnlyRootFilesystem",
    "recursiveReadOnly",
    "mountPropagation",
    "allocatedResources",
    "progressDeadlineSeconds",
    "revisionHistoryLimit",
    "podManagementPolicy",
    "minReadySeconds",
    "updatedReplicas",
    "availableReplicas",
    "unavailableReplicas",
    "fullyLabeledReplicas",
    "currentReplicas",
    "currentRevision",
    "terminatingReplicas",
    "internalTrafficPolicy",
    "externalTrafficPolicy",
    "sessionAffinity",
    "sessionAffinityConfig",
    "allocateLoadBalancerNodePorts",
    "loadBalancerClass",
    "loadBalancerSourceRanges",
    "publishNotReadyAddresses",
    "healthCheckNodePort",
    "leaseDurationSeconds",
    "leaseTransitions",
    "reportingComponent",
    "reportingInstance",
    "kubeletEndpoint",
    "kubeProxyVersion",
    "containerRuntimeVersion",
    "operatingSystem",
    "daemonEndpoints",
    "volumesAttached",
    "dataVolumeTemplates",
    "evictionStrategy",
    "virtualMachineName",
    "interfaceStatus",
    "migrationMethod",
    "cloudInitNoCloud",
    "autoattachGraphicsDevice",
    "launcherContainerImageVersion",
    "phaseTransitionTimestamps",
    "phaseTransitionTimestamp",
    "virtualMachineRevisionName",
    "printableStatus",
    "volumeSnapshotStatuses",
    "controlPlaneEndpoint",
    "infrastructureRef",
    "bootstrapConfigRef",
    "kubernetesResources",
    "controlPlaneRef",
    "additionalMetadata",
    "admissionControllers",
    "adminKubeconfig",
    "serviceAccountRef",
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/version",
    "app.kubernetes.io/component",
    "app.kubernetes.io/part-of",
    "app.kubernetes.io/managed-by",
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "kubernetes.io/metadata.name",
    "node-role.kubernetes.io/control-plane",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
    "pod-template-hash",
    "pod-template-generation",
    "controller-revision-hash",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "kubectl.kubernetes.io/last-applied-configuration",
    "kubectl.kubernetes.io/restartedAt",
    "deployment.kubernetes.io/revision",
    "kubernetes.io/service-account.name",
    "kubernetes.io/service-account-token",
    "kubernetes.io/config.seen",
    "kubernetes.io/config.source",
    "cluster.x-k8s.io/cluster-name",
    "cluster.x-k8s.io/control-plane",
    "cluster.x-k8s.io/provider",
    "kubevirt.io/domain",
    "kubevirt.io/nodeName",
    "kubevirt.io/schedulable",
    "vm.kubevirt.io/name",
    "kubevirt.io/created-by",
    "ovn.kubernetes.io/ip_address",
    "ovn.kubernetes.io/mac_address",
    "ovn.kubernetes.io/logical_switch",
    "ovn.kubernetes.io/logical_router",
    "ovn.kubernetes.io/cidr",
    "ovn.kubernetes.io/gateway",
    "ovn.kubernetes.io/allocated",
    "ovn.kubernetes.io/routed",
    "ovn.kubernetes.io/pod_nic_type",
    "/dev/termination-log",
    "/var/run/secrets/kubernetes.io/serviceaccount",
    "kube-root-ca.crt",
    "default-scheduler",
    "FallbackToLogsOnError",
    "PreemptLowerPriority",
    "ContainersReady",
    "PodReadyToStartContainers",
    "metadata.namespace",
    "kube-controller-manager",
    "KubeletHasSufficientMemory",
    "KubeletHasNoDiskPressure",
    "KubeletHasSufficientPID",
    "NetworkUnavailable",
    "MinimumReplicasAvailable",
    "NewReplicaSetAvailable",
    "ReplicaSetUpdated",
    "system-node-critical",
    "system-cluster-critical",
    "WaitForFirstConsumer",
    "rbac.authorization.k8s.io/v1",
    "rbac.authorization.k8s.io",
    "coordination.k8s.io/v1",
    "apiextensions.k8s.io/v1",
    "CustomResourceDefinition",
    "ClusterRoleBinding",
    "PersistentVolumeClaim",
    "PersistentVolume",
    "VirtualMachineInstance",
    "TenantControlPlane",
    "cluster.x-k8s.io/v1beta1",
    "cluster.x-k8s.io/v1beta2",
    "infrastructure.cluster.x-k8s.io",
    "controlplane.cluster.x-k8s.io",
    "kamaji.clastix.io/v1alpha1",
    "ValidatingWebhookConfiguration",
    "MutatingWebhookConfiguration",
    "admissionReviewVersions",
    "reinvocationPolicy",
    "openAPIV3Schema",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-int-or-string",
    "additionalProperties",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
    "x-kubernetes-validations",
    "additionalPrinterColumns",
    "service.kubernetes.io/headless",
    "endpointslice.kubernetes.io/managed-by",
    "kubernetes.io/service-name",
    "discovery.k8s.io/v1",
};

constexpr size_t kMinSize = 15;  // shorter ones live inside a Value
constexpr size_t kSlots = 1024;  // a power of two; a third full, so misses end at once

constexpr uint64_t load(const char* bytes) noexcept {
    uint64_t word = 0;
    for (size_t i = 0; i < 8; ++i)
        word |= static_cast<uint64_t>(static_cast<unsigned char>(bytes[i])) << (8 * i);
    return word;
}

/// Of at least 8 bytes. The middle of long names is left out: their ends differ.
constexpr size_t slot_of(std::string_view text) noexcept {
    const char* bytes = text.data();
    const uint64_t mixed = load(bytes) * 0x9e3779b97f4a7c15 ^
                           (load(bytes + text.size() - 8) + text.size()) * 0xc2b2ae3d27d4eb4f;
    return static_cast<size_t>((mixed ^ mixed >> 29) * 0x9e3779b97f4a7c15 >> 54) % kSlots;
}

static_assert(std::size(kNames) < kSlots / 2);

/// Index into kNames plus one; open addressing.
constexpr std::array<uint16_t, kSlots> kTable = [] {
    std::array<uint16_t, kSlots> table{};
    for (size_t i = 0; i < std::size(kNames); ++i) {
        size_t slot = slot_of(kNames[i]);
        while (table[slot] != 0) slot = (slot + 1) % kSlots;
        table[slot] = static_cast<uint16_t>(i + 1);
    }
    return table;
}();

constexpr size_t kMaxSize = [] {
    size_t size = 0;
    for (std::string_view name : kNames) size = name.size() > size ? name.size() : size;
    return size;
}();

}  // namespace

const std::string_view* find_well_known(std::string_view text) noexcept {
    if (text.size() < kMinSize || text.size() > kMaxSize) return nullptr;
    for (size_t slot = slot_of(text); kTable[slot] != 0; slot = (slot + 1) % kSlots) {
        const std::string_view* name = &kNames[kTable[slot] - 1];
        if (*name == text) return name;
    }
    return nullptr;
}

}  // namespace basalt::data
