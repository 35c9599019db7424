#include <CLI/CLI.hpp>
#include <memory>

#include "cmd/basalt/commands.h"
#include "local/cluster.h"

namespace basalt::cmd {

void add_up(CLI::App& app, Context& context) {
    CLI::App* up =
        app.add_subcommand("up", "Make a management cluster on this machine, or mend it");
    auto options = std::make_shared<local::UpOptions>();
    add_cluster_name(*up, options->name);
    up->add_option("--nodes", options->nodes, "How many nodes; a cluster grows, it does not shrink")
        ->check(CLI::Range(1, local::kNodesMax));
    up->add_option("--kubernetes-version", options->kubernetes_version,
                   "Version of a new cluster, v1.36.3 or 1.36; the newest there is by default");
    auto images = std::make_shared<std::string>("build");
    up->add_option("--images", *images, "How missing programs and images are made")
        ->check(CLI::IsMember({"build", "pull"}))
        ->capture_default_str();
    up->add_option(
          "--images-from", options->images.registry,
          "Registry to pull from instead of the public ones (http://HOST:PORT without TLS)")
        ->type_name("HOST:PORT");
    up->callback([options, images, &context] {
        options->images.pull = *images == "pull";
        context.action = [options, &context]() -> Result<int> {
            BASALT_ASSIGN(local::Paths paths, local::find_paths(context.share_dir));
            BASALT_TRY(local::bring_up(paths, *options));
            return 0;
        };
    });
}

}  // namespace basalt::cmd
