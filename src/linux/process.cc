#include "linux/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <filesystem>

#include <fmt/format.h>

#include "base/strings.h"
#include "linux/file.h"

extern char** environ;

namespace basalt::linux {
namespace {

using Clock = std::chrono::steady_clock;

/// What exec needs, laid out before fork: between fork and exec nothing may allocate.
struct Image {
    std::vector<std::string> strings;
    std::vector<char*> argv;
    std::vector<char*> envp;
    std::string path;
};

bool same_variable(std::string_view a, std::string_view b) {
    return a.substr(0, a.find('=')) == b.substr(0, b.find('='));
}

std::vector<std::string> environment_of(const Command& command) {
    std::vector<std::string> environment;
    if (!command.clear_env) {
        for (char** entry = environ; *entry != nullptr; ++entry) {
            bool replaced = false;
            for (const std::string& added : command.env) {
                replaced = replaced || same_variable(added, *entry);
            }
            if (!replaced) environment.emplace_back(*entry);
        }
    }
    environment.insert(environment.end(), command.env.begin(), command.env.end());
    return environment;
}

std::string search_path(const std::string& program) {
    if (program.find('/') != std::string::npos) return program;
    const char* path = std::getenv("PATH");
    const std::string_view directories = path != nullptr ? path : "/usr/sbin:/usr/bin:/sbin:/bin";
    for (std::string_view directory : split(directories, ':')) {
        std::string candidate = fmt::format("{}/{}", directory, program);
        if (::access(candidate.c_str(), X_OK) == 0 && !std::filesystem::is_directory(candidate)) {
            return candidate;
        }
    }
    return {};
}

Image make_image(const Command& command) {
    Image image;
    image.path = search_path(command.argv.front());
    image.strings = environment_of(command);
    const size_t environment_count = image.strings.size();
    image.strings.insert(image.strings.end(), command.argv.begin(), command.argv.end());
    for (size_t i = 0; i < image.strings.size(); ++i) {
        (i < environment_count ? image.envp : image.argv).push_back(image.strings[i].data());
    }
    image.envp.push_back(nullptr);
    image.argv.push_back(nullptr);
    return image;
}

struct Pipe {
    FileDescriptor read_end;
    FileDescriptor write_end;
};

Result<Pipe> make_pipe() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return errno_error(errno, "pipe");
    return Pipe{FileDescriptor(ends[0]), FileDescriptor(ends[1])};
}

/// In the child: never returns.
[[noreturn]] void exec_child(const Image& image, const char* directory, int in, int out, int err) {
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::signal(SIGPIPE, SIG_DFL);
    if (::dup2(in, 0) < 0 || ::dup2(out, 1) < 0 || ::dup2(err, 2) < 0) ::_exit(126);
    if (directory != nullptr && ::chdir(directory) != 0) ::_exit(126);
    ::execve(image.path.c_str(), image.argv.data(), image.envp.data());
    ::_exit(127);
}

/// write(2) to a pipe whose reader is gone: EPIPE, and no signal for whoever uses this library.
ssize_t write_quietly(int fd, const char* data, size_t size) {
    sigset_t pipe_signal;
    sigset_t before;
    ::sigemptyset(&pipe_signal);
    ::sigaddset(&pipe_signal, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
    const ssize_t count = ::write(fd, data, size);
    const int error = errno;
    const timespec no_wait{};
    if (count < 0 && error == EPIPE) ::sigtimedwait(&pipe_signal, nullptr, &no_wait);
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    errno = error;
    return count;
}

/// Feeds stdin and drains stdout and stderr until both are closed or the deadline passes.
class Exchange {
 public:
    Exchange(const Command& command, Output& output) : command_(command), output_(output) {}

    /// False when the deadline passed first.
    bool pump(FileDescriptor in, FileDescriptor out, FileDescriptor err,
              Clock::time_point deadline) {
        ::fcntl(in.get(), F_SETFL, O_NONBLOCK);
        size_t written = 0;
        if (command_.input.empty()) in.reset();
        while (out.valid() || err.valid()) {
            const auto left =
                std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
            if (left.count() <= 0) return false;
            // poll ignores negative descriptors, which is what closed ones are.
            std::array<pollfd, 3> fds{
                {{in.get(), POLLOUT, 0}, {out.get(), POLLIN, 0}, {err.get(), POLLIN, 0}}};
            const int ready = ::poll(fds.data(), fds.size(), static_cast<int>(left.count()));
            if (ready < 0 && errno != EINTR) return false;
            if (ready <= 0) continue;
            if (fds[0].revents != 0) feed(in, written);
            if (fds[1].revents != 0) drain(out, output_.out, out_line_);
            if (fds[2].revents != 0) drain(err, output_.err, err_line_);
        }
        flush(out_line_);
        flush(err_line_);
        return true;
    }

 private:
    void feed(FileDescriptor& in, size_t& written) {
        const ssize_t count = write_quietly(in.get(), command_.input.data() + written,
                                            command_.input.size() - written);
        if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (count > 0) written += static_cast<size_t>(count);
        if (count < 0 || written == command_.input.size()) in.reset();
    }

    void drain(FileDescriptor& from, std::string& into, std::string& line) {
        std::array<char, 16384> buffer;
        const ssize_t count = ::read(from.get(), buffer.data(), buffer.size());
        if (count < 0 && errno == EINTR) return;
        if (count <= 0) {
            from.reset();
            return;
        }
        const std::string_view chunk(buffer.data(), static_cast<size_t>(count));
        into.append(chunk.substr(0, kOutputBytesMax - std::min(kOutputBytesMax, into.size())));
        if (!command_.on_line) return;
        for (char c : chunk) {
            if (c == '\n') {
                flush(line);
            } else if (line.size() < 4096) {
                line += c;
            }
        }
    }

    void flush(std::string& line) {
        if (command_.on_line && !line.empty()) command_.on_line(line);
        line.clear();
    }

    const Command& command_;
    Output& output_;
    std::string out_line_;
    std::string err_line_;
};

int exit_code_of(int status) {
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/// The last lines of what a program said, without the noise before them.
std::string tail_of(const Output& output) {
    std::string_view text = trim(output.err.empty() ? output.out : output.err);
    constexpr size_t kTailBytes = 1200;
    if (text.size() > kTailBytes) text = text.substr(text.size() - kTailBytes);
    return std::string(text);
}

}  // namespace

Result<Output> run(const Command& command) {
    if (command.argv.empty()) return invalid_argument("empty command");
    const Image image = make_image(command);
    if (image.path.empty())
        return not_found(fmt::format("program {} is not installed", command.argv.front()));
    BASALT_ASSIGN(Pipe in, make_pipe());
    BASALT_ASSIGN(Pipe out, make_pipe());
    BASALT_ASSIGN(Pipe err, make_pipe());

    const char* directory = command.directory.empty() ? nullptr : command.directory.c_str();
    const Clock::time_point deadline = Clock::now() + command.timeout;
    const pid_t child = ::fork();
    if (child < 0) return errno_error(errno, "fork");
    if (child == 0) {
        exec_child(image, directory, in.read_end.get(), out.write_end.get(), err.write_end.get());
    }
    ::setpgid(child, child);
    in.read_end.reset();
    out.write_end.reset();
    err.write_end.reset();

    Output output;
    Exchange exchange(command, output);
    const bool finished = exchange.pump(std::move(in.write_end), std::move(out.read_end),
                                        std::move(err.read_end), deadline);
    if (!finished) ::kill(-child, SIGKILL);
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (!finished) {
        return deadline_exceeded(fmt::format("{} took more than {} s: {}", command.argv.front(),
                                             command.timeout.count() / 1000, tail_of(output)));
    }
    output.exit_code = exit_code_of(status);
    return output;
}

Result<std::string> run_ok(const Command& command) {
    BASALT_ASSIGN(Output output, run(command));
    if (output.exit_code == 0) return std::move(output.out);
    return Error(Code::kUnknown,
                 fmt::format("{} failed with exit code {}: {}", command.argv.front(),
                             output.exit_code, tail_of(output)))
        .with_cause(output.exit_code);
}

Result<std::string> run_ok(std::vector<std::string> argv) {
    Command command;
    command.argv = std::move(argv);
    return run_ok(command);
}

bool program_exists(const std::string& program) { return !search_path(program).empty(); }

}  // namespace basalt::linux
