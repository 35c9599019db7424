#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "linux/file.h"
#include "linux/process.h"

namespace basalt {
namespace {

namespace fs = std::filesystem;

class StartTest : public ::testing::Test {
 protected:
    void SetUp() override {
        std::string pattern = (fs::temp_directory_path() / "start-XXXXXX").string();
        ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
        directory_ = pattern;
        gate_ = directory_ + "/open";
    }
    void TearDown() override { fs::remove_all(directory_); }

    Result<linux::Output> start(std::vector<std::string> arguments) {
        arguments.insert(arguments.begin(), BASALT_PROGRAM);
        linux::Command command;
        command.argv = std::move(arguments);
        command.timeout = std::chrono::seconds(20);
        return linux::run(command);
    }
    /// A process that waits for the gate; its exit code by wait_code().
    pid_t start_waiting(const char* limit) {
        const pid_t pid = ::fork();
        if (pid == 0) {
            ::execl(BASALT_PROGRAM, BASALT_PROGRAM, "run", gate_.c_str(), limit, "sh", "-c",
                    "exit 7", nullptr);
            ::_exit(99);
        }
        return pid;
    }
    static int wait_code(pid_t pid) {
        int status = 0;
        EXPECT_EQ(::waitpid(pid, &status, 0), pid);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    }
    /// It waits when it has handed its signal mask over: SIGTERM blocked but for the wait.
    static bool handles_sigterm(pid_t pid) {
        Result<std::string> status = linux::read_file("/proc/" + std::to_string(pid) + "/status");
        if (!status.ok()) return false;
        const size_t at = status->find("SigCgt:");
        return at != std::string::npos &&
               (std::stoull(status->substr(at + 7), nullptr, 16) >> (SIGTERM - 1) & 1) != 0;
    }
    static void until_it_waits(pid_t pid) {
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        while (!handles_sigterm(pid)) {
            ASSERT_LT(std::chrono::steady_clock::now(), deadline);
            std::this_thread::yield();
        }
    }

    std::string directory_, gate_;
};

TEST_F(StartTest, BecomesTheProgramWhenTheGateIsOpenAlready) {
    std::ofstream(gate_).close();
    Result<linux::Output> output = start({"run", gate_, "60", "echo", "a b", "c"});
    ASSERT_TRUE(output.ok());
    EXPECT_EQ(output->exit_code, 0);
    EXPECT_EQ(output->out, "a b c\n");
}

TEST_F(StartTest, WaitsUntilTheGateOpens) {
    const pid_t pid = start_waiting("60");
    until_it_waits(pid);
    EXPECT_EQ(::waitpid(pid, nullptr, WNOHANG), 0);
    std::ofstream(gate_).close();
    EXPECT_EQ(wait_code(pid), 7);
}

TEST_F(StartTest, AFileThatIsMovedThereOpensTheGate) {
    const pid_t pid = start_waiting("60");
    until_it_waits(pid);
    std::ofstream(directory_ + "/other").close();
    fs::rename(directory_ + "/other", gate_);
    EXPECT_EQ(wait_code(pid), 7);
}

TEST_F(StartTest, StartsAfterTheLimitWithoutTheGate) {
    Result<linux::Output> output = start({"run", gate_, "0", "echo", "on"});
    ASSERT_TRUE(output.ok());
    EXPECT_EQ(output->out, "on\n");
    EXPECT_NE(output->err.find("is not there yet"), std::string::npos) << output->err;
}

TEST_F(StartTest, EndsWhenAskedToWhileItWaits) {
    const pid_t pid = start_waiting("60");
    until_it_waits(pid);
    ::kill(pid, SIGTERM);
    EXPECT_EQ(wait_code(pid), 128 + SIGTERM);
}

// A program that inherited a blocked or ignored signal could not be stopped.
TEST_F(StartTest, GivesTheProgramASlackForTimersAndItsSignalsBack) {
    std::ofstream(gate_).close();
    Result<linux::Output> output =
        start({"run", gate_, "60", "cat", "/proc/self/timerslack_ns", "/proc/self/status"});
    ASSERT_TRUE(output.ok());
    EXPECT_EQ(output->out.substr(0, output->out.find('\n')), "10000000");
    const auto mask = [&](const std::string& name) {
        return std::stoull(output->out.substr(output->out.find(name) + name.size()), nullptr, 16) >>
                   (SIGTERM - 1) &
               1;
    };
    EXPECT_EQ(mask("SigBlk:"), 0u);
    EXPECT_EQ(mask("SigIgn:"), 0u);
}

TEST_F(StartTest, SaysWhatIsWrong) {
    std::ofstream(gate_).close();
    Result<linux::Output> missing = start({"run", gate_, "1", "no-such-program"});
    ASSERT_TRUE(missing.ok());
    EXPECT_EQ(missing->exit_code, 127);
    EXPECT_NE(missing->err.find("no-such-program"), std::string::npos);
    for (const std::vector<std::string>& wrong :
         {std::vector<std::string>{}, {"run", gate_}, {"run", gate_, "soon", "true"}, {"go"}}) {
        Result<linux::Output> output = start(wrong);
        ASSERT_TRUE(output.ok());
        EXPECT_EQ(output->exit_code, 1);
        EXPECT_NE(output->err, "");
    }
}

TEST_F(StartTest, InstallsItselfForAllUsersAndAgain) {
    const std::string copy = directory_ + "/copy";
    for (int round = 0; round < 2; ++round) {
        Result<linux::Output> output = start({"install", copy});
        ASSERT_TRUE(output.ok());
        ASSERT_EQ(output->exit_code, 0) << output->err;
    }
    struct stat status{};
    ASSERT_EQ(::stat(copy.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0755u);
    EXPECT_EQ(linux::read_file(copy).value_or(""), linux::read_file(BASALT_PROGRAM).value_or("-"));
    std::ofstream(gate_).close();
    Result<std::string> out = linux::run_ok({copy, "run", gate_, "1", "echo", "x"});
    ASSERT_TRUE(out.ok()) << out.error().message();
    EXPECT_EQ(*out, "x\n");
}

}  // namespace
}  // namespace basalt
