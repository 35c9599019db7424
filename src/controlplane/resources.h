// Our kinds, for clients. Header-only: programs without a controller name them, too.
#pragma once

#include "kube/object.h"

namespace basalt::controlplane {

/// Kamaji's group, so that its objects are ours.
inline constexpr const char* kApiVersion = "kamaji.clastix.io/v1alpha1";

inline const kube::Resource& tenant_control_planes() {
    static const kube::Resource resource(kApiVersion, "tenantcontrolplanes", "TenantControlPlane");
    return resource;
}

inline const kube::Resource& data_stores() {
    static const kube::Resource resource(kApiVersion, "datastores", "DataStore", false);
    return resource;
}

inline const kube::Resource& kubeconfig_generators() {
    static const kube::Resource resource(kApiVersion, "kubeconfiggenerators", "KubeconfigGenerator",
                                         false);
    return resource;
}

}  // namespace basalt::controlplane
