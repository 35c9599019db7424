#include "linux/process.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <thread>

#include "base/strings.h"
#include "linux/file.h"

namespace basalt::linux {
namespace {

using std::chrono::milliseconds;

Command command_of(std::vector<std::string> argv) {
    Command command;
    command.argv = std::move(argv);
    return command;
}

TEST(Process, CapturesOutputAndExitCode) {
    Result<Output> output = run(command_of({"sh", "-c", "echo out; echo err >&2; exit 3"}));
    ASSERT_TRUE(output.ok());
    EXPECT_EQ(output->out, "out\n");
    EXPECT_EQ(output->err, "err\n");
    EXPECT_EQ(output->exit_code, 3);
}

TEST(Process, FailureNamesProgramAndWhatItSaid) {
    Result<std::string> output = run_ok({"sh", "-c", "echo the disk is on fire >&2; exit 4"});
    ASSERT_FALSE(output.ok());
    EXPECT_EQ(output.error().cause_code(), 4);
    EXPECT_NE(output.error().message().find("the disk is on fire"), std::string::npos);
    EXPECT_NE(output.error().message().find("sh failed with exit code 4"), std::string::npos);
}

TEST(Process, NoShellTouchesTheArguments) {
    Result<std::string> output = run_ok({"printf", "%s|", "a b", "$HOME", "*", ""});
    ASSERT_TRUE(output.ok());
    EXPECT_EQ(*output, "a b|$HOME|*||");
}

TEST(Process, FeedsInputLargerThanAPipe) {
    Command command = command_of({"cat"});
    for (int i = 0; i < 300'000; ++i) command.input += "0123456789\n";
    Result<Output> output = run(command);
    ASSERT_TRUE(output.ok());
    EXPECT_EQ(output->out, command.input);
}

TEST(Process, AChildThatDoesNotReadItsInputIsFine) {
    Command command = command_of({"true"});
    command.input.assign(1 << 20, 'x');
    Result<Output> output = run(command);
    ASSERT_TRUE(output.ok());
    EXPECT_EQ(output->exit_code, 0);
}

TEST(Process, MissingProgramIsNotFound) {
    Result<Output> output = run(command_of({"basalt-no-such-program"}));
    ASSERT_FALSE(output.ok());
    EXPECT_EQ(output.error().code(), Code::kNotFound);
    EXPECT_FALSE(program_exists("basalt-no-such-program"));
    EXPECT_TRUE(program_exists("sh"));
}

TEST(Process, TimeoutKillsTheWholeGroup) {
    Command command = command_of({"sh", "-c", "sleep 600 & echo $!; wait"});
    std::string grandchild;
    command.on_line = [&](std::string_view line) { grandchild = line; };
    command.timeout = milliseconds(300);
    Result<Output> output = run(command);
    ASSERT_FALSE(output.ok());
    EXPECT_EQ(output.error().code(), Code::kDeadlineExceeded);
    std::optional<pid_t> pid = parse_number<pid_t>(grandchild);
    ASSERT_TRUE(pid);
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    auto alive = [&] {
        Result<std::string> status = read_file("/proc/" + grandchild + "/status");
        return status.ok() && status->find("State:\tZ") == std::string::npos;
    };
    while (alive() && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    EXPECT_FALSE(alive());
}

TEST(Process, EnvironmentIsAddedReplacedOrCleared) {
    ::setenv("BASALT_TEST_A", "outer", 1);
    ::setenv("BASALT_TEST_B", "outer", 1);
    Command command = command_of({"sh", "-c", "echo $BASALT_TEST_A $BASALT_TEST_B"});
    command.env = {"BASALT_TEST_A=inner"};
    EXPECT_EQ(run(command)->out, "inner outer\n");
    command.clear_env = true;
    EXPECT_EQ(run(command)->out, "inner\n");
}

TEST(Process, SignalsBecomeShellExitCodes) {
    Result<Output> output = run(command_of({"sh", "-c", "kill -TERM $$"}));
    ASSERT_TRUE(output.ok());
    EXPECT_EQ(output->exit_code, 128 + SIGTERM);
}

TEST(Process, LinesArriveWhileItRuns) {
    std::vector<std::string> lines;
    Command command = command_of({"sh", "-c", "printf 'a\\nb\\nlast'"});
    command.on_line = [&](std::string_view line) { lines.emplace_back(line); };
    ASSERT_TRUE(run(command).ok());
    EXPECT_EQ(lines, (std::vector<std::string>{"a", "b", "last"}));
}

}  // namespace
}  // namespace basalt::linux
