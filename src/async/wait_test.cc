#include "async/wait.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "async/sim_loop.h"
#include "async/task_group.h"

namespace basalt::async {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::UnorderedElementsAre;

using Slot = std::optional<Result<void>>;

Task<void> keep(Task<Result<void>> task, Slot* slot) {
    Result<void> result = co_await task;
    slot->emplace(std::move(result));
}

template <class T>
Task<void> keep_value(Task<Result<T>> task, std::optional<Result<T>>* slot) {
    Result<T> result = co_await task;
    slot->emplace(std::move(result));
}

Code code_of(const Slot& slot) {
    if (!slot) return Code::kUnknown;
    return slot->ok() ? Code::kOk : slot->error().code();
}

class WaitTest : public testing::Test {
 protected:
    SimLoop loop_{42};
    TaskGroup group_{loop_};
};

// --- time

TEST_F(WaitTest, SleepEndsOnTimeAndAtOnceWhenPast) {
    Slot slept, past;
    group_.spawn(keep(sleep_for(loop_, seconds(5)), &slept));
    group_.spawn(keep(sleep_until(loop_, loop_.now() - seconds(1)), &past));
    loop_.run_ready();
    EXPECT_EQ(code_of(past), Code::kOk);
    loop_.run_for(milliseconds(4999));
    EXPECT_FALSE(slept.has_value());
    loop_.run_for(milliseconds(1));
    EXPECT_EQ(code_of(slept), Code::kOk);
}

Task<Result<void>> sleep_twice(Loop& loop, std::vector<Code>* codes) {
    Result<void> first = co_await sleep_for(loop, seconds(10));
    codes->push_back(first.ok() ? Code::kOk : first.error().code());
    Result<void> second = co_await sleep_for(loop, seconds(10));
    codes->push_back(second.ok() ? Code::kOk : second.error().code());
    co_return std::move(second);
}

TEST_F(WaitTest, AfterCancellationEveryFurtherWaitFails) {
    std::vector<Code> codes;
    Slot slot;
    group_.spawn(keep(sleep_twice(loop_, &codes), &slot));
    loop_.run_ready();
    group_.cancel();
    loop_.run_ready();
    EXPECT_THAT(codes, ElementsAre(Code::kCancelled, Code::kCancelled));
    EXPECT_EQ(loop_.timers_count(), 0u);
}

TEST_F(WaitTest, ATimerThatFiredBeatsALaterCancellation) {
    Slot slot;
    group_.spawn(keep(sleep_for(loop_, seconds(1)), &slot));
    loop_.run_ready();
    ASSERT_TRUE(loop_.run_one());  // The timer fires; the coroutine's turn is still to come.
    ASSERT_FALSE(slot.has_value());
    group_.cancel();
    loop_.run_ready();
    EXPECT_EQ(code_of(slot), Code::kOk);
}

Task<Result<void>> yield_and_note(Loop& loop, int* steps, int limit) {
    while (*steps < limit) {
        Result<void> yielded = co_await yield(loop);
        if (!yielded.ok()) co_return std::move(yielded);
        ++*steps;
    }
    co_return Result<void>();
}

TEST_F(WaitTest, YieldLetsOthersRunAndIsCancelled) {
    int a = 0, b = 0;
    Slot slot_a, slot_b;
    group_.spawn(keep(yield_and_note(loop_, &a, 1'000'000), &slot_a));
    group_.spawn(keep(yield_and_note(loop_, &b, 1'000'000), &slot_b));
    for (int i = 0; i < 1000; ++i) loop_.run_one();
    EXPECT_GT(a, 100);
    EXPECT_GT(b, 100);
    group_.cancel();
    loop_.run_ready();
    EXPECT_EQ(code_of(slot_a), Code::kCancelled);
    EXPECT_EQ(code_of(slot_b), Code::kCancelled);
    EXPECT_LT(a, 1'000'000);
}

// --- Condition

TEST_F(WaitTest, NotifyOneWakesInOrderAndNotifyAllTheRest) {
    Condition condition;
    Slot slots[3];
    for (Slot& slot : slots) {
        group_.spawn(keep(condition.wait(), &slot));
        loop_.run_ready();
    }
    EXPECT_EQ(condition.waiting_count(), 3u);
    condition.notify_one();
    loop_.run_ready();
    EXPECT_TRUE(slots[0].has_value());
    EXPECT_FALSE(slots[1].has_value());
    condition.notify_all();
    loop_.run_ready();
    EXPECT_TRUE(slots[1].has_value());
    EXPECT_TRUE(slots[2].has_value());
    condition.notify_one();  // Nobody waits: no effect, and not remembered.
    Slot late;
    group_.spawn(keep(condition.wait(), &late));
    loop_.run_ready();
    EXPECT_FALSE(late.has_value());
    condition.notify_all();
    loop_.run_ready();
}

TEST_F(WaitTest, ACancelledWaiterLeavesTheCondition) {
    Condition condition;
    TaskGroup other(loop_);
    Slot cancelled_slot, kept_slot;
    other.spawn(keep(condition.wait(), &cancelled_slot));
    loop_.run_ready();
    group_.spawn(keep(condition.wait(), &kept_slot));
    loop_.run_ready();
    other.cancel();
    EXPECT_EQ(condition.waiting_count(), 1u);
    condition.notify_one();  // Must reach the one that still waits.
    loop_.run_ready();
    EXPECT_EQ(code_of(cancelled_slot), Code::kCancelled);
    EXPECT_EQ(code_of(kept_slot), Code::kOk);
}

// --- Channel

Task<Result<void>> send_numbers(Channel<int>& channel, int count) {
    for (int i = 0; i < count; ++i) {
        Result<void> sent = co_await channel.send(i);
        if (!sent.ok()) co_return std::move(sent);
    }
    channel.close();
    co_return Result<void>();
}

Task<Result<void>> receive_numbers(Channel<int>& channel, std::vector<int>* out) {
    while (true) {
        Result<std::optional<int>> item = co_await channel.receive();
        if (!item.ok()) co_return std::move(item).error();
        if (!item->has_value()) co_return Result<void>();
        out->push_back(**item);
    }
}

TEST_F(WaitTest, ChannelKeepsOrderAndIsBounded) {
    Channel<int> channel(3);
    std::vector<int> received;
    Slot sent, done;
    group_.spawn(keep(send_numbers(channel, 100), &sent));
    loop_.run_ready();
    EXPECT_EQ(channel.size(), 3u);
    EXPECT_FALSE(channel.try_send(7));
    group_.spawn(keep(receive_numbers(channel, &received), &done));
    loop_.run_ready();
    EXPECT_EQ(code_of(sent), Code::kOk);
    EXPECT_EQ(code_of(done), Code::kOk);
    ASSERT_EQ(received.size(), 100u);
    for (int i = 0; i < 100; ++i) EXPECT_EQ(received[static_cast<size_t>(i)], i);
}

TEST_F(WaitTest, ClosingAChannelEndsBothSides) {
    Channel<int> full(1), empty(1);
    ASSERT_TRUE(full.try_send(1));
    Slot sent, done, done_full;
    std::vector<int> received, received_full;
    group_.spawn(keep(full.send(2), &sent));
    group_.spawn(keep(receive_numbers(empty, &received), &done));
    loop_.run_ready();
    full.close();
    empty.close();
    loop_.run_ready();
    EXPECT_EQ(code_of(sent), Code::kFailedPrecondition);
    EXPECT_EQ(code_of(done), Code::kOk);
    EXPECT_FALSE(empty.try_send(1));
    group_.spawn(keep(receive_numbers(full, &received_full), &done_full));
    loop_.run_ready();
    EXPECT_THAT(received_full, ElementsAre(1)) << "what was sent before close() arrives";
}

TEST_F(WaitTest, CancellingAChannelsSides) {
    Channel<int> full(1), empty(1);
    ASSERT_TRUE(full.try_send(1));
    Slot sent, done;
    std::vector<int> received;
    group_.spawn(keep(full.send(2), &sent));
    group_.spawn(keep(receive_numbers(empty, &received), &done));
    loop_.run_ready();
    group_.cancel();
    loop_.run_ready();
    EXPECT_EQ(code_of(sent), Code::kCancelled);
    EXPECT_EQ(code_of(done), Code::kCancelled);
    EXPECT_EQ(full.size(), 1u);
}

TEST_F(WaitTest, ManySendersAndReceiversLoseNothing) {
    for (uint64_t seed = 0; seed < 50; ++seed) {
        SimLoop loop(seed);
        TaskGroup senders(loop), receivers(loop);
        Channel<int> channel(2);
        std::vector<int> received;
        Slot slots[8];
        for (int i = 0; i < 4; ++i) {
            receivers.spawn(keep(receive_numbers(channel, &received), &slots[i]));
            senders.spawn(keep(channel.send(i), &slots[4 + i]));
        }
        loop.run_ready();
        EXPECT_THAT(received, UnorderedElementsAre(0, 1, 2, 3)) << seed;
        channel.close();
        loop.run_ready();
        EXPECT_EQ(receivers.size() + senders.size(), 0u) << seed;
    }
}

// --- OneShot, Semaphore

TEST_F(WaitTest, OneShotWakesAllAndKeepsTheFirstValue) {
    OneShot<std::string> shot;
    std::optional<Result<std::string>> a, b, late;
    group_.spawn(keep_value(shot.wait(), &a));
    group_.spawn(keep_value(shot.wait(), &b));
    loop_.run_ready();
    EXPECT_FALSE(a.has_value());
    shot.set("one");
    shot.set("two");
    loop_.run_ready();
    group_.spawn(keep_value(shot.wait(), &late));
    loop_.run_ready();
    EXPECT_EQ(**a, "one");
    EXPECT_EQ(**b, "one");
    EXPECT_EQ(**late, "one");
}

TEST_F(WaitTest, OneShotIsCancelled) {
    OneShot<int> shot;
    std::optional<Result<int>> slot;
    group_.spawn(keep_value(shot.wait(), &slot));
    loop_.run_ready();
    group_.cancel();
    loop_.run_ready();
    EXPECT_EQ(slot->error().code(), Code::kCancelled);
}

Task<Result<void>> work_in_section(Loop& loop, Semaphore& semaphore, int* inside, int* most) {
    Result<void> acquired = co_await semaphore.acquire();
    if (!acquired.ok()) co_return std::move(acquired);
    ++*inside;
    *most = std::max(*most, *inside);
    Result<void> slept = co_await sleep_for(loop, seconds(1));
    --*inside;
    semaphore.release();
    co_return std::move(slept);
}

TEST_F(WaitTest, SemaphoreLimitsAndServesAll) {
    for (uint64_t seed = 0; seed < 20; ++seed) {
        SimLoop loop(seed);
        TaskGroup group(loop);
        Semaphore semaphore(3);
        int inside = 0, most = 0;
        Slot slots[20];
        for (Slot& slot : slots) {
            group.spawn(keep(work_in_section(loop, semaphore, &inside, &most), &slot));
        }
        EXPECT_TRUE(loop.run_until([&group] { return group.size() == 0; }, seconds(30)));
        EXPECT_EQ(most, 3);
        EXPECT_EQ(inside, 0);
    }
}

TEST_F(WaitTest, ACancelledAcquireTakesNoSlot) {
    Semaphore semaphore(1);
    TaskGroup other(loop_);
    Slot first, second, third;
    group_.spawn(keep(semaphore.acquire(), &first));
    loop_.run_ready();
    other.spawn(keep(semaphore.acquire(), &second));
    loop_.run_ready();
    group_.spawn(keep(semaphore.acquire(), &third));
    loop_.run_ready();
    other.cancel();
    loop_.run_ready();
    EXPECT_EQ(code_of(second), Code::kCancelled);
    semaphore.release();
    loop_.run_ready();
    EXPECT_EQ(code_of(third), Code::kOk);
}

// --- Operation: a callback interface

/// A source that completes when told to, as a socket does.
class Source {
 public:
    explicit Source(bool prompt_cancel) : prompt_cancel_(prompt_cancel) {}
    Task<Result<int>> read() {
        Operation<int> operation(
            [this](Operation<int>::Completion completion) { completion_ = std::move(completion); },
            [this] {
                ++cancels_count_;
                if (prompt_cancel_) complete(cancelled("operation aborted"));
            });
        Result<int> result = co_await operation;
        co_return std::move(result);
    }
    void complete(Result<int> result) { std::exchange(completion_, nullptr)(std::move(result)); }
    int cancels_count() const { return cancels_count_; }
    bool busy() const { return completion_ != nullptr; }

 private:
    bool prompt_cancel_;
    int cancels_count_ = 0;
    Operation<int>::Completion completion_;
};

TEST_F(WaitTest, OperationCompletes) {
    Source source(true);
    std::optional<Result<int>> slot;
    group_.spawn(keep_value(source.read(), &slot));
    loop_.run_ready();
    ASSERT_TRUE(source.busy());
    source.complete(9);
    group_.cancel();  // Too late: the result is there.
    loop_.run_ready();
    EXPECT_EQ(**slot, 9);
    EXPECT_EQ(source.cancels_count(), 0);
}

TEST_F(WaitTest, OperationFailsWithTheSourcesError) {
    Source source(true);
    std::optional<Result<int>> slot;
    group_.spawn(keep_value(source.read(), &slot));
    loop_.run_ready();
    source.complete(unavailable("connection reset"));
    loop_.run_ready();
    EXPECT_EQ(slot->error().code(), Code::kUnavailable);
}

TEST_F(WaitTest, OperationIsCancelledAtOnceOrWhenTheSourceLetsGo) {
    for (bool prompt : {true, false}) {
        TaskGroup group(loop_);
        Source source(prompt);
        std::optional<Result<int>> slot;
        group.spawn(keep_value(source.read(), &slot));
        loop_.run_ready();
        group.cancel();
        group.cancel();
        EXPECT_EQ(source.cancels_count(), 1);
        loop_.run_ready();
        if (!prompt) {
            EXPECT_FALSE(slot.has_value()) << "the source still owns the buffers";
            source.complete(unavailable("aborted"));
            loop_.run_ready();
        }
        ASSERT_TRUE(slot.has_value());
        EXPECT_EQ(slot->error().code(), Code::kCancelled);
    }
}

TEST_F(WaitTest, AnOperationThatSucceedsDespiteCancellationKeepsItsResult) {
    Source source(false);
    std::optional<Result<int>> slot;
    group_.spawn(keep_value(source.read(), &slot));
    loop_.run_ready();
    group_.cancel();
    source.complete(3);
    loop_.run_ready();
    EXPECT_EQ(**slot, 3) << "bytes that were read must not be lost";
}

TEST_F(WaitTest, AnOperationInACancelledScopeNeverStarts) {
    Source source(true);
    std::optional<Result<int>> slot;
    group_.cancel();
    group_.spawn(keep_value(source.read(), &slot));
    loop_.run_ready();
    EXPECT_FALSE(source.busy());
    EXPECT_EQ(slot->error().code(), Code::kCancelled);
}

// --- offload

Task<void> offload_value(Loop& loop, int* out) {
    std::function<int()> work = [] { return 6 * 7; };
    *out = co_await offload<int>(loop, std::move(work));
}

TEST_F(WaitTest, OffloadCompletesAlsoWhenCancelled) {
    int a = 0, b = 0;
    group_.spawn(offload_value(loop_, &a));
    loop_.run_one();
    group_.cancel();
    group_.spawn(offload_value(loop_, &b));  // Starts in a cancelled scope.
    loop_.run_ready();
    EXPECT_EQ(a, 42);
    EXPECT_EQ(b, 42);
}

// --- with_deadline

Task<Result<int>> slow(Loop& loop, Duration duration, int value) {
    Result<void> slept = co_await sleep_for(loop, duration);
    if (!slept.ok()) co_return std::move(slept).error();
    co_return value;
}

Task<Result<int>> fail_now(Error error) { co_return std::move(error); }

TEST_F(WaitTest, DeadlineReturnsTheValueTheErrorOrDeadlineExceeded) {
    std::optional<Result<int>> quick, late, failed;
    group_.spawn(keep_value(with_timeout(loop_, seconds(2), slow(loop_, seconds(1), 5)), &quick));
    group_.spawn(keep_value(with_timeout(loop_, seconds(2), slow(loop_, seconds(3), 5)), &late));
    group_.spawn(keep_value(with_timeout(loop_, seconds(2), fail_now(not_found("x"))), &failed));
    loop_.run_for(seconds(1));
    EXPECT_EQ(**quick, 5);
    EXPECT_EQ(failed->error().code(), Code::kNotFound);
    loop_.run_for(milliseconds(999));
    EXPECT_FALSE(late.has_value());
    loop_.run_for(milliseconds(1));
    ASSERT_TRUE(late.has_value());
    EXPECT_EQ(late->error().code(), Code::kDeadlineExceeded);
    EXPECT_EQ(loop_.timers_count(), 0u) << "no timer is left behind";
}

TEST_F(WaitTest, ADeadlineThatIsPastStillStartsTheTask) {
    std::optional<Result<int>> ready, waits;
    TimePoint past = loop_.now() - seconds(1);
    group_.spawn(keep_value(with_deadline(loop_, past, slow(loop_, seconds(0), 5)), &ready));
    group_.spawn(keep_value(with_deadline(loop_, past, slow(loop_, seconds(1), 5)), &waits));
    loop_.run_ready();
    EXPECT_EQ(**ready, 5);
    EXPECT_EQ(waits->error().code(), Code::kDeadlineExceeded);
}

TEST_F(WaitTest, NestedDeadlinesTheEarlierWins) {
    std::optional<Result<int>> outer_first, inner_first;
    group_.spawn(
        keep_value(with_timeout(loop_, seconds(1),
                                with_timeout(loop_, seconds(9), slow(loop_, seconds(20), 1))),
                   &outer_first));
    group_.spawn(
        keep_value(with_timeout(loop_, seconds(9),
                                with_timeout(loop_, seconds(1), slow(loop_, seconds(20), 1))),
                   &inner_first));
    loop_.run_for(seconds(1));
    ASSERT_TRUE(outer_first.has_value());
    EXPECT_EQ(outer_first->error().code(), Code::kDeadlineExceeded);
    ASSERT_TRUE(inner_first.has_value());
    EXPECT_EQ(inner_first->error().code(), Code::kDeadlineExceeded);
    EXPECT_EQ(loop_.timers_count(), 0u);
}

Task<Result<std::string>> retry_inside(Loop& loop) {
    Result<int> first = co_await with_timeout(loop, seconds(1), slow(loop, seconds(5), 1));
    if (first.ok()) co_return std::string("unexpected");
    Result<int> second = co_await with_timeout(loop, seconds(1), slow(loop, milliseconds(1), 2));
    if (!second.ok()) co_return std::move(second).error();
    co_return std::string("second");
}

TEST_F(WaitTest, AnInnerDeadlineLeavesTheOuterScopeUsable) {
    std::optional<Result<std::string>> slot;
    group_.spawn(keep_value(with_timeout(loop_, seconds(10), retry_inside(loop_)), &slot));
    loop_.run_for(seconds(2));
    ASSERT_TRUE(slot.has_value());
    EXPECT_EQ(**slot, "second");
}

TEST_F(WaitTest, CancellationReachesThroughDeadlines) {
    std::optional<Result<int>> slot, born_cancelled;
    group_.spawn(
        keep_value(with_timeout(loop_, seconds(5),
                                with_timeout(loop_, seconds(9), slow(loop_, seconds(20), 1))),
                   &slot));
    loop_.run_ready();
    group_.cancel();
    group_.spawn(
        keep_value(with_timeout(loop_, seconds(5), slow(loop_, seconds(1), 1)), &born_cancelled));
    loop_.run_ready();
    ASSERT_TRUE(slot.has_value());
    EXPECT_EQ(slot->error().code(), Code::kCancelled);
    ASSERT_TRUE(born_cancelled.has_value());
    EXPECT_EQ(born_cancelled->error().code(), Code::kCancelled);
    EXPECT_EQ(loop_.timers_count(), 0u);
}

// --- shielded

TEST_F(WaitTest, ShieldedRunsToItsEnd) {
    std::optional<Result<int>> slot, born_cancelled;
    group_.spawn(keep_value(shielded(loop_, slow(loop_, seconds(3), 8)), &slot));
    loop_.run_ready();
    group_.cancel();
    group_.spawn(keep_value(shielded(loop_, slow(loop_, seconds(3), 9)), &born_cancelled));
    loop_.run_for(seconds(2));
    EXPECT_FALSE(slot.has_value());
    loop_.run_for(seconds(1));
    ASSERT_TRUE(slot.has_value());
    EXPECT_EQ(**slot, 8);
    ASSERT_TRUE(born_cancelled.has_value());
    EXPECT_EQ(**born_cancelled, 9);
}

TEST_F(WaitTest, ShieldedUnderADeadlineAndADeadlineUnderShielded) {
    std::optional<Result<int>> kept, bounded;
    group_.spawn(keep_value(
        with_timeout(loop_, seconds(1), shielded(loop_, slow(loop_, seconds(3), 1))), &kept));
    group_.spawn(keep_value(
        shielded(loop_, with_timeout(loop_, seconds(1), slow(loop_, seconds(3), 1))), &bounded));
    loop_.run_ready();
    group_.cancel();
    loop_.run_for(seconds(1));
    ASSERT_TRUE(bounded.has_value());
    EXPECT_EQ(bounded->error().code(), Code::kDeadlineExceeded);
    EXPECT_FALSE(kept.has_value());
    loop_.run_for(seconds(2));
    ASSERT_TRUE(kept.has_value());
    EXPECT_EQ(**kept, 1);
}

Task<Result<int>> cancel_own_group(TaskGroup& group, Loop& loop) {
    group.cancel();
    Result<int> value = co_await slow(loop, seconds(1), 1);
    co_return std::move(value);
}

// The child cancels its own scope chain while its parent is still arming the wait for it.
TEST_F(WaitTest, CancellingOneselfFromWithinADeadline) {
    std::optional<Result<int>> slot;
    group_.spawn(
        keep_value(with_timeout(loop_, seconds(5), cancel_own_group(group_, loop_)), &slot));
    loop_.run_ready();
    ASSERT_TRUE(slot.has_value());
    EXPECT_EQ(slot->error().code(), Code::kCancelled);
}

}  // namespace
}  // namespace basalt::async
