#include "async/subprocess.h"

#include <gtest/gtest.h>

#include "async/sim_loop.h"
#include "async/task_group.h"

namespace basalt::async {
namespace {

SubprocessOptions shell(const std::string& script) {
    SubprocessOptions options;
    options.argv = {"sh", "-c", script};
    return options;
}

TEST(Subprocess, PassesInputAndOutput) {
    SubprocessOptions options = shell("cat; echo \"$GREETING\" >&2; exit 3");
    options.env = {{"GREETING", "hello"}};
    options.input = std::string(300'000, 'x');
    const Result<SubprocessResult> result = run_subprocess_blocking(options);
    ASSERT_TRUE(result.ok()) << result.error().to_string();
    EXPECT_EQ(result->exit_code, 3);
    EXPECT_EQ(result->output.size(), 300'000u);
    EXPECT_EQ(result->error_output, "hello\n");
}

TEST(Subprocess, UnreadInputIsNoFailure) {
    SubprocessOptions options = shell("exit 0");
    options.input = std::string(1'000'000, 'x');
    const Result<SubprocessResult> result = run_subprocess_blocking(options);
    ASSERT_TRUE(result.ok());
    EXPECT_EQ(result->exit_code, 0);
}

TEST(Subprocess, Limits) {
    SubprocessOptions slow = shell("sleep 60 & sleep 60");
    slow.timeout = std::chrono::milliseconds(50);
    EXPECT_EQ(run_subprocess_blocking(slow).error().code(), Code::kDeadlineExceeded);
    SubprocessOptions loud = shell("yes");
    EXPECT_EQ(run_subprocess_blocking(loud).error().code(), Code::kResourceExhausted);
    SubprocessOptions missing;
    missing.argv = {"no-such-program-here"};
    EXPECT_EQ(run_subprocess_blocking(missing).error().code(), Code::kNotFound);
    EXPECT_EQ(run_subprocess_blocking(SubprocessOptions()).error().code(), Code::kInvalidArgument);
    EXPECT_EQ(run_subprocess_blocking(shell("kill -9 $$"))->exit_code, 137);
}

TEST(Subprocess, LeftBehindProcessesDoNotHoldItUp) {
    SubprocessOptions options = shell("sleep 5 & echo done");
    options.timeout = std::chrono::seconds(4);
    const Result<SubprocessResult> result = run_subprocess_blocking(options);
    ASSERT_TRUE(result.ok()) << result.error().to_string();
    EXPECT_EQ(result->output, "done\n");
}

Task<void> run_into(Loop& loop, SubprocessOptions options,
                    std::optional<Result<SubprocessResult>>* slot) {
    Result<SubprocessResult> result = co_await run_subprocess(loop, options);
    slot->emplace(std::move(result));
}

TEST(Subprocess, AsATask) {
    SimLoop loop(1);
    TaskGroup group(loop);
    std::optional<Result<SubprocessResult>> result;
    group.spawn(run_into(loop, shell("echo hi; pwd"), &result));
    loop.run_until([&] { return group.size() == 0; }, std::chrono::seconds(1));
    ASSERT_TRUE(result && result->ok());
    EXPECT_TRUE((*result)->output.starts_with("hi\n/"));
}

}  // namespace
}  // namespace basalt::async
