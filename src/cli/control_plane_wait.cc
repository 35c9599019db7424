#include "cli/control_plane_wait.h"

#include <fmt/format.h>

#include "async/task_group.h"
#include "cli/condition.h"
#include "kube/cache.h"

namespace basalt::cli {

using data::Value;

namespace {

async::Task<Result<void>> follow(kube::Cache* cache, async::Condition* changed,
                                 const kube::ObjectKey* key, const ControlPlaneGoal* goal,
                                 std::function<void(const std::string&)> on_missing) {
    Result<void> synced = co_await cache->wait_synced();
    if (!synced.ok()) co_return std::move(synced);
    std::string said;
    for (;;) {
        const kube::SharedValue control_plane = cache->get(*key);
        if (!control_plane)
            co_return not_found("TenantControlPlane " + key->to_string() + " is gone");
        std::optional<std::string> missing = what_is_missing(*control_plane, *goal);
        if (!missing) co_return Result<void>();
        if (*missing != said) {
            said = std::move(*missing);
            on_missing(said);
        }
        Result<void> waited = co_await changed->wait();
        if (!waited.ok()) co_return std::move(waited);
    }
}

}  // namespace

std::optional<std::string> what_is_missing(const Value& control_plane,
                                           const ControlPlaneGoal& goal) {
    const Value& ready = condition(control_plane, "Ready");
    if (ready["observedGeneration"].as_int() < kube::generation_of(control_plane))
        return "the controller has not looked at it yet";
    const Value& resources = control_plane["status"]["kubernetesResources"];
    if (goal.asleep) {
        const int64_t pods = resources["deployment"]["replicas"].as_int();
        if (pods > 0) return fmt::format("{} Pods are left", pods);
        if (ready["reason"].as_string() == "Sleeping") return std::nullopt;
    } else if (ready["status"].as_string() == "True" &&
               (goal.version.empty() ||
                resources["version"]["version"].as_string() == goal.version)) {
        return std::nullopt;
    }
    return reason_and_message(ready);
}

async::Task<Result<void>> wait_for_control_plane(
    kube::Client& client, kube::Resource control_planes, kube::ObjectKey key, ControlPlaneGoal goal,
    std::function<void(const std::string& missing)> on_missing) {
    kube::CacheOptions options(std::move(control_planes), key.ns);
    options.field_selector = "metadata.name=" + key.name;
    kube::Cache cache(client, std::move(options));
    async::Condition changed;
    cache.add_handler([&changed](const kube::Change&) { changed.notify_all(); });
    async::TaskGroup group(client.loop());
    cache.start(group);
    Result<void> followed = co_await follow(&cache, &changed, &key, &goal, std::move(on_missing));
    group.cancel();
    co_await group.join();
    co_return std::move(followed);
}

}  // namespace basalt::cli
