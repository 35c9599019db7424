#include "local/paths.h"

#include <atomic>
#include <cstdlib>
#include <filesystem>

#include <gtest/gtest.h>

#include "linux/file.h"
#include "linux/linux_test_support.h"
#include "local/parallel.h"

namespace basalt::local {
namespace {

class PathsTest : public ::testing::Test {
 protected:
    void TearDown() override {
        for (const char* name : {"BASALT_STATE", "BASALT_CACHE", "BASALT_SHARE_DIR"})
            ::unsetenv(name);
    }
    linux::TemporaryDirectory directory_;
};

TEST_F(PathsTest, ComeFromTheEnvironmentOrTheirDefaults) {
    TearDown();
    Paths paths = find_paths("").value();
    EXPECT_EQ(paths.state, "/var/lib/basalt");
    EXPECT_EQ(paths.cache, "/var/cache/basalt");
    EXPECT_EQ(paths.share, BASALT_SOURCE_DIR) << "a program of the source tree";
    EXPECT_EQ(paths.node("c", "c-1"), "/var/lib/basalt/c/nodes/c-1");
    ::setenv("BASALT_STATE", "/s", 1);
    ::setenv("BASALT_CACHE", "", 1);
    paths = find_paths("").value();
    EXPECT_EQ(paths.state, "/s");
    EXPECT_EQ(paths.cache, "/var/cache/basalt") << "empty is not set";
}

TEST_F(PathsTest, AreAbsolute) {
    const std::string here = std::filesystem::current_path().string();
    ::setenv("BASALT_STATE", "state/", 1);
    ::setenv("BASALT_CACHE", "./cache", 1);
    Result<Paths> paths = find_paths("");
    ASSERT_TRUE(paths.ok());
    EXPECT_EQ(paths->state, here + "/state");
    EXPECT_EQ(paths->cache, here + "/cache");
}

TEST_F(PathsTest, AShareDirectoryThatIsNamedIsTheOnlyOne) {
    Result<Paths> none = find_paths(directory_.path());
    ASSERT_FALSE(none.ok());
    EXPECT_EQ(none.error().code(), Code::kNotFound);
    EXPECT_NE(none.error().message().find(directory_.path()), std::string::npos);
    ASSERT_TRUE(linux::make_directories(directory_.path() + "/deploy/local").ok());
    EXPECT_EQ(find_paths(directory_.path())->share, directory_.path());
    ::setenv("BASALT_SHARE_DIR", directory_.path().c_str(), 1);
    EXPECT_EQ(find_paths("")->share, directory_.path());
}

TEST(Parallel, RunsAllAndTellsTheFirstError) {
    std::atomic<int> ran = 0;
    const auto step = [&](Result<void> result) {
        return [&ran, result] {
            ++ran;
            return result;
        };
    };
    EXPECT_TRUE(run_parallel({}).ok());
    EXPECT_TRUE(run_parallel({step({}), step({})}).ok());
    Result<void> failed = run_parallel(
        {step({}), step(Result<void>(not_found("one"))), step(Result<void>(not_found("two")))});
    ASSERT_FALSE(failed.ok());
    EXPECT_EQ(failed.error().message(), "one");
    EXPECT_EQ(ran, 5);
}

}  // namespace
}  // namespace basalt::local
