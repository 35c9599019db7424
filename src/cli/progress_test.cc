#include "cli/progress.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>

namespace basalt::cli {
namespace {

std::string read(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
}

TEST(Progress, AwayFromATerminalEachStepIsOneLine) {
    std::string log = "/tmp/basalt-progress-XXXXXX";
    ::close(::mkstemp(log.data()));
    ::testing::internal::CaptureStderr();
    Progress progress(log);
    EXPECT_TRUE(progress
                    .step("good",
                          [&]() -> Result<void> {
                              progress.detail("half way");
                              return {};
                          })
                    .ok());
    Result<void> bad =
        progress.step("bad", []() -> Result<void> { return unavailable("out of order"); });
    const std::string shown = ::testing::internal::GetCapturedStderr();
    EXPECT_EQ(bad.error().message(), "out of order");
    EXPECT_NE(shown.find("✓ good"), std::string::npos) << shown;
    EXPECT_NE(shown.find("✗ bad"), std::string::npos) << shown;
    EXPECT_EQ(shown.find("half way"), std::string::npos) << shown;
    EXPECT_EQ(shown.find('\033'), std::string::npos) << "no colour outside of terminals";
    const std::string logged = read(log);
    EXPECT_NE(logged.find("half way"), std::string::npos) << logged;
    EXPECT_NE(logged.find("failed bad"), std::string::npos) << logged;
    ::unlink(log.c_str());
}

}  // namespace
}  // namespace basalt::cli
