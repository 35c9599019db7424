#include "local/node.h"

#include <signal.h>

#include <filesystem>
#include <thread>

#include <fmt/format.h>

#include "base/strings.h"
#include "linux/cgroup.h"
#include "linux/file.h"

namespace basalt::local {
namespace {

constexpr auto kStartLimit = std::chrono::minutes(2);
constexpr auto kStopGrace =
    std::chrono::seconds(20);  // longer than the node gives its own processes
constexpr auto kPollInterval = std::chrono::milliseconds(50);

}  // namespace

Node::Node(const Paths& paths, NodeSpec spec)
    : paths_(paths), spec_(std::move(spec)), daemon_(spec_.directory, "node") {}

Result<void> Node::start() const {
    BASALT_TRY(linux::make_directories(spec_.directory, 0700));
    const std::string log = spec_.directory + "/node.log";
    if (!running()) {
        BASALT_TRY(linux::write_file_atomically(spec_.directory + "/init.pid", ""));
        BASALT_TRY(daemon_.start(
            {paths_.program, "--share-dir", paths_.share, "node-process", "--name", spec_.cluster,
             "--number", std::to_string(spec_.number), "--pause-image", spec_.pause_image},
            log));
    }
    const auto deadline = std::chrono::steady_clock::now() + kStartLimit;
    for (;;) {
        if (!running()) {
            return unavailable(fmt::format("node {} ended while it started; its log {} says:\n{}",
                                           name(), log, linux::tail_file(log, 5)));
        }
        if (Result<std::vector<std::string>> client = ctr({"version"}); client.ok()) {
            linux::Command command;
            command.argv = *client;
            command.timeout = std::chrono::seconds(10);
            if (linux::run_ok(command).ok()) return {};
        }
        if (std::chrono::steady_clock::now() >= deadline) {
            return deadline_exceeded(
                fmt::format("containerd of {} does not answer; see {}/log/containerd.log", name(),
                            spec_.var()));
        }
        std::this_thread::sleep_for(kPollInterval);
    }
}

Result<void> Node::stop() const { return daemon_.stop(kStopGrace); }

Result<void> Node::kill() const {
    if (Result<pid_t> pid = first_process(); pid.ok()) {
        ::kill(*pid, SIGKILL);
    } else {
        daemon_.signal(SIGKILL);
    }
    if (daemon_.wait_stopped(std::chrono::seconds(15))) return {};
    return deadline_exceeded(fmt::format("node {} does not end", name()));
}

Result<pid_t> Node::first_process() const {
    if (!running()) return failed_precondition(fmt::format("node {} is stopped", name()));
    BASALT_ASSIGN(std::string text, linux::read_file(spec_.directory + "/init.pid"));
    std::optional<pid_t> pid = parse_number<pid_t>(trim(text));
    if (!pid) return unavailable(fmt::format("node {} is starting", name()));
    return *pid;
}

Result<std::vector<std::string>> Node::command_inside(const std::vector<std::string>& argv) const {
    BASALT_ASSIGN(pid_t pid, first_process());
    std::vector<std::string> command = {
        "nsenter",
        "--target",
        std::to_string(pid),
        "--mount",
        "--uts",
        "--ipc",
        "--net",
        "--pid",
        "--cgroup",
        "--root",
        "--wd",
        "--",
        "setpriv",
        "--pdeathsig",
        "KILL",
        "env",
        "-i",
        fmt::format("PATH={}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    kNodeBinaries),
        "HOME=/root",
        "LANG=C.UTF-8",
        "KUBECONFIG=/etc/kubernetes/admin.conf"};
    if (const char* terminal = std::getenv("TERM"))
        command.push_back(fmt::format("TERM={}", terminal));
    command.insert(command.end(), argv.begin(), argv.end());
    return command;
}

Result<std::string> Node::run_inside(const std::vector<std::string>& argv, std::string input,
                                     std::chrono::milliseconds timeout,
                                     std::function<void(std::string_view)> on_line) const {
    linux::Command command;
    BASALT_ASSIGN(command.argv, command_inside(argv));
    command.input = std::move(input);
    command.timeout = timeout;
    command.on_line = std::move(on_line);
    return linux::run_ok(command).context(fmt::format("{} on {}", argv.front(), name()));
}

void Node::kill_processes(const std::string& process_name) const {
    Result<pid_t> first = first_process();
    if (!first.ok()) return;
    std::error_code error;
    auto pid_namespace = [&error](const std::string& pid) {
        return std::filesystem::read_symlink(fmt::format("/proc/{}/ns/pid", pid), error);
    };
    const auto own = pid_namespace(std::to_string(*first));
    for (const std::string& entry : linux::list_directory("/proc")) {
        std::optional<pid_t> pid = parse_number<pid_t>(entry);
        if (!pid) continue;
        Result<std::string> comm = linux::read_file(fmt::format("/proc/{}/comm", entry));
        if (!comm.ok() || trim(*comm) != process_name || pid_namespace(entry) != own) continue;
        ::kill(*pid, SIGKILL);
    }
}

Result<std::vector<std::string>> Node::ctr(const std::vector<std::string>& arguments) const {
    BASALT_ASSIGN(pid_t pid, first_process());
    const std::string socket = fmt::format("/proc/{}/root/run/containerd/containerd.sock", pid);
    if (!linux::exists(socket))
        return unavailable(fmt::format("containerd of {} is starting", name()));
    std::vector<std::string> command = {"ctr", "--address", socket, "--namespace", "k8s.io"};
    command.insert(command.end(), arguments.begin(), arguments.end());
    return command;
}

}  // namespace basalt::local
