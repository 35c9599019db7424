#include "local/registry.h"

#include <fmt/format.h>

#include "linux/daemon.h"
#include "linux/file.h"
#include "linux/process.h"

namespace basalt::local {
namespace {

/// It also waits for a build that runs at the same time.
constexpr auto kPushLimit = std::chrono::minutes(60);

linux::Daemon daemon_of(const Paths& paths, const ClusterState& state) {
    return {paths.cluster(state.name), "registry"};
}

std::string storage_of(const Paths& paths) { return paths.cache + "/registry"; }

}  // namespace

std::string render_registry_config(const std::string& address, const std::string& storage) {
    return fmt::format(
        "version: 0.1\n"
        "log: {{level: warn, accesslog: {{disabled: true}}}}\n"
        "storage:\n"
        "  filesystem: {{rootdirectory: {}}}\n"
        "  delete: {{enabled: true}}\n"
        "  cache: {{blobdescriptor: inmemory}}\n"
        "http: {{addr: \"{}\"}}\n",
        storage, address);
}

Result<void> start_registry(const Paths& paths, const ClusterState& state) {
    const std::string directory = paths.cluster(state.name);
    const std::string config = directory + "/registry.yml";
    BASALT_TRY(linux::make_directories(storage_of(paths)));
    BASALT_TRY(linux::update_file(
        config, render_registry_config(state.plan.registry(), storage_of(paths))));
    const linux::Daemon daemon = daemon_of(paths, state);
    BASALT_TRY(
        daemon.start({paths.program, "in-cgroup", fmt::format("basalt/{}/registry", state.name),
                      "docker-registry", "serve", config},
                     directory + "/registry.log"));
    return {};
}

Result<void> stop_registry(const Paths& paths, const ClusterState& state) {
    return daemon_of(paths, state).stop(std::chrono::seconds(5));
}

bool registry_running(const Paths& paths, const ClusterState& state) {
    return daemon_of(paths, state).running();
}

Result<void> fill_registry(const Paths& paths, const ClusterState& state,
                           const std::vector<Image>& images) {
    std::string wanted;
    for (const Image& image : images) {
        BASALT_ASSIGN(std::string stamp, archive_stamp(image));
        wanted += stamp + "\n";
    }
    const std::string marker = storage_of(paths) + "/pushed";
    Result<std::string> pushed = linux::read_file(marker);
    if (pushed.ok() && *pushed == wanted) return {};
    linux::Command command;
    command.argv = {paths.recipes() + "/build", "push", "http://" + state.plan.registry()};
    command.env = {"BASALT_CACHE=" + paths.cache, "NO_PROXY=*", "no_proxy=*"};
    command.timeout = kPushLimit;
    BASALT_TRY(linux::run_ok(command).context("fill the registry"));
    return linux::write_file_atomically(marker, wanted);
}

}  // namespace basalt::local
