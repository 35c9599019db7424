// `basalt-tunnel direct`: what stands beside an API server whose tenant has no tunnel. The same
// socket and protocol, but the connections are made from here, to nothing that was denied.
#include <ifaddrs.h>
#include <netdb.h>

#include "async/real_loop.h"
#include "base/log.h"
#include "cmd/basalt-tunnel/commands.h"
#include "cmd/basalt-tunnel/http.h"
#include "cmd/basalt-tunnel/pod.h"
#include "cmd/basalt-tunnel/signals.h"
#include "tunnel/direct.h"
#include "tunnel/server.h"

namespace basalt::cmd {

using async::Task;

namespace {

/// What listens in this Pod (the control plane itself) listens on these, too.
Result<void> deny_own_addresses(tunnel::AddressFilter& filter) {
    ifaddrs* list = nullptr;
    if (::getifaddrs(&list) != 0) return errno_error(errno, "addresses of this machine");
    std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> owned(list, &::freeifaddrs);
    for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
        if (entry->ifa_addr == nullptr) continue;
        const int family = entry->ifa_addr->sa_family;
        if (family != AF_INET && family != AF_INET6) continue;
        char text[NI_MAXHOST] = {};
        const auto size =
            static_cast<socklen_t>(family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
        if (::getnameinfo(entry->ifa_addr, size, text, sizeof text, nullptr, 0, NI_NUMERICHOST) !=
            0)
            continue;
        std::string address = text;
        // Link-local ones have a zone, and are denied anyway.
        if (address.find('%') != std::string::npos) continue;
        BASALT_TRY(filter.deny(address));
    }
    return {};
}

Result<tunnel::AddressFilter> make_filter(const DirectFlags& flags) {
    tunnel::AddressFilter filter;
    if (flags.deny_all) {
        BASALT_TRY(filter.deny("0.0.0.0/0"));
        BASALT_TRY(filter.deny("::/0"));
    }
    for (const std::string& range : flags.deny) {
        BASALT_TRY(filter.deny(range).context("--deny"));
    }
    BASALT_TRY(deny_own_addresses(filter));
    return filter;
}

/// Everything of one `basalt-tunnel direct`.
struct Direct {
    async::RealLoop& loop;
    DirectFlags flags;
    net::Endpoint api_server{};
    std::unique_ptr<tunnel::Components> components{};  ///< Null without --api-server.
    std::unique_ptr<tunnel::TunnelServer> server{};
    std::unique_ptr<net::GrpcServer> frontends{};
    std::unique_ptr<net::HttpServer> health{};
};

Result<void> start(Direct& direct) {
    if (!direct.flags.api_server.empty()) {
        BASALT_ASSIGN(direct.api_server, net::parse_endpoint(direct.flags.api_server));
        BASALT_ASSIGN(direct.components,
                      make_components(direct.loop, direct.api_server, direct.flags.start_gate));
    } else if (!direct.flags.start_gate.empty()) {
        return invalid_argument("--start-gate needs --api-server");
    }
    tunnel::TunnelServerConfig config;
    config.server_id = "direct";
    BASALT_ASSIGN(tunnel::AddressFilter filter, make_filter(direct.flags));
    config.dialer = tunnel::make_filtered_dialer(direct.loop, std::move(filter));
    net::GrpcServerOptions options;
    options.max_connections = config.core.max_frontends;
    options.max_message_size = tunnel::kMaxPacketSize;
    direct.server = std::make_unique<tunnel::TunnelServer>(direct.loop, std::move(config));
    net::ListenOptions socket_options;
    socket_options.unix_mode = kSocketMode;
    BASALT_ASSIGN(auto listener,
                  net::listen(direct.loop, net::Endpoint::local_socket(direct.flags.uds_name),
                              socket_options));
    BASALT_ASSIGN(direct.frontends,
                  net::start_grpc_server(direct.loop, std::move(listener),
                                         direct.server->frontend_service(), options));
    tunnel::TunnelServer* server = direct.server.get();
    BASALT_ASSIGN(Duration limit, parse_duration(direct.flags.commands_limit));
    HealthPages pages{[server] { return server->ready(); },
                      [server, limit] { return server->commands_ended(limit); }};
    if (tunnel::Components* components = direct.components.get(); components != nullptr) {
        pages.started = [components](std::string name) {
            return components->started(std::move(name));
        };
    }
    BASALT_ASSIGN(direct.health,
                  serve_http(direct.loop, direct.flags.health_bind_address,
                             direct.flags.health_port, make_health_handler(std::move(pages))));
    direct.server->start();
    if (direct.components) direct.components->start();
    log_info("direct egress started", {{"socket", direct.flags.uds_name},
                                       {"denied", direct.flags.deny.size()},
                                       {"closed", direct.flags.deny_all}});
    return {};
}

Task<void> finish(Direct* direct) {
    direct->server->drain();
    const Duration limit =
        parse_duration(direct->flags.graceful_shutdown_timeout).value_or(std::chrono::seconds(90));
    if (direct->components) {
        co_await until_gone(&direct->loop, direct->api_server, direct->loop.now() + limit,
                            [] { return true; });
        co_await direct->components->stop();
    }
    co_await direct->frontends->stop(Duration(0));
    co_await direct->server->stop();
    if (direct->health) co_await direct->health->stop(Duration(0));
    direct->loop.stop();
}

}  // namespace

void add_direct_flags(CLI::App& app, DirectFlags& flags) {
    app.add_option("--uds-name", flags.uds_name, "Unix socket for the API server")->required();
    app.add_option("--deny", flags.deny, "Addresses and ranges that are never dialled")
        ->delimiter(',');
    app.add_flag("--deny-all", flags.deny_all, "Dial nothing");
    app.add_option("--health-port", flags.health_port, "Port of /healthz and /readyz");
    app.add_option("--health-bind-address", flags.health_bind_address,
                   "Address of that port; all when empty");
    app.add_option("--api-server", flags.api_server,
                   "host:port of the API server beside this; asked when it is ready, and after "
                   "SIGTERM whether it has gone");
    app.add_option("--graceful-shutdown-timeout", flags.graceful_shutdown_timeout,
                   "How long to go on after SIGTERM while the API server needs it");
    app.add_option("--commands-limit", flags.commands_limit,
                   "How long /idle waits for connections of the API server to kubelets");
    add_start_gate_flag(app, flags.start_gate);
    add_log_flags(app, flags);
}

Result<int> run_direct(DirectFlags flags) {
    BASALT_TRY(start_log(flags, {}));
    async::RealLoop loop;
    Direct direct{loop, std::move(flags)};
    BASALT_TRY(start(direct));
    run_until_asked(loop, [&] { return finish(&direct); });
    return 0;
}

}  // namespace basalt::cmd
