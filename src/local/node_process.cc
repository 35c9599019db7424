#include "local/node_process.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include <fmt/format.h>

#include "base/log.h"
#include "linux/cgroup.h"
#include "linux/daemon.h"
#include "linux/file.h"
#include "local/network.h"
#include "local/node_root.h"
#include "local/node_services.h"

namespace basalt::local {
namespace {

constexpr auto kOldCgroupLimit =
    std::chrono::seconds(20);  // processes of a killed node take a moment to end

pid_t g_first_process = -1;  // for the signal handler, which gets no argument

void forward_signal(int) {
    if (g_first_process > 0) ::kill(g_first_process, SIGTERM);
}

/// In the new namespaces; ends when the node ends.
[[noreturn]] void first_process(const NodeSpec& spec, int go) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::prctl(PR_SET_NAME, "basalt-node");
    // The lock stays with this process, but not with what it starts.
    ::fcntl(linux::kDaemonLockFd, F_SETFD, FD_CLOEXEC);
    char byte = 0;
    if (::read(go, &byte, 1) != 1) ::_exit(1);  // the owner died or could not plug the cable
    ::close(go);
    if (::sethostname(spec.name.data(), spec.name.size()) != 0) ::_exit(1);
    if (Result<void> entered = enter_node_root(spec); !entered.ok()) {
        log_error("cannot make the node's file system", {{"error", entered.error()}});
        ::_exit(1);
    }
    ::_exit(run_node_services(spec));
}

/// What the first process waits for. It was made in the node's own cgroup, which is the root of its
/// cgroup namespace thereby; from now on kubelet makes groups there.
Result<void> prepare(const NodeSpec& spec, pid_t first) {
    BASALT_TRY(linux::vacate_cgroup(spec.cgroup()));
    BASALT_TRY(plug_node(spec, first));
    return linux::write_file_atomically(spec.directory + "/init.pid", std::to_string(first));
}

}  // namespace

Result<int> run_node_process(const NodeSpec& spec) {
    // As after a reboot: kubelet takes the groups of Pods that are gone for running ones and waits
    // for them.
    BASALT_TRY(linux::remove_cgroup(spec.cgroup(), kOldCgroupLimit));
    BASALT_TRY(linux::make_cgroup(spec.cgroup()));
    BASALT_TRY(linux::enter_cgroup(spec.cgroup()));
    BASALT_TRY(write_node_files(spec));
    int pipe_ends[2];
    if (::pipe2(pipe_ends, O_CLOEXEC) != 0) return errno_error(errno, "pipe");
    linux::FileDescriptor go_read(pipe_ends[0]);
    linux::FileDescriptor go_write(pipe_ends[1]);

    // The raw call instead of unshare(2), which would put our later children into the new PID
    // namespace too.
    const unsigned long flags = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC |
                                CLONE_NEWPID | CLONE_NEWCGROUP | SIGCHLD;
    const long child = ::syscall(SYS_clone, flags, 0, 0, 0, 0);
    if (child < 0) return errno_error(errno, "create namespaces");
    if (child == 0) {
        go_write.reset();
        first_process(spec, go_read.get());
    }
    go_read.reset();
    g_first_process = static_cast<pid_t>(child);
    struct sigaction action{};
    action.sa_handler = forward_signal;
    ::sigaction(SIGTERM, &action, nullptr);
    ::sigaction(SIGINT, &action, nullptr);
    ::signal(SIGHUP, SIG_IGN);

    Result<void> prepared = prepare(spec, g_first_process);
    if (prepared.ok() && ::write(go_write.get(), "g", 1) != 1)
        prepared = errno_error(errno, "start node");
    if (!prepared.ok()) ::kill(g_first_process, SIGKILL);
    go_write.reset();
    int status = 0;
    while (::waitpid(g_first_process, &status, 0) < 0 && errno == EINTR) {
    }
    g_first_process = -1;
    log_info("node ended", {{"node", spec.name}, {"status", status}});
    BASALT_TRY(std::move(prepared));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace basalt::local
