#include <CLI/CLI.hpp>

#include "cmd/basalt/commands.h"
#include "local/state.h"

namespace basalt::cmd {

void add_cluster_name(CLI::App& app, std::string& name) {
    app.add_option("--name", name, "Name of the cluster")
        ->check(no_error(local::check_cluster_name))
        ->capture_default_str();
}

}  // namespace basalt::cmd
