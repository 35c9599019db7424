#include "linux/cgroup.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <set>
#include <thread>

#include <fmt/format.h>

#include "base/strings.h"
#include "linux/file.h"

namespace basalt::linux {
namespace fs = std::filesystem;
namespace {

/// Options of a v1 mount are the file system's own plus the controllers; mount(2) wants only the
/// latter.
std::string mount_options(std::string_view super_options) {
    std::vector<std::string> kept;
    bool named = false;
    for (std::string_view option : split(super_options, ',')) {
        if (option == "rw" || option == "ro" || option.starts_with("release_agent=")) continue;
        named = named || option.starts_with("name=");
        kept.emplace_back(option);
    }
    if (named) kept.insert(kept.begin(), "none");
    return join(kept, ",");
}

std::vector<std::string> subdirectories(const std::string& path) {
    std::vector<std::string> found;
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(path, ignored)) {
        if (entry.is_directory(ignored)) found.push_back(entry.path().string());
    }
    return found;
}

void collect_processes(const std::string& directory, std::set<int>& into) {
    if (Result<std::string> text = read_file(directory + "/cgroup.procs"); text.ok()) {
        for (std::string_view line : split(*text, '\n')) {
            if (auto pid = parse_number<int>(line); pid && *pid > 0) into.insert(*pid);
        }
    }
    for (const std::string& child : subdirectories(directory)) collect_processes(child, into);
}

bool remove_directory_tree(const std::string& directory) {
    bool all = true;
    for (const std::string& child : subdirectories(directory))
        all = remove_directory_tree(child) && all;
    return (::rmdir(directory.c_str()) == 0 || errno == ENOENT) && all;
}

Result<void> copy_if_empty(const std::string& directory, const std::string& file) {
    BASALT_ASSIGN(std::string own, read_file(directory + "/" + file));
    if (!trim(own).empty()) return {};
    BASALT_ASSIGN(std::string parent,
                  read_file(fs::path(directory).parent_path().string() + "/" + file));
    return write_file(directory + "/" + file, trim(parent));
}

}  // namespace

std::vector<CgroupTree> parse_cgroup_trees(const std::string& mountinfo) {
    std::vector<CgroupTree> trees;
    for (std::string_view line : split(mountinfo, '\n')) {
        // "36 35 98:0 /root /mount/point rw,… shared:1 - cgroup source rw,memory"
        auto halves = line.find(" - ");
        if (halves == std::string_view::npos) continue;
        const auto left = split(line.substr(0, halves), ' ');
        const auto right = split(line.substr(halves + 3), ' ');
        if (left.size() < 5 || right.size() < 3) continue;
        if (right[0] == "cgroup")
            trees.push_back({std::string(left[4]), mount_options(right[2]), false});
        if (right[0] == "cgroup2") trees.push_back({std::string(left[4]), "", true});
    }
    return trees;
}

Result<std::vector<CgroupTree>> cgroup_trees() {
    BASALT_ASSIGN(std::string mountinfo, read_file("/proc/self/mountinfo"));
    return parse_cgroup_trees(mountinfo);
}

Result<void> check_cgroups() {
    BASALT_ASSIGN(std::vector<CgroupTree> trees, cgroup_trees());
    for (const char* controller :
         {"cpu", "cpuacct", "cpuset", "memory", "pids", "devices", "freezer"}) {
        const bool found = std::any_of(trees.begin(), trees.end(), [&](const CgroupTree& tree) {
            const auto options = split(tree.options, ',');
            return std::find(options.begin(), options.end(), controller) != options.end();
        });
        if (!found) {
            return failed_precondition(
                fmt::format("the cgroup v1 controller {} is not mounted on this machine, and local "
                            "clusters cannot use v2 yet; with systemd, boot the kernel with "
                            "systemd.unified_cgroup_hierarchy=0 "
                            "systemd.legacy_systemd_cgroup_controller=1",
                            controller));
        }
    }
    return {};
}

Result<void> make_cgroup(const std::string& path) {
    BASALT_ASSIGN(std::vector<CgroupTree> trees, cgroup_trees());
    for (const CgroupTree& tree : trees) {
        std::string directory = tree.mount_point;
        for (std::string_view part : split(path, '/')) {
            directory += fmt::format("/{}", part);
            if (::mkdir(directory.c_str(), 0755) != 0 && errno != EEXIST) {
                return errno_error(errno, fmt::format("create cgroup {}", directory));
            }
            if (!exists(directory + "/cpuset.cpus") || tree.unified) continue;
            BASALT_TRY(copy_if_empty(directory, "cpuset.cpus"));
            BASALT_TRY(copy_if_empty(directory, "cpuset.mems"));
        }
    }
    return {};
}

Result<void> enter_cgroup(const std::string& path) {
    BASALT_ASSIGN(std::vector<CgroupTree> trees, cgroup_trees());
    const std::string self = std::to_string(::getpid());
    for (const CgroupTree& tree : trees) {
        BASALT_TRY(write_file(fmt::format("{}/{}/cgroup.procs", tree.mount_point, path), self));
    }
    return {};
}

std::vector<int> cgroup_processes(const std::string& path) {
    std::set<int> found;
    Result<std::vector<CgroupTree>> trees = cgroup_trees();
    if (!trees.ok()) return {};
    for (const CgroupTree& tree : *trees)
        collect_processes(fmt::format("{}/{}", tree.mount_point, path), found);
    return {found.begin(), found.end()};
}

Result<void> remove_cgroup(const std::string& path, std::chrono::milliseconds limit) {
    BASALT_ASSIGN(std::vector<CgroupTree> trees, cgroup_trees());
    const auto deadline = std::chrono::steady_clock::now() + limit;
    for (;;) {
        bool all = true;
        for (const CgroupTree& tree : trees) {
            all = remove_directory_tree(fmt::format("{}/{}", tree.mount_point, path)) && all;
        }
        if (all) return {};
        if (std::chrono::steady_clock::now() >= deadline) {
            return deadline_exceeded(fmt::format("cgroup {} is still in use", path));
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
}

Result<void> remove_cgroup_if_empty(const std::string& path) {
    BASALT_ASSIGN(std::vector<CgroupTree> trees, cgroup_trees());
    for (const CgroupTree& tree : trees)
        ::rmdir(fmt::format("{}/{}", tree.mount_point, path).c_str());
    return {};
}

}  // namespace basalt::linux
