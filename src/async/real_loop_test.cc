#include "async/real_loop.h"

#include <atomic>
#include <csignal>
#include <string>
#include <thread>
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

/// Ends a test that would hang; far above anything a loaded machine needs.
class Watchdog {
 public:
    explicit Watchdog(RealLoop& loop) : loop_(loop) {
        timer_ = loop.call_at(loop.now() + seconds(60), [&loop] {
            ADD_FAILURE() << "the loop did not end by itself";
            loop.stop();
        });
    }
    ~Watchdog() { loop_.cancel_timer(timer_); }

 private:
    RealLoop& loop_;
    Loop::TimerId timer_;
};

TEST(RealLoopTest, TimersFireInOrderOfTimeNotOfCalls) {
    RealLoop loop;
    Watchdog watchdog(loop);
    std::vector<int> fired;
    TimePoint start = loop.now();
    for (int i : {30, 10, 20}) {
        loop.call_at(start + milliseconds(i), [&fired, &loop, i] {
            fired.push_back(i);
            if (i == 30) loop.stop();
        });
    }
    loop.run();
    EXPECT_THAT(fired, ElementsAre(10, 20, 30));
    EXPECT_GE(loop.now() - start, milliseconds(30));
}

TEST(RealLoopTest, ACancelledTimerDoesNotFireAndDoesNotKeepAnIdleLoopAlive) {
    RealLoop loop;
    bool fired = false;
    Loop::TimerId long_one = loop.call_at(loop.now() + hours(5), [&] { fired = true; });
    Loop::TimerId b = 0;
    Loop::TimerId a = loop.call_at(loop.now(), [&] { loop.cancel_timer(b); });
    b = loop.call_at(loop.now(), [&] { fired = true; });
    loop.post([&] { loop.cancel_timer(long_one); });
    loop.keep_running(false);
    loop.run();
    EXPECT_FALSE(fired);
    loop.cancel_timer(a);
}

TEST(RealLoopTest, AnIdleLoopEndsAfterItsLastTimer) {
    RealLoop loop;
    int fired = 0;
    loop.call_at(loop.now() + milliseconds(1), [&] {
        ++fired;
        loop.call_at(loop.now() + milliseconds(1), [&] { ++fired; });
    });
    loop.keep_running(false);
    loop.keep_running(true);
    loop.keep_running(false);
    loop.run();
    EXPECT_EQ(fired, 2);
    loop.post([&] { ++fired; });
    loop.run();
    EXPECT_EQ(fired, 3) << "run() may be called again";
}

void rearm(RealLoop& loop, int* count, const bool* stopped) {
    if (*stopped) return;
    ++*count;
    loop.call_at(loop.now() - seconds(1), [&loop, count, stopped] { rearm(loop, count, stopped); });
}

TEST(RealLoopTest, TimersThatAreAlwaysDueDoNotStarveTheRest) {
    RealLoop loop;
    Watchdog watchdog(loop);
    int count = 0;
    bool stopped = false;
    rearm(loop, &count, &stopped);
    loop.call_at(loop.now() + milliseconds(5), [&] {
        loop.post([&] {
            stopped = true;
            loop.stop();
        });
    });
    loop.run();
    EXPECT_GT(count, 1);
}

TEST(RealLoopTest, PostKeepsOrderAndNeverRunsInside) {
    RealLoop loop;
    std::vector<int> order;
    for (int i = 0; i < 3; ++i) loop.post([&order, i] { order.push_back(i); });
    EXPECT_TRUE(order.empty());
    loop.keep_running(false);
    loop.run();
    EXPECT_THAT(order, ElementsAre(0, 1, 2));
}

TEST(RealLoopTest, PostFromManyThreads) {
    RealLoop loop;
    Watchdog watchdog(loop);
    size_t count = 0;
    const size_t threads_count = 4, posts_count = 2000;
    std::vector<std::thread> threads;
    for (size_t t = 0; t < threads_count; ++t) {
        threads.emplace_back([&] {
            for (size_t i = 0; i < posts_count; ++i) {
                loop.post([&] {
                    if (++count == threads_count * posts_count) loop.stop();
                });
            }
        });
    }
    loop.run();
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(count, threads_count * posts_count);
}

TEST(RealLoopTest, AStopBeforeRunIsNotLost) {
    RealLoop loop;
    loop.stop();
    loop.run();
    bool ran = false;
    loop.post([&] {
        ran = true;
        loop.stop();
    });
    loop.run();
    EXPECT_TRUE(ran);
}

TEST(RealLoopTest, SignalsArriveOnTheLoopEachTime) {
    RealLoop loop;
    Watchdog watchdog(loop);
    std::vector<std::string> got;
    loop.on_signal(SIGUSR1, [&] {
        got.push_back("usr1");
        // Replaces the callback that is running.
        loop.on_signal(SIGUSR1, [&] {
            got.push_back("usr1 again");
            ::raise(SIGUSR2);
        });
        ::raise(SIGUSR1);
    });
    loop.on_signal(SIGUSR2, [&] {
        got.push_back("usr2");
        loop.stop();
    });
    loop.post([] { ::raise(SIGUSR1); });
    loop.run();
    EXPECT_THAT(got, ElementsAre("usr1", "usr1 again", "usr2"));
}

Task<void> offload_sum(RealLoop& loop, int from, std::atomic<int>* running,
                       std::vector<int>* sums) {
    std::function<int()> work = [from, running] {
        running->fetch_add(1);
        int sum = 0;
        for (int i = 0; i < 1000; ++i) sum += from;
        running->fetch_sub(1);
        return sum;
    };
    int sum = co_await offload<int>(loop, std::move(work));
    sums->push_back(sum);
    if (sums->size() == 50) loop.stop();
}

TEST(RealLoopTest, OffloadReturnsToTheLoop) {
    RealLoop loop(3);
    Watchdog watchdog(loop);
    TaskGroup group(loop);
    std::vector<int> sums;
    std::atomic<int> running{0};
    for (int i = 0; i < 50; ++i) group.spawn(offload_sum(loop, i, &running, &sums));
    loop.run();
    ASSERT_EQ(sums.size(), 50u);
    EXPECT_EQ(running.load(), 0);
    EXPECT_EQ(group.size(), 0u);
}

TEST(RealLoopTest, OffloadedWorkKeepsAnIdleLoopAlive) {
    RealLoop loop;
    loop.keep_running(false);
    bool done = false;
    std::thread::id worker_id;
    loop.offload([&] { worker_id = std::this_thread::get_id(); }, [&] { done = true; });
    loop.run();
    EXPECT_TRUE(done);
    EXPECT_NE(worker_id, std::this_thread::get_id());
}

TEST(RealLoopTest, ALoopThatEndsWithWorkUnderWayWaitsForIt) {
    std::atomic<bool> worked{false};
    {
        RealLoop loop;
        loop.offload([&] { worked = true; }, [] { ADD_FAILURE() << "nobody runs the loop"; });
    }
    EXPECT_TRUE(worked.load());
}

Task<Result<int>> ping_pong(RealLoop& loop, Channel<int>& in, Channel<int>& out, int rounds) {
    int sum = 0;
    for (int i = 0; i < rounds; ++i) {
        Result<void> sent = co_await out.send(i);
        if (!sent.ok()) co_return std::move(sent).error();
        Result<std::optional<int>> got = co_await in.receive();
        if (!got.ok()) co_return std::move(got).error();
        sum += got->value_or(0);
    }
    Result<void> slept = co_await sleep_for(loop, milliseconds(2));
    if (!slept.ok()) co_return std::move(slept).error();
    co_return sum;
}

Task<void> play(RealLoop& loop, Channel<int>& in, Channel<int>& out, std::vector<int>* sums) {
    Result<int> sum = co_await with_timeout(loop, seconds(60), ping_pong(loop, in, out, 500));
    sums->push_back(sum.ok() ? *sum : -1);
    if (sums->size() == 2) loop.stop();
}

TEST(RealLoopTest, CoroutinesRunOnItAsOnTheSimulator) {
    RealLoop loop;
    Watchdog watchdog(loop);
    TaskGroup group(loop);
    Channel<int> a(1), b(1);
    std::vector<int> sums;
    group.spawn(play(loop, a, b, &sums));
    group.spawn(play(loop, b, a, &sums));
    loop.run();
    EXPECT_THAT(sums, ElementsAre(499 * 500 / 2, 499 * 500 / 2));
    EXPECT_EQ(group.size(), 0u);
}

Task<Result<void>> sleep_long(RealLoop& loop) { return sleep_for(loop, hours(1)); }

Task<void> stop_at_deadline(RealLoop& loop, Code* code) {
    Result<void> result = co_await with_timeout(loop, milliseconds(5), sleep_long(loop));
    *code = result.ok() ? Code::kOk : result.error().code();
    loop.stop();
}

TEST(RealLoopTest, ADeadlineEndsASleep) {
    RealLoop loop;
    Watchdog watchdog(loop);
    TaskGroup group(loop);
    Code code = Code::kOk;
    group.spawn(stop_at_deadline(loop, &code));
    loop.run();
    EXPECT_EQ(code, Code::kDeadlineExceeded);
}

TEST(RealLoopTest, TimeAndRandomBits) {
    RealLoop loop;
    TimePoint before = loop.now();
    EXPECT_LE(before, loop.now());
    EXPECT_GT(loop.wall_now(), WallTime(seconds(1'700'000'000)));
    EXPECT_NE(loop.random(), loop.random());
}

}  // namespace
}  // namespace basalt::async
