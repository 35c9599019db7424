#include "linux/cgroup.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

#include <fmt/format.h>

#include "base/strings.h"
#include "linux/file.h"
#include "linux/mounts.h"

namespace basalt::linux {
namespace {

using std::chrono::seconds;
using ::testing::HasSubstr;

constexpr const char* kRoot = "/sys/fs/cgroup";

std::string read(const std::string& directory, const std::string& file) {
    Result<std::string> text = read_file(directory + "/" + file);
    EXPECT_TRUE(text.ok()) << text.error().message();
    return text.ok() ? std::string(trim(*text)) : "";
}

/// What check_cgroups() says; "" when the machine will do.
std::string refusal(const std::string& mountinfo, std::string_view sole_controllers = "") {
    Result<void> checked = check_cgroups(parse_cgroup_trees(mountinfo), sole_controllers);
    return checked.ok() ? "" : checked.error().message();
}

/// Moves the unified tree to where machines with version 2 only have it, for this process.
Result<void> be_on_a_v2_machine() {
    if (::unshare(CLONE_NEWNS) != 0) return errno_error(errno, "unshare");
    BASALT_TRY(make_mounts_private());
    BASALT_ASSIGN(std::vector<CgroupTree> trees, cgroup_trees());
    std::string unified;
    for (const CgroupTree& tree : trees) {
        if (tree.unified) unified = tree.mount_point;
        if (!tree.unified && ::umount2(tree.mount_point.c_str(), MNT_DETACH) != 0)
            return errno_error(errno, "umount " + tree.mount_point);
    }
    if (unified == kRoot) return {};
    if (unified.empty()) return mount_new("cgroup2", kRoot);
    if (::mount(unified.c_str(), kRoot, nullptr, MS_MOVE, nullptr) != 0)
        return errno_error(errno, "move " + unified);
    return {};
}

/// Runs `body` in a process of its own; its failed expectations fail the caller's test.
void in_child(const std::function<void()>& body) {
    const pid_t child = ::fork();
    if (child == 0) {
        body();
        ::fflush(nullptr);
        ::_exit(::testing::Test::HasFailure() ? 1 : 0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
}

/// A path that no other test uses; removed at the end.
class Group {
 public:
    explicit Group(const std::string& name)
        : top_(fmt::format("basalt-test-{}", ::getpid())), path_(top_ + "/" + name) {}
    ~Group() { EXPECT_TRUE(remove_cgroup(top_, seconds(10)).ok()); }
    Group(const Group&) = delete;
    Group& operator=(const Group&) = delete;
    const std::string& path() const { return path_; }

 private:
    std::string top_;
    std::string path_;
};

TEST(Cgroup, FindsTreesOfBothVersions) {
    const auto trees = parse_cgroup_trees(
        "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
        "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:4 - cgroup cgroup "
        "rw,cpu,cpuacct\n"
        "36 31 0:33 / /sys/fs/cgroup/systemd rw,nosuid - cgroup cgroup rw,xattr,name=systemd\n"
        "37 31 0:34 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n"
        "nonsense\n");
    ASSERT_EQ(trees.size(), 3U);
    EXPECT_EQ(trees[0].mount_point, "/sys/fs/cgroup/cpu,cpuacct");
    EXPECT_EQ(trees[0].options, "cpu,cpuacct");
    EXPECT_EQ(trees[1].options, "none,xattr,name=systemd");
    EXPECT_FALSE(trees[1].unified);
    EXPECT_TRUE(trees[2].unified);
    EXPECT_EQ(trees[2].options, "");
    EXPECT_FALSE(trees[2].sole()) << "kubelet looks at /sys/fs/cgroup only";
}

TEST(Cgroup, FindsTheOnlyTreeOfVersionTwo) {
    const auto trees = parse_cgroup_trees(
        "23 28 0:21 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw\n"
        "29 23 0:25 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 "
        "rw,nsdelegate,memory_recursiveprot\n");
    ASSERT_EQ(trees.size(), 1U);
    EXPECT_EQ(trees[0].mount_point, kRoot);
    EXPECT_EQ(trees[0].options, "");
    EXPECT_TRUE(trees[0].sole());
}

TEST(Cgroup, MachinesOfEitherVersionWillDo) {
    const std::string v1 =
        "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
        "33 31 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
        "34 31 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "35 31 0:32 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
        "36 31 0:33 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices\n";
    const std::string freezer =
        "37 31 0:34 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n";
    const std::string beside = "38 31 0:35 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    const std::string v2 = "29 23 0:25 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
    EXPECT_EQ(refusal(v1 + freezer), "");
    EXPECT_EQ(refusal(v1 + freezer + beside), "");
    EXPECT_EQ(refusal(v2, "cpuset cpu io memory hugetlb pids rdma misc\n"), "");
    EXPECT_EQ(refusal(v2, "cpuset cpu memory pids\n"), "") << "kubelet can do without the others";

    EXPECT_THAT(refusal(v1 + beside, "freezer"), HasSubstr("v1 controller freezer"));
    EXPECT_THAT(refusal(v2, "cpuset cpu io pids\n"), HasSubstr("cgroup_disable=memory"));
    EXPECT_THAT(refusal(v1 + freezer + v2, "hugetlb\n"), HasSubstr("mount no tree of cgroup v1"));
    EXPECT_THAT(refusal("nonsense\n"), HasSubstr("mount -t cgroup"));
}

TEST(Cgroup, EnablesWhatKubeletUsesAndThereIs) {
    const std::string all = "cpuset cpu io memory hugetlb pids rdma misc\n";
    EXPECT_EQ(controllers_to_enable(all, "\n"), "+cpuset +cpu +io +memory +hugetlb +pids");
    EXPECT_EQ(controllers_to_enable(all, "memory pids\n"), "+cpuset +cpu +io +hugetlb");
    EXPECT_EQ(controllers_to_enable("cpu memory pids\n", ""), "+cpu +memory +pids");
    EXPECT_EQ(controllers_to_enable(all, all), "");
    EXPECT_EQ(controllers_to_enable("", ""), "");
}

TEST(Cgroup, GivesWayToGroupsWithControllers) {
    if (::geteuid() != 0) GTEST_SKIP() << "only root may make control groups";
    const Group group("node");
    in_child([&group] {
        Result<void> moved = be_on_a_v2_machine();
        ASSERT_TRUE(moved.ok()) << moved.error().message();
        const std::string node = fmt::format("{}/{}", kRoot, group.path());
        const std::string available = read(kRoot, "cgroup.controllers");
        const std::string enabled = read(kRoot, "cgroup.subtree_control");

        Result<void> made = make_cgroup(group.path());
        ASSERT_TRUE(made.ok()) << made.error().message();
        EXPECT_EQ(controllers_to_enable(available, read(node, "cgroup.controllers")), "");
        EXPECT_EQ(read(node, "cgroup.subtree_control"), "");
        ASSERT_TRUE(enter_cgroup(group.path()).ok());
        ASSERT_TRUE(make_cgroup(group.path()).ok()) << "as `basalt up` does again";

        Result<void> vacated = vacate_cgroup(group.path());
        ASSERT_TRUE(vacated.ok()) << vacated.error().message();
        EXPECT_EQ(read(node, "cgroup.procs"), "");
        EXPECT_EQ(read(node + "/init", "cgroup.procs"), std::to_string(::getpid()));
        const std::string pods = group.path() + "/kubepods/pod";
        ASSERT_TRUE(make_cgroup(pods).ok());
        EXPECT_EQ(controllers_to_enable(
                      available, read(fmt::format("{}/{}", kRoot, pods), "cgroup.controllers")),
                  "");
        EXPECT_EQ(cgroup_processes(group.path()), std::vector<int>{::getpid()});

        // The machine is left as it was.
        ASSERT_TRUE(write_file(fmt::format("{}/cgroup.procs", kRoot), "0").ok());
        ASSERT_TRUE(remove_cgroup(group.path(), seconds(10)).ok());
        const std::string top = std::string(cut(group.path(), "/")->first);
        ASSERT_TRUE(remove_cgroup(top, seconds(10)).ok());
        const std::string added = controllers_to_enable(available, enabled);
        (void)write_file(fmt::format("{}/cgroup.subtree_control", kRoot),
                         replace_all(added, "+", "-"));
    });
}

TEST(Cgroup, KillsAllBelowIt) {
    if (::geteuid() != 0) GTEST_SKIP() << "only root may make control groups";
    const Group group("node");
    ASSERT_TRUE(make_cgroup(group.path() + "/pod").ok());
    int ready[2];
    ASSERT_EQ(::pipe2(ready, O_CLOEXEC), 0);
    const pid_t child = ::fork();
    if (child == 0) {
        const bool entered = enter_cgroup(group.path() + "/pod").ok();
        if (!entered || ::write(ready[1], "r", 1) != 1) ::_exit(1);
        for (;;) ::pause();
    }
    ::close(ready[1]);
    char byte = 0;
    EXPECT_EQ(::read(ready[0], &byte, 1), 1) << "it could not enter";
    ::close(ready[0]);
    kill_cgroup(group.path(), seconds(10));
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
    EXPECT_TRUE(cgroup_processes(group.path()).empty());
}

}  // namespace
}  // namespace basalt::linux
