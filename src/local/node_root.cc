#include "local/node_root.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <functional>

#include <fmt/format.h>

#include "linux/cgroup.h"
#include "linux/file.h"
#include "linux/mounts.h"

namespace basalt::local {
namespace fs = std::filesystem;
namespace {

/// Debian keeps /bin, /lib, … as links into /usr; older layouts have directories.
Result<void> copy_top_level_link(const std::string& root, const std::string& name) {
    std::error_code error;
    const fs::path path = "/" + name;
    if (fs::is_symlink(path, error)) {
        const std::string target = fs::read_symlink(path, error).string();
        if (::symlink(target.c_str(), fmt::format("{}/{}", root, name).c_str()) != 0) {
            return errno_error(errno, fmt::format("link {}", name));
        }
        return {};
    }
    if (fs::is_directory(path, error))
        return linux::mount_bind(path.string(), fmt::format("{}/{}", root, name), true);
    return {};
}

Result<void> mount_own_directories(const NodeSpec& spec, const std::string& root) {
    for (const char* name : {"usr", "etc"}) {
        BASALT_TRY(linux::mount_overlay(
            fmt::format("/{}", name), fmt::format("{}/{}", spec.directory, name),
            fmt::format("{}/{}.work", spec.directory, name), fmt::format("{}/{}", root, name)));
    }
    for (const char* name : {"var", "opt", "root"}) {
        const std::string own = fmt::format("{}/{}", spec.directory, name);
        BASALT_TRY(linux::make_directories(own));
        BASALT_TRY(linux::mount_bind(own, fmt::format("{}/{}", root, name)));
    }
    for (const char* name : {"bin", "sbin", "lib", "lib32", "lib64", "libx32"}) {
        BASALT_TRY(copy_top_level_link(root, name));
    }
    BASALT_TRY(linux::make_directories(root + "/var/log"));
    BASALT_TRY(linux::make_directories(root + "/var/tmp"));
    for (const char* name : {"home", "mnt", "srv", "media"}) {
        BASALT_TRY(linux::make_directories(fmt::format("{}/{}", root, name)));
    }
    BASALT_TRY(linux::mount_bind(spec.binaries, root + kNodeBinaries, true));
    BASALT_TRY(linux::mount_new("tmpfs", root + "/run", "mode=0755"));
    BASALT_TRY(linux::mount_new("tmpfs", root + "/tmp", "mode=1777"));
    if (!linux::exists(root + "/var/run") && ::symlink("/run", (root + "/var/run").c_str()) != 0) {
        return errno_error(errno, "link /var/run");
    }
    return {};
}

Result<void> mount_kernel_views(const std::string& root) {
    BASALT_TRY(linux::mount_new("proc", root + "/proc"));
    BASALT_TRY(linux::mount_new("sysfs", root + "/sys"));
    BASALT_TRY(linux::mount_bind("/dev", root + "/dev"));
    BASALT_TRY(
        linux::mount_new("devpts", root + "/dev/pts", "newinstance,ptmxmode=0666,mode=0620,gid=5"));
    BASALT_TRY(linux::mount_new("tmpfs", root + "/dev/shm", "mode=1777"));
    return {};
}

/// The trees are mounted anew, so that the cgroup namespace shows the node's own directory as their
/// root.
Result<void> mount_cgroups(const std::string& root) {
    BASALT_ASSIGN(std::vector<linux::CgroupTree> trees, linux::cgroup_trees());
    const bool sole =
        std::any_of(trees.begin(), trees.end(), std::mem_fn(&linux::CgroupTree::sole));
    if (!sole) {
        BASALT_TRY(linux::mount_new("tmpfs", root + "/sys/fs/cgroup", "mode=0755"));
    }
    for (const linux::CgroupTree& tree : trees) {
        const std::string target = root + tree.mount_point;
        BASALT_TRY(linux::mount_new(tree.unified ? "cgroup2" : "cgroup", target, tree.options));
    }
    // Co-mounted controllers ("cpu,cpuacct") have a link for each.
    std::error_code error;
    for (const auto& entry : fs::directory_iterator("/sys/fs/cgroup", error)) {
        if (!entry.is_symlink(error)) continue;
        const std::string target = fs::read_symlink(entry.path(), error).string();
        if (::symlink(target.c_str(), (root + entry.path().string()).c_str()) != 0) {
            return errno_error(errno, "link cgroup controllers");
        }
    }
    return {};
}

/// kubelet insists on writing these, and they are the whole machine's: it gets files of its own
/// instead, so that a node does not change how the host behaves on a panic or when memory runs out.
Result<void> shield_global_sysctls(const std::string& root) {
    const std::pair<const char*, const char*> values[] = {
        {"vm/overcommit_memory", "1"},
        {"vm/panic_on_oom", "0"},
        {"kernel/panic", "10"},
        {"kernel/panic_on_oops", "1"},
        {"kernel/keys/root_maxkeys", "1000000"},
        {"kernel/keys/root_maxbytes", "25000000"},
    };
    for (const auto& [name, value] : values) {
        const std::string target = fmt::format("{}/proc/sys/{}", root, name);
        if (!linux::exists(target)) continue;
        const std::string own = fmt::format("{}/run/basalt/sysctl/{}", root, name);
        BASALT_TRY(linux::write_file_atomically(own, fmt::format("{}\n", value)));
        BASALT_TRY(linux::mount_bind(own, target));
    }
    return {};
}

/// A real /opt/cni/bin, so that a DaemonSet may add plugins to the distribution's.
Result<void> link_cni_plugins() {
    constexpr const char* kDistribution = "/usr/lib/cni";
    BASALT_TRY(linux::make_directories("/opt/cni/bin"));
    for (const std::string& plugin : linux::list_directory(kDistribution)) {
        const std::string link = "/opt/cni/bin/" + plugin;
        if (linux::exists(link)) continue;
        BASALT_TRY(linux::replace_symlink(fmt::format("{}/{}", kDistribution, plugin), link));
    }
    return {};
}

}  // namespace

Result<void> enter_node_root(const NodeSpec& spec) {
    const std::string root = spec.directory + "/mnt";
    BASALT_TRY(linux::make_mounts_private());
    BASALT_TRY(linux::mount_new("tmpfs", root, "mode=0755"));
    BASALT_TRY(mount_own_directories(spec, root));
    BASALT_TRY(mount_kernel_views(root));
    BASALT_TRY(mount_cgroups(root));
    BASALT_TRY(shield_global_sysctls(root));
    BASALT_TRY(linux::pivot_into(root));
    BASALT_TRY(linux::make_mounts_shared());
    return link_cni_plugins();
}

}  // namespace basalt::local
