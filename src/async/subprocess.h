// Runs a program to its end: for helpers that have no library (exec credential plugins, nft, helm).
//
// posix_spawn with an exact argv (no shell) and a given environment; stdin is written and stdout
// and stderr read at the same time, each with a limit; above the limit, or at the deadline, the
// child's process group gets SIGKILL. The blocking part runs on a worker thread (Loop::offload),
// one for each run: callers keep the number of concurrent runs small. Real time: not for the
// simulator.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "async/task.h"

namespace basalt::async {

struct SubprocessOptions {
    SubprocessOptions() = default;
    std::vector<std::string> argv;  ///< argv[0] is looked up in PATH unless it has a '/'.
    /// Added to, or instead of, this process's environment.
    std::vector<std::pair<std::string, std::string>> env;
    bool clear_env = false;
    std::string directory;  ///< "" stays in the present one.
    std::string input;      ///< stdin
    Duration timeout = std::chrono::seconds(30);
    size_t output_size_max = 1ULL << 20;  ///< Of stdout and of stderr each.
};

struct SubprocessResult {
    int exit_code = 0;  ///< 128 + signal number when a signal ended it.
    std::string output;
    std::string error_output;
};

/// Ok for any exit code. Errors: NotFound, PermissionDenied (no such program), DeadlineExceeded,
/// ResourceExhausted (too much output).
Task<Result<SubprocessResult>> run_subprocess(Loop& loop, const SubprocessOptions& options);
/// The same, blocking the calling thread.
Result<SubprocessResult> run_subprocess_blocking(const SubprocessOptions& options);

}  // namespace basalt::async
