#include "tunnel/token_review.h"

#include <gtest/gtest.h>

#include "data/json.h"

namespace basalt::tunnel {
namespace {

const TokenRule kRule = {"system:konnectivity-server", "kube-system", "konnectivity-agent"};
constexpr std::string_view kAgent = "system:serviceaccount:kube-system:konnectivity-agent";

TEST(TokenReview, AsksForOurAudience) {
    Result<data::Value> body = data::parse_json(token_review(Secret("abc"), kRule));
    ASSERT_TRUE(body.ok());
    EXPECT_EQ((*body)["apiVersion"].as_string(), "authentication.k8s.io/v1");
    EXPECT_EQ((*body)["kind"].as_string(), "TokenReview");
    EXPECT_EQ((*body)["spec"]["token"].as_string(), "abc");
    EXPECT_EQ((*body)["spec"]["audiences"].as_string_list(),
              std::vector<std::string>{kRule.audience});
}

TEST(TokenReview, OnlyTheAgentsAccountWithATokenForUs) {
    struct Case {
        const char* name;
        std::string answer;
        Code code;
    };
    const auto answer = [](std::string_view authenticated, std::string_view audiences,
                           std::string_view user) {
        return R"({"kind":"TokenReview","status":{"authenticated":)" + std::string(authenticated) +
               R"(,"audiences":)" + std::string(audiences) + R"(,"user":{"username":")" +
               std::string(user) + R"("}}})";
    };
    const std::string ours = R"(["system:konnectivity-server"])";
    const std::vector<Case> cases = {
        {"the agent's", answer("true", ours, kAgent), Code::kOk},
        {"one audience of several",
         answer("true", R"(["other","system:konnectivity-server"])", kAgent), Code::kOk},
        {"not authenticated", answer("false", ours, kAgent), Code::kUnauthenticated},
        {"no boolean", answer(R"("true")", ours, kAgent), Code::kUnauthenticated},
        {"nothing about it",
         R"({"status":{"audiences":["system:konnectivity-server"],"user":{"username":")" +
             std::string(kAgent) + R"("}}})",
         Code::kUnauthenticated},
        {"without a status", R"({"kind":"TokenReview"})", Code::kUnauthenticated},
        {"null audiences", answer("true", "null", kAgent), Code::kUnauthenticated},
        {"no audience", answer("true", "[]", kAgent), Code::kUnauthenticated},
        {"audiences are left out",
         R"({"status":{"authenticated":true,"user":{"username":")" + std::string(kAgent) +
             R"("}}})",
         Code::kUnauthenticated},
        {"the API server's audience",
         answer("true", R"(["https://kubernetes.default.svc.cluster.local"])", kAgent),
         Code::kUnauthenticated},
        {"an audience that begins like ours",
         answer("true", R"(["system:konnectivity-server.example"])", kAgent),
         Code::kUnauthenticated},
        {"not a list", answer("true", R"("system:konnectivity-server")", kAgent),
         Code::kUnauthenticated},
        {"another account", answer("true", ours, "system:serviceaccount:kube-system:default"),
         Code::kPermissionDenied},
        {"of that name elsewhere",
         answer("true", ours, "system:serviceaccount:default:konnectivity-agent"),
         Code::kPermissionDenied},
        {"a person", answer("true", ours, "kubernetes-admin"), Code::kPermissionDenied},
        {"nobody", answer("true", ours, ""), Code::kPermissionDenied},
        {"a longer name", answer("true", ours, std::string(kAgent) + "-x"),
         Code::kPermissionDenied},
        {"no JSON", "401 Unauthorized", Code::kInvalidArgument},
        {"nothing", "", Code::kInvalidArgument},
    };
    for (const Case& one : cases) {
        Result<void> judged = judge_token_review(one.answer, kRule);
        EXPECT_EQ(judged.ok() ? Code::kOk : judged.error().code(), one.code) << one.name;
    }
}

}  // namespace
}  // namespace basalt::tunnel
