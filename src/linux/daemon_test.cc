#include "linux/daemon.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <thread>

#include "linux/linux_test_support.h"

namespace basalt::linux {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// The pid is written by the daemon itself, a moment after start() returns.
pid_t wait_pid(const Daemon& daemon) {
    const auto deadline = std::chrono::steady_clock::now() + seconds(10);
    while (std::chrono::steady_clock::now() < deadline) {
        if (std::optional<pid_t> pid = daemon.pid()) return *pid;
        std::this_thread::yield();
    }
    return -1;
}

TEST(Daemon, OutlivesItsObjectAndIsFoundAgain) {
    TemporaryDirectory directory;
    ASSERT_TRUE(
        Daemon(directory.path(), "d").start({"sleep", "600"}, directory.path() + "/log").ok());
    Daemon again(directory.path(), "d");
    EXPECT_TRUE(again.running());
    const pid_t pid = wait_pid(again);
    ASSERT_GT(pid, 0);
    ASSERT_TRUE(again.start({"sleep", "600"}, directory.path() + "/log").ok());
    EXPECT_EQ(wait_pid(again), pid) << "a second start must not start a second process";
    ASSERT_TRUE(again.stop(seconds(10)).ok());
    EXPECT_FALSE(again.running());
    EXPECT_FALSE(again.pid());
}

TEST(Daemon, AStalePidFileIsNotBelieved) {
    TemporaryDirectory directory;
    Daemon daemon(directory.path(), "d");
    ASSERT_TRUE(daemon.start({"sleep", "600"}, directory.path() + "/log").ok());
    const pid_t pid = wait_pid(daemon);
    ASSERT_GT(pid, 0);
    ::kill(pid, SIGKILL);
    ASSERT_TRUE(daemon.wait_stopped(seconds(10)));
    EXPECT_TRUE(exists(directory.path() + "/d.pid"));
    EXPECT_FALSE(daemon.pid());
    EXPECT_TRUE(daemon.stop(milliseconds(1)).ok());
}

TEST(Daemon, OneThatIgnoresSigtermIsKilled) {
    TemporaryDirectory directory;
    Daemon daemon(directory.path(), "d");
    const std::string ready = directory.path() + "/ready";
    ASSERT_TRUE(
        daemon
            .start({"sh", "-c", "trap '' TERM; : > " + ready + "; while :; do sleep 1 3<&-; done"},
                   directory.path() + "/log")
            .ok());
    const auto deadline = std::chrono::steady_clock::now() + seconds(10);
    while (!exists(ready) && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    ASSERT_TRUE(exists(ready));
    EXPECT_TRUE(daemon.stop(milliseconds(200)).ok());
    EXPECT_FALSE(daemon.running());
}

TEST(Daemon, InheritsNothingButItsLock) {
    TemporaryDirectory directory;
    FileDescriptor secret = std::move(lock_file(directory.path() + "/other", false)).value();
    Daemon daemon(directory.path(), "d");
    ASSERT_TRUE(daemon.start({"sh", "-c", "ls -l /proc/$$/fd"}, directory.path() + "/log").ok());
    ASSERT_TRUE(daemon.wait_stopped(seconds(10)));
    Result<std::string> log = read_file(directory.path() + "/log");
    ASSERT_TRUE(log.ok());
    EXPECT_EQ(log->find("/other"), std::string::npos) << *log;
    EXPECT_NE(log->find("3 -> " + directory.path() + "/d.lock"), std::string::npos) << *log;
}

}  // namespace
}  // namespace basalt::linux
