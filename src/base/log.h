// Structured log: one line an event on stderr, a message that never varies, and fields that do.
//
//     log_info("created", {{"key", key}, {"took_ms", took}});
//
// logfmt (for people) or JSON (for collectors), chosen once at start with configure_log(). A line
// is one write(2), so lines of several threads do not mix; a full or closed stderr loses lines,
// never blocks on retry and never fails the caller. Control characters are escaped in both formats:
// input from outside cannot forge lines. Secret (secret.h) has no conversion to a field. Functions
// are safe to call from any thread.
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>
#include <variant>

#include "base/result.h"
#include "base/time.h"

namespace basalt {

enum class LogLevel : int { kDebug = 0, kInfo = 1, kWarn = 2, kError = 3 };
enum class LogFormat { kLogfmt, kJson };

/// Views only: lives as long as the call's arguments do, i.e. for the statement.
class LogField {
 public:
    using Variant = std::variant<std::string_view, int64_t, uint64_t, double, bool>;

    LogField(std::string_view key, std::string_view value) : key_(key), value_(value) {}
    LogField(std::string_view key, const char* value)
        : key_(key), value_(std::string_view(value)) {}
    LogField(std::string_view key, const std::string& value)
        : key_(key), value_(std::string_view(value)) {}
    LogField(std::string_view key, bool value) : key_(key), value_(value) {}
    LogField(std::string_view key, double value) : key_(key), value_(value) {}
    template <std::signed_integral T>
    LogField(std::string_view key, T value) : key_(key), value_(static_cast<int64_t>(value)) {}
    template <std::unsigned_integral T>
        requires(!std::same_as<T, bool>)
    LogField(std::string_view key, T value) : key_(key), value_(static_cast<uint64_t>(value)) {}
    LogField(std::string_view key, const Error& error);
    /// As Go writes it: "1.5s".
    LogField(std::string_view key, Duration duration);

    std::string_view key() const { return key_; }
    /// A view of text this field owns (errors, durations) or of the caller's.
    Variant value() const { return owned_.empty() ? value_ : Variant(std::string_view(owned_)); }

 private:
    std::string_view key_;
    Variant value_;
    std::string owned_;
};

using LogFields = std::initializer_list<LogField>;

struct LogOptions {
    LogLevel level = LogLevel::kInfo;
    LogFormat format = LogFormat::kLogfmt;
    /// Where finished lines go (with their newline); stderr when empty. Calls are serialised by a
    /// mutex.
    std::function<void(std::string_view line)> sink;
    /// The time in each line; the system clock when empty.
    std::function<WallTime()> now;
};

/// Once at start, before other threads log; tests may call it again between cases.
void configure_log(LogOptions options);
/// "debug", "info", "warn", "error".
Result<LogLevel> parse_log_level(std::string_view name);
/// "logfmt" or "text", "json".
Result<LogFormat> parse_log_format(std::string_view name);

/// True when a line of that level would be written: guards fields that are expensive to compute.
bool log_enabled(LogLevel level) noexcept;
void log(LogLevel level, std::string_view message, LogFields fields = {}) noexcept;

inline void log_debug(std::string_view message, LogFields fields = {}) noexcept {
    if (log_enabled(LogLevel::kDebug)) log(LogLevel::kDebug, message, fields);
}
inline void log_info(std::string_view message, LogFields fields = {}) noexcept {
    if (log_enabled(LogLevel::kInfo)) log(LogLevel::kInfo, message, fields);
}
inline void log_warn(std::string_view message, LogFields fields = {}) noexcept {
    if (log_enabled(LogLevel::kWarn)) log(LogLevel::kWarn, message, fields);
}
inline void log_error(std::string_view message, LogFields fields = {}) noexcept {
    if (log_enabled(LogLevel::kError)) log(LogLevel::kError, message, fields);
}

}  // namespace basalt
