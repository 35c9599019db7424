#include <unistd.h>
#include <CLI/CLI.hpp>
#include <cstdio>

#include <fmt/format.h>

#include "cmd/basalt/commands.h"

namespace {

using AddCommand = void (*)(CLI::App&, basalt::cmd::Context&);

constexpr AddCommand kCommands[] = {
    basalt::cmd::add_up,      basalt::cmd::add_down,       basalt::cmd::add_status,
    basalt::cmd::add_nodes,   basalt::cmd::add_kubeconfig, basalt::cmd::add_describe,
    basalt::cmd::add_upgrade, basalt::cmd::add_sleep,      basalt::cmd::add_wake,
    basalt::cmd::add_version, basalt::cmd::add_completion, basalt::cmd::add_internal,
};

}  // namespace

int main(int argc, char** argv) {
    CLI::App app("Basalt: Kubernetes clusters for tenants, on machines they share.", "basalt");
    app.require_subcommand(1);
    basalt::cmd::Context context;
    app.add_option("--share-dir", context.share_dir, "Where deploy/ and distribution/ are")
        ->type_name("DIR");
    for (AddCommand add : kCommands) add(app, context);
    CLI11_PARSE(app, argc, argv);

    basalt::Result<int> result = context.action ? context.action() : basalt::Result<int>(0);
    if (result.ok()) return *result;
    const bool colour = ::isatty(STDERR_FILENO) == 1;
    fmt::print(stderr, "{}Error:{} {}\n", colour ? "\033[31m" : "", colour ? "\033[0m" : "",
               result.error().message());
    return 1;
}
