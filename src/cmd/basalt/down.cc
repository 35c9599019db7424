#include <CLI/CLI.hpp>
#include <memory>

#include "cmd/basalt/commands.h"
#include "local/cluster.h"

namespace basalt::cmd {

void add_down(CLI::App& app, Context& context) {
    CLI::App* down =
        app.add_subcommand("down", "Remove a cluster and everything of it; the cache stays");
    auto name = std::make_shared<std::string>(local::kDefaultCluster);
    add_cluster_name(*down, *name);
    down->callback([name, &context] {
        context.action = [name, &context]() -> Result<int> {
            BASALT_ASSIGN(local::Paths paths, local::find_paths(context.share_dir));
            BASALT_TRY(local::tear_down(paths, *name));
            return 0;
        };
    });
}

}  // namespace basalt::cmd
