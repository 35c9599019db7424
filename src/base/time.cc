#include "base/time.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>

namespace basalt {
namespace {

using namespace std::chrono;

constexpr WallTime kFirst = sys_days(year(0) / January / 1);
constexpr WallTime kLast = sys_days(year(9999) / December / 31) + 24h - 1ms;

struct Parts {
    int year;
    unsigned month, day;
    int hour, minute, second, millisecond;
};

Parts take_apart(WallTime time) {
    time = std::clamp(time, kFirst, kLast);
    const auto days = floor<std::chrono::days>(time);
    const year_month_day date(days);
    const hh_mm_ss clock(time - days);
    return {static_cast<int>(date.year()),
            static_cast<unsigned>(date.month()),
            static_cast<unsigned>(date.day()),
            static_cast<int>(clock.hours().count()),
            static_cast<int>(clock.minutes().count()),
            static_cast<int>(clock.seconds().count()),
            static_cast<int>(clock.subseconds().count())};
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// Takes `count` digits off the front.
std::optional<int> take_digits(std::string_view& text, size_t count) {
    if (text.size() < count) return std::nullopt;
    int number = 0;
    for (size_t i = 0; i < count; ++i) {
        if (!is_digit(text[i])) return std::nullopt;
        number = number * 10 + (text[i] - '0');
    }
    text.remove_prefix(count);
    return number;
}

bool take(std::string_view& text, char upper, char lower = '\0') {
    if (text.empty() || (text[0] != upper && (lower == '\0' || text[0] != lower))) return false;
    text.remove_prefix(1);
    return true;
}

std::optional<minutes> take_offset(std::string_view& text) {
    if (take(text, 'Z', 'z')) return minutes(0);
    const bool negative = !text.empty() && text[0] == '-';
    if (!take(text, '+', '-')) return std::nullopt;
    const auto hour = take_digits(text, 2);
    if (!hour || *hour > 23 || !take(text, ':')) return std::nullopt;
    const auto minute = take_digits(text, 2);
    if (!minute || *minute > 59) return std::nullopt;
    const minutes offset(*hour * 60 + *minute);
    return negative ? -offset : offset;
}

std::optional<WallTime> parse(std::string_view text) {
    const auto year_number = take_digits(text, 4);
    if (!year_number || !take(text, '-')) return std::nullopt;
    const auto month_number = take_digits(text, 2);
    if (!month_number || !take(text, '-')) return std::nullopt;
    const auto day_number = take_digits(text, 2);
    if (!day_number || !take(text, 'T', 't')) return std::nullopt;
    const auto hour = take_digits(text, 2);
    if (!hour || *hour > 23 || !take(text, ':')) return std::nullopt;
    const auto minute = take_digits(text, 2);
    if (!minute || *minute > 59 || !take(text, ':')) return std::nullopt;
    const auto second = take_digits(text, 2);
    if (!second || *second > 60) return std::nullopt;
    int millisecond = 0;
    if (take(text, '.')) {
        if (text.empty() || !is_digit(text[0])) return std::nullopt;
        for (int weight = 100; !text.empty() && is_digit(text[0]); weight /= 10) {
            millisecond += (text[0] - '0') * weight;
            text.remove_prefix(1);
        }
    }
    const auto offset = take_offset(text);
    if (!offset || !text.empty()) return std::nullopt;
    const year_month_day date(year(*year_number), month(static_cast<unsigned>(*month_number)),
                              day(static_cast<unsigned>(*day_number)));
    if (!date.ok()) return std::nullopt;
    return WallTime(sys_days(date)) + hours(*hour) + minutes(*minute) + seconds(*second) +
           milliseconds(millisecond) - *offset;
}

/// Nanoseconds of a unit of Go's durations, longest match first; 0 for none.
uint64_t take_unit(std::string_view& text) {
    struct Unit {
        std::string_view name;
        uint64_t nanoseconds;
    };
    static constexpr Unit kUnits[] = {
        {"ns", 1},
        {"us", 1'000},
        {"\xC2\xB5s", 1'000},  // micro sign
        {"\xCE\xBCs", 1'000},  // Greek mu
        {"ms", 1'000'000},
        {"s", 1'000'000'000},
        {"m", 60'000'000'000},
        {"h", 3'600'000'000'000},
    };
    for (const Unit& unit : kUnits) {
        if (text.substr(0, unit.name.size()) == unit.name) {
            text.remove_prefix(unit.name.size());
            return unit.nanoseconds;
        }
    }
    return 0;
}

constexpr uint64_t kMaxMagnitude = uint64_t{1} << 63;

/// One "1.5h"; nothing for bad syntax or overflow.
std::optional<uint64_t> take_component(std::string_view& text) {
    uint64_t whole = 0;
    bool any = false;
    while (!text.empty() && is_digit(text[0])) {
        const auto digit = static_cast<uint64_t>(text[0] - '0');
        if (whole > (kMaxMagnitude - digit) / 10) return std::nullopt;
        whole = whole * 10 + digit;
        text.remove_prefix(1);
        any = true;
    }
    uint64_t fraction = 0;
    double scale = 1;
    if (take(text, '.')) {
        while (!text.empty() && is_digit(text[0])) {
            // Further digits are far below a nanosecond.
            if (fraction < kMaxMagnitude / 10 - 1) {
                fraction = fraction * 10 + static_cast<uint64_t>(text[0] - '0');
                scale *= 10;
            }
            text.remove_prefix(1);
            any = true;
        }
    }
    if (!any) return std::nullopt;
    const uint64_t unit = take_unit(text);
    if (unit == 0 || whole > kMaxMagnitude / unit) return std::nullopt;
    // In double precision as Go does it, so that 0.3333333333333333333h is 20 minutes.
    const auto part =
        static_cast<uint64_t>(static_cast<double>(fraction) * (static_cast<double>(unit) / scale));
    if (whole * unit > kMaxMagnitude - part) return std::nullopt;
    return whole * unit + part;
}

std::string with_fraction(uint64_t whole, uint64_t fraction, int digits, std::string_view unit) {
    if (fraction == 0) return fmt::format("{}{}", whole, unit);
    std::string text = fmt::format("{}.{:0{}}", whole, fraction, digits);
    while (text.back() == '0') text.pop_back();
    text += unit;
    return text;
}

}  // namespace

std::string format_rfc3339(WallTime time) {
    const Parts p = take_apart(time);
    return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", p.year, p.month, p.day, p.hour,
                       p.minute, p.second);
}

std::string format_rfc3339_micro(WallTime time) {
    const Parts p = take_apart(time);
    return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}000Z", p.year, p.month, p.day,
                       p.hour, p.minute, p.second, p.millisecond);
}

Result<WallTime> parse_rfc3339(std::string_view text) {
    if (auto time = parse(text)) return *time;
    return invalid_argument("not an RFC 3339 time");
}

std::string format_duration(Duration duration) {
    const int64_t count = duration.count();
    uint64_t rest =
        count < 0 ? uint64_t{0} - static_cast<uint64_t>(count) : static_cast<uint64_t>(count);
    const std::string_view sign = count < 0 ? "-" : "";
    if (rest == 0) return "0s";
    if (rest < 1'000) return fmt::format("{}{}ns", sign, rest);
    if (rest < 1'000'000)
        return fmt::format("{}{}", sign, with_fraction(rest / 1'000, rest % 1'000, 3, "µs"));
    if (rest < 1'000'000'000) {
        return fmt::format("{}{}", sign,
                           with_fraction(rest / 1'000'000, rest % 1'000'000, 6, "ms"));
    }
    const uint64_t fraction = rest % 1'000'000'000;
    rest /= 1'000'000'000;
    const std::string seconds_text = with_fraction(rest % 60, fraction, 9, "s");
    rest /= 60;
    if (rest == 0) return fmt::format("{}{}", sign, seconds_text);
    if (rest < 60) return fmt::format("{}{}m{}", sign, rest, seconds_text);
    return fmt::format("{}{}h{}m{}", sign, rest / 60, rest % 60, seconds_text);
}

Result<Duration> parse_duration(std::string_view text) {
    const Error bad = invalid_argument("not a duration like \"1h30m\" or \"250ms\"");
    std::string_view rest = text;
    const bool negative = !rest.empty() && rest[0] == '-';
    take(rest, '+', '-');
    if (rest == "0") return Duration(0);
    if (rest.empty()) return bad;
    uint64_t total = 0;
    while (!rest.empty()) {
        const auto component = take_component(rest);
        if (!component || *component > kMaxMagnitude - total) return bad;
        total += *component;
    }
    if (!negative && total == kMaxMagnitude) return bad;
    return Duration(static_cast<int64_t>(negative ? uint64_t{0} - total : total));
}

}  // namespace basalt
