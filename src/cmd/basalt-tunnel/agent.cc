#include "tunnel/agent.h"

#include <unistd.h>

#include <fmt/format.h>

#include "async/real_loop.h"
#include "base/log.h"
#include "base/strings.h"
#include "cmd/basalt-tunnel/commands.h"
#include "cmd/basalt-tunnel/files.h"
#include "cmd/basalt-tunnel/http.h"
#include "cmd/basalt-tunnel/signals.h"

namespace basalt::cmd {

using async::Task;

namespace {

constexpr Duration kDrainInterval = std::chrono::milliseconds(250);

std::string default_agent_id(async::Loop& loop) {
    char host[256] = {};
    if (::gethostname(host, sizeof host - 1) != 0) host[0] = '\0';
    return fmt::format("{}-{:016x}", host, loop.random());
}

Result<Secret> read_token(const std::string& path) {
    BASALT_ASSIGN(std::string text, read_file(path));
    return Secret(std::move(text));
}

Result<tunnel::AgentConfig> make_config(async::Loop& loop, const AgentFlags& flags) {
    tunnel::AgentConfig config;
    config.server =
        net::Endpoint::tcp(flags.proxy_server_host, static_cast<uint16_t>(flags.proxy_server_port));
    config.agent_id = flags.agent_id.empty() ? default_agent_id(loop) : flags.agent_id;
    config.identifiers = flags.agent_identifiers;
    Result<tunnel::Identifiers> identifiers = tunnel::parse_identifiers(flags.agent_identifiers);
    if (!identifiers.ok()) return std::move(identifiers).error().context("--agent-identifiers");
    BASALT_ASSIGN(config.sync_interval, parse_duration(flags.sync_interval));
    BASALT_ASSIGN(config.sync_interval_cap, parse_duration(flags.sync_interval_cap));
    BASALT_ASSIGN(config.keepalive_time, parse_duration(flags.keepalive_time));
    config.sync_forever = flags.sync_forever;
    if (flags.agent_cert.empty() != flags.agent_key.empty()) {
        return invalid_argument("--agent-cert and --agent-key belong together");
    }
    net::TlsConfig tls;
    tls.alpn = {"h2"};
    tls.alpn.insert(tls.alpn.end(), flags.alpn_proto.begin(), flags.alpn_proto.end());
    auto files = std::make_shared<TlsFiles>(
        TlsFiles::Role::kClient, TlsPaths{flags.ca_cert, flags.agent_cert, flags.agent_key},
        std::move(tls));
    BASALT_ASSIGN(auto checked, files->load());
    (void)checked;
    config.tls = [files] { return files->load(); };
    if (!flags.service_account_token_path.empty()) {
        config.token = [path = flags.service_account_token_path] { return read_token(path); };
    }
    return config;
}

Task<void> finish(async::RealLoop* loop, tunnel::Agent* agent, net::HttpServer* health,
                  net::HttpServer* admin, Duration limit) {
    agent->drain();
    TimePoint deadline = loop->now() + limit;
    while (agent->connections_count() > 0 && loop->now() < deadline) {
        Result<void> slept = co_await async::sleep_for(*loop, kDrainInterval);
        if (!slept.ok()) break;
    }
    co_await agent->stop();
    if (health != nullptr) co_await health->stop(Duration(0));
    if (admin != nullptr) co_await admin->stop(Duration(0));
    loop->stop();
}

}  // namespace

Result<int> run_agent(AgentFlags flags, std::vector<std::string> unknown) {
    BASALT_TRY(start_log(flags, unknown));
    async::RealLoop loop;
    BASALT_ASSIGN(Duration drain_timeout, parse_duration(flags.drain_timeout));
    BASALT_ASSIGN(tunnel::AgentConfig config, make_config(loop, flags));
    log_info("tunnel agent started",
             {{"agent", config.agent_id}, {"server", config.server.to_string()}});
    tunnel::Agent agent(loop, std::move(config));
    BASALT_ASSIGN(auto health,
                  serve_http(loop, flags.health_server_host, flags.health_server_port,
                             make_health_handler({[&agent] { return agent.ready(); }, nullptr})));
    BASALT_ASSIGN(auto admin,
                  serve_http(loop, loopback_only(flags.admin_bind_address, "--admin-bind-address"),
                             flags.admin_server_port,
                             make_metrics_handler([&agent] { return agent.metrics(); })));
    agent.start();
    run_until_asked(
        loop, [&] { return finish(&loop, &agent, health.get(), admin.get(), drain_timeout); });
    return 0;
}

}  // namespace basalt::cmd
