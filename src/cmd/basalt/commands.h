// The commands of `basalt`, one file each. A file declares its options on the given app and, in the
// callback, stores what to run; main() runs it and turns an Error into a message and exit code 1.
// What can be told from the command line alone is checked by the options: wrong usage has exit
// codes above 100.
//
// To add a command: a new file with one add_… function, its declaration here, its name in main.cc's
// list.
#pragma once

#include <functional>
#include <string>

#include "base/result.h"

namespace CLI {
class App;
}

namespace basalt::cmd {

struct Context {
    std::string share_dir;                ///< --share-dir; empty: find it.
    std::function<Result<int>()> action;  ///< Set by the chosen command; returns the exit code.
};

/// --name of a local cluster.
void add_cluster_name(CLI::App& app, std::string& name);

/// A check of an option from a function that takes its text and returns a Result.
template <class Parse>
auto no_error(Parse parse) {
    return [parse](const std::string& text) {
        auto parsed = parse(text);
        return parsed.ok() ? std::string() : parsed.error().message();
    };
}

void add_up(CLI::App& app, Context& context);
void add_down(CLI::App& app, Context& context);
void add_status(CLI::App& app, Context& context);
void add_kubeconfig(CLI::App& app, Context& context);
void add_nodes(CLI::App& app, Context& context);
void add_describe(CLI::App& app, Context& context);
void add_upgrade(CLI::App& app, Context& context);
void add_sleep(CLI::App& app, Context& context);
void add_wake(CLI::App& app, Context& context);
void add_version(CLI::App& app, Context& context);
void add_completion(CLI::App& app, Context& context);
/// `basalt kubeconfig get`; called by add_kubeconfig().
void add_tenant_kubeconfig(CLI::App& kubeconfig, Context& context);
/// Hidden ones, by which the program starts parts of itself.
void add_internal(CLI::App& app, Context& context);

}  // namespace basalt::cmd
