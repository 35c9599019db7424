// Controller: keys in, reconcile() out.
//
// Level based: a reconcile gets a key, reads the whole state from caches and makes it so. Changes
// of watched objects are mapped to keys and queued; N workers take them; a key is never reconciled
// twice at a time. An error backs off by key; an error made with terminal() waits for a change
// instead; success with requeue_after comes back later. Every reconcile has a time limit, after
// which it is cancelled and counts as failed.
//
// One loop; workers are coroutines, not threads. The Controller must outlive the group it is
// started in.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "async/task_group.h"
#include "async/wait.h"
#include "controller/metrics.h"
#include "controller/queue.h"
#include "kube/cache.h"

namespace basalt::controller {

/// Returns a task of a named coroutine (a member function): the std::function itself may capture.
///     [this](Key key) { return reconcile(std::move(key)); }
using ReconcileFn = std::function<async::Task<Result<Outcome>>(Key key)>;
/// The keys to reconcile for a change.
using Mapper = std::function<std::vector<Key>(const kube::Change& change)>;
/// False leaves the change out.
using Predicate = std::function<bool(const kube::Change& change)>;

/// Marks an error as one that a retry cannot mend: the key waits for the next change.
Error terminal(Error error);
bool is_terminal(const Error& error);

/// A ready-made predicate: generation, labels, annotations, finalizers or deletion.
bool spec_changed(const kube::Change& change);

class Controller {
 public:
    struct Options {
        Options() = default;
        std::string name;
        size_t workers_count = 1;
        Duration reconcile_timeout = std::chrono::minutes(5);
        QueueOptions queue;
    };

    /// `metrics` may be null.
    Controller(async::Loop& loop, Options options, ReconcileFn reconcile,
               Metrics* metrics = nullptr);
    ~Controller();
    Controller(const Controller&) = delete;
    Controller& operator=(const Controller&) = delete;

    /// Objects of the cache are the keys. All sources: before or after start(); the cache must
    /// outlive this.
    void watch(kube::Cache& cache, Predicate predicate = {});
    /// Objects of the cache are mapped to keys.
    void watch_mapped(kube::Cache& cache, Mapper mapper, Predicate predicate = {});

    void enqueue(const Key& key, Priority priority = Priority::kNormal);
    void enqueue_after(const Key& key, Duration delay, Priority priority = Priority::kRetry);

    /// Starts the workers in `group`; they end when it is cancelled, after their current reconcile
    /// noticed.
    void start(async::TaskGroup& group);
    bool started() const { return started_; }

    const std::string& name() const { return options_.name; }
    const Queue& queue() const { return queue_; }
    size_t active_count() const { return active_count_; }

 private:
    struct Source {
        kube::Cache* cache;
        kube::Cache::HandlerId handler;
    };
    async::Task<void> work();
    async::Task<void> run_one(Queue::Popped item);
    void finish(const Queue::Popped& item, const Result<Outcome>& result, Duration took);
    void add_source(kube::Cache& cache, kube::Handler handler);
    void update_gauges();
    void arm_timer(TimePoint when);
    void wake_worker();

    async::Loop& loop_;
    Options options_;
    ReconcileFn reconcile_;
    Queue queue_;
    std::vector<Source> sources_;
    async::Condition work_added_;
    std::optional<async::Loop::TimerId> timer_;
    TimePoint timer_at_{};
    bool started_ = false;
    size_t active_count_ = 0;
    std::multiset<TimePoint> running_since_;
    Metrics* metrics_;
    uint64_t scrape_ = 0;
    struct Instruments;
    std::unique_ptr<Instruments> instruments_;
};

}  // namespace basalt::controller
