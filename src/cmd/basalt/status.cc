#include <CLI/CLI.hpp>
#include <memory>

#include <fmt/format.h>

#include "cmd/basalt/commands.h"
#include "local/cluster.h"

namespace basalt::cmd {
namespace {

Result<int> show(const std::string& share_dir, const std::string& name) {
    BASALT_ASSIGN(local::Paths paths, local::find_paths(share_dir));
    std::vector<std::string> names = {name};
    if (name.empty()) {
        BASALT_ASSIGN(names, local::list_clusters(paths.state));
    }
    if (names.empty()) fmt::print("There is no cluster; make one with: basalt up\n");
    for (size_t i = 0; i < names.size(); ++i) {
        BASALT_ASSIGN(std::string text, local::describe_cluster(paths, names[i]));
        fmt::print("{}{}", i > 0 ? "\n" : "", text);
    }
    return 0;
}

}  // namespace

void add_status(CLI::App& app, Context& context) {
    CLI::App* status = app.add_subcommand("status", "Show the clusters of this machine");
    auto name = std::make_shared<std::string>();
    add_cluster_name(*status, *name);
    status->callback([name, &context] {
        context.action = [name, &context] { return show(context.share_dir, *name); };
    });
}

}  // namespace basalt::cmd
