#include "policy/enforcer.h"

#include <fstream>
#include <sstream>

#include "async/subprocess.h"
#include "base/log.h"
#include "base/strings.h"
#include "policy/rules.h"

namespace basalt::policy {

using async::Task;

namespace {

// A burst of changes is one replacement; still far below the time a Pod takes to start.
constexpr Duration kGather = std::chrono::milliseconds(20);
constexpr Duration kRetryMin = std::chrono::milliseconds(500);
constexpr Duration kRetryMax = std::chrono::seconds(30);
constexpr Duration kNftLimit = std::chrono::seconds(20);

kube::CacheOptions pod_options() {
    kube::CacheOptions options(kube::resources::pods());
    options.variant = "policy";
    options.transform = keep_of_pod;
    return options;
}

// Empty without that family.
std::string text_of(const std::string& path) {
    std::ifstream file(path);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

}  // namespace

Enforcer::Enforcer(async::Loop& loop, kube::CacheSet& caches, Options options)
    : loop_(loop),
      options_(std::move(options)),
      caches_(caches),
      policies_(caches.get(kube::resources::network_policies())),
      pods_(caches.get(pod_options())),
      namespaces_(caches.get(kube::resources::namespaces())) {
    for (kube::Cache* cache : {&policies_, &pods_, &namespaces_}) {
        cache->add_handler([this](const kube::Change&) { changed(); });
    }
}

void Enforcer::changed() {
    dirty_ = true;
    changed_.notify_all();
}

Result<void> Enforcer::check_ready() const {
    if (!refused_.empty()) return unavailable("the latest rules are not in force: " + refused_);
    if (applied_count_ > 0) return {};
    return unavailable("no rules are in force yet");
}

std::string Enforcer::render() const {
    World world;
    world.node = options_.node;
    policies_.for_each([&](const data::SharedValue& item) { world.policies.push_back(*item); });
    pods_.for_each([&](const data::SharedValue& item) { world.pods.push_back(*item); });
    namespaces_.for_each([&](const data::SharedValue& item) {
        world.namespace_labels[(*item)["metadata"]["name"].str()] = (*item)["metadata"]["labels"];
    });
    world.v4_routes = text_of(options_.routes + "/route");
    world.v6_routes = text_of(options_.routes + "/ipv6_route");
    return render_rules(world);
}

Task<Result<void>> Enforcer::apply(std::string script) {
    async::SubprocessOptions options;
    options.argv = {options_.nft, "-f", "-"};
    options.input = std::move(script);
    options.timeout = kNftLimit;
    Result<async::SubprocessResult> ran = co_await async::run_subprocess(loop_, options);
    if (!ran.ok()) co_return std::move(ran).error();
    if (ran->exit_code != 0) {
        co_return internal_error("nft: " + std::string(trim(ran->error_output)).substr(0, 500));
    }
    co_return Result<void>();
}

Task<Result<void>> Enforcer::run() {
    Result<void> synced = co_await caches_.wait_synced();
    if (!synced.ok()) co_return synced;
    Duration pause = kRetryMin;
    for (;;) {
        while (!dirty_) {
            Result<void> waited = co_await changed_.wait();
            if (!waited.ok()) co_return waited;
        }
        Result<void> gathered = co_await async::sleep_for(loop_, kGather);
        if (!gathered.ok()) co_return gathered;
        dirty_ = false;
        std::string script = render();
        if (script == in_force_) continue;
        Result<void> applied = co_await apply(script);
        if (applied.ok()) {
            in_force_ = std::move(script);
            ++applied_count_;
            refused_.clear();
            pause = kRetryMin;
            continue;
        }
        if (applied.error().code() == Code::kCancelled) co_return applied;
        log_error("rules not in force", {{"error", applied.error()}});
        refused_ = applied.error().message();
        dirty_ = true;
        Result<void> slept = co_await async::sleep_for(loop_, pause);
        if (!slept.ok()) co_return slept;
        pause = std::min<Duration>(pause * 2, kRetryMax);
    }
}

}  // namespace basalt::policy
