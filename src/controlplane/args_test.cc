#include "controlplane/objects.h"

#include <gtest/gtest.h>

namespace basalt::controlplane {
namespace {

using Args = std::vector<std::string>;

TEST(MergeArgs, SortsOursAndKeepsTheUsersOrder) {
    EXPECT_EQ(merge_args({{"--b", "1"}}, {{"--a", "2"}}, {"--z=1", "--v=2"}),
              (Args{"--a=2", "--b=1", "--z=1", "--v=2"}));
}

TEST(MergeArgs, DropsUserValuesOfManagedFlags) {
    EXPECT_EQ(merge_args({{"--etcd-prefix", "/x"}}, {}, {"--etcd-prefix=/other", "--v=2"}),
              (Args{"--etcd-prefix=/x", "--v=2"}));
}

TEST(MergeArgs, LetsUsersOverrideDefaults) {
    EXPECT_EQ(merge_args({}, {{"--profiling", "false"}}, {"--profiling=true"}),
              (Args{"--profiling=true"}));
}

TEST(MergeArgs, KeepsRepeatedUserFlags) {
    EXPECT_EQ(merge_args({}, {}, {"--feature-gates=A=true", "--feature-gates=B=true"}),
              (Args{"--feature-gates=A=true", "--feature-gates=B=true"}));
}

}  // namespace
}  // namespace basalt::controlplane
