#include <cstdlib>

#include "base/log.h"
#include "cmd/basalt-tunnel/commands.h"

namespace basalt::cmd {

void add_start_gate_flag(CLI::App& app, std::string& path) {
    app.add_option("--start-gate", path,
                   "File to make when the API server is ready: containers wait for it to start");
}

void add_log_flags(CLI::App& app, LogFlags& flags) {
    app.add_option("--log-level", flags.log_level, "debug, info, warn, error");
    app.add_option("--log-format", flags.log_format, "logfmt, json");
}

namespace {

void add_end_flags(CLI::App& app, EndFlags& flags) {
    app.allow_extras();
    app.add_option("--admin-bind-address", flags.admin_bind_address,
                   "Loopback address of the port of /metrics");
    app.add_option("--keepalive-time", flags.keepalive_time,
                   "Silence after which the other end is probed");
    add_log_flags(app, flags);
}

}  // namespace

void add_server_flags(CLI::App& app, ServerFlags& flags) {
    add_end_flags(app, flags);
    app.add_option("--uds-name", flags.uds_name, "Unix socket for the API server")->required();
    app.add_option("--mode", flags.mode, "Protocol of the API server: grpc");
    app.add_option("--server-port", flags.server_port, "0: the API server uses the unix socket");
    app.add_option("--cluster-cert", flags.cluster_cert, "Certificate of the agents' port")
        ->required();
    app.add_option("--cluster-key", flags.cluster_key, "Its key")->required();
    app.add_option("--cluster-ca-cert", flags.cluster_ca_cert,
                   "CA of agents that use client certificates");
    app.add_option("--agent-common-name", flags.agent_common_name,
                   "Common name in an agent's certificate");
    app.add_option("--agent-organization", flags.agent_organization,
                   "Organization in an agent's certificate");
    app.add_option("--agent-port", flags.agent_port, "Port for agents");
    app.add_option("--agent-bind-address", flags.agent_bind_address,
                   "Address of that port; all when empty");
    app.add_option("--health-port", flags.health_port, "Port of /healthz and /readyz");
    app.add_option("--health-bind-address", flags.health_bind_address,
                   "Address of that port; all when empty");
    app.add_option("--admin-port", flags.admin_port, "Port of /metrics, on loopback");
    app.add_option("--kubeconfig", flags.kubeconfig, "API server that checks agents' tokens");
    app.add_option("--authentication-audience", flags.authentication_audience,
                   "Audience of agents' tokens");
    app.add_option("--agent-namespace", flags.agent_namespace,
                   "Namespace of the agents' service account");
    app.add_option("--agent-service-account", flags.agent_service_account,
                   "Name of the agents' service account");
    app.add_option("--server-id", flags.server_id, "Name of this process; random when empty")
        ->envname("PROXY_SERVER_ID");
    app.add_option("--server-count", flags.server_count, "How many servers there are at least");
    app.add_option("--server-count-file", flags.server_count_file,
                   "File with that number, read when it changes");
    app.add_option("--proxy-strategies", flags.proxy_strategies,
                   "default, destHost, defaultRoute; in order");
    app.add_option("--backend-dial-timeout", flags.backend_dial_timeout,
                   "How long an agent may take to dial");
    app.add_option("--graceful-shutdown-timeout", flags.graceful_shutdown_timeout,
                   "How long to go on after SIGTERM while the API server needs it");
    app.add_option("--commands-limit", flags.commands_limit,
                   "How long /idle waits for connections of the API server to kubelets");
    add_start_gate_flag(app, flags.start_gate);
    app.add_option("--direct-allow", flags.direct_allow,
                   "host:port[=address:port] that this process dials itself, not an agent")
        ->delimiter(',');
    app.add_option("--peer-address", flags.peer_address,
                   "host:port of the Service in front of all servers of this control plane");
    app.add_option("--peer-common-name", flags.peer_common_name,
                   "Common name in the other servers' certificate");
    app.add_option("--peer-settle-timeout", flags.peer_settle_timeout,
                   "How long readiness waits for another server to answer");
}

void add_agent_flags(CLI::App& app, AgentFlags& flags) {
    add_end_flags(app, flags);
    app.add_option("--ca-cert", flags.ca_cert, "CA of the tunnel servers")->required();
    app.add_option("--agent-cert", flags.agent_cert, "Client certificate");
    app.add_option("--agent-key", flags.agent_key, "Its key");
    app.add_option("--proxy-server-host", flags.proxy_server_host, "Host of the tunnel servers");
    app.add_option("--proxy-server-port", flags.proxy_server_port, "Port of the tunnel servers");
    app.add_option("--alpn-proto", flags.alpn_proto, "ALPN protocols beside h2")->delimiter(',');
    app.add_option("--health-server-host", flags.health_server_host, "Address of the health port");
    app.add_option("--health-server-port", flags.health_server_port,
                   "Port of /healthz and /readyz");
    app.add_option("--admin-server-port", flags.admin_server_port, "Port of /metrics, on loopback");
    app.add_option("--agent-id", flags.agent_id, "Name of this process; random when empty")
        ->envname("PROXY_AGENT_ID");
    app.add_option("--agent-identifiers", flags.agent_identifiers,
                   "For example host=node-1&ipv4=10.0.0.1");
    app.add_option("--sync-interval", flags.sync_interval,
                   "Time between attempts to reach a server");
    app.add_option("--sync-interval-cap", flags.sync_interval_cap, "What that time grows to");
    app.add_flag("--sync-forever", flags.sync_forever,
                 "Go on looking for servers that nobody announced");
    app.add_option("--service-account-token-path", flags.service_account_token_path,
                   "Token for the server");
    app.add_option("--drain-timeout", flags.drain_timeout,
                   "How long connections may go on after SIGTERM");
}

Result<void> start_log(const LogFlags& flags, const std::vector<std::string>& unknown) {
    LogOptions options;
    BASALT_ASSIGN(options.level, parse_log_level(flags.log_level));
    BASALT_ASSIGN(options.format, parse_log_format(flags.log_format));
    configure_log(std::move(options));
    for (const std::string& argument : unknown) {
        // Only the name: what follows may be anything.
        std::string name = argument.substr(0, argument.find('='));
        if (name.starts_with("-"))
            log_warn("this argument has no effect here", {{"argument", name}});
    }
    return {};
}

}  // namespace basalt::cmd
