#include "cmd/basalt-tunnel/pod.h"

#include <fcntl.h>
#include <unistd.h>

#include "async/wait.h"
#include "base/log.h"
#include "net/http_client.h"

namespace basalt::cmd {

using async::Task;

namespace {

constexpr Duration kGoneInterval = std::chrono::milliseconds(250);
/// Looks in a row that must find it gone.
constexpr int kGoneEnough = 3;
// Where upstream's listen unless told otherwise; Basalt does not tell them.
constexpr uint16_t kControllerManagerPort = 10257;
constexpr uint16_t kSchedulerPort = 10259;

bool make_file(const std::string& path) {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) {
        log_error("cannot open the gate", {{"error", errno_error(errno, path)}});
        return false;
    }
    ::close(fd);
    return true;
}

Result<tunnel::Components::Server> make_server(async::Loop& loop, std::string name,
                                               std::string page, const net::Endpoint& endpoint) {
    net::TlsConfig tls;
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
    return tunnel::Components::Server{std::move(name), std::move(page),
                                      net::make_http_client(loop, url, std::move(options))};
}

}  // namespace

Result<std::unique_ptr<tunnel::Components>> make_components(async::Loop& loop,
                                                            const net::Endpoint& api_server,
                                                            const std::string& gate) {
    std::vector<tunnel::Components::Server> servers(3);
    BASALT_ASSIGN(servers[0], make_server(loop, "kube-apiserver", "/readyz", api_server));
    BASALT_ASSIGN(servers[1], make_server(loop, "kube-controller-manager", "/healthz",
                                          net::Endpoint::tcp("127.0.0.1", kControllerManagerPort)));
    BASALT_ASSIGN(servers[2], make_server(loop, "kube-scheduler", "/healthz",
                                          net::Endpoint::tcp("127.0.0.1", kSchedulerPort)));
    std::function<bool()> open_gate;
    if (!gate.empty()) open_gate = [gate] { return make_file(gate); };
    return std::make_unique<tunnel::Components>(loop, std::move(servers), std::move(open_gate));
}

Task<void> until_gone(async::Loop* loop, net::Endpoint api_server, TimePoint deadline,
                      std::function<bool()> drained) {
    int gone_count = 0;
    while (loop->now() < deadline) {
        net::Endpoint endpoint = api_server;
        auto stream = co_await net::connect(*loop, std::move(endpoint), std::chrono::seconds(1));
        gone_count = stream.ok() ? 0 : gone_count + 1;
        if (gone_count >= kGoneEnough && drained()) co_return;
        Result<void> slept = co_await async::sleep_for(*loop, kGoneInterval);
        if (!slept.ok()) co_return;
    }
}

}  // namespace basalt::cmd
