#include "linux/cgroup.h"

#include <signal.h>
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

constexpr const char* kMountPoint = "/sys/fs/cgroup";
constexpr const char* kLeaf = "init";  // of a group whose own processes have moved on
constexpr auto kPollInterval = std::chrono::milliseconds(50);

bool contains(std::string_view words, char separator, std::string_view word) {
    const std::vector<std::string_view> parts = split(trim(words), separator);
    return std::find(parts.begin(), parts.end(), word) != parts.end();
}

std::string directory_of(const CgroupTree& tree, const std::string& path) {
    return fmt::format("{}/{}", tree.mount_point, path);
}

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

Result<void> make_directory(const std::string& directory) {
    if (::mkdir(directory.c_str(), 0755) == 0 || errno == EEXIST) return {};
    return errno_error(errno, fmt::format("create cgroup {}", directory));
}

/// v1: without processors and memory nodes no process may enter.
Result<void> fill_cpuset(const std::string& directory) {
    if (!exists(directory + "/cpuset.cpus")) return {};
    BASALT_TRY(copy_if_empty(directory, "cpuset.cpus"));
    return copy_if_empty(directory, "cpuset.mems");
}

/// v2: what there is in `directory`, for the groups below it.
Result<void> enable_controllers(const std::string& directory) {
    const std::string file = directory + "/cgroup.subtree_control";
    BASALT_ASSIGN(std::string available, read_file(directory + "/cgroup.controllers"));
    BASALT_ASSIGN(std::string enabled, read_file(file));
    const std::string wanted = controllers_to_enable(available, enabled);
    if (wanted.empty()) return {};
    return write_file(file, wanted)
        .context(fmt::format("processes of cgroup {} itself must be in one below it", directory));
}

Result<void> make_in_tree(const CgroupTree& tree, const std::string& path) {
    std::string directory = tree.mount_point;
    for (std::string_view part : split(path, '/')) {
        if (tree.sole()) {
            BASALT_TRY(enable_controllers(directory));
        }
        directory += fmt::format("/{}", part);
        BASALT_TRY(make_directory(directory));
        if (!tree.unified) {
            BASALT_TRY(fill_cpuset(directory));
        }
    }
    return {};
}

Result<void> vacate_directory(const std::string& directory) {
    const std::string leaf = fmt::format("{}/{}", directory, kLeaf);
    BASALT_TRY(make_directory(leaf));
    BASALT_ASSIGN(std::string processes, read_file(directory + "/cgroup.procs"));
    for (std::string_view pid : split(trim(processes), '\n')) {
        if (pid.empty()) continue;
        BASALT_TRY(write_file(leaf + "/cgroup.procs", pid));
    }
    return enable_controllers(directory);
}

}  // namespace

bool CgroupTree::sole() const { return unified && mount_point == kMountPoint; }

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
    // Where there is no such file, there is no such tree.
    const Result<std::string> controllers =
        read_file(fmt::format("{}/cgroup.controllers", kMountPoint));
    return check_cgroups(trees, controllers.ok() ? *controllers : "");
}

Result<void> check_cgroups(const std::vector<CgroupTree>& trees,
                           std::string_view sole_controllers) {
    if (std::any_of(trees.begin(), trees.end(),
                    [](const CgroupTree& tree) { return tree.sole(); })) {
        for (const char* controller : {"cpu", "cpuset", "memory", "pids"}) {
            if (contains(sole_controllers, ' ', controller)) continue;
            return failed_precondition(fmt::format(
                "the cgroup controller {0} is not in {1}/cgroup.controllers; boot the kernel "
                "without cgroup_disable={0}, and mount no tree of cgroup v1 that takes it",
                controller, kMountPoint));
        }
        return {};
    }
    for (const char* controller :
         {"cpu", "cpuacct", "cpuset", "memory", "pids", "devices", "freezer"}) {
        const bool found = std::any_of(trees.begin(), trees.end(), [&](const CgroupTree& tree) {
            return contains(tree.options, ',', controller);
        });
        if (found) continue;
        return failed_precondition(fmt::format(
            "there is no cgroup v2 at {0}, and the v1 controller {1} is not mounted either; boot "
            "with cgroup v2 (with systemd, without systemd.unified_cgroup_hierarchy=0), or: "
            "mkdir -p {0}/{1}; mount -t cgroup -o {1} cgroup {0}/{1}",
            kMountPoint, controller));
    }
    return {};
}

std::string controllers_to_enable(std::string_view available, std::string_view enabled) {
    std::vector<std::string> wanted;
    for (const char* controller : {"cpuset", "cpu", "io", "memory", "hugetlb", "pids"}) {
        if (contains(available, ' ', controller) && !contains(enabled, ' ', controller))
            wanted.push_back(fmt::format("+{}", controller));
    }
    return join(wanted, " ");
}

Result<void> make_cgroup(const std::string& path) {
    BASALT_ASSIGN(std::vector<CgroupTree> trees, cgroup_trees());
    for (const CgroupTree& tree : trees) {
        BASALT_TRY(make_in_tree(tree, path));
    }
    return {};
}

Result<void> enter_cgroup(const std::string& path) {
    BASALT_ASSIGN(std::vector<CgroupTree> trees, cgroup_trees());
    const std::string self = std::to_string(::getpid());
    for (const CgroupTree& tree : trees) {
        BASALT_TRY(write_file(directory_of(tree, path) + "/cgroup.procs", self));
    }
    return {};
}

Result<void> vacate_cgroup(const std::string& path) {
    BASALT_ASSIGN(std::vector<CgroupTree> trees, cgroup_trees());
    for (const CgroupTree& tree : trees) {
        if (!tree.sole()) continue;
        BASALT_TRY(vacate_directory(directory_of(tree, path)));
    }
    return {};
}

std::vector<int> cgroup_processes(const std::string& path) {
    std::set<int> found;
    Result<std::vector<CgroupTree>> trees = cgroup_trees();
    if (!trees.ok()) return {};
    for (const CgroupTree& tree : *trees) collect_processes(directory_of(tree, path), found);
    return {found.begin(), found.end()};
}

void kill_cgroup(const std::string& path, std::chrono::milliseconds limit) {
    // At once, so that none of them makes another one in the meantime; v1 cannot do that, nor can
    // kernels before 5.14.
    if (Result<std::vector<CgroupTree>> trees = cgroup_trees(); trees.ok()) {
        for (const CgroupTree& tree : *trees)
            (void)write_file(directory_of(tree, path) + "/cgroup.kill", "1");
    }
    const auto deadline = std::chrono::steady_clock::now() + limit;
    for (;;) {
        const std::vector<int> processes = cgroup_processes(path);
        for (int pid : processes) ::kill(pid, SIGKILL);
        if (processes.empty() || std::chrono::steady_clock::now() >= deadline) return;
        std::this_thread::sleep_for(kPollInterval);
    }
}

Result<void> remove_cgroup(const std::string& path, std::chrono::milliseconds limit) {
    BASALT_ASSIGN(std::vector<CgroupTree> trees, cgroup_trees());
    const auto deadline = std::chrono::steady_clock::now() + limit;
    for (;;) {
        bool all = true;
        for (const CgroupTree& tree : trees) {
            all = remove_directory_tree(directory_of(tree, path)) && all;
        }
        if (all) return {};
        if (std::chrono::steady_clock::now() >= deadline) {
            return deadline_exceeded(fmt::format("cgroup {} is still in use", path));
        }
        std::this_thread::sleep_for(kPollInterval);
    }
}

Result<void> remove_cgroup_if_empty(const std::string& path) {
    BASALT_ASSIGN(std::vector<CgroupTree> trees, cgroup_trees());
    for (const CgroupTree& tree : trees) ::rmdir(directory_of(tree, path).c_str());
    return {};
}

}  // namespace basalt::linux
