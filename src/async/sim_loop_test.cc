#include "async/sim_loop.h"

#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "async/task_group.h"
#include "async/wait.h"

namespace basalt::async {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::UnorderedElementsAre;

Task<void> worker(SimLoop& loop, Channel<int>& channel, int id, std::string* trace) {
    for (int i = 0; i < 5; ++i) {
        auto jitter = milliseconds(loop.random() % 1000);
        Result<void> slept = co_await sleep_for(loop, jitter);
        if (!slept.ok()) co_return;
        Result<void> sent = co_await channel.send(id);
        if (!sent.ok()) co_return;
        *trace += std::to_string(id) + "@" +
                  std::to_string(loop.now().time_since_epoch().count() / 1'000'000) + " ";
    }
}

Task<void> drain(Channel<int>& channel, std::string* trace) {
    while (true) {
        Result<std::optional<int>> item = co_await channel.receive();
        if (!item.ok() || !item->has_value()) co_return;
        *trace += "<" + std::to_string(**item) + "> ";
    }
}

std::string run_program(uint64_t seed) {
    SimLoop loop(seed);
    TaskGroup group(loop);
    Channel<int> channel(1);
    std::string trace;
    for (int id = 0; id < 4; ++id) group.spawn(worker(loop, channel, id, &trace));
    group.spawn(drain(channel, &trace));
    loop.run_for(seconds(20));
    channel.close();
    loop.run_ready();
    EXPECT_EQ(group.size(), 0u);
    return trace;
}

TEST(SimLoopTest, OneSeedOneTrace) {
    std::set<std::string> traces;
    for (uint64_t seed = 0; seed < 20; ++seed) {
        std::string trace = run_program(seed);
        EXPECT_EQ(trace, run_program(seed)) << seed;
        traces.insert(trace);
    }
    EXPECT_GT(traces.size(), 15u) << "seeds must differ";
}

TEST(SimLoopTest, ReadyCallbacksRunInEveryOrder) {
    std::set<std::vector<int>> orders;
    for (uint64_t seed = 0; seed < 100; ++seed) {
        SimLoop loop(seed);
        std::vector<int> order;
        for (int i = 0; i < 3; ++i) loop.post([&order, i] { order.push_back(i); });
        loop.run_ready();
        orders.insert(order);
    }
    EXPECT_EQ(orders.size(), 6u);
}

TEST(SimLoopTest, TimeJumpsToTimersInOrder) {
    SimLoop loop(1);
    TimePoint start = loop.now();
    std::vector<Duration> fired;
    for (int h : {3, 1, 2}) {
        loop.call_at(start + hours(h), [&, start] { fired.push_back(loop.now() - start); });
    }
    while (loop.run_one()) {
    }
    EXPECT_THAT(fired, ElementsAre(hours(1), hours(2), hours(3)));
    EXPECT_FALSE(loop.run_one());
}

TEST(SimLoopTest, RunForEndsAtItsTime) {
    SimLoop loop(1);
    TimePoint start = loop.now();
    int fired = 0;
    loop.call_at(start + seconds(10), [&] { ++fired; });
    loop.call_at(start + seconds(11), [&] { ++fired; });
    loop.run_for(seconds(10));
    EXPECT_EQ(fired, 1);
    EXPECT_EQ(loop.now() - start, seconds(10));
    loop.run_for(seconds(5));
    EXPECT_EQ(fired, 2);
    EXPECT_EQ(loop.now() - start, seconds(15));
}

TEST(SimLoopTest, RunUntilStopsAtItsLimit) {
    SimLoop loop(1);
    TimePoint start = loop.now();
    bool fired = false;
    loop.call_at(start + hours(1), [&] { fired = true; });
    EXPECT_FALSE(loop.run_until([&] { return fired; }, seconds(10)));
    EXPECT_FALSE(fired) << "nothing beyond the limit runs";
    EXPECT_EQ(loop.now() - start, seconds(10));
    EXPECT_TRUE(loop.run_until([&] { return fired; }, hours(1)));
    EXPECT_FALSE(loop.run_until([] { return false; }, hours(1))) << "nothing is left";
}

TEST(SimLoopTest, ACallbackCancelsATimerThatIsDueAtTheSameTime) {
    std::set<int> counts;
    for (uint64_t seed = 0; seed < 20; ++seed) {
        SimLoop loop(seed);
        TimePoint when = loop.now() + seconds(1);
        int fired = 0;
        Loop::TimerId a = 0, b = 0;
        a = loop.call_at(when, [&] { ++fired, loop.cancel_timer(b); });
        b = loop.call_at(when, [&] { ++fired, loop.cancel_timer(a); });
        loop.run_for(seconds(2));
        EXPECT_EQ(fired, 1) << seed;
        loop.cancel_timer(a);  // Long gone: no effect.
        EXPECT_EQ(loop.timers_count(), 0u);
    }
}

TEST(SimLoopTest, TheWallClockFollowsAndJumps) {
    SimLoop loop(1, WallTime(seconds(1000)));
    EXPECT_EQ(loop.wall_now(), WallTime(seconds(1000)));
    loop.run_for(seconds(5));
    EXPECT_EQ(loop.wall_now(), WallTime(seconds(1005)));
    TimePoint before = loop.now();
    loop.jump_wall_clock(-hours(1));
    EXPECT_EQ(loop.wall_now(), WallTime(seconds(1005) - hours(1)));
    EXPECT_EQ(loop.now(), before);
}

TEST(SimLoopTest, OffloadRunsWorkThenDone) {
    SimLoop loop(9);
    std::vector<std::string> order;
    loop.offload([&] { order.push_back("work"); }, [&] { order.push_back("done"); });
    EXPECT_TRUE(order.empty());
    loop.run_ready();
    EXPECT_THAT(order, ElementsAre("work", "done"));
}

}  // namespace
}  // namespace basalt::async
