// What a controller program serves: a router, a listener with a rotating certificate, health,
// metrics.
//
// One loop.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include "async/wait.h"
#include "controller/manager.h"
#include "kube/client.h"
#include "net/http_server.h"

namespace basalt::controller {

/// A coroutine for one request; the std::function itself may capture, the coroutine may not
/// (async/task.h).
using RouteFn =
    std::function<async::Task<Result<net::HttpServerResponse>>(net::ServerRequest request)>;

/// Requests by exact path. All routes before the first request.
class Router final : public net::HttpHandler {
 public:
    void add(std::string path, RouteFn route) { routes_[std::move(path)] = std::move(route); }
    /// Each route that there is now becomes what `wrap` makes of it.
    void wrap(const std::function<RouteFn(const std::string& path, RouteFn route)>& wrap);
    async::Task<Result<net::HttpServerResponse>> handle(net::ServerRequest request) override;

 private:
    std::map<std::string, RouteFn, std::less<>> routes_;
};

net::HttpServerResponse text_response(int status, std::string body);
net::HttpServerResponse json_response(int status, const kube::Value& body);

/// A listener that runs as a Manager's runnable: run() returns when it is cancelled or cannot
/// listen.
class HttpEndpoint {
 public:
    struct Options {
        Options() = default;
        /// Waits for the first set_tls() instead of serving plain text.
        bool tls = false;
        net::HttpServerOptions server;
        Duration stop_grace = std::chrono::seconds(3);
    };
    HttpEndpoint(async::Loop& loop, net::Endpoint endpoint,
                 std::shared_ptr<net::HttpHandler> handler, Options options);
    ~HttpEndpoint();

    async::Task<Result<void>> run();
    /// New connections use this certificate.
    void set_tls(std::shared_ptr<const net::TlsContext> tls);
    /// Where it listens; nothing before it does.
    std::optional<net::Endpoint> endpoint() const;

 private:
    async::Task<Result<void>> stop();

    async::Loop& loop_;
    net::Endpoint address_;
    std::shared_ptr<net::HttpHandler> handler_;
    Options options_;
    std::shared_ptr<const net::TlsContext> tls_;
    std::unique_ptr<net::HttpServer> server_;
    async::Condition changed_;
};

/// Asks the API server whether the bearer of a token may get a path (TokenReview,
/// SubjectAccessReview), as controller-runtime's metrics filter does. Answers are kept for a
/// minute, refusals for ten seconds. Anybody can make it ask: give it a client of its own, whose
/// rate limits what strangers may cause.
class RequestAuthorizer {
 public:
    static constexpr size_t kMaxAnswers = 1000;
    /// More questions at a time are ResourceExhausted.
    static constexpr size_t kMaxQuestions = 8;
    explicit RequestAuthorizer(kube::Client& client) : client_(client) {}
    /// Ok, Unauthenticated or PermissionDenied; other errors say that it is not known.
    async::Task<Result<void>> check(std::string token, std::string verb, std::string path);

 private:
    struct Answer {
        Code code = Code::kOk;
        TimePoint until{};
    };
    async::Task<Result<void>> ask(std::string token, std::string verb, std::string path);

    kube::Client& client_;
    size_t questions_count_ = 0;
    std::unordered_map<std::string, Answer> answers_;  ///< By a hash of token, verb and path.
};

/// /healthz, /livez and /readyz, open to all.
void add_health_routes(Router& router, const Health& health);
/// /metrics; with an authorizer only for those who may get it.
void add_metrics_route(Router& router, Metrics& metrics, RequestAuthorizer* authorizer);

}  // namespace basalt::controller
