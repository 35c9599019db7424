// `basalt-tunnel wait`: commands.h.
#include "async/wait.h"
#include "async/real_loop.h"
#include "async/task_group.h"
#include "base/strings.h"
#include "cmd/basalt-tunnel/commands.h"
#include "net/http_client.h"

namespace basalt::cmd {

using async::Task;

namespace {

constexpr Duration kInterval = std::chrono::milliseconds(100);
constexpr Duration kOneLookTimeout = std::chrono::seconds(2);

/// Ready; or it serves and does not tell strangers (--anonymous-auth=false). Before its roles are
/// there, it answers 403.
bool serves(const Result<net::HttpResponse>& response) {
    return response.ok() && (response->status == 200 || response->status == 401);
}

Task<void> wait_for(async::RealLoop* loop, std::shared_ptr<net::HttpClient> client,
                    TimePoint deadline) {
    while (loop->now() < deadline) {
        net::HttpRequest request;
        request.target = "/readyz";
        Result<net::HttpResponse> response =
            co_await async::with_timeout(*loop, kOneLookTimeout, client->send(std::move(request)));
        if (serves(response)) break;
        Result<void> slept = co_await async::sleep_for(*loop, kInterval);
        if (!slept.ok()) break;
    }
    loop->stop();
}

}  // namespace

void add_wait_flags(CLI::App& app, WaitFlags& flags) {
    app.add_option("--api-server", flags.api_server, "host:port of the API server");
    app.add_option("--timeout", flags.timeout, "When to end although it is not ready");
    add_log_flags(app, flags);
}

Result<int> run_wait(WaitFlags flags) {
    BASALT_TRY(start_log(flags, {}));
    BASALT_ASSIGN(Duration timeout, parse_duration(flags.timeout));
    BASALT_ASSIGN(net::Endpoint endpoint, net::parse_endpoint(flags.api_server));
    async::RealLoop loop;
    net::TlsConfig tls;
    // Nothing is told, and the answer decides nothing but when to end.
    tls.insecure_skip_verify = true;
    net::HttpClientOptions options;
    BASALT_ASSIGN(options.tls, net::make_tls_client(std::move(tls)));
    options.version = net::HttpVersion::kHttp1;
    options.max_connections = 1;
    net::Url url;
    url.scheme = "https";
    url.host = endpoint.host;
    url.port = endpoint.port;
    url.path = "/";
    std::shared_ptr<net::HttpClient> client = net::make_http_client(loop, url, std::move(options));
    async::TaskGroup group(loop);
    group.spawn(wait_for(&loop, client, loop.now() + timeout));
    loop.run();
    return 0;
}

}  // namespace basalt::cmd
