#include "tunnel/token_review.h"

#include <algorithm>
#include <vector>

#include <fmt/format.h>

#include "data/json.h"

namespace basalt::tunnel {

using data::Value;

std::string token_review(const Secret& token, const TokenRule& rule) {
    return data::to_json(
        Value::object({{"apiVersion", "authentication.k8s.io/v1"},
                       {"kind", "TokenReview"},
                       {"spec", Value::object({{"token", token.reveal()},
                                               {"audiences", Value::array({rule.audience})}})}}));
}

Result<void> judge_token_review(std::string_view answer, const TokenRule& rule) {
    BASALT_ASSIGN(Value review, data::parse_json(answer));
    const Value& status = review["status"];
    if (!status["authenticated"].as_bool()) {
        return Error(Code::kUnauthenticated, "the token is not valid: " + status["error"].str());
    }
    // An API server that ignores audiences answers without them: then the token may be for anyone.
    std::vector<std::string> audiences = status["audiences"].as_string_list();
    if (std::find(audiences.begin(), audiences.end(), rule.audience) == audiences.end()) {
        return Error(Code::kUnauthenticated, "the token is not for the audience " + rule.audience);
    }
    std::string expected =
        fmt::format("system:serviceaccount:{}:{}", rule.agent_namespace, rule.service_account);
    if (status["user"]["username"].as_string() != expected) {
        return permission_denied(status["user"]["username"].str() + " is not " + expected);
    }
    return {};
}

}  // namespace basalt::tunnel
