#include "base/log.h"

#include <gtest/gtest.h>

#include <limits>
#include <thread>
#include <type_traits>
#include <vector>

#include "base/secret.h"

namespace basalt {
namespace {

using namespace std::chrono_literals;

class Log : public testing::Test {
 protected:
    void configure(LogFormat format, LogLevel level = LogLevel::kInfo) {
        LogOptions options;
        options.format = format;
        options.level = level;
        options.sink = [this](std::string_view line) { lines_.emplace_back(line); };
        options.now = [] { return WallTime(1709208000123ms); };
        configure_log(std::move(options));
    }
    ~Log() override { configure_log({}); }

    std::vector<std::string> lines_;
};

TEST_F(Log, Logfmt) {
    configure(LogFormat::kLogfmt);
    const std::string key = "a/b";
    log_info(
        "created",
        {{"key", key}, {"took_ms", 12}, {"ratio", 0.5}, {"ok", true}, {"big", uint64_t{1} << 63}});
    log_warn(
        "two words",
        {{"quoted", "a \"b\"\n"}, {"empty", ""}, {"wait", 1500ms}, {"error", not_found("no x")}});
    ASSERT_EQ(lines_.size(), 2u);
    EXPECT_EQ(
        lines_[0],
        "time=2024-02-29T12:00:00.123Z level=info msg=created key=a/b took_ms=12 ratio=0.5 ok=true "
        "big=9223372036854775808\n");
    EXPECT_EQ(lines_[1],
              "time=2024-02-29T12:00:00.123Z level=warn msg=\"two words\" quoted=\"a "
              "\\\"b\\\"\\n\" empty=\"\" wait=1.5s "
              "error=\"NotFound: no x\"\n");
}

TEST_F(Log, Json) {
    configure(LogFormat::kJson, LogLevel::kDebug);
    log_debug("m\x01\x7f",
              {{"a\"", "x\\"}, {"n", -1}, {"inf", std::numeric_limits<double>::infinity()}});
    ASSERT_EQ(lines_.size(), 1u);
    EXPECT_EQ(lines_[0],
              "{\"time\":\"2024-02-29T12:00:00.123Z\",\"level\":\"debug\",\"msg\":"
              "\"m\\u0001\\u007f\",\"a\\\"\":\"x\\\\\","
              "\"n\":-1,\"inf\":null}\n");
}

TEST_F(Log, Levels) {
    configure(LogFormat::kLogfmt, LogLevel::kWarn);
    log_info("no");
    log_error("yes");
    EXPECT_EQ(lines_.size(), 1u);
    EXPECT_FALSE(log_enabled(LogLevel::kInfo));
    EXPECT_EQ(parse_log_level("debug").value(), LogLevel::kDebug);
    EXPECT_FALSE(parse_log_level("loud").ok());
    EXPECT_EQ(parse_log_format("json").value(), LogFormat::kJson);
    EXPECT_FALSE(parse_log_format("xml").ok());
}

TEST_F(Log, ThreadsDoNotMixLines) {
    configure(LogFormat::kLogfmt);
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
        threads.emplace_back([i] {
            for (int j = 0; j < 100; ++j) log_info("line", {{"thread", i}, {"n", j}});
        });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(lines_.size(), 400u);
}

TEST_F(Log, SecretsAreNoFields) {
    EXPECT_FALSE((std::is_constructible_v<LogField, std::string_view, Secret>));
    EXPECT_FALSE((std::is_convertible_v<Secret, std::string>));
    EXPECT_FALSE((std::is_convertible_v<Secret, std::string_view>));
}

}  // namespace
}  // namespace basalt
