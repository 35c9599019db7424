#include "cli/control_plane_wait.h"

#include <gtest/gtest.h>

#include "async/sim_loop.h"
#include "async/task_group.h"
#include "data/yaml.h"
#include "kube/test_server.h"

namespace basalt::cli {
namespace {

using data::Value;

const kube::Resource& control_planes() {
    static const kube::Resource resource("kamaji.clastix.io/v1alpha1", "tenantcontrolplanes",
                                         "TenantControlPlane");
    return resource;
}

Value control_plane(const std::string& version, const std::string& ready, const std::string& reason,
                    int64_t observed = 2) {
    Value object = kube::make_object(control_planes(), kube::ObjectKey("n", "a"));
    object.at("metadata").set("generation", 2);
    Value condition = Value::object({{"type", "Ready"}, {"status", ready}, {"reason", reason}});
    condition.set("observedGeneration", observed).set("message", "why");
    object.at("status").at("conditions").push_back(std::move(condition));
    object.at("status").at("kubernetesResources").at("version").set("version", version);
    return object;
}

ControlPlaneGoal version_goal(const std::string& version) {
    ControlPlaneGoal goal;
    goal.version = version;
    return goal;
}

TEST(ControlPlaneWait, ReadyCountsWhenItIsOfThisSpec) {
    EXPECT_EQ(what_is_missing(control_plane("v1.36.3", "True", "Joinable"), {}), std::nullopt);
    EXPECT_EQ(what_is_missing(control_plane("v1.36.3", "True", "Joinable", 1), {}),
              "the controller has not looked at it yet");
    EXPECT_EQ(what_is_missing(control_plane("v1.36.3", "False", "ImagePullBackOff"), {}),
              "ImagePullBackOff: why");
}

TEST(ControlPlaneWait, AnUpgradeIsDoneWithTheVersion) {
    const Value before = control_plane("v1.35.4", "True", "Joinable");
    EXPECT_TRUE(what_is_missing(before, version_goal("v1.36.3")).has_value());
    EXPECT_EQ(what_is_missing(before, version_goal("v1.35.4")), std::nullopt);
}

TEST(ControlPlaneWait, SleepIsDoneWhenNoPodIsLeft) {
    ControlPlaneGoal goal;
    goal.asleep = true;
    Value object = control_plane("v1.36.3", "False", "Sleeping");
    EXPECT_EQ(what_is_missing(object, goal), std::nullopt);
    object.at("status").at("kubernetesResources").at("deployment").set("replicas", 2);
    EXPECT_EQ(what_is_missing(object, goal), "2 Pods are left");
    EXPECT_TRUE(what_is_missing(control_plane("v1.36.3", "True", "Joinable"), goal).has_value());
}

class ControlPlaneWaitTest : public ::testing::Test {
 protected:
    ControlPlaneWaitTest()
        : server(std::make_shared<kube::testing::TestServer>(loop)),
          client(loop, server, kube::ClientOptions()),
          group(loop) {}
    void TearDown() override {
        group.cancel();
        loop.run_until([&] { return group.size() == 0; }, std::chrono::minutes(1));
    }
    void put(const Value& object) {
        server->put("/apis/kamaji.clastix.io/v1alpha1/namespaces/n/tenantcontrolplanes/a", object);
    }
    void start(const ControlPlaneGoal& goal) {
        group.spawn(kube::testing::capture(
            wait_for_control_plane(client, control_planes(), kube::ObjectKey("n", "a"), goal,
                                   [this](const std::string& text) { said.push_back(text); }),
            &result));
    }
    bool run_until(const std::function<bool()>& done) {
        return loop.run_until(done, std::chrono::minutes(1));
    }

    async::SimLoop loop{3};
    std::shared_ptr<kube::testing::TestServer> server;
    kube::Client client;
    async::TaskGroup group;
    std::vector<std::string> said;
    std::optional<Result<void>> result;
};

TEST_F(ControlPlaneWaitTest, FollowsUntilItIsDone) {
    put(control_plane("v1.35.4", "True", "Joinable", 1));
    start(version_goal("v1.36.3"));
    ASSERT_TRUE(run_until([&] { return said.size() == 1; }));
    put(control_plane("v1.35.4", "False", "Starting"));
    ASSERT_TRUE(run_until([&] { return said.size() == 2; }));
    EXPECT_EQ(said.back(), "Starting: why");
    EXPECT_FALSE(result.has_value());
    put(control_plane("v1.36.3", "True", "Joinable"));
    ASSERT_TRUE(run_until([&] { return result.has_value(); }));
    EXPECT_TRUE(result->ok());
}

TEST_F(ControlPlaneWaitTest, EndsWhenTheControlPlaneGoes) {
    put(control_plane("v1.36.3", "False", "Starting"));
    start(ControlPlaneGoal());
    ASSERT_TRUE(run_until([&] { return said.size() == 1; }));
    server->erase("/apis/kamaji.clastix.io/v1alpha1/namespaces/n/tenantcontrolplanes/a");
    ASSERT_TRUE(run_until([&] { return result.has_value(); }));
    EXPECT_EQ(result->error().code(), Code::kNotFound);
}

}  // namespace
}  // namespace basalt::cli
