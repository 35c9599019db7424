#include "base/log.h"

#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <mutex>

namespace basalt {
namespace {

std::atomic<int> minimum_level{static_cast<int>(LogLevel::kInfo)};

struct State {
    std::mutex mutex;
    LogOptions options;
};

/// Never destroyed: other threads may log while the process ends.
State& state() {
    static State& instance = *new State;
    return instance;
}

constexpr std::string_view kLevelNames[] = {"debug", "info", "warn", "error"};

std::string_view level_name(LogLevel level) { return kLevelNames[static_cast<int>(level)]; }

void append_escaped(std::string& out, std::string_view text) {
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        switch (c) {
            case '"': out += "\\\""; break;
            case '\\': out += "\\\\"; break;
            case '\n': out += "\\n"; break;
            case '\r': out += "\\r"; break;
            case '\t': out += "\\t"; break;
            default:
                if (byte < 0x20 || byte == 0x7f) {
                    fmt::format_to(std::back_inserter(out), "\\u{:04x}", byte);
                } else {
                    out += c;
                }
        }
    }
}

void append_quoted(std::string& out, std::string_view text) {
    out += '"';
    append_escaped(out, text);
    out += '"';
}

bool is_bare(std::string_view text) {
    if (text.empty()) return false;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte <= 0x20 || byte >= 0x7f || c == '"' || c == '=' || c == '\\') return false;
    }
    return true;
}

void append_text(std::string& out, std::string_view text, LogFormat format) {
    if (format == LogFormat::kLogfmt && is_bare(text)) {
        out += text;
    } else {
        append_quoted(out, text);
    }
}

void append_value(std::string& out, const LogField& field, LogFormat format) {
    std::visit(
        [&](auto value) {
            using T = decltype(value);
            if constexpr (std::is_same_v<T, std::string_view>) {
                append_text(out, value, format);
            } else if constexpr (std::is_same_v<T, bool>) {
                out += value ? "true" : "false";
            } else if constexpr (std::is_same_v<T, double>) {
                if (!std::isfinite(value)) {
                    out += "null";
                } else {
                    fmt::format_to(std::back_inserter(out), "{:.6g}", value);
                }
            } else {
                fmt::format_to(std::back_inserter(out), "{}", value);
            }
        },
        field.value());
}

void append_key(std::string& out, std::string_view key, LogFormat format) {
    if (format == LogFormat::kJson) {
        out += ',';
        append_quoted(out, key);
        out += ':';
    } else {
        out += ' ';
        out += key;
        out += '=';
    }
}

std::string make_line(LogFormat format, WallTime now, LogLevel level, std::string_view message,
                      LogFields fields) {
    std::string time = format_rfc3339_micro(now);
    time.erase(time.size() - 4, 3);  // milliseconds are all there is
    std::string line;
    line.reserve(160);
    if (format == LogFormat::kJson) {
        fmt::format_to(std::back_inserter(line), R"({{"time":"{}","level":"{}","msg":)", time,
                       level_name(level));
    } else {
        fmt::format_to(std::back_inserter(line), "time={} level={} msg=", time, level_name(level));
    }
    append_text(line, message, format);
    for (const LogField& field : fields) {
        append_key(line, field.key(), format);
        append_value(line, field, format);
    }
    line += format == LogFormat::kJson ? "}\n" : "\n";
    return line;
}

void write_stderr(std::string_view line) noexcept {
    // One attempt: a log that blocks or loops on a stuck pipe would stop the product.
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

WallTime system_now() {
    return std::chrono::time_point_cast<std::chrono::milliseconds>(
        std::chrono::system_clock::now());
}

}  // namespace

LogField::LogField(std::string_view key, const Error& error)
    : key_(key), owned_(error.to_string()) {}
LogField::LogField(std::string_view key, Duration duration)
    : key_(key), owned_(format_duration(duration)) {}

void configure_log(LogOptions options) {
    const std::lock_guard lock(state().mutex);
    minimum_level.store(static_cast<int>(options.level), std::memory_order_relaxed);
    state().options = std::move(options);
}

Result<LogLevel> parse_log_level(std::string_view name) {
    for (int i = 0; i < 4; ++i) {
        if (name == kLevelNames[i]) return static_cast<LogLevel>(i);
    }
    return invalid_argument("log level must be debug, info, warn or error");
}

Result<LogFormat> parse_log_format(std::string_view name) {
    if (name == "json") return LogFormat::kJson;
    if (name == "logfmt" || name == "text") return LogFormat::kLogfmt;
    return invalid_argument("log format must be logfmt or json");
}

bool log_enabled(LogLevel level) noexcept {
    return static_cast<int>(level) >= minimum_level.load(std::memory_order_relaxed);
}

void log(LogLevel level, std::string_view message, LogFields fields) noexcept {
    if (!log_enabled(level)) return;
    try {
        const std::lock_guard lock(state().mutex);
        const LogOptions& options = state().options;
        const WallTime now = options.now ? options.now() : system_now();
        const std::string line = make_line(options.format, now, level, message, fields);
        if (options.sink) {
            options.sink(line);
        } else {
            write_stderr(line);
        }
    } catch (...) {
        write_stderr("level=error msg=\"a log line was lost\"\n");
    }
}

}  // namespace basalt
