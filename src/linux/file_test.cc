#include "linux/file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "linux/linux_test_support.h"

namespace basalt::linux {
namespace {

TEST(File, WritesAtomicallyWithMode) {
    TemporaryDirectory directory;
    const std::string path = directory.path() + "/a/b/secret";
    ASSERT_TRUE(write_file_atomically(path, "text", 0600).ok());
    EXPECT_EQ(*read_file(path), "text");
    struct stat status{};
    ASSERT_EQ(::stat(path.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777U, 0600U);
    EXPECT_EQ(list_directory(directory.path() + "/a/b"), std::vector<std::string>{"secret"});
}

TEST(File, UpdateWritesOnlyChanges) {
    TemporaryDirectory directory;
    const std::string path = directory.path() + "/file";
    EXPECT_TRUE(*update_file(path, "one"));
    EXPECT_FALSE(*update_file(path, "one"));
    EXPECT_TRUE(*update_file(path, "two"));
}

TEST(File, MissingFileIsNotFoundAndNamed) {
    Result<std::string> text = read_file("/nowhere/at/all");
    ASSERT_FALSE(text.ok());
    EXPECT_EQ(text.error().code(), Code::kNotFound);
    EXPECT_NE(text.error().message().find("/nowhere/at/all"), std::string::npos);
}

TEST(File, RemoveTreeTakesDeepTreesAndMissingOnes) {
    TemporaryDirectory directory;
    const std::string tree = directory.path() + "/tree";
    ASSERT_TRUE(write_file_atomically(tree + "/x/y/z", "z").ok());
    ASSERT_TRUE(replace_symlink("/etc/passwd", tree + "/x/link").ok());
    EXPECT_TRUE(remove_tree(tree).ok());
    EXPECT_FALSE(exists(tree));
    EXPECT_TRUE(exists("/etc/passwd"));
    EXPECT_TRUE(remove_tree(tree).ok());
}

TEST(File, LocksExcludeEachOtherAndEndWithTheirHolder) {
    TemporaryDirectory directory;
    const std::string path = directory.path() + "/lock";
    EXPECT_FALSE(is_locked(path));
    {
        Result<FileDescriptor> lock = lock_file(path, false);
        ASSERT_TRUE(lock.ok());
        EXPECT_TRUE(is_locked(path));
        EXPECT_EQ(lock_file(path, false).error().code(), Code::kFailedPrecondition);
    }
    EXPECT_FALSE(is_locked(path));
}

TEST(File, TailGivesTheLastLines) {
    TemporaryDirectory directory;
    const std::string path = directory.path() + "/log";
    ASSERT_TRUE(write_file_atomically(path, "1\n2\n3\n4\n").ok());
    EXPECT_EQ(tail_file(path, 2), "3\n4\n");
    EXPECT_EQ(tail_file(path, 9), "1\n2\n3\n4\n");
    EXPECT_EQ(tail_file(path + ".missing", 2), "");
}

TEST(File, ReplacesSymlinks) {
    TemporaryDirectory directory;
    const std::string link = directory.path() + "/link";
    ASSERT_TRUE(replace_symlink("a", link).ok());
    ASSERT_TRUE(replace_symlink("b", link).ok());
    char target[8] = {};
    ASSERT_EQ(::readlink(link.c_str(), target, sizeof target), 1);
    EXPECT_EQ(target[0], 'b');
}

}  // namespace
}  // namespace basalt::linux
