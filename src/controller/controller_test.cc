#include "controller/controller.h"

#include <set>

#include <gtest/gtest.h>

#include "async/sim_loop.h"
#include "controller/events.h"
#include "controller/finalizers.h"
#include "controller/manager.h"
#include "kube/test_server.h"

namespace basalt::controller {
namespace {

using namespace std::chrono_literals;
using kube::Value;
using kube::testing::config_map;
using kube::testing::config_map_path;

class ControllerTest : public ::testing::Test {
 protected:
    ControllerTest()
        : server(std::make_shared<kube::testing::TestServer>(loop)),
          client(loop, server),
          group(loop) {}
    ~ControllerTest() override {
        group.cancel();
        loop.run_until([&] { return group.size() == 0; }, 1min);
    }
    async::Task<Result<Outcome>> reconcile(Key key) {
        ++running;
        most_running = std::max(most_running, running);
        started.push_back(key.name);
        Result<void> slept = co_await async::sleep_for(loop, work_time);
        --running;
        if (!slept.ok()) {
            ++cancelled_count;
            co_return std::move(slept).error();
        }
        if (failures > 0) {
            --failures;
            co_return failure;
        }
        finished.push_back(key.name);
        co_return outcome;
    }
    async::Task<Result<void>> fail_later() {
        Result<void> slept = co_await async::sleep_for(loop, 1s);
        if (!slept.ok()) co_return std::move(slept);
        co_return unavailable("port is taken");
    }
    ReconcileFn function() {
        return [this](Key key) { return reconcile(std::move(key)); };
    }
    Controller::Options options(size_t workers = 1) {
        Controller::Options result;
        result.name = "test";
        result.workers_count = workers;
        return result;
    }
    bool run_until(const std::function<bool()>& done, Duration limit = 5min) {
        return loop.run_until(done, limit);
    }

    async::SimLoop loop{11};
    std::shared_ptr<kube::testing::TestServer> server;
    kube::Client client;
    async::TaskGroup group;
    Metrics metrics;
    int running = 0;
    int most_running = 0;
    int failures = 0;
    int cancelled_count = 0;
    Error failure = unavailable("no");
    Outcome outcome;
    Duration work_time = 10ms;
    std::vector<std::string> started;
    std::vector<std::string> finished;
};

TEST_F(ControllerTest, WorkersShareTheLoadAndNeverAKey) {
    Controller controller(loop, options(3), function(), &metrics);
    controller.start(group);
    for (int i = 0; i < 9; ++i) controller.enqueue(Key("n", std::to_string(i)));
    controller.enqueue(Key("n", "0"));
    const TimePoint start = loop.now();
    ASSERT_TRUE(run_until([&] { return finished.size() == 9; }));
    EXPECT_EQ(most_running, 3);
    EXPECT_LE(loop.now() - start, 35ms);
    controller.enqueue(Key("n", "x"));
    ASSERT_TRUE(run_until([&] { return running == 1; }));
    controller.enqueue(Key("n", "x"));
    controller.enqueue(Key("n", "x"));
    most_running = 0;
    ASSERT_TRUE(run_until([&] { return finished.size() == 11; }));
    EXPECT_LE(most_running, 1);
    loop.run_for(1min);
    EXPECT_EQ(finished.size(), 11u);
    const std::string text = metrics.to_text();
    EXPECT_NE(
        text.find(
            "controller_runtime_reconcile_total{controller=\"test\",result=\"success\"} 11\n"),
        std::string::npos)
        << text;
    EXPECT_NE(
        text.find(
            "workqueue_longest_running_processor_seconds{controller=\"test\",name=\"test\"} 0\n"),
        std::string::npos);
    group.cancel();
    ASSERT_TRUE(run_until([&] { return group.size() == 0; }));
}

TEST_F(ControllerTest, FailuresRetryTerminalOnesDoNot) {
    Controller controller(loop, options(), function());
    controller.start(group);
    failures = 5;
    controller.enqueue(Key("n", "a"));
    ASSERT_TRUE(run_until([&] { return finished.size() == 1; }));
    EXPECT_EQ(started.size(), 6u);
    failures = 1;
    failure = terminal(invalid_argument("bad"));
    controller.enqueue(Key("n", "a"));
    loop.run_for(2h);
    EXPECT_EQ(started.size(), 7u);
    controller.enqueue(Key("n", "a"));
    ASSERT_TRUE(run_until([&] { return finished.size() == 2; }));
    group.cancel();
    ASSERT_TRUE(run_until([&] { return group.size() == 0; }));
}

TEST_F(ControllerTest, RequeuesAndTimesOut) {
    Controller::Options limited = options();
    limited.reconcile_timeout = 5s;
    Controller controller(loop, limited, function(), &metrics);
    controller.start(group);
    outcome = requeue_after(1min);
    controller.enqueue(Key("n", "a"));
    loop.run_for(10min + 1s);
    EXPECT_EQ(finished.size(), 11u);
    outcome = Outcome();
    work_time = 1h;
    loop.run_for(2min);
    EXPECT_GE(cancelled_count, 2);
    EXPECT_GE(
        metrics.counter("controller_runtime_reconcile_timeouts_total", "", {{"controller", "test"}})
            .value(),
        2);
    work_time = 1ms;
    ASSERT_TRUE(run_until([&] { return finished.size() == 12; }));
    group.cancel();
    ASSERT_TRUE(run_until([&] { return group.size() == 0; }));
}

TEST_F(ControllerTest, StoppingCancelsTheReconcile) {
    Controller controller(loop, options(2), function());
    controller.start(group);
    work_time = 1h;
    controller.enqueue(Key("n", "a"));
    ASSERT_TRUE(run_until([&] { return running == 1; }));
    group.cancel();
    ASSERT_TRUE(run_until([&] { return group.size() == 0; }, 1s));
    EXPECT_EQ(cancelled_count, 1);
}

TEST_F(ControllerTest, MapsOwnersAndFilters) {
    kube::Cache cache(client, kube::CacheOptions(kube::resources::config_maps()));
    Controller controller(loop, options(), function());
    controller.watch_owned(cache, "g.io", "Owner");
    Value owned = config_map("n", "child", "1");
    owned.at("metadata")
        .set("ownerReferences", Value::array({Value::object({{"apiVersion", "g.io/v1"},
                                                             {"kind", "Owner"},
                                                             {"name", "parent"},
                                                             {"uid", "1"},
                                                             {"controller", true}})}));
    server->put(config_map_path("n", "child"), owned);
    server->put(config_map_path("n", "free"), config_map("n", "free", "1"));
    cache.start(group);
    controller.start(group);
    ASSERT_TRUE(run_until([&] { return finished.size() == 1; }));
    EXPECT_EQ(finished[0], "parent");
    loop.run_for(1s);
    server->erase(config_map_path("n", "child"));
    ASSERT_TRUE(run_until([&] { return finished.size() == 2; }));
    EXPECT_EQ(finished[1], "parent");
    group.cancel();
    ASSERT_TRUE(run_until([&] { return group.size() == 0; }));
}

TEST_F(ControllerTest, FinalizersAreSetOnceAndConflictsShow) {
    server->put(config_map_path("n", "a"), config_map("n", "a", "1"));
    std::optional<Result<Value>> result;
    Value object = *server->object(config_map_path("n", "a"));
    group.spawn(kube::testing::capture(
        ensure_finalizer(client, kube::resources::config_maps(), object, "x/y"), &result));
    ASSERT_TRUE(run_until([&] { return result.has_value(); }));
    ASSERT_TRUE(result->ok());
    EXPECT_TRUE(kube::has_finalizer(**result, "x/y"));
    const Value updated = **result;
    result.reset();
    group.spawn(kube::testing::capture(
        ensure_finalizer(client, kube::resources::config_maps(), object, "other/z"), &result));
    ASSERT_TRUE(run_until([&] { return result.has_value(); }));
    EXPECT_EQ(result->error().code(), Code::kAborted);
    result.reset();
    group.spawn(kube::testing::capture(
        drop_finalizer(client, kube::resources::config_maps(), updated, "x/y"), &result));
    ASSERT_TRUE(run_until([&] { return result.has_value(); }));
    EXPECT_FALSE(kube::has_finalizer(*server->object(config_map_path("n", "a")), "x/y"));
    server->erase(config_map_path("n", "a"));
    result.reset();
    group.spawn(kube::testing::capture(
        drop_finalizer(client, kube::resources::config_maps(), updated, "x/y"), &result));
    ASSERT_TRUE(run_until([&] { return result.has_value(); }));
    EXPECT_TRUE(result->ok() && (*result)->is_null());
}

TEST_F(ControllerTest, EventsBecomeSeries) {
    EventRecorder::Options event_options;
    event_options.controller = "basalt.dev/test";
    event_options.instance = "pod-1";
    EventRecorder recorder(client, event_options);
    recorder.start(group);
    Value object = config_map("n", "a", "1");
    object.at("metadata").set("uid", "u1");
    recorder.record(object, Severity::kWarning, "Failed", "something broke");
    ASSERT_TRUE(run_until([&] { return server->count("POST", "/events") == 1; }));
    loop.run_for(1s);
    for (int i = 0; i < 1000; ++i) {
        recorder.record(object, Severity::kWarning, "Failed", "something broke");
        loop.run_for(100ms);
    }
    loop.run_for(1min);
    EXPECT_EQ(server->count("POST", "/events"), 1u);
    EXPECT_LE(server->count("PATCH", "/events"), 6u);
    EXPECT_GE(server->count("PATCH", "/events"), 3u);
    const std::string patch = server->requests.back().body;
    EXPECT_NE(patch.find("\"count\":1001"), std::string::npos) << patch;
    // A storm of different ones about one object is cut off.
    for (int i = 0; i < 100; ++i)
        recorder.record(object, Severity::kNormal, "R" + std::to_string(i), "x");
    loop.run_for(1min);
    EXPECT_EQ(recorder.dropped_count(), 76u);
    EXPECT_EQ(server->count("POST", "/events"), 25u);
    group.cancel();
    ASSERT_TRUE(run_until([&] { return group.size() == 0; }));
}

class ManagerTest : public ControllerTest {
 protected:
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
