#include "base/strings.h"

#include <gtest/gtest.h>

namespace basalt {
namespace {

using Parts = std::vector<std::string_view>;

TEST(Strings, SplitAndJoin) {
    EXPECT_EQ(split("a,,b", ','), (Parts{"a", "", "b"}));
    EXPECT_EQ(split("", ','), Parts{""});
    EXPECT_EQ(split(",", ','), (Parts{"", ""}));
    EXPECT_EQ(join(Parts{"a", "b"}, ", "), "a, b");
    EXPECT_EQ(join(std::vector<std::string>{}, ","), "");
    EXPECT_EQ(cut("k=v=w", "=").value(),
              (std::pair<std::string_view, std::string_view>("k", "v=w")));
    EXPECT_FALSE(cut("k", "="));
}

TEST(Strings, TrimCaseAndReplace) {
    EXPECT_EQ(trim(" \ta b\r\n"), "a b");
    EXPECT_EQ(trim(" \n"), "");
    EXPECT_EQ(to_lower("AbÇ"), "abÇ");
    EXPECT_TRUE(equal_ignore_case("Content-TYPE", "content-type"));
    EXPECT_FALSE(equal_ignore_case("a", "ab"));
    EXPECT_EQ(replace_all("a-b-", "-", "--"), "a--b--");
    EXPECT_EQ(replace_all("ab", "", "x"), "ab");
}

TEST(Strings, Numbers) {
    EXPECT_EQ(parse_number<int>("-12"), -12);
    EXPECT_EQ(parse_number<uint16_t>("65535"), 65535);
    for (const char* bad : {"", "+1", " 1", "1 ", "1x", "65536", "-1"}) {
        EXPECT_FALSE(parse_number<uint16_t>(bad)) << bad;
    }
}

}  // namespace
}  // namespace basalt
