// A control plane for the tests of this folder, and comparison with golden files.
#pragma once

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include <gtest/gtest.h>

#include "controlplane/objects.h"
#include "controlplane/settings.h"
#include "data/yaml.h"

namespace basalt::controlplane {

inline data::Value example_object() {
    return data::parse_yaml(R"(
apiVersion: kamaji.clastix.io/v1alpha1
kind: TenantControlPlane
metadata: {name: tenant-a, namespace: team, uid: 0c0f8e6e-0000-4000-8000-000000000001, generation: 3}
spec:
  controlPlane:
    deployment: {replicas: 1}
    service: {serviceType: LoadBalancer}
  kubernetes: {version: v1.36.3}
  networkProfile: {port: 6443}
  addons: {coreDNS: {}, kubeProxy: {}, konnectivity: {}}
)")
        .value();
}

inline Settings settings_of(const data::Value& object) { return read_settings(object, {}).value(); }

inline Endpoint example_endpoint() { return {"172.18.0.10", "172.18.0.10", 6443}; }

inline Surroundings example_surroundings() {
    Surroundings surroundings;
    surroundings.etcd_endpoints = {"etcd-0.etcd:2379", "etcd-1.etcd:2379"};
    surroundings.datastore_name = "default";
    surroundings.secret_checksums = {{"ca", "11"}, {"api-server-certificate", "22"}};
    surroundings.datastore_config_checksum = "33";
    surroundings.datastore_certificate_checksum = "44";
    surroundings.tunnel_kubeconfig_checksum = "55";
    surroundings.tunnel_image = "ghcr.io/basalt/basalt:test";
    return surroundings;
}

/// Compares with testdata/<name>; BASALT_REWRITE_GOLDEN=1 writes it instead.
inline void expect_golden(const std::string& name, const std::string& actual) {
    const std::string path = std::string(BASALT_SOURCE_DIR) + "/src/controlplane/testdata/" + name;
    if (std::getenv("BASALT_REWRITE_GOLDEN") != nullptr) {
        std::ofstream(path) << actual;
        return;
    }
    std::ifstream file(path);
    ASSERT_TRUE(file) << "missing " << path << ": run with BASALT_REWRITE_GOLDEN=1";
    std::stringstream expected;
    expected << file.rdbuf();
    EXPECT_EQ(actual, expected.str()) << "differs from " << path;
}

}  // namespace basalt::controlplane
