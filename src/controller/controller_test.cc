#include "controller/controller.h"

#include <gtest/gtest.h>

#include "controller/server_fixture_test.h"

namespace basalt::controller {
namespace {

using namespace std::chrono_literals;
using kube::Value;
using kube::testing::config_map;
using kube::testing::config_map_path;

class ControllerTest : public ServerFixture {
 protected:
    ~ControllerTest() override { stop(); }
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
    ReconcileFn function() {
        return [this](Key key) { return reconcile(std::move(key)); };
    }
    Controller::Options options(size_t workers = 1) {
        Controller::Options result;
        result.name = "test";
        result.workers_count = workers;
        return result;
    }

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

TEST_F(ControllerTest, AWorkerThatHangsLeavesLaterKeysToTheOthers) {
    Controller controller(loop, options(2), function());
    controller.start(group);
    work_time = 1min;
    controller.enqueue_after(Key("n", "a"), 10s);
    controller.enqueue_after(Key("n", "b"), 20s);
    controller.enqueue_after(Key("n", "c"), 30s);
    loop.run_for(21s);
    EXPECT_EQ(started, (std::vector<std::string>{"a", "b"}));
    loop.run_for(50s);
    EXPECT_EQ(started, (std::vector<std::string>{"a", "b", "c"}));
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
    controller.watch_mapped(cache, [](const kube::Change& change) {
        const std::optional<kube::OwnerReference> owner = kube::controller_of(change.object());
        return owner ? std::vector<Key>{Key("n", owner->name)} : std::vector<Key>();
    });
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

}  // namespace
}  // namespace basalt::controller
