#include "base/time.h"

#include <gtest/gtest.h>

#include <limits>

namespace basalt {
namespace {

using namespace std::chrono;

WallTime at(int64_t milliseconds_since_epoch) {
    return WallTime(milliseconds(milliseconds_since_epoch));
}

TEST(Rfc3339, Formats) {
    EXPECT_EQ(format_rfc3339(at(0)), "1970-01-01T00:00:00Z");
    EXPECT_EQ(format_rfc3339(at(1709208000123)), "2024-02-29T12:00:00Z");
    EXPECT_EQ(format_rfc3339_micro(at(1709208000123)), "2024-02-29T12:00:00.123000Z");
    EXPECT_EQ(format_rfc3339_micro(at(-1)), "1969-12-31T23:59:59.999000Z");
    EXPECT_EQ(format_rfc3339(WallTime::max()), "9999-12-31T23:59:59Z");
    EXPECT_EQ(format_rfc3339(WallTime::min()), "0000-01-01T00:00:00Z");
}

TEST(Rfc3339, Parses) {
    EXPECT_EQ(parse_rfc3339("1970-01-01T00:00:00Z").value(), at(0));
    EXPECT_EQ(parse_rfc3339("2024-02-29T12:00:00.123456789Z").value(), at(1709208000123));
    EXPECT_EQ(parse_rfc3339("2024-02-29t14:30:00.1+02:30").value(), at(1709208000100));
    EXPECT_EQ(parse_rfc3339("2024-02-29T07:00:00-05:00").value(), at(1709208000000));
    EXPECT_EQ(parse_rfc3339("2016-12-31T23:59:60Z").value(),
              parse_rfc3339("2017-01-01T00:00:00Z").value());
    for (const char* text :
         {"0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2000-02-29T23:59:59Z"}) {
        EXPECT_EQ(format_rfc3339(parse_rfc3339(text).value()), text);
    }
}

TEST(Rfc3339, Refuses) {
    for (const char* text :
         {"", "2024-02-29", "2024-02-30T00:00:00Z", "2023-02-29T00:00:00Z", "2024-13-01T00:00:00Z",
          "2024-01-01T24:00:00Z", "2024-01-01T00:60:00Z", "2024-01-01T00:00:61Z",
          "2024-01-01T00:00:00", "2024-01-01 00:00:00Z", "2024-01-01T00:00:00.Z",
          "2024-01-01T00:00:00Zx", "2024-01-01T00:00:00+0100", "2024-01-01T00:00:00+24:00",
          "24-01-01T00:00:00Z", "2024-1-1T00:00:00Z", "2024-01-01T00:00:00+"}) {
        EXPECT_EQ(parse_rfc3339(text).ok(), false) << text;
    }
}

TEST(GoDuration, Formats) {
    const std::pair<Duration, const char*> cases[] = {
        {0ns, "0s"},
        {1ns, "1ns"},
        {1100ns, "1.1µs"},
        {2200us, "2.2ms"},
        {3300ms, "3.3s"},
        {245s, "4m5s"},
        {245001ms, "4m5.001s"},
        {18367001ms, "5h6m7.001s"},
        {480000000001ns, "8m0.000000001s"},
        {90min, "1h30m0s"},
        {-1500ms, "-1.5s"},
        {Duration::max(), "2562047h47m16.854775807s"},
        {Duration::min(), "-2562047h47m16.854775808s"},
    };
    for (const auto& [duration, text] : cases) {
        EXPECT_EQ(format_duration(duration), text);
        EXPECT_EQ(parse_duration(text).value(), duration) << text;
    }
}

TEST(GoDuration, Parses) {
    const std::pair<const char*, Duration> cases[] = {
        {"0", 0ns},
        {"5s", 5s},
        {"+5s", 5s},
        {"-0", 0ns},
        {"1h30m", 90min},
        {"1.5h", 90min},
        {".5s", 500ms},
        {"5.s", 5s},
        {"10.5s4m", 250500ms},
        {"12us", 12us},
        {"12\u03bcs", 12us},
        {"0.3333333333333333333h", 1200s},
        {"0.100000000000000000000h", 6min},
        {"39h9m14.425s", 140954425ms},
        {"1ms2ns", 1000002ns},
    };
    for (const auto& [text, duration] : cases)
        EXPECT_EQ(parse_duration(text).value(), duration) << text;
}

TEST(GoDuration, Refuses) {
    for (const char* text :
         {"", "3", "-", "+", "s", ".", "-.", ".s", "1x", "1h ", " 1h", "1 h", "--1s",
          "9223372036854775808ns", "9223372036854775.808us1ns", "2562048h",
          "9999999999999999999999s", "1h-1m", "0.9223372036854775807"}) {
        EXPECT_FALSE(parse_duration(text).ok()) << text;
    }
    EXPECT_EQ(parse_duration("-9223372036854775808ns").value(), Duration::min());
}

TEST(WallDuration, ReachesToTheLastDate) {
    const WallTime last = parse_rfc3339("9999-12-31T23:59:59Z").value();
    const WallTime first = parse_rfc3339("0001-01-01T00:00:00Z").value();
    const Duration margin = 24h + 1us;
    EXPECT_EQ(wall_duration(margin), 24h);
    EXPECT_EQ(format_rfc3339(last - wall_duration(margin)), "9999-12-30T23:59:59Z");
    EXPECT_GT(last - first, wall_duration(margin));
    EXPECT_LT(first + wall_duration(margin), last);
}

}  // namespace
}  // namespace basalt
