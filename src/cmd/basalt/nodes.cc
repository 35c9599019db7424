#include <unistd.h>
#include <CLI/CLI.hpp>
#include <memory>

#include <cerrno>

#include <fmt/format.h>

#include "cmd/basalt/commands.h"
#include "local/cluster.h"

namespace basalt::cmd {
namespace {

struct NodesOptions {
    std::string cluster = local::kDefaultCluster;
    std::string node;
    std::vector<std::string> command;
};

Result<int> list(const local::Paths& paths, const NodesOptions& options) {
    BASALT_ASSIGN(local::ClusterState state, local::require_cluster(paths, options.cluster));
    for (const local::Node& node : local::nodes_of(paths, state, "")) {
        Result<pid_t> pid = node.first_process();
        fmt::print("{:<24} {:<16} {:<8} {}\n", node.name(),
                   state.plan.node_address(node.spec().number),
                   node.running() ? "running" : "stopped", pid.ok() ? std::to_string(*pid) : "-");
    }
    return 0;
}

/// Replaces this process, so that the terminal, signals and the exit code are the command's own.
Result<int> execute(const local::Node& node, const std::vector<std::string>& command) {
    BASALT_ASSIGN(std::vector<std::string> argv, node.command_inside(command));
    std::vector<char*> pointers;
    for (std::string& text : argv) pointers.push_back(text.data());
    pointers.push_back(nullptr);
    ::execvp(pointers[0], pointers.data());
    return errno_error(errno, "nsenter");
}

Result<int> act(const std::string& share_dir, const std::string& verb,
                const NodesOptions& options) {
    BASALT_ASSIGN(local::Paths paths, local::find_paths(share_dir));
    if (verb == "list") return list(paths, options);
    BASALT_ASSIGN(local::Node node, local::find_node(paths, options.cluster, options.node));
    if (verb == "exec")
        return execute(
            node, options.command.empty() ? std::vector<std::string>{"bash"} : options.command);
    Result<void> done = verb == "stop" ? node.stop() : verb == "kill" ? node.kill() : node.start();
    BASALT_TRY(std::move(done));
    return 0;
}

}  // namespace

void add_nodes(CLI::App& app, Context& context) {
    CLI::App* nodes = app.add_subcommand("nodes", "The nodes of a local cluster");
    nodes->require_subcommand(1);
    auto options = std::make_shared<NodesOptions>();
    add_cluster_name(*nodes, options->cluster);
    const std::pair<const char*, const char*> verbs[] = {
        {"list", "Names, addresses, states and first processes"},
        {"start", "Start a stopped node and wait for its containerd"},
        {"stop", "Shut a node down"},
        {"kill", "Pull a node's plug"},
        {"exec", "Run a command on a node (bash when none is given)"},
    };
    for (const auto& [verb, help] : verbs) {
        CLI::App* sub = nodes->add_subcommand(verb, help);
        sub->fallthrough();  // --name may follow the verb.
        if (std::string(verb) != "list")
            sub->add_option("node", options->node, "Name or number of the node")->required();
        if (std::string(verb) == "exec") {
            sub->add_option("command", options->command, "Command and arguments, after --");
            sub->footer("Example: basalt nodes exec 1 -- ps aux");
        }
        sub->callback([options, &context, name = std::string(verb)] {
            context.action = [options, &context, name] {
                return act(context.share_dir, name, *options);
            };
        });
    }
}

}  // namespace basalt::cmd
