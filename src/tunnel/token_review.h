// What an API server is asked about an agent's token, and which of its answers lets the agent in:
// the token is valid, made for us and nobody else (audience), and that of one ServiceAccount.
//
// authentication.k8s.io/v1 TokenReview. Pure functions; sending is up to whoever runs the server.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "base/secret.h"

namespace basalt::tunnel {

struct TokenRule {
    std::string audience;         ///< "system:konnectivity-server"
    std::string agent_namespace;  ///< "kube-system"
    std::string service_account;  ///< "konnectivity-agent"
};

/// The request's body, JSON. It holds the token: not for logs.
std::string token_review(const Secret& token, const TokenRule& rule);
/// OK for an agent. Unauthenticated when the token is not valid or not for `rule.audience`,
/// PermissionDenied when it is somebody else's, InvalidArgument for what is no JSON.
Result<void> judge_token_review(std::string_view answer, const TokenRule& rule);

}  // namespace basalt::tunnel
