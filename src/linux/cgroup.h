// Control groups of both versions. The first has a tree for each controller, the second ("unified")
// one for all of them; a group has the same path below the root of every tree.
//
// Which version a machine has is said by what is mounted at /sys/fs/cgroup: kubelet, containerd and
// crun look there, too. A unified tree elsewhere stands beside those of the first version
// ("hybrid"); processes have a place in it, but nothing is controlled there.
//
// A node gets one group and a cgroup namespace on top, so that kubelet and containerd see a root of
// their own and need no settings. In version 2, groups below get a controller only from a group
// that has no processes itself (the kernel's root aside): make_cgroup() hands the controllers down
// to the group that it makes, and vacate_cgroup() moves a node's own processes out of the way of
// what kubelet makes.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace basalt::linux {

/// One mounted hierarchy.
struct CgroupTree {
    std::string mount_point;  ///< "/sys/fs/cgroup/memory"
    std::string options;  ///< What mount(2) needs to mount it again: "memory", "none,name=systemd";
                          ///< "" for v2.
    bool unified = false;

    /// The machine's only tree: version 2.
    bool sole() const;
};

/// Mounted trees, from the text of /proc/self/mountinfo.
std::vector<CgroupTree> parse_cgroup_trees(const std::string& mountinfo);
Result<std::vector<CgroupTree>> cgroup_trees();

/// FailedPrecondition with what is missing and what to do, when kubelet could not run here.
Result<void> check_cgroups();
/// The same for a machine with these trees; `sole_controllers` is what cgroup.controllers says at
/// the root of a sole one.
Result<void> check_cgroups(const std::vector<CgroupTree>& trees, std::string_view sole_controllers);

/// What to write to cgroup.subtree_control of a group, "+cpu +memory", so that groups below it get
/// all that kubelet uses and there is. `available` and `enabled` are the group's cgroup.controllers
/// and cgroup.subtree_control; "" when nothing is left to do.
std::string controllers_to_enable(std::string_view available, std::string_view enabled);

/// Makes `path` (relative, "basalt/a/b") in every tree. v1: cpuset directories get the parent's
/// processors and memory nodes, without which no process may enter. v2: all groups from the root to
/// the parent enable controllers, so none of them may have processes.
Result<void> make_cgroup(const std::string& path);
/// Moves the calling process into `path` of every tree.
Result<void> enter_cgroup(const std::string& path);
/// v2: moves the processes of `path` into `path`/init and enables controllers for that and what is
/// made beside it. For processes that make no others meanwhile. v1: nothing, a group may have both.
Result<void> vacate_cgroup(const std::string& path);
/// Processes below `path`, in any tree.
std::vector<int> cgroup_processes(const std::string& path);
/// SIGKILL to all processes below `path`, and waits for their end until `limit`.
void kill_cgroup(const std::string& path, std::chrono::milliseconds limit);
/// Removes `path` and everything below it from every tree; waits for dying processes until `limit`.
Result<void> remove_cgroup(const std::string& path, std::chrono::milliseconds limit);

/// Removes a directory that others may still use: one attempt, and what is not empty stays.
Result<void> remove_cgroup_if_empty(const std::string& path);

}  // namespace basalt::linux
