#include <unistd.h>
#include <CLI/CLI.hpp>
#include <memory>

#include <cerrno>

#include "cmd/basalt/commands.h"
#include "linux/cgroup.h"
#include "local/cluster.h"
#include "local/node_process.h"

namespace basalt::cmd {
namespace {

struct NodeProcessOptions {
    std::string cluster;
    int number = 1;
    std::string pause_image;
};

Result<int> node_process(const std::string& share_dir, const NodeProcessOptions& options) {
    BASALT_ASSIGN(local::Paths paths, local::find_paths(share_dir));
    BASALT_ASSIGN(local::ClusterState state, local::require_cluster(paths, options.cluster));
    return local::run_node_process(
        local::make_node_spec(paths, state, options.number, options.pause_image));
}

Result<int> in_cgroup(const std::string& cgroup, std::vector<std::string> command) {
    if (command.empty()) return invalid_argument("in-cgroup needs a command");
    BASALT_TRY(linux::make_cgroup(cgroup));
    BASALT_TRY(linux::enter_cgroup(cgroup));
    std::vector<char*> argv;
    for (std::string& text : command) argv.push_back(text.data());
    argv.push_back(nullptr);
    ::execvp(argv[0], argv.data());
    return errno_error(errno, command.front());
}

}  // namespace

void add_internal(CLI::App& app, Context& context) {
    // An empty group hides a command from --help.
    CLI::App* node = app.add_subcommand("node-process", "Be a node")->group("");
    auto options = std::make_shared<NodeProcessOptions>();
    node->add_option("--name", options->cluster)->required();
    node->add_option("--number", options->number)->required();
    node->add_option("--pause-image", options->pause_image)->required();
    node->callback([options, &context] {
        context.action = [options, &context] { return node_process(context.share_dir, *options); };
    });

    CLI::App* cgroup =
        app.add_subcommand("in-cgroup", "Run a command in a control group")->group("");
    auto path = std::make_shared<std::string>();
    cgroup->add_option("path", *path)->required();
    cgroup->prefix_command();
    cgroup->callback([path, &context, cgroup] {
        std::vector<std::string> command = cgroup->remaining();
        context.action = [path, command] { return in_cgroup(*path, command); };
    });
}

}  // namespace basalt::cmd
