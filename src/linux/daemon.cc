#include "linux/daemon.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

#include <fmt/format.h>

#include "base/strings.h"
#include "linux/file.h"

namespace basalt::linux {
namespace {

/// Writes the decimal pid; async-signal-safe, since it runs between fork and exec.
void write_pid(int fd) {
    char digits[16];
    size_t at = sizeof digits;
    for (unsigned long n = static_cast<unsigned long>(::getpid()); n > 0; n /= 10) {
        digits[--at] = static_cast<char>('0' + n % 10);
    }
    if (::ftruncate(fd, 0) != 0 || ::write(fd, digits + at, sizeof digits - at) < 0) ::_exit(126);
}

struct DaemonFiles {
    int lock;
    int pid;
    int log;
    int null;
};

[[noreturn]] void exec_daemon(char* const* argv, const DaemonFiles& files) {
    ::setsid();
    if (::fork() != 0) ::_exit(0);
    write_pid(files.pid);
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    // The lock may be any number: copy it above the standard range first, then into its place.
    const int lock = ::fcntl(files.lock, F_DUPFD, 64);
    if (lock < 0 || ::dup2(files.null, 0) < 0 || ::dup2(files.log, 1) < 0 ||
        ::dup2(files.log, 2) < 0 || ::dup2(lock, kDaemonLockFd) < 0 || ::chdir("/") != 0) {
        ::_exit(126);
    }
    ::close_range(kDaemonLockFd + 1, ~0U, 0);
    ::execvp(argv[0], argv);
    ::_exit(127);
}

}  // namespace

Daemon::Daemon(std::string directory, std::string name)
    : lock_path_(fmt::format("{}/{}.lock", directory, name)),
      pid_path_(fmt::format("{}/{}.pid", directory, name)) {}

bool Daemon::running() const { return is_locked(lock_path_); }

std::optional<pid_t> Daemon::pid() const {
    if (!running()) return std::nullopt;
    Result<std::string> text = read_file(pid_path_);
    if (!text.ok()) return std::nullopt;
    return parse_number<pid_t>(trim(*text));
}

Result<void> Daemon::start(const std::vector<std::string>& argv, const std::string& log) const {
    if (running()) return {};
    BASALT_ASSIGN(FileDescriptor lock, lock_file(lock_path_, false));
    FileDescriptor pid_file(::open(pid_path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    FileDescriptor log_file(::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
    FileDescriptor null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!pid_file.valid() || !log_file.valid() || !null.valid())
        return errno_error(errno, "start daemon: open files");

    std::vector<std::string> strings = argv;
    std::vector<char*> pointers;
    for (std::string& text : strings) pointers.push_back(text.data());
    pointers.push_back(nullptr);
    const DaemonFiles files{lock.get(), pid_file.get(), log_file.get(), null.get()};
    const pid_t child = ::fork();
    if (child < 0) return errno_error(errno, "fork");
    if (child == 0) exec_daemon(pointers.data(), files);
    while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
    }
    return {};
}

void Daemon::signal(int signal_number) const {
    if (std::optional<pid_t> target = pid()) ::kill(*target, signal_number);
}

bool Daemon::wait_stopped(std::chrono::milliseconds limit) const {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    while (running()) {
        if (std::chrono::steady_clock::now() >= deadline) return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return true;
}

Result<void> Daemon::stop(std::chrono::milliseconds grace) const {
    signal(SIGTERM);
    if (wait_stopped(grace)) return {};
    signal(SIGKILL);
    if (wait_stopped(std::chrono::seconds(15))) return {};
    return deadline_exceeded(fmt::format("the process of {} does not end", lock_path_));
}

}  // namespace basalt::linux
