// Manager: the frame of a program that runs controllers.
//
// Start: caches first (warm-up: a standby has the state before it leads), then leadership, then
// what the leader runs: runnables, controllers. Stop is the reverse: workers end their reconciles
// or are cancelled, then what they left running ends, then the lease is released, then caches and
// servers end. Losing leadership ends
// run() with an error: the process restarts.
//
// One loop. Everything added must outlive run().
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "async/task_group.h"
#include "controller/controller.h"
#include "controller/leader.h"
#include "controller/metrics.h"
#include "kube/cache.h"

namespace basalt::controller {

/// Healthy, or why not.
using HealthCheck = std::function<Result<void>()>;

/// Named checks behind /healthz and /readyz.
class Health {
 public:
    void add_live_check(std::string name, HealthCheck check) {
        live_.emplace_back(std::move(name), std::move(check));
    }
    void add_ready_check(std::string name, HealthCheck check) {
        ready_.emplace_back(std::move(name), std::move(check));
    }
    struct Report {
        bool ok = true;
        std::string text;  ///< "[+]cache ok\n[-]leader failed: …\n" as of Kubernetes' components.
    };
    Report live() const;
    Report ready() const;

 private:
    using Checks = std::vector<std::pair<std::string, HealthCheck>>;
    static Report run(const Checks& checks);
    Checks live_;
    Checks ready_;
};

struct ManagerOptions {
    ManagerOptions() = default;
    /// Without it, this process leads from the start.
    std::optional<LeaderElector::Options> leader;
};

class Manager {
 public:
    using Options = ManagerOptions;
    /// A coroutine that runs until it is cancelled. Its error ends the manager.
    using Runnable = std::function<async::Task<Result<void>>()>;

    /// `client` is for controllers and caches, `lease_client` for the lease (no write guard, own
    /// limits).
    Manager(kube::Client& client, kube::Client& lease_client, Options options = {});
    ~Manager();

    kube::Client& client() const { return client_; }
    kube::CacheSet& caches() { return caches_; }
    kube::Cache& cache(const kube::CacheOptions& options) { return caches_.get(options); }
    kube::Cache& cache(const kube::Resource& resource) { return caches_.get(resource); }
    Metrics& metrics() { return metrics_; }
    Health& health() { return health_; }
    async::Loop& loop() const { return client_.loop(); }

    Controller& add_controller(Controller::Options options, ReconcileFn reconcile);
    /// Runs from the start (servers) or only while leading.
    void add_runnable(std::string name, Runnable runnable, bool needs_leadership);

    /// Ends what reconciles of the leader left running beside them: called after the last of them
    /// has ended and before the lease is released, also when leadership was lost.
    using Farewell = std::function<async::Task<void>()>;
    void add_farewell(Farewell farewell) { farewells_.push_back(std::move(farewell)); }

    /// Until cancelled (ok) or failed. Once.
    async::Task<Result<void>> run();

    bool is_leading() const { return leading_; }
    /// For all that writes: Client::Options::write_guard of `client` and of others.
    Result<void> check_leading() const;

 private:
    struct NamedRunnable {
        std::string name;
        Runnable run;
        bool needs_leadership;
    };
    async::Task<Result<void>> run_until_failure();
    async::Task<void> run_elected_part();
    async::Task<Result<void>> run_elected();
    async::Task<Result<void>> lead();
    async::Task<Result<void>> wait_failure();
    async::Task<void> run_runnable(const NamedRunnable* runnable);
    async::Task<void> hold_lease();
    void fail(Error error);
    void update_cache_metrics();
    void set_leading(bool leading);

    kube::Client& client_;
    Options options_;
    Metrics metrics_;
    Health health_;
    kube::CacheSet caches_;
    std::unique_ptr<LeaderElector> elector_;
    std::vector<std::unique_ptr<Controller>> controllers_;
    std::vector<std::unique_ptr<NamedRunnable>> runnables_;
    std::vector<Farewell> farewells_;
    std::optional<Error> failure_;
    async::Condition failed_;
    bool leading_ = false;
    Gauge* leader_gauge_ = nullptr;
};

}  // namespace basalt::controller
