// Runs seeds: those that found something once, a fixed set, and a few fresh ones; and single
// stories that a seed seldom tells. A failing seed is replayed with the command that its report
// ends with.
#include <chrono>
#include <iostream>
#include <random>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/log.h"
#include "controller/conditions.h"
#include "controlplane/control_plane_controller.h"
#include "data/yaml.h"
#include "tests/sim/instance.h"
#include "tests/sim/run.h"
#include "tests/sim/world.h"

namespace basalt::sim {
namespace {

void expect_good(const RunOptions& options) {
    const RunResult result = run_seed(options);
    EXPECT_TRUE(result.ok) << result.to_string(options);
}

class SimTest : public ::testing::Test {
 protected:
    void SetUp() override {
        LogOptions log;
        log.level = LogLevel::kError;
        configure_log(log);
    }
    void TearDown() override { configure_log({}); }
};

struct KeptSeed {
    uint64_t seed;
    int minutes;
    double faults;
};

// Found something once, or stand for many.
constexpr KeptSeed kKeptSeeds[] = {
    {1, 10, 0},   {2, 10, 0},   {3, 10, 1},      {4, 20, 1},
    {102, 10, 1}, {502, 20, 2}, {1005, 10, 0.5}, {1007, 10, 0.5},
};
constexpr int kFreshSeeds = 4;

TEST_F(SimTest, KeptSeeds) {
    for (const KeptSeed& kept : kKeptSeeds) {
        RunOptions options;
        options.seed = kept.seed;
        options.minutes = kept.minutes;
        options.fault_scale = kept.faults;
        expect_good(options);
    }
}

TEST_F(SimTest, ReplaysTheSame) {
    RunOptions options;
    options.seed = 77;
    options.minutes = 4;
    const RunResult first = run_seed(options);
    const RunResult second = run_seed(options);
    EXPECT_EQ(first.script, second.script);
    EXPECT_EQ(first.writes, second.writes);
    EXPECT_EQ(first.trace, second.trace);
    EXPECT_EQ(first.ok, second.ok);
}

TEST_F(SimTest, FreshSeeds) {
    std::random_device device;
    for (int i = 0; i < kFreshSeeds; ++i) {
        RunOptions options;
        options.seed = 1'000'000 + device() % 1'000'000'000;
        options.minutes = 10;
        std::cout << "fresh seed " << options.seed << std::endl;
        expect_good(options);
    }
}

bool is_ready(World& world, const ObjectKey& key) {
    SharedValue object = world.api().get(controlplane::tenant_control_planes(), key);
    return object != nullptr && controller::is_condition_true((*object)["status"], "Ready");
}

// The token that proves Ready expires before the tenant's controller manager leads for the first
// time: another one has to take its place.
TEST_F(SimTest, ReadyAfterALateControllerManager) {
    World world({5, true});
    world.make_namespace("team-a");
    world.make_datastore("default");
    world.start_instance();
    const ObjectKey key("team-a", "late");
    Value object = kube::make_object(controlplane::tenant_control_planes(), key);
    object.set("spec", data::parse_yaml("{kubernetes: {version: v1.36.3}, controlPlane: "
                                        "{deployment: {replicas: 1}, service: {serviceType: "
                                        "ClusterIP}}, addons: {}}")
                           .value());
    ASSERT_TRUE(world.api().create(controlplane::tenant_control_planes(), object, "user").ok());
    Tenant* tenant = nullptr;
    auto serves = [&] {
        SharedValue now = world.api().get(controlplane::tenant_control_planes(), key);
        tenant = now == nullptr ? nullptr : world.tenant_of(*now);
        return tenant != nullptr && !tenant->pods.empty();
    };
    ASSERT_TRUE(world.loop().run_until(serves, std::chrono::minutes(5)));
    world.stop_controller_manager(*tenant, std::chrono::minutes(7));
    EXPECT_FALSE(
        world.loop().run_until([&] { return is_ready(world, key); }, std::chrono::minutes(6)));
    EXPECT_TRUE(
        world.loop().run_until([&] { return is_ready(world, key); }, std::chrono::minutes(5)));
}

}  // namespace
}  // namespace basalt::sim
