// `basalt-tunnel server` and `basalt-tunnel agent`. Flags carry the names of upstream's
// proxy-server and proxy-agent (apiserver-network-proxy v0.36), so that arguments users have keep
// working; those that mean nothing here are accepted with a warning.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"

namespace basalt::cmd {

/// Of the API server's socket: it may run as another user and in no group of ours. Who may use the
/// socket is said by the volume that it lies in, which only the two of them mount.
inline constexpr int kSocketMode = 0666;

struct LogFlags {
    std::string log_level = "info", log_format = "logfmt";
};

/// What both ends have.
struct EndFlags : LogFlags {
    std::string admin_bind_address = "127.0.0.1";
    std::string keepalive_time;
};

struct ServerFlags : EndFlags {
    ServerFlags() { keepalive_time = "30s"; }
    std::string uds_name;
    std::string cluster_cert, cluster_key, cluster_ca_cert;
    std::string agent_common_name = "system:konnectivity-agent";
    std::string agent_organization;
    std::string server_id;
    int server_count = 1;
    std::string server_count_file;
    std::string agent_bind_address;
    int agent_port = 8091;
    std::string health_bind_address;
    int health_port = 8092;
    int admin_port = 8095;
    std::string kubeconfig, authentication_audience, agent_namespace, agent_service_account;
    std::string mode = "grpc";
    std::string proxy_strategies = "default";
    int server_port = 0;
    std::string backend_dial_timeout = "15s";
    std::string graceful_shutdown_timeout = "90s";
    std::string commands_limit = "60s";
    std::string start_gate;
    std::vector<std::string> direct_allow;
    std::string peer_address;
    std::string peer_common_name = "system:konnectivity-server";
    std::string peer_settle_timeout = "15s";
};

struct AgentFlags : EndFlags {
    AgentFlags() { keepalive_time = "35s"; }
    std::string ca_cert, agent_cert, agent_key;
    std::string proxy_server_host = "127.0.0.1";
    int proxy_server_port = 8091;
    std::vector<std::string> alpn_proto;
    std::string health_server_host;
    int health_server_port = 8093;
    int admin_server_port = 8094;
    std::string agent_id;
    std::string agent_identifiers;
    std::string sync_interval = "1s", sync_interval_cap = "10s";
    bool sync_forever = true;
    std::string service_account_token_path;
    std::string drain_timeout = "15s";
};

/// `basalt-tunnel direct`: instead of a tunnel, for an API server that can dial its nodes.
struct DirectFlags : LogFlags {
    std::string uds_name;
    std::vector<std::string> deny;
    bool deny_all = false;
    std::string health_bind_address;
    int health_port = 8092;
    std::string graceful_shutdown_timeout = "90s";
    std::string commands_limit = "60s";
    std::string api_server;
    std::string start_gate;
};

void add_direct_flags(CLI::App& app, DirectFlags& flags);
Result<int> run_direct(DirectFlags flags);

void add_server_flags(CLI::App& app, ServerFlags& flags);
void add_agent_flags(CLI::App& app, AgentFlags& flags);

/// Run until a signal ends them. Arguments that were not understood are warned about.
Result<int> run_server(ServerFlags flags, std::vector<std::string> unknown);
Result<int> run_agent(AgentFlags flags, std::vector<std::string> unknown);

void add_start_gate_flag(CLI::App& app, std::string& path);
void add_log_flags(CLI::App& app, LogFlags& flags);
/// "--log-level", "--log-format", and the warnings about unknown arguments.
Result<void> start_log(const LogFlags& flags, const std::vector<std::string>& unknown);

}  // namespace basalt::cmd
