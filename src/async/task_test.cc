#include "async/task.h"

#include <stdexcept>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "async/sim_loop.h"
#include "async/task_group.h"
#include "async/wait.h"

namespace basalt::async {
namespace {

using std::chrono::seconds;
using testing::ElementsAre;

Task<int> ready_value(int value) { co_return value; }

Task<Result<int>> add_later(Loop& loop, int a, int b) {
    Result<void> slept = co_await sleep_for(loop, seconds(1));
    if (!slept.ok()) co_return std::move(slept).error();
    co_return a + b;
}

Task<Result<int>> throws(bool really) {
    if (really) throw std::runtime_error("boom");
    co_return 1;
}

Task<void> store_sum(Loop& loop, int* out) {
    int one = co_await ready_value(1);
    Result<int> sum = co_await add_later(loop, one, 2);
    if (sum.ok()) *out = *sum;
}

TEST(TaskTest, ReturnsValuesAtOnceAndLater) {
    SimLoop loop(1);
    TaskGroup group(loop);
    int sum = 0;
    group.spawn(store_sum(loop, &sum));
    EXPECT_EQ(sum, 0) << "spawn never runs inside the call";
    loop.run_ready();
    EXPECT_EQ(sum, 0);
    loop.run_for(seconds(1));
    EXPECT_EQ(sum, 3);
    EXPECT_EQ(group.size(), 0u);
}

Task<void> mark(bool* ran) {
    *ran = true;
    co_return;
}

TEST(TaskTest, DoesNothingUntilStartedAndCanBeDropped) {
    bool ran = false;
    auto owned = std::make_shared<int>(7);
    {
        Task<void> task = mark(&ran);
    }
    EXPECT_FALSE(ran);
    Task<void> moved = mark(&ran);
    Task<void> other = std::move(moved);
    EXPECT_FALSE(
        moved.valid());  // NOLINT(bugprone-use-after-move): the state after a move is defined
    EXPECT_TRUE(other.valid());
    EXPECT_FALSE(ran);
}

Task<void> hold(Loop& loop, std::shared_ptr<int> owned) {
    Result<void> slept = co_await sleep_for(loop, seconds(1));
    (void)slept;
    *owned += 1;
}

TEST(TaskTest, ParametersLiveAsLongAsTheTask) {
    SimLoop loop(1);
    TaskGroup group(loop);
    auto owned = std::make_shared<int>(7);
    group.spawn(hold(loop, owned));
    EXPECT_EQ(owned.use_count(), 2);
    loop.run_for(seconds(2));
    EXPECT_EQ(owned.use_count(), 1);
    EXPECT_EQ(*owned, 8);
    {
        Task<void> dropped = hold(loop, owned);
    }
    EXPECT_EQ(owned.use_count(), 1);
}

Task<void> store_error(Task<Result<int>> task, std::optional<Error>* out) {
    Result<int> result = co_await task;
    if (!result.ok()) *out = result.error();
}

TEST(TaskTest, AnExceptionBecomesAnInternalErrorAndIsCounted) {
    SimLoop loop(1);
    TaskGroup group(loop);
    std::optional<Error> error;
    const unsigned long bugs_before = bug_count();
    group.spawn(store_error(throws(true), &error));
    loop.run_ready();
    ASSERT_TRUE(error.has_value());
    EXPECT_EQ(error->code(), Code::kInternal);
    EXPECT_EQ(bug_count(), bugs_before + 1);
}

Task<Result<std::unique_ptr<int>>> make_pointer() { co_return std::make_unique<int>(5); }

Task<void> store_pointer(std::unique_ptr<int>* out) {
    Result<std::unique_ptr<int>> made = co_await make_pointer();
    if (made.ok()) *out = std::move(*made);
}

TEST(TaskTest, MoveOnlyResults) {
    SimLoop loop(1);
    TaskGroup group(loop);
    std::unique_ptr<int> out;
    group.spawn(store_pointer(&out));
    loop.run_ready();
    ASSERT_NE(out, nullptr);
    EXPECT_EQ(*out, 5);
}

Task<void> sum_ready(size_t count, uint64_t* sum) {
    for (size_t i = 0; i < count; ++i) {
        int one = co_await ready_value(1);
        *sum += static_cast<uint64_t>(one);
    }
}

TEST(TaskTest, AMillionReadyChildrenUseNoStack) {
    SimLoop loop(1);
    TaskGroup group(loop);
    uint64_t sum = 0;
    group.spawn(sum_ready(1'000'000, &sum));
    loop.run_ready();
    EXPECT_EQ(sum, 1'000'000u);
}

Task<Result<void>> yield_once(Loop& loop) {
    Result<void> yielded = co_await yield(loop);
    co_return std::move(yielded);
}

Task<void> yield_often(Loop& loop, size_t count, uint64_t* sum) {
    for (size_t i = 0; i < count; ++i) {
        Result<void> yielded = co_await yield_once(loop);
        if (yielded.ok()) ++*sum;
    }
}

TEST(TaskTest, ManySuspendingChildrenUseNoStack) {
    SimLoop loop(1);
    TaskGroup group(loop);
    uint64_t sum = 0;
    group.spawn(yield_often(loop, 200'000, &sum));
    loop.run_ready();
    EXPECT_EQ(sum, 200'000u);
}

Task<Result<int>> nested(Loop& loop, int depth) {
    if (depth == 0) {
        Result<void> slept = co_await sleep_for(loop, seconds(1));
        if (!slept.ok()) co_return std::move(slept).error();
        co_return 0;
    }
    Result<int> below = co_await nested(loop, depth - 1);
    if (!below.ok()) co_return std::move(below).error();
    co_return *below + 1;
}

Task<void> store_nested(Loop& loop, int depth, std::optional<Result<int>>* out) {
    Result<int> result = co_await nested(loop, depth);
    out->emplace(std::move(result));
}

TEST(TaskTest, CancellationUnwindsADeepChainFromTheLeaf) {
    SimLoop loop(1);
    TaskGroup group(loop);
    std::optional<Result<int>> cancelled_result;
    std::optional<Result<int>> result;
    group.spawn(store_nested(loop, 100, &result));
    loop.run_for(seconds(1));
    ASSERT_TRUE(result.has_value());
    ASSERT_TRUE(result->ok());
    EXPECT_EQ(**result, 100);

    group.spawn(store_nested(loop, 100, &cancelled_result));
    loop.run_ready();
    group.cancel();
    EXPECT_FALSE(cancelled_result.has_value()) << "never inside the call";
    loop.run_ready();
    ASSERT_TRUE(cancelled_result.has_value());
    EXPECT_EQ(cancelled_result->error().code(), Code::kCancelled);
    EXPECT_EQ(loop.timers_count(), 0u);
}

using TaskDeathTest = testing::Test;

TEST(TaskDeathTest, DroppingASuspendedTaskAsserts) {
    testing::FLAGS_gtest_death_test_style = "threadsafe";
    EXPECT_DEATH(
        {
            SimLoop loop(1);
            TaskGroup group(loop);
            bool unused = false;
            group.spawn(mark(&unused));
        },
        "scopes_.empty");
}

}  // namespace
}  // namespace basalt::async
