#include "async/subprocess.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <map>

#include "async/wait.h"

extern char** environ;

namespace basalt::async {
namespace {

class Fd {
 public:
    Fd() = default;
    explicit Fd(int fd) : fd_(fd) {}
    Fd(const Fd&) = delete;
    Fd& operator=(const Fd&) = delete;
    ~Fd() { reset(); }
    int get() const { return fd_; }
    bool is_open() const { return fd_ >= 0; }
    void reset(int fd = -1) {
        if (fd_ >= 0) ::close(fd_);
        fd_ = fd;
    }

 private:
    int fd_ = -1;
};

struct Pipe {
    Fd read_end;
    Fd write_end;
    bool open() {
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC) != 0) return false;
        read_end.reset(ends[0]);
        write_end.reset(ends[1]);
        return true;
    }
};

/// SIGPIPE of this thread is held back, and taken away if it came.
class SigpipeBlock {
 public:
    SigpipeBlock() {
        sigemptyset(&pipe_);
        sigaddset(&pipe_, SIGPIPE);
        pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
    }
    SigpipeBlock(const SigpipeBlock&) = delete;
    SigpipeBlock& operator=(const SigpipeBlock&) = delete;
    ~SigpipeBlock() {
        const timespec no_time{};
        while (sigtimedwait(&pipe_, nullptr, &no_time) > 0) {
        }
        pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    }

 private:
    sigset_t pipe_;
    sigset_t before_;
};

std::vector<std::string> environment_of(const SubprocessOptions& options) {
    std::map<std::string, std::string> variables;
    if (!options.clear_env) {
        for (char** entry = environ; *entry != nullptr; ++entry) {
            const char* equals = std::strchr(*entry, '=');
            if (equals != nullptr)
                variables[std::string(*entry, static_cast<size_t>(equals - *entry))] = equals + 1;
        }
    }
    for (const auto& [name, value] : options.env) variables[name] = value;
    std::vector<std::string> entries;
    for (const auto& [name, value] : variables) entries.push_back(name + "=" + value);
    return entries;
}

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
    std::vector<char*> pointers;
    for (std::string& text : texts) pointers.push_back(text.data());
    pointers.push_back(nullptr);
    return pointers;
}

class Child {
 public:
    explicit Child(const SubprocessOptions& options) : options_(options) {}
    ~Child() {
        if (pid_ > 0) {
            kill_group();
            int status = 0;
            while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
            }
        }
    }

    Result<void> start();
    Result<SubprocessResult> finish();

 private:
    void kill_group() { ::kill(-pid_, SIGKILL); }
    void write_input();
    /// False at the limit.
    bool read_output(Fd& fd, std::string& text);
    bool drain(Fd& fd, std::string& text);

    const SubprocessOptions& options_;
    pid_t pid_ = -1;
    Fd pidfd_;
    Fd input_;
    Fd output_;
    Fd error_output_;
    size_t written_ = 0;
    SubprocessResult result_;
};

Result<void> Child::start() {
    if (options_.argv.empty()) return invalid_argument("no program to run");
    Pipe in;
    Pipe out;
    Pipe err;
    if (!in.open() || !out.open() || !err.open()) return errno_error(errno, "pipe");

    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in.read_end.get(), STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out.write_end.get(), STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, err.write_end.get(), STDERR_FILENO);
    if (!options_.directory.empty()) {
        posix_spawn_file_actions_addchdir_np(&actions, options_.directory.c_str());
    }
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t none;
    sigemptyset(&none);
    sigset_t defaults;
    sigemptyset(&defaults);
    for (const int number : {SIGPIPE, SIGINT, SIGTERM, SIGHUP, SIGCHLD})
        sigaddset(&defaults, number);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(
        &attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);

    std::vector<std::string> argv = options_.argv;
    std::vector<std::string> env = environment_of(options_);
    pid_t pid = -1;
    const int error = ::posix_spawnp(&pid, argv[0].c_str(), &actions, &attributes,
                                     pointers_to(argv).data(), pointers_to(env).data());
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (error != 0) return errno_error(error, "run " + options_.argv[0]);
    pid_ = pid;
    pidfd_.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    if (!pidfd_.is_open()) return errno_error(errno, "pidfd_open");
    input_.reset(::fcntl(in.write_end.get(), F_DUPFD_CLOEXEC, 0));
    output_.reset(::fcntl(out.read_end.get(), F_DUPFD_CLOEXEC, 0));
    error_output_.reset(::fcntl(err.read_end.get(), F_DUPFD_CLOEXEC, 0));
    for (const Fd* fd : {&input_, &output_, &error_output_})
        ::fcntl(fd->get(), F_SETFL, O_NONBLOCK);
    if (options_.input.empty()) input_.reset();
    return {};
}

void Child::write_input() {
    const SigpipeBlock no_signal;
    const std::string& input = options_.input;
    const ssize_t count = ::write(input_.get(), input.data() + written_, input.size() - written_);
    if (count >= 0) written_ += static_cast<size_t>(count);
    // A child that does not want its input is free not to read it.
    const bool broken = count < 0 && errno != EAGAIN && errno != EINTR;
    if (broken || written_ == input.size()) input_.reset();
}

bool Child::read_output(Fd& fd, std::string& text) {
    char buffer[16 * 1024];
    const ssize_t count = ::read(fd.get(), buffer, sizeof buffer);
    if (count > 0) {
        text.append(buffer, static_cast<size_t>(count));
        return text.size() <= options_.output_size_max;
    }
    if (count == 0 || (errno != EAGAIN && errno != EINTR)) fd.reset();
    return true;
}

bool Child::drain(Fd& fd, std::string& text) {
    while (fd.is_open()) {
        const size_t before = text.size();
        if (!read_output(fd, text)) return false;
        if (text.size() == before) break;
    }
    return true;
}

Result<SubprocessResult> Child::finish() {
    const TimePoint deadline = Clock::now() + options_.timeout;
    for (;;) {
        const auto left =
            std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
        if (left <= 0) return deadline_exceeded(options_.argv[0] + " took too long");
        pollfd fds[] = {{input_.get(), POLLOUT, 0},
                        {output_.get(), POLLIN, 0},
                        {error_output_.get(), POLLIN, 0},
                        {pidfd_.get(), POLLIN, 0}};
        if (::poll(fds, 4, static_cast<int>(left) + 1) < 0 && errno != EINTR)
            return errno_error(errno, "poll");
        if (input_.is_open() && fds[0].revents != 0) write_input();
        bool fits = true;
        if (output_.is_open() && fds[1].revents != 0) fits &= read_output(output_, result_.output);
        if (error_output_.is_open() && fds[2].revents != 0)
            fits &= read_output(error_output_, result_.error_output);
        // A process that it left behind may hold the pipes open: they do not count once the child
        // is gone.
        const bool ended = fds[3].revents != 0;
        if (ended)
            fits &= drain(output_, result_.output) && drain(error_output_, result_.error_output);
        if (!fits) return resource_exhausted(options_.argv[0] + " writes too much output");
        if (!ended) continue;
        int status = 0;
        while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
        }
        pid_ = -1;
        result_.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        return std::move(result_);
    }
}

}  // namespace

Result<SubprocessResult> run_subprocess_blocking(const SubprocessOptions& options) {
    Child child(options);
    BASALT_TRY(child.start());
    return child.finish();
}

namespace {

Task<Result<SubprocessResult>> run_offloaded(Loop& loop, SubprocessOptions options) {
    std::function<Result<SubprocessResult>()> work = [&options] {
        return run_subprocess_blocking(options);
    };
    Result<SubprocessResult> result =
        co_await offload<Result<SubprocessResult>>(loop, std::move(work));
    co_return std::move(result);
}

}  // namespace

Task<Result<SubprocessResult>> run_subprocess(Loop& loop, const SubprocessOptions& options) {
    return run_offloaded(loop, options);
}

}  // namespace basalt::async
