#include "controller/manager.h"

#include <set>

#include <gtest/gtest.h>

#include "controller/server_fixture_test.h"

namespace basalt::controller {
namespace {

using namespace std::chrono_literals;
using kube::Value;
using kube::testing::config_map;
using kube::testing::config_map_path;

class ManagerTest : public ServerFixture {
 protected:
    ~ManagerTest() override { stop(); }
    async::Task<Result<void>> fail_later() {
        Result<void> slept = co_await async::sleep_for(loop, 1s);
        if (!slept.ok()) co_return std::move(slept);
        co_return unavailable("port is taken");
    }
    static async::Task<void> nothing() { co_return; }
    struct Process {
        explicit Process(ManagerTest& test, const std::string& name)
            : client(test.loop, test.server),
              lease_client(test.loop, test.server),
              manager(client, lease_client, make_options(name)),
              group(test.loop) {
            client.set_write_guard([this] { return manager.check_leading(); });
            Controller::Options options;
            options.name = "c";
            manager
                .add_controller(options,
                                [this, &test](Key key) { return reconcile(&test, std::move(key)); })
                .watch(manager.cache(kube::resources::config_maps()));
            group.spawn(kube::testing::capture(manager.run(), &result));
        }
        static ManagerOptions make_options(const std::string& name) {
            ManagerOptions options;
            options.leader.emplace();
            options.leader->ns = "system";
            options.leader->name = "lock";
            options.leader->identity = name;
            return options;
        }
        async::Task<Result<Outcome>> reconcile(ManagerTest* test, Key key) {
            test->acting.insert(this);
            EXPECT_EQ(test->acting.size(), 1u) << "two leaders act";
            Result<void> slept = co_await async::sleep_for(test->loop, 50ms);
            test->acting.erase(this);
            if (!slept.ok()) co_return std::move(slept).error();
            reconciled.push_back(key.name);
            co_return requeue_after(100ms);
        }
        kube::Client client;
        kube::Client lease_client;
        Manager manager;
        async::TaskGroup group;
        std::optional<Result<void>> result;
        std::vector<std::string> reconciled;
    };
    void finish(Process& process) {
        process.group.cancel();
        ASSERT_TRUE(run_until([&] { return process.group.size() == 0; }));
    }
    std::set<Process*> acting;
};

TEST_F(ManagerTest, StandbyIsWarmAndTakesOverAfterRelease) {
    server->put(config_map_path("n", "a"), config_map("n", "a", "1"));
    Process first(*this, "first");
    ASSERT_TRUE(run_until([&] { return !first.reconciled.empty(); }));
    Process second(*this, "second");
    loop.run_for(1min);
    EXPECT_TRUE(second.reconciled.empty());
    EXPECT_TRUE(second.manager.health().ready().ok) << "warm";
    const TimePoint stopped = loop.now();
    finish(first);
    EXPECT_TRUE(first.result.has_value() && first.result->ok());
    ASSERT_TRUE(run_until([&] { return !second.reconciled.empty(); }));
    EXPECT_LT(loop.now() - stopped, 6s);
    EXPECT_NE(second.manager.metrics().to_text().find(
                  "reflector_lists_total{name=\"configmaps.v1\"} 1\n"),
              std::string::npos);
    const Value* lease =
        server->object("/apis/coordination.k8s.io/v1/namespaces/system/leases/lock");
    ASSERT_NE(lease, nullptr);
    EXPECT_EQ((*lease)["spec"]["holderIdentity"].as_string(), "second");
    finish(second);
}

// What a reconcile left running may still write while it ends: nobody else may lead before.
TEST_F(ManagerTest, WhatReconcilesLeftRunningEndsBeforeTheLeaseIsReleased) {
    server->put(config_map_path("n", "a"), config_map("n", "a", "1"));
    Process first(*this, "first");
    std::string holder;
    bool was_acting = true;
    first.manager.add_farewell([&]() -> async::Task<void> {
        was_acting = !acting.empty();
        const Value* lease =
            server->object("/apis/coordination.k8s.io/v1/namespaces/system/leases/lock");
        if (lease != nullptr) holder = (*lease)["spec"]["holderIdentity"].str();
        return nothing();
    });
    ASSERT_TRUE(run_until([&] { return !first.reconciled.empty(); }));
    EXPECT_EQ(holder, "") << "not before the end";
    finish(first);
    EXPECT_EQ(holder, "first");
    EXPECT_FALSE(was_acting);
    const Value* lease =
        server->object("/apis/coordination.k8s.io/v1/namespaces/system/leases/lock");
    ASSERT_NE(lease, nullptr);
    EXPECT_EQ((*lease)["spec"]["holderIdentity"].as_string(), "");
}

TEST_F(ManagerTest, CutOffLeaderStopsBeforeAnotherStarts) {
    server->put(config_map_path("n", "a"), config_map("n", "a", "1"));
    Process first(*this, "first");
    ASSERT_TRUE(run_until([&] { return !first.reconciled.empty(); }));
    Process second(*this, "second");
    loop.run_for(30s);
    // The first one's lease requests get lost from now on.
    server->intercept =
        [&](const net::HttpRequest& request) -> std::optional<Result<net::HttpResponse>> {
        if (request.body.find("\"first\"") == std::string::npos) return std::nullopt;
        return Result<net::HttpResponse>(unavailable("lost"));
    };
    const TimePoint cut_off = loop.now();
    ASSERT_TRUE(run_until([&] { return !first.manager.is_leading(); }));
    EXPECT_LE(loop.now() - cut_off, 10s);
    EXPECT_FALSE(first.manager.check_leading().ok());
    EXPECT_TRUE(second.reconciled.empty());
    ASSERT_TRUE(run_until([&] { return !second.reconciled.empty(); }));
    EXPECT_LE(loop.now() - cut_off, 22s);
    ASSERT_TRUE(run_until([&] { return first.result.has_value(); }));
    EXPECT_EQ(first.result->error().code(), Code::kFailedPrecondition);
    finish(second);
}

TEST_F(ManagerTest, JumpingClocksDoNotEndLeadership) {
    server->put(config_map_path("n", "a"), config_map("n", "a", "1"));
    Process first(*this, "first");
    ASSERT_TRUE(run_until([&] { return !first.reconciled.empty(); }));
    Process second(*this, "second");
    loop.run_for(10s);
    loop.jump_wall_clock(1h);
    loop.run_for(1min);
    loop.jump_wall_clock(-2h);
    loop.run_for(1min);
    EXPECT_TRUE(first.manager.is_leading());
    EXPECT_TRUE(second.reconciled.empty());
    finish(first);
    finish(second);
}

TEST_F(ManagerTest, FailingRunnableEndsTheManager) {
    Manager manager(client, client);
    manager.add_runnable("broken", [this] { return fail_later(); }, false);
    std::optional<Result<void>> result;
    group.spawn(kube::testing::capture(manager.run(), &result));
    ASSERT_TRUE(run_until([&] { return result.has_value(); }));
    EXPECT_EQ(result->error().message(), "broken: port is taken");
}

}  // namespace
}  // namespace basalt::controller
