// Subprocesses, synchronously: the programs that make a node (ip, nft, nsenter, kubeadm, kubectl,
// …).
//
// No shell is ever involved: argv is passed as it is. A child lives in its own process group and
// dies with the thread that started it, so that a killed parent leaves nothing running; on a
// timeout the whole group is killed. Output is captured up to kOutputBytesMax. Secrets go through
// `input`, never through argv. Callable from any thread; a call blocks it.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace basalt::linux {

/// Output beyond this (of each stream) is dropped: a program that floods us must not take the
/// memory.
inline constexpr size_t kOutputBytesMax = 16 * 1024 * 1024;

struct Command {
    std::vector<std::string> argv;
    std::string input{};             ///< Whole standard input.
    std::vector<std::string> env{};  ///< "K=V", added to (or replacing) the inherited environment.
    bool clear_env = false;          ///< Start from an empty environment instead.
    std::string directory{};         ///< Working directory; the caller's when empty.
    std::chrono::milliseconds timeout = std::chrono::minutes(2);
    /// Called for each line of stdout or stderr as it arrives, in the calling thread.
    std::function<void(std::string_view line)> on_line{};
};

struct Output {
    int exit_code = 0;  ///< 128 + signal for a child that a signal ended, as shells say it.
    std::string out;
    std::string err;
};

/// Runs to the end. Errors: NotFound when the program does not exist, DeadlineExceeded after the
/// timeout; an exit code other than 0 is no error here.
Result<Output> run(const Command& command);

/// As run(), but an exit code other than 0 is an error (Unknown, cause_code = exit code) whose
/// message holds the program's name and the end of what it said. Returns stdout.
Result<std::string> run_ok(const Command& command);
Result<std::string> run_ok(std::vector<std::string> argv);

/// True when `program` is an executable file in PATH.
bool program_exists(const std::string& program);

}  // namespace basalt::linux
