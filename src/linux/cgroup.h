// Control groups of the first version: one tree a controller, each with the same path below its
// root.
//
// A node gets one directory in every tree and a cgroup namespace on top, so that kubelet and
// containerd see their own root and need no settings. Machines that have only the unified tree are
// refused by check_cgroups().
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "base/result.h"

namespace basalt::linux {

/// One mounted hierarchy.
struct CgroupTree {
    std::string mount_point;  ///< "/sys/fs/cgroup/memory"
    std::string options;  ///< What mount(2) needs to mount it again: "memory", "none,name=systemd";
                          ///< "" for v2.
    bool unified = false;
};

/// Mounted trees, from the text of /proc/self/mountinfo.
std::vector<CgroupTree> parse_cgroup_trees(const std::string& mountinfo);
Result<std::vector<CgroupTree>> cgroup_trees();

/// FailedPrecondition with what is missing, when kubelet could not run here.
Result<void> check_cgroups();

/// Makes `path` (relative, "basalt/a/b") in every tree. cpuset directories get the parent's
/// processors and memory nodes, without which no process may enter.
Result<void> make_cgroup(const std::string& path);
/// Moves the calling process into `path` of every tree.
Result<void> enter_cgroup(const std::string& path);
/// Processes below `path`, in any tree.
std::vector<int> cgroup_processes(const std::string& path);
/// Removes `path` and everything below it from every tree; waits for dying processes until `limit`.
Result<void> remove_cgroup(const std::string& path, std::chrono::milliseconds limit);

/// Removes a directory that others may still use: one attempt, and what is not empty stays.
Result<void> remove_cgroup_if_empty(const std::string& path);

}  // namespace basalt::linux
