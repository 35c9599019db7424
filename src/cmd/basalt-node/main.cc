// basalt-node: on every node whose network plugins do not enforce NetworkPolicies.
#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <csignal>
#include <cstdio>

#include "async/real_loop.h"
#include "base/log.h"
#include "controller/http_endpoint.h"
#include "controller/manager.h"
#include "kube/config.h"
#include "policy/enforcer.h"

namespace basalt::cmd {
namespace {

constexpr Duration kGoodbye = std::chrono::milliseconds(50);

struct NodeOptions {
    std::string kubeconfig;
    std::string node;
    std::string health_address = "127.0.0.1:8091";
    std::string log_level = "info", log_format = "logfmt";
};

async::Task<void> run_to_end(async::RealLoop* loop, controller::Manager* manager,
                             std::optional<Result<void>>* outcome) {
    Result<void> ran = co_await manager->run();
    outcome->emplace(std::move(ran));
    loop->stop();
}

Result<void> configure_log(const NodeOptions& options) {
    LogOptions log;
    BASALT_ASSIGN(log.level, parse_log_level(options.log_level).context("--log-level"));
    BASALT_ASSIGN(log.format, parse_log_format(options.log_format).context("--log-format"));
    basalt::configure_log(log);
    return {};
}

// Until a signal or a failure ends it.
Result<void> serve(async::RealLoop& loop, std::shared_ptr<net::HttpTransport> transport,
                   const NodeOptions& options) {
    kube::ClientOptions client_options;
    client_options.user_agent = "basalt-node";
    kube::Client client(loop, std::move(transport), client_options);
    controller::Manager manager(client, client);
    policy::Enforcer::Options enforcer_options;
    enforcer_options.node = options.node;
    policy::Enforcer enforcer(loop, manager.caches(), enforcer_options);
    manager.add_runnable("policies", [&enforcer] { return enforcer.run(); }, false);
    manager.health().add_ready_check("policies", [&enforcer] { return enforcer.check_ready(); });
    auto router = std::make_shared<controller::Router>();
    controller::add_health_routes(*router, manager.health());
    BASALT_ASSIGN(net::Endpoint address, net::parse_endpoint(options.health_address));
    controller::HttpEndpoint health(loop, address, router, {});
    manager.add_runnable("health", [&health] { return health.run(); }, false);

    async::TaskGroup group(loop);
    std::optional<Result<void>> outcome;
    auto on_signal = [&group] { group.cancel(); };
    loop.on_signal(SIGTERM, on_signal);
    loop.on_signal(SIGINT, on_signal);
    group.spawn(run_to_end(&loop, &manager, &outcome));
    loop.run();
    return outcome ? std::move(*outcome) : Result<void>();
}

Result<void> run(const NodeOptions& options) {
    BASALT_TRY(configure_log(options));
    async::RealLoop loop;
    kube::AccessQuery query;
    query.kubeconfig = options.kubeconfig;
    BASALT_ASSIGN(kube::Access access, kube::find_access(query, kube::process_environment()));
    BASALT_ASSIGN(auto transport, kube::make_transport(loop, access));
    log_info("starting", {{"node", options.node}, {"server", access.server}});
    Result<void> served = serve(loop, std::move(transport), options);
    // Connections close; their last callbacks want a loop.
    loop.call_at(loop.now() + kGoodbye, [&loop] { loop.stop(); });
    loop.run();
    return served;
}

}  // namespace
}  // namespace basalt::cmd

int main(int argc, char** argv) {
    CLI::App app("Enforces NetworkPolicies on this node with nftables.", "basalt-node");
    basalt::cmd::NodeOptions options;
    app.add_option("--kubeconfig", options.kubeconfig,
                   "How to reach the cluster; in a Pod its own account");
    app.add_option("--node", options.node, "Name of this node")->envname("NODE_NAME")->required();
    app.add_option("--health-probe-bind-address", options.health_address,
                   "host:port of /healthz and /readyz");
    app.add_option("--log-level", options.log_level, "debug, info, warn, error");
    app.add_option("--log-format", options.log_format, "logfmt, json");
    CLI11_PARSE(app, argc, argv);
    std::signal(SIGPIPE, SIG_IGN);
    basalt::Result<void> result = basalt::cmd::run(options);
    if (result.ok()) return 0;
    fmt::print(stderr, "basalt-node: {}\n", result.error().message());
    return 1;
}
