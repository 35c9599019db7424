#include "controller/http_endpoint.h"

#include <fmt/format.h>

#include "base/log.h"
#include "base/strings.h"
#include "data/hash.h"
#include "data/json.h"

namespace basalt::controller {

using kube::Value;

namespace {

constexpr Duration kKeepAllowed = std::chrono::minutes(1);
constexpr Duration kKeepRefused = std::chrono::seconds(10);

}  // namespace

net::HttpServerResponse text_response(int status, std::string body) {
    net::HttpServerResponse response;
    response.status = status;
    response.headers.set("content-type", "text/plain; charset=utf-8");
    response.headers.set("x-content-type-options", "nosniff");
    response.body = std::move(body);
    return response;
}

net::HttpServerResponse json_response(int status, const Value& body) {
    net::HttpServerResponse response;
    response.status = status;
    response.headers.set("content-type", "application/json");
    response.body = data::to_json(body);
    return response;
}

namespace {

async::Task<Result<net::HttpServerResponse>> respond(net::HttpServerResponse response) {
    co_return std::move(response);
}

}  // namespace

void Router::wrap(const std::function<RouteFn(const std::string& path, RouteFn route)>& wrap) {
    for (auto& [path, route] : routes_) route = wrap(path, std::move(route));
}

async::Task<Result<net::HttpServerResponse>> Router::handle(net::ServerRequest request) {
    const auto route = routes_.find(request.path());
    if (route == routes_.end()) return respond(text_response(404, "not found\n"));
    return route->second(std::move(request));
}

HttpEndpoint::HttpEndpoint(async::Loop& loop, net::Endpoint endpoint,
                           std::shared_ptr<net::HttpHandler> handler, Options options)
    : loop_(loop),
      address_(std::move(endpoint)),
      handler_(std::move(handler)),
      options_(std::move(options)) {}

HttpEndpoint::~HttpEndpoint() = default;

void HttpEndpoint::set_tls(std::shared_ptr<const net::TlsContext> tls) {
    tls_ = std::move(tls);
    if (server_) server_->set_tls(tls_);
    changed_.notify_all();
}

std::optional<net::Endpoint> HttpEndpoint::endpoint() const {
    if (!server_) return std::nullopt;
    return server_->endpoint();
}

async::Task<Result<void>> HttpEndpoint::run() {
    while (options_.tls && !tls_) {
        Result<void> waited = co_await changed_.wait();
        if (!waited.ok()) co_return std::move(waited);
    }
    Result<std::unique_ptr<net::Listener>> listener = net::listen(loop_, address_);
    if (!listener.ok())
        co_return std::move(listener).error().context("listen on " + address_.to_string());
    net::HttpServerOptions server_options = options_.server;
    server_options.tls = tls_;
    Result<std::unique_ptr<net::HttpServer>> server =
        net::start_http_server(loop_, std::move(*listener), handler_, std::move(server_options));
    if (!server.ok()) co_return std::move(server).error();
    server_ = std::move(*server);
    log_info("serving", {{"address", server_->endpoint().to_string()}, {"tls", options_.tls}});
    Result<void> waited;
    while (waited.ok()) {
        waited = co_await changed_.wait();
    }
    // The scope is cancelled by now; requests in progress still get their time.
    Result<void> stopped = co_await async::shielded(loop_, stop());
    server_.reset();
    co_return std::move(waited);
}

async::Task<Result<void>> HttpEndpoint::stop() {
    co_await server_->stop(options_.stop_grace);
    co_return Result<void>();
}

async::Task<Result<void>> RequestAuthorizer::check(std::string token, std::string verb,
                                                   std::string path) {
    const std::string text = fmt::format("{}\n{}\n{}", token, verb, path);
    // The token itself is not kept.
    const std::string key =
        data::hash_hex(data::fnv1a(text)) + data::hash_hex(data::fnv1a(text, 1));
    const TimePoint now = client_.loop().now();
    if (const auto found = answers_.find(key);
        found != answers_.end() && now < found->second.until) {
        if (found->second.code == Code::kOk) co_return Result<void>();
        co_return Error(found->second.code, "refused");
    }
    if (questions_count_ >= kMaxQuestions)
        co_return resource_exhausted("too many tokens are being looked at");
    ++questions_count_;
    Result<void> allowed = co_await ask(std::move(token), std::move(verb), std::move(path));
    --questions_count_;
    const Code code = allowed.ok() ? Code::kOk : allowed.error().code();
    if (code != Code::kOk && code != Code::kUnauthenticated && code != Code::kPermissionDenied) {
        co_return std::move(allowed);
    }
    if (answers_.size() >= kMaxAnswers) answers_.clear();
    answers_[key] =
        Answer{code, client_.loop().now() + (code == Code::kOk ? kKeepAllowed : kKeepRefused)};
    co_return std::move(allowed);
}

async::Task<Result<void>> RequestAuthorizer::ask(std::string token, std::string verb,
                                                 std::string path) {
    Value review =
        Value::object({{"apiVersion", "authentication.k8s.io/v1"}, {"kind", "TokenReview"}});
    review.at("spec").set("token", token);
    Result<Value> reviewed =
        co_await client_.create(kube::resources::token_reviews(), std::move(review));
    // Our own lack of permission must not look like the caller's.
    if (!reviewed.ok()) co_return unavailable(reviewed.error().message());
    const Value& status = (*reviewed)["status"];
    if (!status["authenticated"].as_bool())
        co_return Error(Code::kUnauthenticated, "unknown token");
    Value access =
        Value::object({{"apiVersion", "authorization.k8s.io/v1"}, {"kind", "SubjectAccessReview"}});
    Value& spec = access.at("spec");
    spec.set("user", status["user"]["username"]);
    spec.set_unless_empty("uid", status["user"]["uid"]);
    spec.set_unless_empty("groups", status["user"]["groups"]);
    spec.set_unless_empty("extra", status["user"]["extra"]);
    spec.at("nonResourceAttributes").set("path", path).set("verb", verb);
    Result<Value> decided =
        co_await client_.create(kube::resources::subject_access_reviews(), std::move(access));
    if (!decided.ok()) co_return unavailable(decided.error().message());
    if (!(*decided)["status"]["allowed"].as_bool()) co_return permission_denied("not allowed");
    co_return Result<void>();
}

void add_health_routes(Router& router, const Health& health) {
    const auto route = [&health](bool ready) {
        return [&health, ready](const net::ServerRequest& request) {
            const Health::Report report = ready ? health.ready() : health.live();
            const bool verbose =
                !report.ok || request.query().find("verbose") != std::string_view::npos;
            return respond(text_response(report.ok ? 200 : 500, verbose ? report.text : "ok"));
        };
    };
    router.add("/healthz", route(false));
    router.add("/livez", route(false));
    router.add("/readyz", route(true));
}

namespace {

async::Task<Result<net::HttpServerResponse>> serve_metrics(Metrics* metrics,
                                                           RequestAuthorizer* authorizer,
                                                           net::ServerRequest request) {
    if (authorizer != nullptr) {
        constexpr std::string_view kBearer = "Bearer ";
        const std::string_view header = request.headers.get("authorization");
        if (!header.starts_with(kBearer)) co_return text_response(401, "unauthorized\n");
        std::string token(trim(header.substr(kBearer.size())));
        Result<void> allowed = co_await authorizer->check(std::move(token), "get", "/metrics");
        if (!allowed.ok()) {
            const Code code = allowed.error().code();
            if (code == Code::kUnauthenticated) co_return text_response(401, "unauthorized\n");
            if (code == Code::kPermissionDenied) co_return text_response(403, "forbidden\n");
            co_return std::move(allowed).error();
        }
    }
    net::HttpServerResponse response = text_response(200, metrics->to_text());
    response.headers.set("content-type", "text/plain; version=0.0.4; charset=utf-8");
    co_return std::move(response);
}

}  // namespace

void add_metrics_route(Router& router, Metrics& metrics, RequestAuthorizer* authorizer) {
    router.add("/metrics", [&metrics, authorizer](net::ServerRequest request) {
        return serve_metrics(&metrics, authorizer, std::move(request));
    });
}

}  // namespace basalt::controller
