#include "controller/conditions.h"

#include <gtest/gtest.h>

namespace basalt::controller {
namespace {

using data::Value;
using namespace std::chrono_literals;

TEST(Conditions, TransitionTimeMovesOnlyWithTheStatus) {
    Value status;
    const WallTime first(1'700'000'000s);
    EXPECT_TRUE(set_condition(status, Condition("Ready", kFalse, "Waiting", "for a", 1), first));
    EXPECT_FALSE(
        set_condition(status, Condition("Ready", kFalse, "Waiting", "for a", 1), first + 1min));
    EXPECT_TRUE(
        set_condition(status, Condition("Ready", kFalse, "Waiting", "for b", 2), first + 1min));
    EXPECT_EQ(find_condition(status, "Ready")["lastTransitionTime"].as_string(),
              format_rfc3339(first));
    EXPECT_EQ(find_condition(status, "Ready")["observedGeneration"].as_int(), 2);
    EXPECT_FALSE(is_condition_true(status, "Ready"));
    EXPECT_TRUE(set_condition(status, Condition("Ready", kTrue, "Up"), first + 2min));
    EXPECT_EQ(find_condition(status, "Ready")["lastTransitionTime"].as_string(),
              format_rfc3339(first + 2min));
    EXPECT_TRUE(is_condition_true(status, "Ready"));
    EXPECT_EQ(status["conditions"].size(), 1u);
    EXPECT_TRUE(remove_condition(status, "Ready"));
    EXPECT_FALSE(remove_condition(status, "Ready"));
    EXPECT_TRUE(find_condition(status, "Ready").is_null());
}

TEST(Conditions, LongMessagesAreCutBetweenCharacters) {
    Value status;
    std::string message;
    while (message.size() < 40'000) message += "\u00e4\u00f6\u00fc";
    set_condition(status, Condition("A", kTrue, "", message), WallTime());
    const std::string cut = find_condition(status, "A")["message"].str();
    EXPECT_LE(cut.size(), 32'768u);
    EXPECT_EQ(cut.size() % 2, 0u);
    EXPECT_FALSE(find_condition(status, "A")["reason"].as_string().empty());
}

}  // namespace
}  // namespace basalt::controller
