#include "controlplane/status.h"

#include <gtest/gtest.h>

#include "controlplane/tenant_objects.h"
#include "controlplane/testdata_test.h"
#include "data/json.h"
#include "kube/object.h"

namespace basalt::controlplane {
namespace {

using data::Value;

class Status : public testing::Test {
 protected:
    Status() : object_(example_object()), settings_(settings_of(object_)) {
        inputs_.settings = &settings_;
        inputs_.now = WallTime(std::chrono::seconds(1'767'225'600));
        inputs_.datastore_driver = "etcd";
        inputs_.checksums = {{"tenant-a-ca", "aa"}, {"tenant-a-datastore-config", "bb"}};
    }

    void all_done() {
        for (std::string_view step :
             {kDataStoreReady, kEndpointReady, kCertificatesReady, kPodsReady, kClusterReady}) {
            inputs_.progress.done(step, "Fine");
        }
        inputs_.deployment = data::parse_yaml(R"(
metadata: {generation: 2}
spec: {replicas: 1, selector: {matchLabels: {kamaji.clastix.io/name: tenant-a, a: b}}}
status:
  observedGeneration: 2
  replicas: 1
  updatedReplicas: 1
  readyReplicas: 1
  conditions: [{type: Available, status: "True"}]
)")
                                 .value();
        inputs_.service =
            data::parse_yaml("{status: {loadBalancer: {ingress: [{ip: 192.0.2.1}]}}}").value();
        inputs_.checksums["tenant-a-konnectivity-egress-selector-configuration"] = "cc";
        inputs_.tenant_objects_checksum = "dd";
    }

    Value build() {
        inputs_.previous = &object_;
        return build_status(inputs_);
    }

    const Value& condition(const Value& status, std::string_view type) {
        return controller::find_condition(status, type);
    }

    Value object_;
    Settings settings_;
    StatusInputs inputs_;
};

TEST_F(Status, IsReadyWhenAllStepsHold) {
    all_done();
    Value status = build();
    EXPECT_EQ(condition(status, kReady)["status"].as_string(), "True");
    EXPECT_EQ(status["kubernetesResources"]["version"]["status"].as_string(), "Ready");
    EXPECT_EQ(status["kubernetesResources"]["version"]["version"].as_string(), "v1.36.3");
    EXPECT_EQ(status["storage"]["setup"]["schema"].as_string(), settings_.uid);
}

TEST_F(Status, DoesNotChangeWhenNothingDoes) {
    all_done();
    object_.set("status", build());
    inputs_.now += std::chrono::hours(1);
    EXPECT_EQ(build(), object_["status"]);
}

TEST_F(Status, ShowsWhatThereIsOfTheTunnel) {
    settings_.tunnel->agent_mode = "Deployment";
    all_done();
    const Value status = build();
    const Value& tunnel = status["addons"]["konnectivity"];
    EXPECT_EQ(data::to_json(tunnel["configMap"]),
              R"({"name":"tenant-a-konnectivity-egress-selector-configuration","checksum":"cc"})");
    EXPECT_EQ(tunnel["service"]["port"].as_int(), 8132);
    EXPECT_EQ(tunnel["service"]["loadBalancer"]["ingress"][0]["ip"].as_string(), "192.0.2.1");
    EXPECT_EQ(tunnel["agent"]["mode"].as_string(), "Deployment");
    TenantInputs in_tenant;
    in_tenant.endpoint = example_endpoint();
    std::map<std::string, kube::ObjectKey> made;
    for (const Value& object : build_tunnel_agent(settings_, in_tenant))
        made[object["kind"].str()] = kube::key_of(object);
    auto key_of = [](const Value& part) {
        return kube::ObjectKey(part["namespace"].str(), part["name"].str());
    };
    EXPECT_EQ(key_of(tunnel["agent"]), made["Deployment"]);
    EXPECT_EQ(key_of(tunnel["sa"]), made["ServiceAccount"]);
    EXPECT_EQ(key_of(tunnel["clusterrolebinding"]), made["ClusterRoleBinding"]);
    settings_.tunnel.reset();
    EXPECT_EQ(data::to_json(build()["addons"]["konnectivity"]), R"({"enabled":false})");
}

// An autoscaler that reads no replicas, or no selector, stops.
TEST_F(Status, KeepsWhatAPassDidNotSee) {
    all_done();
    const Value full = build();
    const Value& deployment = full["kubernetesResources"]["deployment"];
    EXPECT_EQ(deployment["selector"].as_string(), "a=b,kamaji.clastix.io/name=tenant-a");
    EXPECT_EQ(deployment["replicas"].as_int(), 1);
    EXPECT_EQ(deployment["conditions"][0]["type"].as_string(), "Available");
    object_.set("status", full);
    inputs_ = StatusInputs();
    inputs_.settings = &settings_;
    inputs_.progress.stopped(kDataStoreReady, "Unreachable", "no");
    const Value status = build();
    for (const char* part :
         {"kubernetesResources", "addons", "certificates", "kubeconfig", "storage"}) {
        EXPECT_EQ(status[part], full[part]) << part;
    }
}

TEST_F(Status, NamesTheGenerationThatWasCarriedOutCompletely) {
    inputs_.progress.done(kDataStoreReady, "Ready");
    inputs_.progress.stopped(kEndpointReady, "WaitingForAddress", "no address yet");
    EXPECT_TRUE(build()["observedGeneration"].is_null());
    inputs_.progress = {};
    all_done();
    object_.set("status", build());
    EXPECT_EQ(object_["status"]["observedGeneration"].as_int(), 3);

    // Another spec of the same version: the old Pods serve until the new ones do.
    object_.at("metadata").set("generation", 4);
    settings_ = settings_of(object_);
    inputs_.progress = {};
    inputs_.progress.stopped(kPodsReady, "Starting", "0 of 1");
    Value status = build();
    EXPECT_EQ(status["observedGeneration"].as_int(), 3);
    EXPECT_EQ(status["kubernetesResources"]["version"]["status"].as_string(), "Upgrading");
    EXPECT_EQ(condition(status, kReady)["observedGeneration"].as_int(), 4);
    inputs_.progress = {};
    all_done();
    status = build();
    EXPECT_EQ(status["observedGeneration"].as_int(), 4);
    EXPECT_EQ(status["kubernetesResources"]["version"]["status"].as_string(), "Ready");
    object_.set("status", status);

    // A Pod that fails later changes nothing of the spec.
    inputs_.progress = {};
    inputs_.progress.stopped(kPodsReady, "Starting", "1 of 2");
    status = build();
    EXPECT_EQ(status["observedGeneration"].as_int(), 4);
    EXPECT_EQ(status["kubernetesResources"]["version"]["status"].as_string(), "Ready");
}

TEST_F(Status, NamesTheFirstStepThatIsNotDone) {
    inputs_.progress.done(kDataStoreReady, "Ready");
    inputs_.progress.stopped(kEndpointReady, "WaitingForAddress", "no address yet");
    Value status = build();
    EXPECT_EQ(condition(status, kReady)["reason"].as_string(), "WaitingForAddress");
    EXPECT_EQ(condition(status, kReady)["message"].as_string(), "no address yet");
    EXPECT_EQ(condition(status, kPodsReady)["status"].as_string(), "Unknown");
    EXPECT_EQ(status["kubernetesResources"]["version"]["status"].as_string(), "Provisioning");
}

TEST_F(Status, SaysUpgradingUntilTheNewVersionServes) {
    all_done();
    object_.set("status", build());
    object_.at("spec").at("kubernetes").set("version", "v1.36.4");
    settings_ = settings_of(object_);
    inputs_.progress = {};
    inputs_.progress.stopped(kPodsReady, "Starting", "0 of 1");
    Value status = build();
    EXPECT_EQ(status["kubernetesResources"]["version"]["status"].as_string(), "Upgrading");
    EXPECT_EQ(status["kubernetesResources"]["version"]["version"].as_string(), "v1.36.3");

    // All Pods are new; what is left concerns nodes that join.
    inputs_.progress = {};
    inputs_.progress.done(kPodsReady, "Serving");
    inputs_.progress.stopped(kClusterReady, "WaitingForControllerManager", "does not lead yet");
    status = build();
    EXPECT_EQ(status["kubernetesResources"]["version"]["status"].as_string(), "Ready");
    EXPECT_EQ(status["kubernetesResources"]["version"]["version"].as_string(), "v1.36.4");
    EXPECT_EQ(condition(status, kReady)["status"].as_string(), "False");
}

TEST_F(Status, SleepsWithoutReplicas) {
    object_.at("spec").at("controlPlane").at("deployment").set("replicas", 0);
    settings_ = settings_of(object_);
    inputs_.progress.done(kPodsReady, "Sleeping");
    Value status = build();
    EXPECT_EQ(status["kubernetesResources"]["version"]["status"].as_string(), "Sleeping");
    EXPECT_EQ(condition(status, kReady)["reason"].as_string(), "Sleeping");
    EXPECT_EQ(status["observedGeneration"].as_int(), 3);
}

TEST_F(Status, KeepsWhatItKnewOfAnUnreadableSpec) {
    all_done();
    object_.set("status", build());
    inputs_.settings = nullptr;
    inputs_.progress = {};
    inputs_.progress.stopped(kDataStoreReady, "InvalidSpec", "spec.kubernetes.version: no");
    Value status = build();
    EXPECT_EQ(status["storage"], object_["status"]["storage"]);
    EXPECT_EQ(condition(status, kReady)["reason"].as_string(), "InvalidSpec");
}

// A null would be refused by the API server, and nothing of the status be seen.
TEST_F(Status, HasNoNullsWhenTheDataStoreIsNotKnown) {
    inputs_.datastore_driver.clear();
    inputs_.checksums.clear();
    inputs_.progress.stopped(kDataStoreReady, "Unsupported", "no");
    const std::string text = data::to_json(build());
    EXPECT_EQ(text.find(":null"), std::string::npos) << text;
}

// Until something may be there the spec can name another one.
TEST_F(Status, NamesADataStoreOnceItIsInUse) {
    inputs_.checksums.clear();
    inputs_.progress.stopped(kDataStoreReady, "DataStoreNotFound", "no");
    EXPECT_TRUE(build()["storage"]["dataStoreName"].is_null());
    object_.at("status").at("storage").set("dataStoreName", "used");
    settings_ = settings_of(object_);
    EXPECT_EQ(build()["storage"]["dataStoreName"].as_string(), "used");
}

TEST_F(Status, RecordsWhereOverridesAre) {
    all_done();
    settings_.datastore_overrides = {{"/events", "b"}, {"/secrets", "c"}};
    inputs_.former_datastores = {"old"};
    Value status = build();
    EXPECT_EQ(data::to_json(status["storage"]["overrides"]),
              R"([{"resource":"/events","dataStoreName":"b"},)"
              R"({"resource":"/secrets","dataStoreName":"c"},)"
              R"({"resource":"/events","dataStoreName":"old"}])");
    settings_.datastore_overrides.clear();
    inputs_.former_datastores.clear();
    EXPECT_TRUE(build()["storage"]["overrides"].is_array()) << "also when there are none";
    object_.set("status", status);
    inputs_.checksums.clear();
    EXPECT_EQ(build()["storage"]["overrides"], status["storage"]["overrides"])
        << "a pass that did not come so far knows nothing new";
}

TEST_F(Status, SaysThatWritesAreLimited) {
    all_done();
    settings_.write_permissions.block_creation = true;
    inputs_.write_limits = "Refused in the tenant's cluster: creation";
    Value status = build();
    EXPECT_EQ(status["kubernetesResources"]["version"]["status"].as_string(), "WriteLimited");
    EXPECT_EQ(condition(status, kReady)["status"].as_string(), "True");
    EXPECT_EQ(condition(status, kReady)["reason"].as_string(), "WriteLimited");
    EXPECT_EQ(condition(status, kWriteLimited)["status"].as_string(), "True");
    object_.set("status", status);
    inputs_.write_limits.reset();
    EXPECT_TRUE(condition(build(), kWriteLimited).is_object()) << "not looked at";
    inputs_.write_limits = "";
    EXPECT_FALSE(condition(build(), kWriteLimited).is_object());
}

TEST_F(Status, ReportsUnsupportedFieldsBesideReady) {
    all_done();
    settings_.unsupported = {"spec.controlPlane.ingress: no"};
    Value status = build();
    EXPECT_EQ(condition(status, kReady)["status"].as_string(), "True");
    EXPECT_EQ(condition(status, kUnsupportedCondition)["message"].as_string(),
              "spec.controlPlane.ingress: no");
}

}  // namespace
}  // namespace basalt::controlplane
