#include "local/node_services.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <ctime>
#include <thread>

#include <fmt/format.h>

#include "base/log.h"
#include "base/strings.h"
#include "linux/file.h"
#include "linux/process.h"
#include "local/network.h"

namespace basalt::local {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kRestartDelayMin = std::chrono::milliseconds(500);
constexpr auto kRestartDelayMax = std::chrono::seconds(10);
constexpr auto kServicesGrace = std::chrono::seconds(5);
constexpr auto kProcessesGrace = std::chrono::seconds(8);
// How late the kernel may fire a timer of a node's process, so that timers share an interrupt and a
// wake-up: prctl(2), PR_SET_TIMERSLACK, inherited by containers. Servers written in Go wake some
// hundred times a second while idle; this halves their processor time. As long as Go's own monitor
// sleeps at most, which is what notices goroutines that run or block for long. basalt-start gives
// the same to what it starts, on other nodes, too.
constexpr auto kTimerSlack = std::chrono::nanoseconds(std::chrono::milliseconds(10));
constexpr off_t kLogBytesMax = 32 * 1024 * 1024;  // then the log starts anew, one old one is kept

struct Service {
    const char* name;
    std::vector<std::string> (*command)();  ///< Empty: what it needs is not there yet.
    pid_t pid = -1;
    Clock::time_point started{};
    Clock::time_point next_start{};
    std::chrono::milliseconds delay = kRestartDelayMin;
};

std::vector<std::string> containerd_command() {
    return {"/usr/bin/containerd", "--config", "/etc/containerd/config.toml"};
}

std::vector<std::string> kubelet_command() {
    const bool configured = linux::exists("/var/lib/kubelet/config.yaml") &&
                            linux::exists("/run/containerd/containerd.sock") &&
                            (linux::exists("/etc/kubernetes/kubelet.conf") ||
                             linux::exists("/etc/kubernetes/bootstrap-kubelet.conf"));
    if (!configured) return {};
    std::vector<std::string> argv = {
        fmt::format("{}/kubelet", kNodeBinaries),
        "--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf",
        "--kubeconfig=/etc/kubernetes/kubelet.conf", "--config=/var/lib/kubelet/config.yaml"};
    if (Result<std::string> flags = linux::read_file("/var/lib/kubelet/kubeadm-flags.env");
        flags.ok()) {
        for (std::string& flag : parse_kubeadm_flags(*flags)) argv.push_back(std::move(flag));
    }
    return argv;
}

int open_log(const char* name) {
    const std::string path = fmt::format("/var/log/{}.log", name);
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (fd < 0 || ::lseek(fd, 0, SEEK_END) < kLogBytesMax) return fd;
    ::close(fd);
    ::rename(path.c_str(), (path + ".1").c_str());
    return ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
}

void start(Service& service, const std::vector<std::string>& command) {
    std::vector<std::string> strings = command;
    std::vector<char*> argv;
    for (std::string& text : strings) argv.push_back(text.data());
    argv.push_back(nullptr);
    const int log = open_log(service.name);
    service.started = Clock::now();
    service.pid = ::fork();
    if (service.pid == 0) {
        sigset_t none;
        ::sigemptyset(&none);
        ::sigprocmask(SIG_SETMASK, &none, nullptr);
        ::setsid();
        ::dup2(log, 1);
        ::dup2(log, 2);
        ::execv(argv[0], argv.data());
        ::_exit(127);
    }
    if (log >= 0) ::close(log);
    log_info("started", {{"service", service.name}, {"pid", service.pid}});
}

void reap(std::vector<Service>& services) {
    int status = 0;
    for (pid_t pid = ::waitpid(-1, &status, WNOHANG); pid > 0;
         pid = ::waitpid(-1, &status, WNOHANG)) {
        for (Service& service : services) {
            if (service.pid != pid) continue;
            const auto now = Clock::now();
            if (now - service.started > kRestartDelayMax) service.delay = kRestartDelayMin;
            service.next_start = now + service.delay;
            service.delay =
                std::min<std::chrono::milliseconds>(service.delay * 2, kRestartDelayMax);
            service.pid = -1;
            log_warn("ended", {{"service", service.name}, {"status", status}});
        }
    }
}

/// True while processes other than the containers' monitors live; the monitors ignore SIGTERM.
bool others_alive() {
    for (const std::string& name : linux::list_directory("/proc")) {
        auto pid = parse_number<pid_t>(name);
        if (!pid || *pid == 1) continue;
        Result<std::string> comm = linux::read_file(fmt::format("/proc/{}/comm", *pid));
        if (comm.ok() && !comm->starts_with("containerd-shim")) return true;
    }
    return false;
}

template <class Condition>
void wait_while(Condition condition, std::chrono::milliseconds limit,
                std::vector<Service>& services) {
    const auto deadline = Clock::now() + limit;
    while (condition() && Clock::now() < deadline) {
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
        reap(services);
    }
}

void shut_down(std::vector<Service>& services) {
    log_info("shutting down");
    // kubelet first: it would start again what we end.
    for (Service& service : services) {
        if (service.pid > 0) ::kill(service.pid, SIGTERM);
    }
    auto services_alive = [&] {
        for (const Service& service : services) {
            if (service.pid > 0) return true;
        }
        return false;
    };
    wait_while(services_alive, kServicesGrace, services);
    ::kill(-1, SIGTERM);
    wait_while(others_alive, kProcessesGrace, services);
}

void set_environment() {
    ::clearenv();
    const std::string path = fmt::format(
        "{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", kNodeBinaries);
    ::setenv("PATH", path.c_str(), 1);
    ::setenv("HOME", "/root", 1);
    ::setenv("LANG", "C.UTF-8", 1);
}

}  // namespace

std::vector<std::string> parse_kubeadm_flags(const std::string& text) {
    std::vector<std::string> flags;
    auto parts = cut(trim(text), "=");
    if (!parts || parts->first != "KUBELET_KUBEADM_ARGS") return flags;
    std::string_view value = trim(parts->second);
    if (value.size() >= 2 && value.front() == '"' && value.back() == '"')
        value = value.substr(1, value.size() - 2);
    for (std::string_view flag : split(value, ' ')) {
        if (!flag.empty()) flags.emplace_back(flag);
    }
    return flags;
}

int run_node_services(const NodeSpec& spec) {
    sigset_t handled;
    ::sigemptyset(&handled);
    ::sigaddset(&handled, SIGCHLD);
    ::sigaddset(&handled, SIGTERM);
    ::sigaddset(&handled, SIGINT);
    ::sigprocmask(SIG_BLOCK, &handled, nullptr);
    set_environment();
    ::prctl(PR_SET_TIMERSLACK, static_cast<unsigned long>(kTimerSlack.count()));
    if (Result<void> network = configure_node_network(spec); !network.ok()) {
        log_error("network", {{"error", network.error()}});
        return 1;
    }
    std::vector<Service> services(2);
    services[0].name = "containerd";
    services[0].command = containerd_command;
    services[1].name = "kubelet";
    services[1].command = kubelet_command;
    for (;;) {
        reap(services);
        for (Service& service : services) {
            if (service.pid > 0 || Clock::now() < service.next_start) continue;
            if (const auto command = service.command(); !command.empty()) start(service, command);
        }
        // Files that kubeadm writes are looked for ten times a second until kubelet runs; then only
        // signals count.
        const timespec tick =
            services[1].pid > 0 && services[0].pid > 0 ? timespec{1, 0} : timespec{0, 100'000'000};
        const int signal_number = ::sigtimedwait(&handled, nullptr, &tick);
        if (signal_number == SIGTERM || signal_number == SIGINT) break;
    }
    shut_down(services);
    return 0;
}

}  // namespace basalt::local
