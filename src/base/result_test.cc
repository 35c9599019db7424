#include "base/result.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>

namespace basalt {
namespace {

Result<int> half(int number) {
    if (number % 2 != 0) return invalid_argument("odd");
    return number / 2;
}

Result<int> quarter(int number) {
    BASALT_ASSIGN(const int once, half(number));
    BASALT_ASSIGN(const int twice, half(once));
    return twice;
}

Result<void> check(int number) {
    BASALT_TRY(half(number));
    return {};
}

TEST(Result, CarriesValueOrError) {
    EXPECT_EQ(quarter(12).value(), 3);
    EXPECT_EQ(quarter(6).error().code(), Code::kInvalidArgument);
    EXPECT_TRUE(check(2).ok());
    EXPECT_FALSE(check(1));
    EXPECT_EQ(half(3).value_or(-1), -1);
    EXPECT_EQ(*half(4), 2);
}

TEST(Result, MovesValues) {
    Result<std::unique_ptr<int>> owned = std::make_unique<int>(7);
    std::unique_ptr<int> taken = std::move(owned).value();
    EXPECT_EQ(*taken, 7);
    const Result<std::string> converted = "text";
    EXPECT_EQ(converted->size(), 4u);
}

TEST(Result, Context) {
    const Result<int> failed = half(1).context("halve 1");
    EXPECT_EQ(failed.error().message(), "halve 1: odd");
    EXPECT_EQ(half(2).context("unused").value(), 1);
    EXPECT_EQ(check(3).context("check 3").error().message(), "check 3: odd");
}

TEST(ResultDeathTest, ValueOfAnErrorEndsTheProcess) {
    EXPECT_DEATH({ half(1).value(); }, "assertion failed: ok\\(\\)");
    EXPECT_DEATH({ (void)half(2).error(); }, "assertion failed: !ok\\(\\)");
}

}  // namespace
}  // namespace basalt
