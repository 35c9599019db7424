#include "controller/manager.h"

#include <map>

#include <fmt/format.h>

#include "base/log.h"
#include "base/strings.h"

namespace basalt::controller {

Health::Report Health::run(const Checks& checks) {
    Report report;
    for (const auto& [name, check] : checks) {
        const Result<void> result = check();
        if (result.ok()) {
            report.text += fmt::format("[+]{} ok\n", name);
        } else {
            report.ok = false;
            report.text += fmt::format("[-]{} failed: {}\n", name, result.error().message());
        }
    }
    report.text += report.ok ? "ok\n" : "check failed\n";
    return report;
}

Health::Report Health::live() const { return run(live_); }
Health::Report Health::ready() const { return run(ready_); }

Manager::Manager(kube::Client& client, kube::Client& lease_client, Options options)
    : client_(client), options_(std::move(options)), caches_(client) {
    if (options_.leader) {
        elector_ = std::make_unique<LeaderElector>(lease_client, *options_.leader);
        leader_gauge_ =
            &metrics_.gauge("leader_election_master_status", "1 while this process leads.",
                            {{"name", options_.leader->name}});
    }
    metrics_.on_scrape([this] { update_cache_metrics(); });
    health_.add_live_check("ping", [] { return Result<void>(); });
    health_.add_ready_check("caches", [this]() -> Result<void> {
        const std::vector<std::string> missing = caches_.unsynced();
        if (missing.empty()) return {};
        return unavailable("waiting for " + join(missing, ", "));
    });
}

Manager::~Manager() = default;

/// What the watches of this process do, by resource.
void Manager::update_cache_metrics() {
    struct Sum {
        double objects = 0, lists = 0, watches = 0, events = 0;
        std::map<std::string, uint64_t> closes;
    };
    std::map<std::string, Sum> sums;
    caches_.for_each([&](const kube::Cache& cache) {
        Sum& sum = sums[cache.options().resource.to_string()];
        const kube::Reflector::Stats& stats = cache.stats();
        sum.objects += static_cast<double>(cache.size());
        sum.lists += static_cast<double>(stats.lists_count + stats.watch_lists_count);
        sum.watches += static_cast<double>(stats.watches_count);
        sum.events += static_cast<double>(stats.events_count);
        for (const auto& [reason, count] : stats.close_reasons) sum.closes[reason] += count;
    });
    for (const auto& [name, sum] : sums) {
        const Labels labels{{"name", name}};
        metrics_.gauge("cache_objects", "Objects held.", labels).set(sum.objects);
        metrics_.counter("reflector_lists_total", "Times the whole state was asked for.", labels)
            .set_total(sum.lists);
        metrics_.counter("reflector_watches_total", "Watches opened.", labels)
            .set_total(sum.watches);
        metrics_.counter("reflector_events_total", "Events received.", labels)
            .set_total(sum.events);
        for (const auto& [reason, count] : sum.closes) {
            metrics_
                .counter("reflector_watch_closes_total", "Ends of watches by reason.",
                         {{"name", name}, {"reason", reason}})
                .set_total(static_cast<double>(count));
        }
    }
}

Controller& Manager::add_controller(Controller::Options options, ReconcileFn reconcile) {
    controllers_.push_back(std::make_unique<Controller>(client_.loop(), std::move(options),
                                                        std::move(reconcile), &metrics_));
    return *controllers_.back();
}

void Manager::add_runnable(std::string name, Runnable runnable, bool needs_leadership) {
    runnables_.push_back(std::make_unique<NamedRunnable>(
        NamedRunnable{std::move(name), std::move(runnable), needs_leadership}));
}

Result<void> Manager::check_leading() const {
    if (elector_) return elector_->check();
    return {};
}

void Manager::set_leading(bool leading) {
    leading_ = leading;
    if (leader_gauge_ != nullptr) leader_gauge_->set(leading ? 1 : 0);
}

void Manager::fail(Error error) {
    if (!failure_) failure_ = std::move(error);
    failed_.notify_all();
}

async::Task<void> Manager::run_runnable(const NamedRunnable* runnable) {
    async::Task<Result<void>> task = runnable->run();
    Result<void> ended = co_await task;
    if (!ended.ok() && ended.error().code() != Code::kCancelled) {
        fail(std::move(ended).error().context(runnable->name));
    }
}

async::Task<void> Manager::hold_lease() {
    Result<void> ended = co_await elector_->hold();
    if (ended.error().code() != Code::kCancelled) fail(std::move(ended).error());
}

async::Task<Result<void>> Manager::wait_failure() {
    while (!failure_) {
        Result<void> waited = co_await failed_.wait();
        if (!waited.ok()) co_return std::move(waited);
    }
    co_return *failure_;
}

/// Runs what only the leader runs, until it fails or is cancelled. All of it has ended on return.
async::Task<Result<void>> Manager::lead() {
    async::TaskGroup group(loop());
    set_leading(true);
    if (elector_) group.spawn(hold_lease());
    for (const auto& runnable : runnables_) {
        if (runnable->needs_leadership) group.spawn(run_runnable(runnable.get()));
    }
    for (const auto& controller : controllers_) controller->start(group);
    log_info("controllers started", {{"count", controllers_.size()}});
    Result<void> ended = co_await wait_failure();
    group.cancel();
    co_await group.join();
    for (const Farewell& farewell : farewells_) {
        async::Task<void> ending = farewell();
        co_await ending;
    }
    set_leading(false);
    co_return std::move(ended);
}

async::Task<Result<void>> Manager::run_elected() {
    // A standby is warm: it has the state before it leads.
    Result<void> synced = co_await caches_.wait_synced();
    if (!synced.ok()) co_return std::move(synced);
    log_info("caches are complete");
    if (elector_) {
        Result<void> acquired = co_await elector_->acquire();
        if (!acquired.ok()) co_return std::move(acquired);
    }
    Result<void> ended = co_await lead();
    if (elector_) {
        Result<void> released = co_await elector_->release();
        if (!released.ok())
            log_warn("lease not released", {{"error", released.error().to_string()}});
    }
    co_return std::move(ended);
}

async::Task<Result<void>> Manager::run() {
    async::TaskGroup servers(loop());
    for (const auto& runnable : runnables_) {
        if (!runnable->needs_leadership) servers.spawn(run_runnable(runnable.get()));
    }
    async::TaskGroup watches(loop());
    caches_.start(watches);
    Result<void> ended = co_await run_until_failure();
    caches_.stop();
    watches.cancel();
    co_await watches.join();
    servers.cancel();
    co_await servers.join();
    if (!ended.ok() && ended.error().code() == Code::kCancelled) co_return Result<void>();
    co_return std::move(ended);
}

async::Task<void> Manager::run_elected_part() {
    Result<void> ended = co_await run_elected();
    if (!ended.ok()) fail(std::move(ended).error());
}

/// A server that fails while this process waits for leadership ends the manager, too.
async::Task<Result<void>> Manager::run_until_failure() {
    async::TaskGroup group(loop());
    group.spawn(run_elected_part());
    Result<void> ended = co_await wait_failure();
    group.cancel();
    co_await group.join();
    co_return std::move(ended);
}

}  // namespace basalt::controller
