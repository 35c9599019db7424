#include "base/secret.h"

#include <string>

#include <gtest/gtest.h>

namespace basalt {
namespace {

TEST(Secret, OwnsAndCompares) {
    std::string source = "token of more than a small buffer";
    Secret secret(std::move(source));
    EXPECT_TRUE(source.empty());  // NOLINT: wiped by contract
    EXPECT_EQ(secret.reveal(), "token of more than a small buffer");
    Secret copy = secret;
    EXPECT_EQ(copy, secret);
    const Secret moved = std::move(copy);
    EXPECT_TRUE(copy.empty());  // NOLINT: empty by contract
    EXPECT_EQ(moved, secret);
    EXPECT_FALSE(moved == Secret("other"));
    const Secret& alias = secret;
    secret = alias;
    EXPECT_EQ(secret.size(), 33u);
    secret = Secret();
    EXPECT_TRUE(secret.empty());
}

TEST(Secret, Wipes) {
    char buffer[] = "secret";
    secure_wipe(buffer, sizeof buffer);
    for (const char c : buffer) EXPECT_EQ(c, '\0');
    EXPECT_TRUE(constant_time_equal("abc", "abc"));
    EXPECT_FALSE(constant_time_equal("abc", "abd"));
    EXPECT_FALSE(constant_time_equal("abc", "ab"));
}

}  // namespace
}  // namespace basalt
