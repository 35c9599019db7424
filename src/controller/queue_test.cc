#include "controller/queue.h"

#include <gtest/gtest.h>

namespace basalt::controller {
namespace {

using namespace std::chrono_literals;
using Verdict = Queue::Verdict;

class QueueTest : public ::testing::Test {
 protected:
    std::string pop() {
        auto next = queue.pop(now);
        if (auto* popped = std::get_if<Queue::Popped>(&next)) return popped->key.name;
        return "";
    }
    std::optional<Duration> wait() {
        auto next = queue.pop(now);
        auto* wait = std::get_if<Queue::Wait>(&next);
        if (wait == nullptr || !wait->when) return std::nullopt;
        return *wait->when - now;
    }
    void add(const char* name, Priority priority = Priority::kNormal, Duration delay = 0s) {
        EXPECT_TRUE(queue.add(Key("n", name), priority, now + delay, now));
    }
    void done(const char* name, Verdict verdict = Verdict::kForget,
              std::optional<Duration> delay = {}) {
        queue.done(Key("n", name), verdict, delay, now, 0);
    }
    Queue queue;
    TimePoint now{1h};
};

TEST_F(QueueTest, DeduplicatesAndKeepsOrder) {
    add("a");
    add("b");
    add("a");
    EXPECT_EQ(pop(), "a");
    EXPECT_EQ(pop(), "b");
    EXPECT_EQ(pop(), "");
    done("a");
    done("b");
    EXPECT_EQ(queue.size(), 0u);
}

TEST_F(QueueTest, HeldKeyIsHandedOutOnlyOnce) {
    add("a");
    EXPECT_EQ(pop(), "a");
    add("a");
    EXPECT_EQ(pop(), "");
    done("a");
    EXPECT_EQ(pop(), "a");
    done("a");
    EXPECT_EQ(pop(), "");
}

TEST_F(QueueTest, HigherPriorityFirst) {
    add("low", Priority::kLow);
    add("normal");
    add("high", Priority::kHigh);
    add("low2", Priority::kLow);
    add("low2", Priority::kHigh);  // Raised.
    EXPECT_EQ(pop(), "high");
    EXPECT_EQ(pop(), "low2");
    EXPECT_EQ(pop(), "normal");
    EXPECT_EQ(pop(), "low");
}

TEST_F(QueueTest, DelaysAndTakesTheEarlierTime) {
    add("a", Priority::kNormal, 10s);
    EXPECT_EQ(pop(), "");
    EXPECT_EQ(wait(), Duration(10s));
    add("a", Priority::kNormal, 20s);
    EXPECT_EQ(wait(), Duration(10s));
    add("a", Priority::kNormal, 5s);
    EXPECT_EQ(wait(), Duration(5s));
    now += 5s;
    EXPECT_EQ(pop(), "a");
    done("a", Verdict::kForget, 7s);
    EXPECT_EQ(wait(), Duration(7s));
    now += 7s;
    EXPECT_EQ(pop(), "a");
}

TEST_F(QueueTest, BacksOffByKey) {
    Duration last{0};
    for (int i = 0; i < 25; ++i) {
        add("a", Priority::kNormal);
        EXPECT_EQ(pop(), "a");
        done("a", Verdict::kRetry);
        const std::optional<Duration> delay = wait();
        ASSERT_TRUE(delay.has_value());
        EXPECT_GE(*delay, last);
        EXPECT_LE(*delay, 1000s);
        last = *delay;
        now += *delay;
        EXPECT_EQ(pop(), "a");
        done("a", Verdict::kRetry);
        now += 1000s;
        EXPECT_EQ(pop(), "a");
        done("a", Verdict::kRetry);
    }
    EXPECT_EQ(last, Duration(1000s));
    add("a");
    EXPECT_EQ(pop(), "a");
    done("a");
    EXPECT_EQ(queue.retries_of(Key("n", "a")), 0);
    EXPECT_EQ(queue.size(), 0u);
}

TEST_F(QueueTest, OldNewsDoesNotCutARetryShortButAChangeDoes) {
    for (int i = 0; i < 12; ++i) {
        add("a");
        EXPECT_EQ(pop(), "a");
        done("a", Verdict::kRetry);
    }
    add("a", Priority::kLow);
    EXPECT_EQ(pop(), "");
    add("a", Priority::kNormal);
    EXPECT_EQ(pop(), "a");
    done("a", Verdict::kDrop);
    EXPECT_EQ(queue.size(), 0u) << "a terminal error waits for a change";
}

TEST_F(QueueTest, LimitsRetriesOfAllKeys) {
    for (int i = 0; i < 300; ++i) {
        const std::string name = std::to_string(i);
        add(name.c_str());
        EXPECT_EQ(pop(), name);
        done(name.c_str(), Verdict::kRetry);
    }
    now += 1s;
    EXPECT_NEAR(static_cast<double>(queue.ready_count(now)), 110, 2);
    now += 10s;
    EXPECT_NEAR(static_cast<double>(queue.ready_count(now)), 210, 2);
}

// A thousand keys that fail do not put off another's retry for longer than a minute.
TEST_F(QueueTest, OthersFailuresPutOffARetryForABoundedTime) {
    for (int i = 0; i <= 1000; ++i) {
        const std::string name = std::to_string(i);
        add(name.c_str());
        EXPECT_EQ(pop(), name);
        done(name.c_str(), Verdict::kRetry);
    }
    EXPECT_LT(queue.ready_count(now + 50s), 700u);
    EXPECT_EQ(queue.ready_count(now + 61s), 1001u);
}

// A key that changes all the time and fails is tried for its changes: no retry that others would
// have to wait for.
TEST_F(QueueTest, FailuresOfAKeyThatChangesCostOthersNothing) {
    for (int i = 0; i < 1000; ++i) {
        add("busy");
        EXPECT_EQ(pop(), "busy");
        add("busy");
        done("busy", Verdict::kRetry);
    }
    add("other");
    EXPECT_EQ(pop(), "busy");
    EXPECT_EQ(pop(), "other");
    done("other", Verdict::kRetry);
    now += 1s;
    EXPECT_EQ(pop(), "other");
}

TEST_F(QueueTest, RetryAfterIsTheLeastDelay) {
    add("a");
    EXPECT_EQ(pop(), "a");
    done("a", Verdict::kRetry, 3s);
    EXPECT_EQ(wait(), Duration(3s));
}

TEST_F(QueueTest, IsBounded) {
    QueueOptions options;
    options.items_count_max = 2;
    queue = Queue(options);
    add("a");
    add("b");
    EXPECT_FALSE(queue.add(Key("n", "c"), Priority::kNormal, now, now));
    add("a");
}

}  // namespace
}  // namespace basalt::controller
