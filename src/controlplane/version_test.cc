#include "controlplane/version.h"

#include <gtest/gtest.h>

namespace basalt::controlplane {
namespace {

Version version(const char* text) { return Version::parse(text).value(); }

TEST(Version, ParsesWhatKubernetesWrites) {
    EXPECT_EQ(version("v1.36.3").to_string(), "v1.36.3");
    EXPECT_EQ(version("1.35.4").to_string(), "v1.35.4");
    EXPECT_EQ(version("v1.36.0-rc.1").pre_release, "rc.1");
    EXPECT_EQ(version("v1.36.3+k3s1").to_string(), "v1.36.3");
}

TEST(Version, RefusesTheRest) {
    for (const char* text : {"", "v", "1.36", "v1.36", "v1.36.", "v1.36.x", "v-1.2.3", "v1.36.3-",
                             "latest", "v1.36.3.4", "v1.+36.3"}) {
        EXPECT_FALSE(Version::parse(text).ok()) << text;
    }
}

TEST(Version, Orders) {
    EXPECT_LT(version("v1.35.9"), version("v1.36.0"));
    EXPECT_LT(version("v1.36.0-rc.1"), version("v1.36.0"));
    EXPECT_LT(version("v1.9.0"), version("v1.10.0"));
}

TEST(Version, SupportIsStatedWithTheRange) {
    EXPECT_TRUE(check_supported(version("v1.31.0")).ok());
    EXPECT_TRUE(check_supported(version("v1.36.9")).ok());
    Result<void> old = check_supported(version("v1.30.1"));
    ASSERT_FALSE(old.ok());
    EXPECT_EQ(old.error().message(),
              "spec.kubernetes.version: v1.30.1 is not supported, use one from v1.31 to v1.36");
    EXPECT_FALSE(check_supported(version("v1.37.0")).ok());
    EXPECT_FALSE(check_supported(version("v2.31.0")).ok());
}

TEST(Version, UpgradesOneMinorAtATime) {
    EXPECT_TRUE(check_upgrade(version("v1.35.4"), version("v1.36.3")).ok());
    EXPECT_TRUE(check_upgrade(version("v1.35.4"), version("v1.35.9")).ok());
    EXPECT_TRUE(check_upgrade(version("v1.35.4"), version("v1.35.4")).ok());
    EXPECT_TRUE(check_upgrade(version("v1.35.4"), version("v1.35.3")).ok());
    EXPECT_FALSE(check_upgrade(version("v1.36.0"), version("v1.35.9")).ok());
    EXPECT_FALSE(check_upgrade(version("v1.34.0"), version("v1.36.0")).ok());
}

}  // namespace
}  // namespace basalt::controlplane
