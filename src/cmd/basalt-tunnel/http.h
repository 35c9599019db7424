// The two small HTTP ports of the tunnel programs: health, without data, for kubelet probes;
// metrics, on loopback only.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "net/http_server.h"

namespace basalt::cmd {

struct HealthPages {
    std::function<bool()> ready;
    /// Ends when the API server beside this process may be stopped, after a bounded time. Null: no
    /// such page.
    std::function<async::Task<void>()> idle;
    /// Whether this server of the Pod has started, after a bounded wait. Null: no such pages.
    std::function<async::Task<bool>(std::string name)> started{};
};

/// /healthz and /livez are OK while the process answers; /readyz (and upstream's /ready) while
/// `ready`; /idle is OK as soon as `idle` ends: the kubelet asks for it before it stops the API
/// server; /started/NAME is what `started` says: startup probes.
std::shared_ptr<net::HttpHandler> make_health_handler(HealthPages pages);
std::shared_ptr<net::HttpHandler> make_metrics_handler(std::function<std::string()> metrics);

/// Port 0 is no server: upstream's way to switch one off.
Result<std::unique_ptr<net::HttpServer>> serve_http(async::Loop& loop, const std::string& host,
                                                    int port,
                                                    std::shared_ptr<net::HttpHandler> handler);
/// The host to listen on for a port that must stay on loopback; warns when another was asked for.
std::string loopback_only(const std::string& host, const char* flag);

}  // namespace basalt::cmd
