#include "etcd/version.h"

#include <gtest/gtest.h>

namespace basalt::etcd {
namespace {

TEST(VersionTest, Parses) {
    Result<Version> version = parse_version("v3.7.0-rc.1+build.5");
    ASSERT_TRUE(version.ok());
    EXPECT_EQ(version->minor, 7);
    EXPECT_EQ(version->patch, 0);
    EXPECT_TRUE(version->prerelease);
    EXPECT_EQ(parse_version("3.6.16")->to_string(), "3.6.16");
    for (const char* text :
         {"", "3", "3.6", "3.6.x", "3.6.1.2", "3..1", "-1.2.3", "3.6.99999999999", "a.b.c"}) {
        EXPECT_FALSE(parse_version(text).ok()) << text;
    }
}

TEST(VersionTest, WhichKeepTenantsApart) {
    for (const char* text :
         {"3.6.14", "3.6.16", "3.7.1", "3.7.2-rc.0", "3.8.0", "3.8.0-alpha.0", "4.0.0"}) {
        EXPECT_TRUE(keeps_tenants_apart(*parse_version(text))) << text;
    }
    for (const char* text :
         {"3.6.13", "3.6.14-rc.0", "3.7.0", "3.7.1-rc.0", "3.5.99", "3.4.0", "2.3.8"}) {
        EXPECT_FALSE(keeps_tenants_apart(*parse_version(text))) << text;
    }
}

}  // namespace
}  // namespace basalt::etcd
