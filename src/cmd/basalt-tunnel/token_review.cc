#include "cmd/basalt-tunnel/token_review.h"

#include <map>

#include <fmt/format.h>

#include "async/wait.h"
#include "base/strings.h"
#include "data/hash.h"
#include "net/http_client.h"

namespace basalt::cmd {

using async::Task;

namespace {

constexpr size_t kMaxCached = 1024;
constexpr size_t kMaxTokenSize = size_t{32} << 10;
constexpr size_t kMaxAnswerSize = size_t{256} << 10;
constexpr Duration kReviewTimeout = std::chrono::seconds(8);

class TokenAuthenticator final : public tunnel::Authenticator {
 public:
    TokenAuthenticator(async::Loop& loop, TokenReviewConfig config, Kubeconfig kubeconfig)
        : loop_(loop),
          config_(std::move(config)),
          kubeconfig_(std::move(kubeconfig)),
          tls_(TlsFiles::Role::kClient, kubeconfig_.paths, kubeconfig_.tls) {}

    Task<Result<void>> authenticate(tunnel::AgentCredentials credentials) override {
        if (credentials.token.empty()) co_return Error(Code::kUnauthenticated, "no token");
        if (credentials.token.size() > kMaxTokenSize)
            co_return Error(Code::kUnauthenticated, "token too long");
        uint64_t key = data::fnv1a(credentials.token.reveal());
        auto cached = cache_.find(key);
        if (cached != cache_.end() && cached->second.token == credentials.token &&
            cached->second.until > loop_.now()) {
            co_return Result<void>();
        }
        Result<void> reviewed =
            co_await async::with_timeout(loop_, kReviewTimeout, review(credentials.token));
        if (!reviewed.ok()) co_return reviewed;
        if (cache_.size() >= kMaxCached) cache_.clear();
        cache_[key] = {std::move(credentials.token), loop_.now() + config_.cache_time};
        co_return Result<void>();
    }

 private:
    struct Cached {
        Secret token;
        TimePoint until;
    };

    Task<Result<void>> review(Secret token) {
        Result<net::HttpRequest> request = make_request(token);
        if (!request.ok()) co_return std::move(request).error();
        Result<net::HttpResponse> response = co_await client_->send(std::move(*request));
        if (!response.ok()) co_return std::move(response).error().context("TokenReview");
        Result<std::string> body = co_await net::read_all(*response->body, kMaxAnswerSize);
        if (!body.ok()) co_return std::move(body).error().context("TokenReview");
        if (response->status != 200 && response->status != 201) {
            co_return unavailable(
                fmt::format("TokenReview: the API server answered {}", response->status));
        }
        co_return tunnel::judge_token_review(*body, config_.rule);
    }

    Result<net::HttpRequest> make_request(const Secret& token) {
        BASALT_ASSIGN(std::shared_ptr<const net::TlsContext> tls, tls_.load());
        if (!client_ || tls != used_tls_) {
            net::HttpClientOptions options;
            options.tls = tls;
            options.max_connections = 4;
            client_ = net::make_http_client(loop_, kubeconfig_.server, std::move(options));
            used_tls_ = tls;
        }
        net::HttpRequest request;
        request.method = "POST";
        request.target = "/apis/authentication.k8s.io/v1/tokenreviews";
        request.headers.add("content-type", "application/json");
        request.headers.add("accept", "application/json");
        Secret own = kubeconfig_.token;
        if (!kubeconfig_.token_path.empty() && own.empty()) {
            BASALT_ASSIGN(std::string text, read_file(kubeconfig_.token_path));
            own = Secret(trim(text));
        }
        if (!own.empty())
            request.headers.add("authorization", "Bearer " + std::string(own.reveal()));
        request.body = tunnel::token_review(token, config_.rule);
        return request;
    }

    async::Loop& loop_;
    TokenReviewConfig config_;
    Kubeconfig kubeconfig_;
    TlsFiles tls_;
    std::shared_ptr<const net::TlsContext> used_tls_;
    std::shared_ptr<net::HttpClient> client_;
    std::map<uint64_t, Cached> cache_;
};

}  // namespace

std::shared_ptr<tunnel::Authenticator> make_token_authenticator(async::Loop& loop,
                                                                TokenReviewConfig config,
                                                                Kubeconfig kubeconfig) {
    return std::make_shared<TokenAuthenticator>(loop, std::move(config), std::move(kubeconfig));
}

}  // namespace basalt::cmd
