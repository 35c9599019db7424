#include "controlplane/start_slots.h"

#include <gtest/gtest.h>

namespace basalt::controlplane {
namespace {

const TimePoint kStart{std::chrono::hours(1)};

TEST(StartSlots, LimitHowManyStart) {
    StartSlots slots(2);
    EXPECT_TRUE(slots.acquire("a/1", "a", kStart));
    EXPECT_TRUE(slots.acquire("a/2", "a", kStart));
    EXPECT_FALSE(slots.acquire("a/3", "a", kStart));
    EXPECT_TRUE(slots.acquire("a/1", "a", kStart)) << "who holds a slot keeps it";
    EXPECT_EQ(slots.position("a/3"), 1u);
    slots.release("a/1");
    EXPECT_EQ(slots.take_granted(kStart), std::vector<std::string>{"a/3"});
    EXPECT_TRUE(slots.acquire("a/3", "a", kStart));
}

TEST(StartSlots, AreFairOverNamespaces) {
    StartSlots slots(1);
    EXPECT_TRUE(slots.acquire("big/0", "big", kStart));
    for (int i = 1; i < 5; ++i)
        EXPECT_FALSE(slots.acquire("big/" + std::to_string(i), "big", kStart));
    EXPECT_FALSE(slots.acquire("small/0", "small", kStart));
    slots.set_capacity(2);
    EXPECT_EQ(slots.take_granted(kStart), std::vector<std::string>{"small/0"})
        << "the namespace without a slot comes first";
    EXPECT_EQ(slots.position("big/4"), 4u);
}

TEST(StartSlots, ReturnAfterALimit) {
    StartSlots slots(1);
    EXPECT_TRUE(slots.acquire("a/broken", "a", kStart));
    EXPECT_FALSE(slots.acquire("a/good", "a", kStart));
    TimePoint when;
    ASSERT_TRUE(slots.next_expiry(when));
    EXPECT_EQ(when, kStart + StartSlots::kHoldMax);
    EXPECT_EQ(slots.take_granted(when), std::vector<std::string>{"a/good"});
}

TEST(StartSlots, ForgetWhoGivesUp) {
    StartSlots slots(1);
    EXPECT_TRUE(slots.acquire("a/1", "a", kStart));
    EXPECT_FALSE(slots.acquire("a/2", "a", kStart));
    slots.release("a/2");
    slots.release("a/1");
    EXPECT_TRUE(slots.take_granted(kStart).empty());
    EXPECT_EQ(slots.waiting_count(), 0u);
    EXPECT_EQ(slots.holding_count(), 0u);
}

}  // namespace
}  // namespace basalt::controlplane
