#include "local/host.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <set>

#include <fmt/format.h>

#include "base/strings.h"
#include "linux/cgroup.h"
#include "linux/file.h"
#include "linux/process.h"

namespace basalt::local {
namespace {

namespace fs = std::filesystem;

/// Program, and the Debian package that has it.
const std::map<std::string, std::string>& needed_programs() {
    static const std::map<std::string, std::string> programs = {
        {"ip", "iproute2"},
        {"nft", "nftables"},
        {"nsenter", "util-linux"},
        {"setpriv", "util-linux"},
        {"containerd", "containerd"},
        {"ctr", "containerd"},
        {"crun", "crun"},
        {"docker-registry", "docker-registry"},
        {"python3", "python3"},
        {"curl", "curl"},
        {"conntrack", "conntrack"},
        {"socat", "socat"},
        {"iptables", "iptables"},
        {"ethtool", "ethtool"},
        {"mount", "mount"},
    };
    return programs;
}

Result<void> raise(const std::string& path, long value) {
    BASALT_ASSIGN(std::string text, linux::read_file(path));
    std::optional<long> now = parse_number<long>(trim(text));
    if (now && *now >= value) return {};
    return linux::write_file(path, std::to_string(value));
}

std::string home_kubeconfig() {
    const char* home = std::getenv("HOME");
    return fmt::format("{}/.kube/config", home != nullptr && *home != '\0' ? home : "/root");
}

/// Links are ours when they are missing or are links already; a file of the user's is left alone.
Result<void> link_unless_file(const std::string& target, const std::string& link) {
    std::error_code error;
    if (fs::exists(fs::symlink_status(link, error)) && !fs::is_symlink(link, error)) return {};
    if (fs::is_symlink(link, error) && fs::read_symlink(link, error) == target) return {};
    BASALT_TRY(linux::make_directories(fs::path(link).parent_path().string()));
    return linux::replace_symlink(target, link);
}

}  // namespace

Result<void> require_root(const std::string& command) {
    if (::geteuid() == 0) return {};
    return permission_denied(fmt::format(
        "basalt {} needs root, for namespaces and mounts; try: sudo basalt {}", command, command));
}

Result<void> check_host() {
    std::set<std::string> packages;
    for (const auto& [program, package] : needed_programs()) {
        if (!linux::program_exists(program)) packages.insert(package);
    }
    if (!linux::exists("/usr/lib/cni/ptp")) packages.insert("containernetworking-plugins");
    if (!packages.empty()) {
        return failed_precondition(fmt::format(
            "programs are missing; install them with: apt-get install {}", join(packages, " ")));
    }
    return linux::check_cgroups();
}

Result<void> raise_kernel_limits() {
    // Each API server, kubelet and containerd takes a few; the default of 128 ends at about ten
    // control planes.
    BASALT_TRY(raise("/proc/sys/fs/inotify/max_user_instances", 8192));
    return raise("/proc/sys/fs/inotify/max_user_watches", 524288);
}

Result<void> link_programs(const Paths& paths, const std::string& kubernetes_version) {
    std::error_code error;
    const std::string kubectl = "/usr/local/bin/kubectl";
    // One that works stays: it may be the user's, or come from another cache.
    if (!fs::exists(kubectl, error)) {
        BASALT_TRY(link_unless_file(
            fmt::format("{}/bin/kubernetes-{}/kubectl", paths.cache, kubernetes_version), kubectl));
    }
    if (paths.program == "/usr/local/bin/basalt") return {};
    BASALT_TRY(link_unless_file(paths.program, "/usr/local/bin/basalt"));
    return link_unless_file(paths.program, "/usr/local/bin/kubectl-basalt");
}

Result<void> link_kubeconfig(const std::string& kubeconfig) {
    std::error_code error;
    const std::string link = home_kubeconfig();
    // A link to a cluster that still exists is another cluster's.
    if (fs::is_symlink(link, error) && fs::exists(link, error)) return {};
    return link_unless_file(kubeconfig, link);
}

void unlink_kubeconfig(const std::string& kubeconfig) {
    std::error_code error;
    const std::string link = home_kubeconfig();
    if (fs::is_symlink(link, error) && fs::read_symlink(link, error) == kubeconfig)
        fs::remove(link, error);
}

}  // namespace basalt::local
