#include <CLI/CLI.hpp>
#include <memory>

#include <fmt/format.h>

#include "cmd/basalt/commands.h"
#include "local/cluster.h"

namespace basalt::cmd {

void add_kubeconfig(CLI::App& app, Context& context) {
    CLI::App* kubeconfig =
        app.add_subcommand("kubeconfig", "Print the administrator's kubeconfig of a local cluster");
    auto name = std::make_shared<std::string>(local::kDefaultCluster);
    add_cluster_name(*kubeconfig, *name);
    add_tenant_kubeconfig(*kubeconfig, context);
    kubeconfig->callback([name, kubeconfig, &context] {
        if (!kubeconfig->get_subcommands().empty()) return;
        context.action = [name, &context]() -> Result<int> {
            BASALT_ASSIGN(local::Paths paths, local::find_paths(context.share_dir));
            BASALT_ASSIGN(std::string text, local::read_kubeconfig(paths, *name));
            fmt::print("{}", text);
            return 0;
        };
    });
}

}  // namespace basalt::cmd
