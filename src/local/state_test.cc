#include "local/state.h"

#include <gtest/gtest.h>
#include <sys/fsuid.h>
#include <sys/stat.h>

#include "linux/linux_test_support.h"

namespace basalt::local {
namespace {

TEST(ClusterState, ReadsBackWhatItWrote) {
    linux::TemporaryDirectory directory;
    const ClusterState state{"test", {3}, 2, "v1.36.3"};
    ASSERT_TRUE(save_state(directory.path() + "/test", state).ok());
    Result<std::optional<ClusterState>> loaded = load_state(directory.path() + "/test");
    ASSERT_TRUE(loaded.ok());
    ASSERT_TRUE(*loaded);
    EXPECT_EQ(**loaded, state);
    EXPECT_EQ(*list_clusters(directory.path()), std::vector<std::string>{"test"});
}

TEST(ClusterState, NoClusterIsNoError) {
    linux::TemporaryDirectory directory;
    Result<std::optional<ClusterState>> loaded = load_state(directory.path() + "/none");
    ASSERT_TRUE(loaded.ok());
    EXPECT_FALSE(*loaded);
}

TEST(ClusterState, WhatMayNotBeReadIsNotMissing) {
    linux::TemporaryDirectory directory;
    const ClusterState state{"test", {3}, 2, "v1.36.3"};
    ASSERT_TRUE(save_state(directory.path() + "/test", state).ok());
    ASSERT_EQ(::chmod(directory.path().c_str(), 0), 0);
    // Of this thread, and with it go root's rights to files.
    const int user = ::setfsuid(65534);
    Result<std::optional<ClusterState>> loaded = load_state(directory.path() + "/test");
    Result<std::vector<std::string>> listed = list_clusters(directory.path());
    Result<std::vector<std::string>> none = list_clusters(directory.path() + "-none");
    ::setfsuid(static_cast<uid_t>(user));
    ASSERT_EQ(::chmod(directory.path().c_str(), 0700), 0);
    ASSERT_FALSE(loaded.ok());
    EXPECT_EQ(loaded.error().code(), Code::kPermissionDenied);
    EXPECT_NE(loaded.error().message().find("try sudo"), std::string::npos);
    ASSERT_FALSE(listed.ok());
    EXPECT_EQ(listed.error().code(), Code::kPermissionDenied);
    ASSERT_TRUE(none.ok());
    EXPECT_TRUE(none->empty());
}

TEST(ClusterState, DamagedFilesAreRefused) {
    EXPECT_FALSE(parse_state("").ok());
    EXPECT_FALSE(parse_state("name=a\nindex=x\n").ok());
    EXPECT_FALSE(parse_state("name=a\nindex=99\n").ok());
    EXPECT_FALSE(parse_state("name=a\nnodes=0\n").ok());
    EXPECT_FALSE(parse_state("name=../etc\n").ok());
    EXPECT_FALSE(parse_state("just words\n").ok());
    EXPECT_TRUE(parse_state("name=a\nindex=0\nnodes=1\nfuture=thing\n").ok());
}

TEST(ClusterState, Names) {
    EXPECT_TRUE(check_cluster_name("basalt").ok());
    EXPECT_TRUE(check_cluster_name("a-1").ok());
    for (const char* bad :
         {"", "-a", "a-", "A", "a.b", "a/b", "..", "a b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}) {
        EXPECT_FALSE(check_cluster_name(bad).ok()) << bad;
    }
}

}  // namespace
}  // namespace basalt::local
