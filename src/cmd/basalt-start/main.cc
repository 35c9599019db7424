// basalt-start: the first program of a container whose image is not ours.
//
//   basalt-start run GATE SECONDS PROGRAM [ARGUMENT...]
//       Waits until the file GATE exists, at most SECONDS, then becomes PROGRAM (execvp). The
//       containers of a Pod start side by side, so that the kubelet sees all of them at once; what
//       would only slow down the one that it needs waits here and takes no processor time.
//   basalt-start install PATH
//       Copies itself, into a directory that the other containers mount: their images have neither
//       this program nor libraries. Whole or not at all, and again as often as asked.
//
// PROGRAM inherits a timer slack of 10 ms (prctl(2), PR_SET_TIMERSLACK): servers written in Go wake
// some hundred times a second while idle, and timers that may be late share their wake-ups.
//
// Linked statically. Exit codes: 127 when PROGRAM is not found, 143 after SIGTERM, 1 for the rest.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

// As all processes of a local cluster's node have it: local/node_services.cc says why so much.
constexpr unsigned long kTimerSlackNs = 10'000'000;
constexpr int kNotFound = 127;
constexpr int kTerminated = 128 + SIGTERM;

volatile sig_atomic_t terminated = 0;

int fail(const std::string& what) {
    std::fprintf(stderr, "basalt-start: %s: %s\n", what.c_str(), std::strerror(errno));
    return 1;
}

long long now_ms() {
    timespec time{};
    ::clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000LL + time.tv_nsec / 1'000'000;
}

/// 0 when the gate is open or the time is over, else the exit code.
int wait_for(const std::string& gate, long long limit_ms) {
    // The first process of a PID namespace ends by SIGTERM only if it handles it. Blocked but for
    // the time in ppoll, so that none is missed.
    struct sigaction action{};
    action.sa_handler = [](int) { terminated = 1; };
    ::sigaction(SIGTERM, &action, nullptr);
    sigset_t blocked, before;
    ::sigemptyset(&blocked);
    ::sigaddset(&blocked, SIGTERM);
    ::sigprocmask(SIG_BLOCK, &blocked, &before);

    const std::string directory = gate.substr(0, gate.rfind('/'));
    const int events = ::inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (events < 0 || ::inotify_add_watch(events, directory.c_str(), IN_CREATE | IN_MOVED_TO) < 0)
        return fail(directory);
    const long long deadline = now_ms() + limit_ms;
    while (::access(gate.c_str(), F_OK) != 0 && terminated == 0) {
        const long long left = deadline - now_ms();
        if (left <= 0) {
            std::fprintf(stderr, "basalt-start: %s is not there yet, starting\n", gate.c_str());
            break;
        }
        const timespec timeout{left / 1000, left % 1000 * 1'000'000};
        pollfd ready{events, POLLIN, 0};
        ::ppoll(&ready, 1, &timeout, &before);
        char dropped[4096];
        while (::read(events, dropped, sizeof dropped) > 0) {
        }
    }
    ::close(events);
    ::sigprocmask(SIG_SETMASK, &before, nullptr);
    if (terminated != 0) return kTerminated;
    ::signal(SIGTERM, SIG_DFL);
    return 0;
}

int run(char** argv) {
    char* end = nullptr;
    const long seconds = std::strtol(argv[1], &end, 10);
    if (*end != '\0' || seconds < 0) {
        errno = EINVAL;
        return fail(argv[1]);
    }
    if (const int code = wait_for(argv[0], seconds * 1000LL); code != 0) return code;
    ::prctl(PR_SET_TIMERSLACK, kTimerSlackNs);
    ::execvp(argv[2], argv + 2);
    const int code = errno == ENOENT ? kNotFound : 1;
    fail(argv[2]);
    return code;
}

int install(const std::string& path) {
    const std::string partial = path + ".new";
    const int from = ::open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    struct stat status{};
    if (from < 0 || ::fstat(from, &status) != 0) return fail("/proc/self/exe");
    const int to = ::open(partial.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    if (to < 0) return fail(partial);
    for (off_t done = 0; done < status.st_size;) {
        const ssize_t part =
            ::sendfile(to, from, &done, static_cast<size_t>(status.st_size - done));
        if (part <= 0) return fail(partial);
    }
    // Whatever the umask is, the users of other containers run it.
    if (::fchmod(to, 0755) != 0 || ::close(to) != 0) return fail(partial);
    if (::rename(partial.c_str(), path.c_str()) != 0) return fail(path);
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    const std::string verb = argc > 1 ? argv[1] : "";
    if (verb == "run" && argc > 4) return run(argv + 2);
    if (verb == "install" && argc == 3) return install(argv[2]);
    std::fputs("usage: basalt-start run GATE SECONDS PROGRAM [ARGUMENT...] | install PATH\n",
               stderr);
    return 1;
}
