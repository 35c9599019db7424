// Runs seeds: those that found something once, a fixed set, and fresh ones as long as time is left.
// A failing seed is replayed with `basalt-sim --seed N --minutes M`.
#include <chrono>
#include <iostream>
#include <random>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/log.h"
#include "tests/sim/run.h"

namespace basalt::sim {
namespace {

void expect_good(const RunOptions& options) {
    const RunResult result = run_seed(options);
    EXPECT_TRUE(result.ok) << result.to_string(options);
}

class SimTest : public ::testing::Test {
 protected:
    void SetUp() override {
        LogOptions log;
        log.level = LogLevel::kError;
        configure_log(log);
    }
    void TearDown() override { configure_log({}); }
};

TEST_F(SimTest, FixedSeeds) {
    for (uint64_t seed = 1; seed <= 6; ++seed) {
        RunOptions options;
        options.seed = seed;
        options.minutes = 10;
        expect_good(options);
    }
}

TEST_F(SimTest, ReplaysTheSame) {
    RunOptions options;
    options.seed = 77;
    options.minutes = 4;
    const RunResult first = run_seed(options);
    const RunResult second = run_seed(options);
    EXPECT_EQ(first.script, second.script);
    EXPECT_EQ(first.writes, second.writes);
    EXPECT_EQ(first.trace, second.trace);
    EXPECT_EQ(first.ok, second.ok);
}

TEST_F(SimTest, FreshSeeds) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    std::random_device device;
    while (std::chrono::steady_clock::now() < end) {
        RunOptions options;
        options.seed = 1'000'000 + device() % 1'000'000'000;
        options.minutes = 10;
        std::cout << "fresh seed " << options.seed << std::endl;
        expect_good(options);
        if (HasFailure()) return;
    }
}

}  // namespace
}  // namespace basalt::sim
