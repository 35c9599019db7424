#include "async/task_group.h"

#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "async/sim_loop.h"
#include "async/wait.h"

namespace basalt::async {
namespace {

using std::chrono::seconds;
using testing::ElementsAre;

Task<void> sleep_and_count(Loop& loop, Duration duration, int* ended, int* cancelled_count) {
    Result<void> slept = co_await sleep_for(loop, duration);
    if (!slept.ok()) ++*cancelled_count;
    ++*ended;
}

Task<void> join_and_mark(TaskGroup& group, bool* joined) {
    co_await group.join();
    *joined = true;
}

TEST(TaskGroupTest, JoinWaitsForAll) {
    SimLoop loop(3);
    TaskGroup owner(loop), group(loop);
    int ended = 0, cancelled_count = 0;
    for (int i = 1; i <= 3; ++i) {
        group.spawn(sleep_and_count(loop, seconds(i), &ended, &cancelled_count));
    }
    bool joined = false;
    owner.spawn(join_and_mark(group, &joined));
    loop.run_for(seconds(2));
    EXPECT_EQ(ended, 2);
    EXPECT_FALSE(joined);
    loop.run_for(seconds(1));
    EXPECT_TRUE(joined);
    EXPECT_EQ(cancelled_count, 0);
    bool joined_empty = false;
    owner.spawn(join_and_mark(group, &joined_empty));
    loop.run_ready();
    EXPECT_TRUE(joined_empty);
}

TEST(TaskGroupTest, CancelEndsAllAndThoseSpawnedLater) {
    SimLoop loop(3);
    TaskGroup group(loop);
    int ended = 0, cancelled_count = 0;
    group.spawn(sleep_and_count(loop, seconds(1), &ended, &cancelled_count));
    group.spawn(sleep_and_count(loop, seconds(2), &ended, &cancelled_count));
    group.cancel();  // Before they ran at all.
    group.spawn(sleep_and_count(loop, seconds(3), &ended, &cancelled_count));
    loop.run_ready();
    EXPECT_EQ(ended, 3);
    EXPECT_EQ(cancelled_count, 3);
    EXPECT_EQ(group.size(), 0u);
    EXPECT_EQ(loop.timers_count(), 0u);
}

TEST(TaskGroupTest, CancellingAJoinerCancelsTheGroupAndStillWaits) {
    for (uint64_t seed = 0; seed < 30; ++seed) {
        SimLoop loop(seed);
        TaskGroup owner(loop), group(loop);
        int ended = 0, cancelled_count = 0;
        for (int i = 1; i <= 3; ++i) {
            group.spawn(sleep_and_count(loop, seconds(i), &ended, &cancelled_count));
        }
        bool joined = false;
        owner.spawn(join_and_mark(group, &joined));
        loop.run_ready();
        owner.cancel();
        EXPECT_FALSE(joined);
        loop.run_ready();
        EXPECT_TRUE(joined) << seed;
        EXPECT_EQ(cancelled_count, 3) << seed;

        // A joiner born in a cancelled scope does the same.
        TaskGroup late(loop);
        late.spawn(sleep_and_count(loop, seconds(9), &ended, &cancelled_count));
        bool late_joined = false;
        owner.spawn(join_and_mark(late, &late_joined));
        loop.run_ready();
        EXPECT_TRUE(late_joined) << seed;
        EXPECT_TRUE(late.cancelled());
    }
}

Task<void> nested_owner(Loop& loop, int* ended, int* cancelled_count) {
    TaskGroup inner(loop);
    inner.spawn(sleep_and_count(loop, seconds(10), ended, cancelled_count));
    inner.spawn(sleep_and_count(loop, seconds(20), ended, cancelled_count));
    co_await inner.join();
}

TEST(TaskGroupTest, CancellationReachesNestedGroups) {
    SimLoop loop(5);
    TaskGroup outer(loop);
    int ended = 0, cancelled_count = 0;
    outer.spawn(nested_owner(loop, &ended, &cancelled_count));
    outer.spawn(nested_owner(loop, &ended, &cancelled_count));
    loop.run_ready();
    outer.cancel();
    loop.run_ready();
    EXPECT_EQ(ended, 4);
    EXPECT_EQ(cancelled_count, 4);
    EXPECT_EQ(outer.size(), 0u);
}

Task<void> respawn(Loop& loop, TaskGroup& group, int generations, int* ended) {
    if (generations > 0) group.spawn(respawn(loop, group, generations - 1, ended));
    Result<void> slept = co_await sleep_for(loop, seconds(1));
    (void)slept;
    ++*ended;
}

TEST(TaskGroupTest, TasksSpawnTasks) {
    SimLoop loop(5);
    TaskGroup group(loop), owner(loop);
    int ended = 0;
    bool joined = false;
    group.spawn(respawn(loop, group, 20, &ended));
    owner.spawn(join_and_mark(group, &joined));
    loop.run_for(seconds(30));
    EXPECT_EQ(ended, 21);
    EXPECT_TRUE(joined);
}

Task<void> add_when_empty(Loop& loop, TaskGroup& group, int* ended, int* cancelled_count) {
    group.spawn(sleep_and_count(loop, seconds(5), ended, cancelled_count));
    co_return;
}

// The group runs empty, wakes its joiner, and gets one more task before the joiner's turn.
TEST(TaskGroupTest, JoinReturnsOnlyWhenTheGroupIsEmpty) {
    for (uint64_t seed = 0; seed < 30; ++seed) {
        SimLoop loop(seed);
        TaskGroup group(loop), owner(loop);
        int ended = 0, cancelled_count = 0;
        bool joined = false;
        group.spawn(sleep_and_count(loop, seconds(1), &ended, &cancelled_count));
        owner.spawn(join_and_mark(group, &joined));
        loop.run_ready();
        bool added = false;
        loop.call_at(loop.now() + seconds(1), [&] {
            owner.spawn(add_when_empty(loop, group, &ended, &cancelled_count));
            added = true;
        });
        loop.run_until([&] { return joined; }, seconds(10));
        ASSERT_TRUE(joined);
        if (ended < 2) {
            EXPECT_LE(group.size(), 1u);  // Added after the join returned.
        } else {
            EXPECT_EQ(group.size(), 0u) << seed;
        }
        loop.run_for(seconds(10));
        EXPECT_EQ(ended, 2);
    }
}

class EndNote {
 public:
    EndNote(std::vector<std::string>* notes, const TaskGroup* group)
        : notes_(notes), group_(group) {}
    EndNote(EndNote&& other) noexcept
        : notes_(std::exchange(other.notes_, nullptr)), group_(other.group_) {}
    ~EndNote() {
        if (notes_) notes_->push_back("frame gone, size " + std::to_string(group_->size()));
    }

 private:
    std::vector<std::string>* notes_;
    const TaskGroup* group_;
};

Task<void> with_note(EndNote note) {
    (void)note;
    co_return;
}

TEST(TaskGroupTest, ATasksFrameIsGoneBeforeTheGroupCountsItOut) {
    SimLoop loop(5);
    TaskGroup group(loop);
    std::vector<std::string> notes;
    group.spawn(with_note(EndNote(&notes, &group)));
    loop.run_ready();
    EXPECT_THAT(notes, ElementsAre("frame gone, size 1"));
}

Task<Result<void>> fail_after(Loop& loop, Duration duration, Code code, std::vector<Code>* order) {
    Result<void> slept = co_await sleep_for(loop, duration);
    if (!slept.ok()) co_return std::move(slept);
    order->push_back(code);
    if (code == Code::kOk) co_return Result<void>();
    co_return Error(code, "failed");
}

Task<void> run_all(Loop& loop, std::vector<Code>* order, std::optional<Result<void>>* out) {
    std::vector<Task<Result<void>>> tasks;
    tasks.push_back(fail_after(loop, seconds(3), Code::kNotFound, order));
    tasks.push_back(fail_after(loop, seconds(1), Code::kAborted, order));
    tasks.push_back(fail_after(loop, seconds(5), Code::kOk, order));
    Result<void> result = co_await join_all(loop, std::move(tasks));
    out->emplace(std::move(result));
}

TEST(TaskGroupTest, JoinAllRunsAllAndReturnsTheFirstErrorOfTheList) {
    SimLoop loop(5);
    TaskGroup group(loop);
    std::vector<Code> order;
    std::optional<Result<void>> out;
    group.spawn(run_all(loop, &order, &out));
    loop.run_for(seconds(4));
    EXPECT_FALSE(out.has_value());
    loop.run_for(seconds(1));
    ASSERT_TRUE(out.has_value());
    EXPECT_EQ(out->error().code(), Code::kNotFound);
    EXPECT_THAT(order, ElementsAre(Code::kAborted, Code::kNotFound, Code::kOk));
}

TEST(TaskGroupTest, JoinAllIsCancelledAsAWhole) {
    SimLoop loop(5);
    TaskGroup group(loop);
    std::vector<Code> order;
    std::optional<Result<void>> out;
    group.spawn(run_all(loop, &order, &out));
    loop.run_ready();
    group.cancel();
    loop.run_ready();
    ASSERT_TRUE(out.has_value());
    EXPECT_EQ(out->error().code(), Code::kCancelled);
    EXPECT_TRUE(order.empty());
}

}  // namespace
}  // namespace basalt::async
