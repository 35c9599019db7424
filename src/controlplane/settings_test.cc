#include "controlplane/settings.h"

#include <gtest/gtest.h>

#include "controlplane/testdata_test.h"

namespace basalt::controlplane {
namespace {

using data::Value;

TEST(Settings, FillInTheDefaults) {
    Settings settings = settings_of(example_object());
    EXPECT_EQ(settings.key(), "team/tenant-a");
    EXPECT_EQ(settings.deployment[Component::kApiServer].image,
              "registry.k8s.io/kube-apiserver:v1.36.3");
    EXPECT_EQ(settings.network.service_cidrs, std::vector<std::string>{"10.96.0.0/16"});
    EXPECT_EQ(settings.network.pod_cidrs, std::vector<std::string>{"10.244.0.0/16"});
    EXPECT_EQ(settings.network.dns_service_ips, std::vector<std::string>{"10.96.0.10"});
    EXPECT_EQ(settings.network.cluster_domain, "cluster.local");
    EXPECT_EQ(settings.datastore, "default");
    EXPECT_EQ(settings.schema, settings.uid);
    EXPECT_EQ(settings.user, settings.uid);
    EXPECT_EQ(settings.tunnel->server_port, 8132);
    EXPECT_EQ(settings.kubernetes.admission_plugins.size(), 17u);
    for (const ComponentSettings& component : settings.deployment.components) {
        EXPECT_FALSE(component.resources["requests"]["cpu"].empty())
            << "BestEffort Pods are killed first";
    }
}

TEST(Settings, KeepTheStorageThatStatusNames) {
    Value object = example_object();
    object.at("spec").set("dataStore", "other").set("dataStoreSchema", "new");
    object.at("status")
        .at("storage")
        .set("dataStoreName", "old")
        .set("setup", Value::object({{"schema", "team_tenant_a"}, {"user", "team_tenant_a"}}));
    Settings settings = settings_of(object);
    EXPECT_EQ(settings.datastore, "old");
    EXPECT_EQ(settings.schema, "team_tenant_a");
    EXPECT_EQ(settings.user, "team_tenant_a");
    ASSERT_EQ(settings.unsupported.size(), 1u);
    EXPECT_EQ(settings.unsupported[0],
              "spec.dataStore: data stays in old, moving it is not supported");
}

TEST(Settings, ReportWhatIsNotInForce) {
    Value object = example_object();
    object.at("spec")
        .at("controlPlane")
        .set("ingress", Value::object({{"hostname", "a.example.org"}}));
    object.at("spec")
        .at("controlPlane")
        .set("gateway", Value::object({{"hostname", "a.example.org"}}));
    object.at("spec").set("writePermissions", Value::object({{"blockDeletion", true}}));
    object.at("spec").set(
        "dataStoreOverrides",
        Value::array({Value::object({{"resource", "/events"}, {"dataStore", "other"}})}));
    std::string all;
    for (const std::string& field : settings_of(object).unsupported) all += field + "\n";
    for (const char* field : {"spec.controlPlane.ingress:", "spec.controlPlane.gateway:",
                              "spec.writePermissions:", "spec.dataStoreOverrides:"}) {
        EXPECT_NE(all.find(field), std::string::npos) << field;
    }
}

TEST(Settings, SortAndDeduplicateRanges) {
    Value object = example_object();
    object.at("spec")
        .at("networkProfile")
        .set("serviceCidrs", Value::array({"fd00::/108", "10.0.0.0/16", "fd00::/108"}));
    Settings settings = settings_of(object);
    EXPECT_EQ(settings.network.service_cidrs,
              (std::vector<std::string>{"10.0.0.0/16", "fd00::/108"}));
    EXPECT_EQ(settings.network.dns_service_ips,
              (std::vector<std::string>{"10.0.0.10", "fd00::10"}));
}

TEST(Settings, UseTheTagOfAnAddonWithoutItsRepository) {
    Value object = example_object();
    object.at("spec").at("addons").set("coreDNS", Value::object({{"imageTag", "v1.99.0"}}));
    EXPECT_EQ(settings_of(object).core_dns->tag, "v1.99.0");
}

TEST(Settings, NameTheFieldOfAnError) {
    Value object = example_object();
    object.at("spec").at("kubernetes").set("version", "latest");
    auto refused = read_settings(object, {});
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().message(),
              "spec.kubernetes.version: \"latest\" is not a version: write it like v1.36.3");

    object = example_object();
    object.at("spec").at("networkProfile").set("serviceCidrs", Value::array({"10.96.0.0/31"}));
    refused = read_settings(object, {});
    ASSERT_FALSE(refused.ok());
}

TEST(Settings, ReadEveryOptionOfTheRegistry) {
    Value object = example_object();
    object.at("spec")
        .at("controlPlane")
        .at("deployment")
        .set("registrySettings", Value::object({{"registry", "registry.local/k8s"},
                                                {"tagSuffix", "-fips"},
                                                {"schedulerImage", "my-scheduler"}}));
    Settings settings = settings_of(object);
    EXPECT_EQ(settings.deployment[Component::kScheduler].image,
              "registry.local/k8s/my-scheduler:v1.36.3-fips");
    EXPECT_EQ(settings.deployment[Component::kApiServer].image,
              "registry.local/k8s/kube-apiserver:v1.36.3-fips");
}

}  // namespace
}  // namespace basalt::controlplane
