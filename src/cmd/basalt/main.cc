#include <unistd.h>
#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>
#include <vector>

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

/// The command that was named last, of those that there are.
const CLI::App& deepest(const CLI::App& app) {
    const auto chosen = app.get_subcommands();
    return chosen.empty() ? app : deepest(*chosen.front());
}

/// What CLI11 says of a missing command, or the word that is none.
int refuse(const CLI::App& app, const CLI::ParseError& error) {
    const CLI::App& command = deepest(app);
    const std::vector<std::string> words = command.remaining();
    if (error.get_name() != "RequiredError" || words.empty() || words.front().starts_with('-') ||
        command.get_require_subcommand_min() == 0) {
        return app.exit(error);
    }
    std::string known;
    for (const CLI::App* child : command.get_subcommands([](const CLI::App*) { return true; })) {
        if (!child->get_group().empty()) known += " " + child->get_name();
    }
    fmt::print(stderr,
               "{} has no command \"{}\", it has:{}\nRun with --help for more information.\n",
               command.get_name(), words.front(), known);
    return error.get_exit_code();
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app("Basalt: Kubernetes clusters for tenants, on machines they share.", "basalt");
    app.require_subcommand(1);
    basalt::cmd::Context context;
    app.add_option("--share-dir", context.share_dir, "Where deploy/ and distribution/ are")
        ->type_name("DIR");
    for (AddCommand add : kCommands) add(app, context);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return refuse(app, error);
    }

    basalt::Result<int> result = context.action ? context.action() : basalt::Result<int>(0);
    if (result.ok()) return *result;
    const bool colour = ::isatty(STDERR_FILENO) == 1;
    fmt::print(stderr, "{}Error:{} {}\n", colour ? "\033[31m" : "", colour ? "\033[0m" : "",
               result.error().message());
    return 1;
}
