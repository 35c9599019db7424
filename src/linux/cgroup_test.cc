#include "linux/cgroup.h"

#include <gtest/gtest.h>

namespace basalt::linux {
namespace {

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
}

}  // namespace
}  // namespace basalt::linux
