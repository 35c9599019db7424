#include "cmd/basalt-tunnel/http.h"

#include "base/log.h"

namespace basalt::cmd {

using async::Task;

namespace {

constexpr std::string_view kStartedPages = "/started/";

net::HttpServerResponse text(int status, std::string body) {
    net::HttpServerResponse response;
    response.status = status;
    response.headers.add("content-type", "text/plain; charset=utf-8");
    response.body = std::move(body);
    return response;
}

class Health final : public net::HttpHandler {
 public:
    explicit Health(HealthPages pages) : pages_(std::move(pages)) {}
    Task<Result<net::HttpServerResponse>> handle(net::ServerRequest request) override {
        std::string_view path = request.path();
        if (path == "/healthz" || path == "/livez") co_return text(200, "ok");
        if (path == "/idle" && pages_.idle) {
            co_await pages_.idle();
            co_return text(200, "ok");
        }
        if (path.starts_with(kStartedPages) && pages_.started) {
            std::string name(path.substr(kStartedPages.size()));
            bool started = co_await pages_.started(std::move(name));
            co_return started ? text(200, "ok") : text(503, "not started");
        }
        if (path != "/readyz" && path != "/ready") co_return not_found("no such page");
        co_return pages_.ready() ? text(200, "ok") : text(503, "not ready");
    }

 private:
    HealthPages pages_;
};

class Metrics final : public net::HttpHandler {
 public:
    explicit Metrics(std::function<std::string()> metrics) : metrics_(std::move(metrics)) {}
    Task<Result<net::HttpServerResponse>> handle(net::ServerRequest request) override {
        if (request.path() != "/metrics") co_return not_found("no such page");
        net::HttpServerResponse response = text(200, metrics_());
        response.headers.set("content-type", "text/plain; version=0.0.4");
        co_return response;
    }

 private:
    std::function<std::string()> metrics_;
};

}  // namespace

std::shared_ptr<net::HttpHandler> make_health_handler(HealthPages pages) {
    return std::make_shared<Health>(std::move(pages));
}

std::shared_ptr<net::HttpHandler> make_metrics_handler(std::function<std::string()> metrics) {
    return std::make_shared<Metrics>(std::move(metrics));
}

Result<std::unique_ptr<net::HttpServer>> serve_http(async::Loop& loop, const std::string& host,
                                                    int port,
                                                    std::shared_ptr<net::HttpHandler> handler) {
    if (port == 0) return std::unique_ptr<net::HttpServer>();
    BASALT_ASSIGN(auto listener,
                  net::listen(loop, net::Endpoint::tcp(host, static_cast<uint16_t>(port))));
    net::HttpServerOptions options;
    options.max_connections = 64;
    options.max_body_size = 1024;
    options.handler_timeout = std::chrono::hours(1);  // /idle has a limit of its own.
    return net::start_http_server(loop, std::move(listener), std::move(handler), options);
}

std::string loopback_only(const std::string& host, const char* flag) {
    if (host == "127.0.0.1" || host == "::1") return host;
    log_warn("this port stays on loopback",
             {{"flag", flag}, {"asked", host}, {"used", "127.0.0.1"}});
    return "127.0.0.1";
}

}  // namespace basalt::cmd
