// Agents by their ServiceAccount token: the API server says whose it is, tunnel/token_review.h
// which of its answers are good enough. Such a token opens nothing but this tunnel.
#pragma once

#include <memory>
#include <string>

#include "async/loop.h"
#include "cmd/basalt-tunnel/kubeconfig.h"
#include "tunnel/authenticator.h"
#include "tunnel/token_review.h"

namespace basalt::cmd {

struct TokenReviewConfig {
    tunnel::TokenRule rule;
    /// How long an accepted token needs no second review: an agent connects again and again while
    /// it looks for servers. A revoked token lives that much longer, on new connections.
    Duration cache_time = std::chrono::seconds(60);
};

std::shared_ptr<tunnel::Authenticator> make_token_authenticator(async::Loop& loop,
                                                                TokenReviewConfig config,
                                                                Kubeconfig kubeconfig);

}  // namespace basalt::cmd
