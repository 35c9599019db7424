#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <csignal>
#include <cstdio>

#include "cmd/basalt-tunnel/commands.h"

int main(int argc, char** argv) {
    CLI::App app(
        "The way from a control plane to the nodes that it cannot dial (konnectivity protocol).",
        "basalt-tunnel");
    app.require_subcommand(1);
    basalt::cmd::ServerFlags server_flags;
    basalt::cmd::AgentFlags agent_flags;
    CLI::App* server =
        app.add_subcommand("server", "Beside the API server: takes its connections to agents");
    CLI::App* agent =
        app.add_subcommand("agent", "On a node: connects to servers and dials for them");
    basalt::cmd::DirectFlags direct_flags;
    CLI::App* direct = app.add_subcommand(
        "direct", "Beside an API server without a tunnel: dials what is not denied");
    basalt::cmd::add_direct_flags(*direct, direct_flags);
    basalt::cmd::add_server_flags(*server, server_flags);
    basalt::cmd::add_agent_flags(*agent, agent_flags);
    CLI11_PARSE(app, argc, argv);

    std::signal(SIGPIPE, SIG_IGN);
    basalt::Result<int> result = 0;
    if (server->parsed()) result = basalt::cmd::run_server(server_flags, server->remaining());
    if (agent->parsed()) result = basalt::cmd::run_agent(agent_flags, agent->remaining());
    if (direct->parsed()) result = basalt::cmd::run_direct(direct_flags);
    if (result.ok()) return *result;
    fmt::print(stderr, "Error: {}\n", result.error().message());
    return 1;
}
