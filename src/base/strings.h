// The few string helpers the standard library lacks. ASCII only, no locale.
#pragma once

#include <algorithm>
#include <charconv>
#include <concepts>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace basalt {

/// "a,,b" gives "a", "", "b"; an empty text gives one empty part. Views into `text`.
std::vector<std::string_view> split(std::string_view text, char separator);
/// Without leading and trailing space, tab, CR and LF.
std::string_view trim(std::string_view text) noexcept;
std::string to_lower(std::string_view text);
bool equal_ignore_case(std::string_view a, std::string_view b) noexcept;
std::string replace_all(std::string_view text, std::string_view from, std::string_view to);
/// Before and after the first `separator`; nothing when there is none. Views into `text`.
std::optional<std::pair<std::string_view, std::string_view>> cut(std::string_view text,
                                                                 std::string_view separator);

template <class Range>
std::string join(const Range& parts, std::string_view separator) {
    std::string joined;
    bool first = true;
    for (const auto& part : parts) {
        if (!first) joined += separator;
        first = false;
        joined += part;
    }
    return joined;
}

/// The whole text as a decimal number, or nothing: no spaces, no "+", no overflow.
template <std::integral T>
std::optional<T> parse_number(std::string_view text) noexcept {
    T number{};
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return number;
}

}  // namespace basalt
