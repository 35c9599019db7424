#include <fmt/format.h>

#include "async/real_loop.h"
#include "base/log.h"
#include "base/strings.h"
#include "cmd/basalt-tunnel/commands.h"
#include "cmd/basalt-tunnel/files.h"
#include "cmd/basalt-tunnel/http.h"
#include "cmd/basalt-tunnel/kubeconfig.h"
#include "cmd/basalt-tunnel/pod.h"
#include "cmd/basalt-tunnel/signals.h"
#include "cmd/basalt-tunnel/token_review.h"
#include "tunnel/server.h"

namespace basalt::cmd {

using async::Task;

namespace {

constexpr Duration kFilesInterval = std::chrono::seconds(10);

std::string random_id(async::Loop& loop) {
    return fmt::format("{:016x}{:016x}", loop.random(), loop.random());
}

Result<tunnel::DirectDestination> parse_direct(std::string_view text) {
    tunnel::DirectDestination destination;
    auto pair = cut(text, "=");
    destination.address = std::string(pair ? pair->first : text);
    BASALT_ASSIGN(destination.endpoint, net::parse_endpoint(pair ? pair->second : text));
    if (destination.endpoint.is_unix() || destination.endpoint.port == 0) {
        return invalid_argument("--direct-allow: \"" + std::string(text) + "\" is not host:port");
    }
    return destination;
}

/// Everything of one `basalt-tunnel server`.
class Program {
 public:
    Program(async::RealLoop& loop, ServerFlags flags)
        : loop_(loop), flags_(std::move(flags)), group_(loop) {}

    Result<void> start();
    /// Until the server may end; then stops everything.
    Task<void> stop();
    void drain() { tunnel_->drain(); }

 private:
    Result<tunnel::TunnelServerConfig> make_config();
    Result<void> listen(const tunnel::TunnelServerConfig& config);
    Task<void> watch_files();
    void read_server_count();
    net::Endpoint api_server() const {
        return net::Endpoint::tcp(kubeconfig_->server.host, kubeconfig_->server.port);
    }

    async::RealLoop& loop_;
    ServerFlags flags_;
    async::TaskGroup group_;
    std::optional<Kubeconfig> kubeconfig_;
    std::unique_ptr<TlsFiles> agent_tls_;
    std::shared_ptr<TlsFiles> peer_tls_;
    std::unique_ptr<tunnel::Components> components_;  ///< Null without a kubeconfig.
    std::unique_ptr<tunnel::TunnelServer> tunnel_;
    std::unique_ptr<net::GrpcServer> frontends_;
    std::unique_ptr<net::GrpcServer> agents_;
    std::unique_ptr<net::HttpServer> health_;
    std::unique_ptr<net::HttpServer> admin_;
    std::shared_ptr<const net::TlsContext> used_tls_;
};

Result<tunnel::TunnelServerConfig> Program::make_config() {
    if (flags_.mode != "grpc") return invalid_argument("--mode: only grpc is supported");
    tunnel::TunnelServerConfig config;
    config.server_id = flags_.server_id.empty() ? random_id(loop_) : flags_.server_id;
    BASALT_ASSIGN(config.core.strategies, tunnel::parse_strategies(flags_.proxy_strategies));
    BASALT_ASSIGN(config.core.dial_timeout, parse_duration(flags_.backend_dial_timeout));
    for (const std::string& text : flags_.direct_allow) {
        BASALT_ASSIGN(tunnel::DirectDestination destination, parse_direct(text));
        config.direct.push_back(std::move(destination));
    }
    if (!flags_.kubeconfig.empty()) {
        BASALT_ASSIGN(Kubeconfig kubeconfig, load_kubeconfig(flags_.kubeconfig));
        kubeconfig_ = std::move(kubeconfig);
    }
    bool by_token = !flags_.authentication_audience.empty() || !flags_.agent_namespace.empty() ||
                    !flags_.agent_service_account.empty();
    if (by_token) {
        if (flags_.authentication_audience.empty() || flags_.agent_namespace.empty() ||
            flags_.agent_service_account.empty() || !kubeconfig_) {
            return invalid_argument(
                "--authentication-audience, --agent-namespace, --agent-service-account and "
                "--kubeconfig belong together");
        }
        config.agents =
            make_token_authenticator(loop_,
                                     {{flags_.authentication_audience, flags_.agent_namespace,
                                       flags_.agent_service_account}},
                                     *kubeconfig_);
    }
    if (!flags_.cluster_ca_cert.empty()) {
        config.agents = tunnel::make_any_authenticator(
            tunnel::make_certificate_authenticator(
                {flags_.agent_common_name, flags_.agent_organization}),
            config.agents);
    }
    if (!config.agents) {
        return invalid_argument(
            "agents must authenticate: give --authentication-audience with its companions, "
            "or --cluster-ca-cert");
    }
    if (!flags_.peer_address.empty()) {
        if (!kubeconfig_)
            return invalid_argument("--peer-address needs the client certificate of --kubeconfig");
        BASALT_ASSIGN(config.peers.endpoint, net::parse_endpoint(flags_.peer_address));
        BASALT_ASSIGN(config.peers.settle_timeout, parse_duration(flags_.peer_settle_timeout));
        config.peers_rule.common_name = flags_.peer_common_name;
        net::TlsConfig identity = kubeconfig_->tls;
        identity.server_name.clear();
        identity.alpn = {"h2"};
        peer_tls_ =
            std::make_shared<TlsFiles>(TlsFiles::Role::kClient, kubeconfig_->paths, identity);
        config.peers.tls = [files = peer_tls_] { return files->load(); };
    }
    return config;
}

Result<void> Program::listen(const tunnel::TunnelServerConfig& config) {
    net::TlsConfig tls;
    tls.alpn = {"h2"};
    TlsPaths paths{flags_.cluster_ca_cert, flags_.cluster_cert, flags_.cluster_key};
    // Peers and agents with certificates show one; agents with tokens have none.
    bool tokens = !flags_.authentication_audience.empty();
    if (paths.ca.empty() && config.peers.endpoint) {
        paths.ca = kubeconfig_->paths.ca;
        tls.ca_pem = kubeconfig_->tls.ca_pem;
    }
    bool any_ca = !paths.ca.empty() || !tls.ca_pem.empty();
    tls.client_certificates = !any_ca  ? net::ClientCertificates::kIgnored
                              : tokens ? net::ClientCertificates::kOptional
                                       : net::ClientCertificates::kRequired;
    agent_tls_ = std::make_unique<TlsFiles>(TlsFiles::Role::kServer, paths, std::move(tls));
    BASALT_ASSIGN(used_tls_, agent_tls_->load());
    BASALT_ASSIGN(Duration keepalive, parse_duration(flags_.keepalive_time));
    net::GrpcServerOptions agent_options;
    agent_options.tls = used_tls_;
    agent_options.max_message_size = tunnel::kMaxPacketSize;
    agent_options.ping_after = keepalive;
    agent_options.ping_timeout = std::chrono::seconds(10);
    // Anyone who reaches the port may connect; who has not authenticated takes no agent's place.
    agent_options.strangers = net::GrpcStrangerLimits();
    agent_options.max_connections =
        config.core.max_agents + agent_options.strangers->max_connections;
    auto port = static_cast<uint16_t>(flags_.agent_port);
    BASALT_ASSIGN(auto agent_listener,
                  net::listen(loop_, net::Endpoint::tcp(flags_.agent_bind_address, port)));
    BASALT_ASSIGN(agents_, net::start_grpc_server(loop_, std::move(agent_listener),
                                                  tunnel_->agent_service(), agent_options));
    // kube-apiserver opens a connection for each tunnel.
    net::GrpcServerOptions frontend_options;
    frontend_options.max_connections = config.core.max_frontends;
    frontend_options.max_message_size = tunnel::kMaxPacketSize;
    net::ListenOptions socket_options;
    socket_options.unix_mode = kSocketMode;
    BASALT_ASSIGN(auto frontend_listener,
                  net::listen(loop_, net::Endpoint::local_socket(flags_.uds_name), socket_options));
    BASALT_ASSIGN(frontends_,
                  net::start_grpc_server(loop_, std::move(frontend_listener),
                                         tunnel_->frontend_service(), frontend_options));
    return {};
}

Result<void> Program::start() {
    BASALT_ASSIGN(tunnel::TunnelServerConfig config, make_config());
    tunnel_ = std::make_unique<tunnel::TunnelServer>(loop_, config);
    BASALT_TRY(listen(config));
    tunnel_->set_configured_server_count(static_cast<uint32_t>(std::max(1, flags_.server_count)));
    read_server_count();
    if (kubeconfig_) {
        BASALT_ASSIGN(components_, make_components(loop_, api_server(), flags_.start_gate));
    } else if (!flags_.start_gate.empty()) {
        return invalid_argument("--start-gate needs --kubeconfig");
    }
    BASALT_ASSIGN(Duration limit, parse_duration(flags_.commands_limit));
    HealthPages pages{[this] { return tunnel_->ready(); },
                      [this, limit] { return tunnel_->commands_ended(limit); }};
    if (components_) {
        pages.started = [this](std::string name) { return components_->started(std::move(name)); };
    }
    BASALT_ASSIGN(health_, serve_http(loop_, flags_.health_bind_address, flags_.health_port,
                                      make_health_handler(std::move(pages))));
    BASALT_ASSIGN(
        admin_,
        serve_http(loop_, loopback_only(flags_.admin_bind_address, "--admin-bind-address"),
                   flags_.admin_port, make_metrics_handler([this] { return tunnel_->metrics(); })));
    tunnel_->start();
    group_.spawn(watch_files());
    if (components_) components_->start();
    log_info("tunnel server started", {{"server", config.server_id},
                                       {"agents", agents_->endpoint().to_string()},
                                       {"socket", flags_.uds_name},
                                       {"direct", config.direct.size()}});
    return {};
}

void Program::read_server_count() {
    if (flags_.server_count_file.empty()) return;
    Result<std::string> text = read_file(flags_.server_count_file);
    if (!text.ok()) {
        log_warn("cannot read the number of servers", {{"error", text.error()}});
        return;
    }
    auto count = parse_number<uint32_t>(trim(*text));
    if (!count || *count == 0) {
        log_warn("the file with the number of servers holds no number",
                 {{"path", flags_.server_count_file}});
        return;
    }
    tunnel_->set_configured_server_count(*count);
}

Task<void> Program::watch_files() {
    for (;;) {
        Result<void> slept = co_await async::sleep_for(loop_, kFilesInterval);
        if (!slept.ok()) co_return;
        read_server_count();
        Result<std::shared_ptr<const net::TlsContext>> tls = agent_tls_->load();
        if (!tls.ok()) {
            log_error("cannot use the new certificate, the old one stays",
                      {{"error", tls.error()}});
        } else if (*tls != used_tls_) {
            used_tls_ = *tls;
            agents_->set_tls(used_tls_);
            log_info("certificate changed");
        }
    }
}

Task<void> Program::stop() {
    Duration limit =
        parse_duration(flags_.graceful_shutdown_timeout).value_or(std::chrono::seconds(90));
    if (components_) {
        co_await until_gone(&loop_, api_server(), loop_.now() + limit,
                            [this] { return tunnel_->drained(); });
        co_await components_->stop();
    }
    log_info("stopping", {{"open", tunnel_->core().frontends_count()}});
    co_await frontends_->stop(Duration(0));
    co_await agents_->stop(Duration(0));
    co_await tunnel_->stop();
    if (health_) co_await health_->stop(Duration(0));
    if (admin_) co_await admin_->stop(Duration(0));
    group_.cancel();
    co_await group_.join();
}

Task<void> finish(async::RealLoop* loop, Program* program) {
    program->drain();
    co_await program->stop();
    loop->stop();
}

}  // namespace

Result<int> run_server(ServerFlags flags, std::vector<std::string> unknown) {
    BASALT_TRY(start_log(flags, unknown));
    async::RealLoop loop;
    Program program(loop, std::move(flags));
    BASALT_TRY(program.start());
    run_until_asked(loop, [&] { return finish(&loop, &program); });
    return 0;
}

}  // namespace basalt::cmd
