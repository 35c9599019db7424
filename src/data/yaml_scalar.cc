#include "data/yaml_scalar.h"

#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <optional>

namespace basalt::data {
namespace {

constexpr std::string_view kTrue[] = {"y",    "Y",    "yes", "Yes", "YES", "true",
                                      "True", "TRUE", "on",  "On",  "ON"};
constexpr std::string_view kFalse[] = {"n",     "N",     "no",  "No",  "NO", "false",
                                       "False", "FALSE", "off", "Off", "OFF"};
constexpr std::string_view kNull[] = {"", "~", "null", "Null", "NULL"};
constexpr std::string_view kNan[] = {".nan", ".NaN", ".NAN"};
constexpr std::string_view kInfinity[] = {".inf", ".Inf", ".INF"};

template <size_t N>
bool is_one_of(std::string_view text, const std::string_view (&words)[N]) {
    for (const std::string_view word : words) {
        if (text == word) return true;
    }
    return false;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// [-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?
bool looks_like_double(std::string_view text) {
    size_t at = 0;
    const auto digits = [&] {
        const size_t start = at;
        while (at < text.size() && is_digit(text[at])) ++at;
        return at - start;
    };
    if (at < text.size() && (text[at] == '+' || text[at] == '-')) ++at;
    const size_t whole = digits();
    if (at < text.size() && text[at] == '.') {
        ++at;
        if (digits() == 0 && whole == 0) return false;
    } else if (whole == 0) {
        return false;
    }
    if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
        ++at;
        if (at < text.size() && (text[at] == '+' || text[at] == '-')) ++at;
        if (digits() == 0) return false;
    }
    return at == text.size();
}

std::optional<double> to_double(std::string_view text) {
    if (!looks_like_double(text)) return std::nullopt;
    if (text[0] == '+') text.remove_prefix(1);
    double number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error == std::errc::result_out_of_range) {
        // Too small is zero, too large is no number: then it stays text.
        number = std::strtod(std::string(text).c_str(), nullptr);
        if (std::isinf(number)) return std::nullopt;
    }
    return number;
}

/// Decimal, 0x, 0o, 0b and 0 octal, with a sign. Above int64 up to uint64 without one.
std::optional<Value> to_integer(std::string_view text) {
    const bool negative = text[0] == '-';
    const bool has_sign = negative || text[0] == '+';
    if (has_sign) text.remove_prefix(1);
    int base = 10;
    if (text.size() > 1 && text[0] == '0') {
        const char mark = static_cast<char>(text[1] | 0x20);
        base = mark == 'x' ? 16 : mark == 'b' ? 2 : 8;
        text.remove_prefix(mark == 'x' || mark == 'b' || mark == 'o' ? 2 : 1);
    }
    if (text.empty() || text[0] == '-') return std::nullopt;
    uint64_t magnitude = 0;
    const auto [end, error] =
        std::from_chars(text.data(), text.data() + text.size(), magnitude, base);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    constexpr uint64_t kMaxInt = std::numeric_limits<int64_t>::max();
    if (negative && magnitude > kMaxInt + 1) return std::nullopt;
    if (has_sign && !negative && magnitude > kMaxInt) return std::nullopt;
    if (negative) return Value(static_cast<int64_t>(uint64_t{0} - magnitude));
    return Value(magnitude);
}

Value resolve_number(std::string_view text) {
    std::string plain;
    for (const char c : text) {
        if (c != '_') plain += c;
    }
    if (plain.empty()) return Value(text);
    if (const auto integer = to_integer(plain)) return *integer;
    if (const auto number = to_double(plain)) return Value(*number);
    return Value(text);
}

}  // namespace

Value resolve_plain_scalar(std::string_view text) {
    if (text.empty()) return {};
    constexpr double kInf = std::numeric_limits<double>::infinity();
    switch (text[0]) {
        case '+':
        case '-':
            if (is_one_of(text.substr(1), kInfinity)) return text[0] == '-' ? -kInf : kInf;
            return resolve_number(text);
        case '.':
            if (is_one_of(text, kInfinity)) return kInf;
            if (is_one_of(text, kNan)) return std::numeric_limits<double>::quiet_NaN();
            if (const auto number = to_double(text)) return Value(*number);
            return Value(text);
        default: break;
    }
    if (is_digit(text[0])) return resolve_number(text);
    if (text.size() > 5) return Value(text);
    if (is_one_of(text, kTrue)) return true;
    if (is_one_of(text, kFalse)) return false;
    if (is_one_of(text, kNull)) return {};
    return Value(text);
}

std::string scalar_to_key(const Value& value) {
    switch (value.type()) {
        case Type::kBool: return value.as_bool() ? "true" : "false";
        case Type::kInt: return std::to_string(value.as_int());
        case Type::kUint: return std::to_string(value.as_uint());
        case Type::kDouble: break;
        default: return value.str();
    }
    const auto number = static_cast<float>(value.as_double());
    if (std::isnan(number)) return ".nan";
    if (std::isinf(number)) return number > 0 ? ".inf" : "-.inf";
    char buffer[64];
    const auto end =
        std::to_chars(buffer, buffer + sizeof buffer, number, std::chars_format::scientific).ptr;
    const std::string_view scientific(buffer, static_cast<size_t>(end - buffer));
    const size_t e = scientific.find('e');
    const int exponent = std::atoi(std::string(scientific.substr(e + 1)).c_str());
    if (exponent < -4 || exponent >= 6) return std::string(scientific);
    const auto fixed_end =
        std::to_chars(buffer, buffer + sizeof buffer, number, std::chars_format::fixed).ptr;
    return {buffer, fixed_end};
}

}  // namespace basalt::data
