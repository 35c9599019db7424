#include "controlplane/settings.h"

#include <gtest/gtest.h>

#include "controlplane/testdata_test.h"

namespace basalt::controlplane {
namespace {

std::string joined(const std::vector<std::string>& items) {
    std::string all;
    for (const std::string& item : items) all += item + ";";
    return all;
}

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

TEST(Settings, LimitTheMemoryOfOurOwnTunnelOnly) {
    EXPECT_FALSE(
        settings_of(example_object()).tunnel->server_resources["limits"]["memory"].empty());
    Value object = example_object();
    Value server = Value::object({{"version", "v0.36.0"}});
    object.at("spec").set("addons",
                          Value::object({{"konnectivity", Value::object({{"server", server}})}}));
    EXPECT_TRUE(settings_of(object).tunnel->server_resources["limits"].empty());
    const Value wish = Value::object({{"limits", Value::object({{"memory", "2Gi"}})}});
    server = Value::object({{"resources", wish}});
    object.at("spec").set("addons",
                          Value::object({{"konnectivity", Value::object({{"server", server}})}}));
    EXPECT_EQ(settings_of(object).tunnel->server_resources, wish);
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
    object.at("spec").set(
        "dataStoreOverrides",
        Value::array({Value::object({{"resource", "/secrets"}, {"dataStore", "other"}})}));
    object.at("status").at("storage").set("overrides", Value::array());
    std::string all;
    for (const std::string& field : settings_of(object).unsupported) all += field + "\n";
    for (const char* field : {"spec.controlPlane.ingress:", "spec.controlPlane.gateway:",
                              "spec.dataStoreOverrides[/secrets]:"}) {
        EXPECT_NE(all.find(field), std::string::npos) << field;
    }
}

TEST(Settings, FollowOverridesOfANewOrAdoptedControlPlane) {
    Value object = example_object();
    Value list = data::parse_yaml(
                     "[{resource: /events, dataStore: b}, {resource: /secrets, "
                     "dataStore: c}]")
                     .value();
    object.at("spec").set("dataStoreOverrides", list);
    object.at("status").at("storage").at("setup").set("schema", "s").set("user", "u");
    Settings settings = settings_of(object);
    EXPECT_EQ(settings.datastore_overrides.at("/events"), "b");
    EXPECT_EQ(settings.datastore_overrides.at("/secrets"), "c");
    EXPECT_EQ(joined(settings.used_datastores()), "default;b;c;");
    EXPECT_TRUE(settings.unsupported.empty());
}

TEST(Settings, KeepOverridesWhereObjectsAreAndLetEventsMove) {
    Value object = example_object();
    object.at("status").at("storage").set(
        "overrides", data::parse_yaml("[{resource: /events, dataStoreName: b}, {resource: "
                                      "/secrets, dataStoreName: c}]")
                         .value());
    object.at("spec").set("dataStoreOverrides",
                          data::parse_yaml("[{resource: /events, dataStore: d}, {resource: /pods, "
                                           "dataStore: d}, {resource: /secrets, dataStore: d}]")
                              .value());
    Settings settings = settings_of(object);
    EXPECT_EQ(settings.datastore_overrides.size(), 2u);
    EXPECT_EQ(settings.datastore_overrides.at("/events"), "d");
    EXPECT_EQ(settings.datastore_overrides.at("/secrets"), "c");
    EXPECT_EQ(joined(settings.former_datastores), "b;");
    EXPECT_EQ(joined(settings.unsupported),
              "spec.dataStoreOverrides[/pods]: objects stay in default, moving them is not "
              "supported;spec.dataStoreOverrides[/secrets]: objects stay in c, moving them is not "
              "supported;");
    object.at("spec").erase("dataStoreOverrides");
    settings = settings_of(object);
    EXPECT_EQ(settings.datastore_overrides.size(), 1u);
    EXPECT_EQ(settings.datastore_overrides.at("/secrets"), "c");
    EXPECT_NE(joined(settings.unsupported).find("was removed"), std::string::npos);
}

TEST(Settings, ReadWritePermissionsInBothSpellings) {
    Value object = example_object();
    EXPECT_FALSE(settings_of(object).write_permissions.any());
    object.at("spec").set("writePermissions", Value::object({{"blockCreate", true}}));
    EXPECT_TRUE(settings_of(object).write_permissions.block_creation);
    object.at("spec").set("writePermissions", Value::object({{"blockDelete", true}}));
    EXPECT_TRUE(settings_of(object).write_permissions.block_deletion);
    EXPECT_FALSE(settings_of(object).write_permissions.block_creation);
    // What cannot be in force is said, not pretended.
    object.at("spec")
        .at("controlPlane")
        .at("deployment")
        .at("extraArgs")
        .set("apiServer",
             Value::array({"--disable-admission-plugins=A,ValidatingAdmissionPolicy"}));
    EXPECT_FALSE(settings_of(object).write_permissions.any());
    EXPECT_EQ(joined(settings_of(object).unsupported),
              "spec.writePermissions: writes are not refused beside --disable-admission-plugins in "
              "extraArgs;");
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
