// A background process that outlives its starter and can be found again by whoever comes next.
//
// A pid in a file is not enough: the process may be gone and its number reused. So the process
// inherits an flock: as long as it (or a child it handed the descriptor to) lives, the lock is
// taken; the kernel frees it whatever kills it. The pid file is believed only while the lock is
// taken.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace basalt::linux {

/// The descriptor on which a daemon finds its inherited lock.
inline constexpr int kDaemonLockFd = 3;

class Daemon {
 public:
    /// `directory` gets the files <name>.lock and <name>.pid.
    Daemon(std::string directory, std::string name);

    bool running() const;
    /// The daemon's pid, when it runs.
    std::optional<pid_t> pid() const;

    /// Starts argv detached (own session, stdin closed, stdout and stderr appended to `log`).
    /// Returns without doing anything when it already runs.
    Result<void> start(const std::vector<std::string>& argv, const std::string& log) const;
    /// Sends SIGTERM, after `grace` SIGKILL, and returns when the lock is free. Fine when it does
    /// not run.
    Result<void> stop(std::chrono::milliseconds grace) const;
    /// Sends a signal; fine when it does not run.
    void signal(int signal_number) const;
    bool wait_stopped(std::chrono::milliseconds limit) const;

 private:
    std::string lock_path_;
    std::string pid_path_;
};

}  // namespace basalt::linux
