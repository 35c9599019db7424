#include "local/versions.h"

#include <gtest/gtest.h>

namespace basalt::local {
namespace {

TEST(KubernetesVersions, AreThoseOfTheRecipesNewestFirst) {
    Paths paths;
    paths.share = BASALT_SOURCE_DIR;
    Result<std::vector<std::string>> known = known_kubernetes_versions(paths);
    ASSERT_TRUE(known.ok()) << known.error().to_string();
    ASSERT_GE(known->size(), 2U);
    for (const std::string& version : *known) EXPECT_TRUE(version.starts_with("v1.")) << version;
    EXPECT_GT(known->at(0), known->at(1));
}

TEST(KubernetesVersions, AreChosenInAnySpelling) {
    const std::vector<std::string> known = {"v1.36.3", "v1.35.4"};
    EXPECT_EQ(*choose_kubernetes_version(known, std::nullopt), "v1.36.3");
    for (const char* wanted : {"v1.35.4", "1.35.4", "1.35", "v1.35"})
        EXPECT_EQ(*choose_kubernetes_version(known, wanted), "v1.35.4") << wanted;
    for (const char* wanted : {"v1.35.5", "1.3", "1", "", "v", "latest"}) {
        Result<std::string> chosen = choose_kubernetes_version(known, wanted);
        ASSERT_FALSE(chosen.ok()) << wanted;
        EXPECT_EQ(chosen.error().code(), Code::kInvalidArgument);
        EXPECT_NE(chosen.error().message().find("use one of: v1.36.3, v1.35.4"), std::string::npos);
    }
}

}  // namespace
}  // namespace basalt::local
