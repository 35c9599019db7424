#include "controller/controller.h"

#include <algorithm>

#include "base/log.h"

namespace basalt::controller {
namespace {

constexpr const char* kTerminalReason = "Terminal";

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

/// State that was there before we came can wait; what somebody does now cannot.
Priority priority_of(const kube::Change& change) {
    if (change.initial) return Priority::kLow;
    if (change.after && kube::is_deleting(*change.after)) return Priority::kHigh;
    return Priority::kNormal;
}

}  // namespace

Error terminal(Error error) {
    error.with_cause(error.cause_code(), kTerminalReason);
    return error;
}

bool is_terminal(const Error& error) { return error.reason() == kTerminalReason; }

bool spec_changed(const kube::Change& change) {
    if (!change.before || !change.after) return true;
    const kube::Value& before = (*change.before)["metadata"];
    const kube::Value& after = (*change.after)["metadata"];
    for (const char* name :
         {"generation", "labels", "annotations", "finalizers", "deletionTimestamp", "uid"}) {
        if (!(before[name] == after[name])) return true;
    }
    return false;
}

struct Controller::Instruments {
    Instruments(Metrics& metrics, const std::string& name) {
        const Labels labels{{"controller", name}};
        const Labels queue_labels{{"controller", name}, {"name", name}};
        const auto total = [&](const char* result) {
            return &metrics.counter("controller_runtime_reconcile_total",
                                    "Reconciles by controller and result.",
                                    {{"controller", name}, {"result", result}});
        };
        success = total("success");
        error = total("error");
        requeue_after = total("requeue_after");
        errors = &metrics.counter("controller_runtime_reconcile_errors_total",
                                  "Reconciles that failed.", labels);
        terminal_errors =
            &metrics.counter("controller_runtime_terminal_reconcile_errors_total",
                             "Reconciles that failed until something changes.", labels);
        timeouts = &metrics.counter("controller_runtime_reconcile_timeouts_total",
                                    "Reconciles that ran into their time limit.", labels);
        time = &metrics.histogram("controller_runtime_reconcile_time_seconds",
                                  "Time of a reconcile.", reconcile_time_bounds(), labels);
        active =
            &metrics.gauge("controller_runtime_active_workers", "Reconciles running now.", labels);
        maximum =
            &metrics.gauge("controller_runtime_max_concurrent_reconciles", "Workers.", labels);
        depth = &metrics.gauge("workqueue_depth", "Keys that are ready.", queue_labels);
        unfinished = &metrics.gauge("workqueue_unfinished_work_seconds",
                                    "Sum of the times of running reconciles.", queue_labels);
        longest = &metrics.gauge("workqueue_longest_running_processor_seconds",
                                 "Time of the longest running one.", queue_labels);
        adds = &metrics.counter("workqueue_adds_total", "Keys added.", queue_labels);
        retries = &metrics.counter("workqueue_retries_total", "Retries.", queue_labels);
        queue_time =
            &metrics.histogram("workqueue_queue_duration_seconds", "Time a ready key waits.",
                               decade_bounds(-8, 3), queue_labels);
        work_time =
            &metrics.histogram("workqueue_work_duration_seconds", "Time of the work on a key.",
                               decade_bounds(-8, 3), queue_labels);
    }
    Counter* success;
    Counter* error;
    Counter* requeue_after;
    Counter* errors;
    Counter* terminal_errors;
    Counter* timeouts;
    Histogram* time;
    Gauge* active;
    Gauge* maximum;
    Gauge* depth;
    Counter* adds;
    Counter* retries;
    Gauge* unfinished;
    Gauge* longest;
    Histogram* queue_time;
    Histogram* work_time;
};

Controller::Controller(async::Loop& loop, Options options, ReconcileFn reconcile, Metrics* metrics)
    : loop_(loop),
      options_(std::move(options)),
      reconcile_(std::move(reconcile)),
      queue_(options_.queue),
      metrics_(metrics) {
    if (metrics_ == nullptr) return;
    instruments_ = std::make_unique<Instruments>(*metrics_, options_.name);
    instruments_->maximum->set(static_cast<double>(options_.workers_count));
    scrape_ = metrics_->on_scrape([this] { update_gauges(); });
}

void Controller::update_gauges() {
    const TimePoint now = loop_.now();
    double unfinished = 0;
    for (const TimePoint since : running_since_) unfinished += seconds(now - since);
    instruments_->unfinished->set(unfinished);
    instruments_->longest->set(running_since_.empty() ? 0 : seconds(now - *running_since_.begin()));
    instruments_->active->set(static_cast<double>(active_count_));
    instruments_->depth->set(static_cast<double>(queue_.ready_count(now)));
}

Controller::~Controller() {
    if (metrics_ != nullptr) metrics_->remove_scrape(scrape_);
    if (timer_) loop_.cancel_timer(*timer_);
    for (const Source& source : sources_) source.cache->remove_handler(source.handler);
}

void Controller::add_source(kube::Cache& cache, kube::Handler handler) {
    sources_.push_back({&cache, cache.add_handler(std::move(handler))});
}

void Controller::watch(kube::Cache& cache, Predicate predicate) {
    add_source(cache, [this, predicate = std::move(predicate)](const kube::Change& change) {
        if (!predicate || predicate(change))
            enqueue(kube::key_of(change.object()), priority_of(change));
    });
}

void Controller::watch_mapped(kube::Cache& cache, Mapper mapper, Predicate predicate) {
    add_source(cache, [this, mapper = std::move(mapper),
                       predicate = std::move(predicate)](const kube::Change& change) {
        if (predicate && !predicate(change)) return;
        for (const Key& key : mapper(change)) enqueue(key, priority_of(change));
    });
}

void Controller::enqueue(const Key& key, Priority priority) {
    enqueue_after(key, Duration(0), priority);
}

void Controller::enqueue_after(const Key& key, Duration delay, Priority priority) {
    const TimePoint now = loop_.now();
    if (!queue_.add(key, priority, now + delay, now)) {
        log_error("work queue is full", {{"controller", options_.name}, {"key", key.to_string()}});
        return;
    }
    if (instruments_) instruments_->adds->add();
    wake_worker();
}

void Controller::wake_worker() { work_added_.notify_one(); }

void Controller::arm_timer(TimePoint when) {
    if (timer_ && timer_at_ <= when) return;
    if (timer_) loop_.cancel_timer(*timer_);
    timer_at_ = when;
    timer_ = loop_.call_at(when, [this] {
        timer_.reset();
        wake_worker();
    });
}

void Controller::start(async::TaskGroup& group) {
    started_ = true;
    for (size_t i = 0; i < options_.workers_count; ++i) group.spawn(work());
}

async::Task<void> Controller::work() {
    for (;;) {
        // Also the place where a cancelled worker ends.
        Result<void> turn = co_await async::yield(loop_);
        if (!turn.ok()) co_return;
        std::variant<Queue::Popped, Queue::Wait> next = queue_.pop(loop_.now());
        if (const Queue::Wait* wait = std::get_if<Queue::Wait>(&next)) {
            if (wait->when) arm_timer(*wait->when);
            Result<void> woken = co_await work_added_.wait();
            if (!woken.ok()) co_return;
            continue;
        }
        // One wake-up may stand for several keys; and this worker may not be back in time for the
        // next one.
        if (queue_.ready_count(loop_.now()) > 0) {
            wake_worker();
        } else if (const std::optional<TimePoint> when = queue_.next_at()) {
            arm_timer(*when);
        }
        co_await run_one(std::move(std::get<Queue::Popped>(next)));
    }
}

async::Task<void> Controller::run_one(Queue::Popped item) {
    const TimePoint started = loop_.now();
    ++active_count_;
    const auto running = running_since_.insert(started);
    if (instruments_) instruments_->queue_time->observe(seconds(item.waited));
    async::Task<Result<Outcome>> task = reconcile_(item.key);
    Result<Outcome> result =
        co_await async::with_timeout(loop_, options_.reconcile_timeout, std::move(task));
    --active_count_;
    running_since_.erase(running);
    finish(item, result, loop_.now() - started);
}

void Controller::finish(const Queue::Popped& item, const Result<Outcome>& result, Duration took) {
    const TimePoint now = loop_.now();
    Queue::Verdict verdict = Queue::Verdict::kForget;
    std::optional<Duration> delay;
    if (result.ok()) {
        delay = result->requeue_after;
    } else {
        const Error& error = result.error();
        verdict = is_terminal(error) ? Queue::Verdict::kDrop : Queue::Verdict::kRetry;
        if (error.retry_after()) delay = *error.retry_after();
        // A conflict is the normal course of optimistic writes; a cancellation comes from
        // ourselves.
        const bool quiet = error.code() == Code::kAborted || error.code() == Code::kCancelled;
        log(quiet ? LogLevel::kDebug : LogLevel::kError, "reconcile failed",
            {{"controller", options_.name},
             {"key", item.key.to_string()},
             {"error", error.to_string()},
             {"retries", item.retries_count},
             {"terminal", verdict == Queue::Verdict::kDrop}});
    }
    queue_.done(item.key, verdict, delay, now, loop_.random());
    if (!instruments_) return;
    instruments_->time->observe(seconds(took));
    instruments_->work_time->observe(seconds(took));
    if (result.ok()) {
        (delay ? instruments_->requeue_after : instruments_->success)->add();
        return;
    }
    instruments_->error->add();
    instruments_->errors->add();
    if (verdict == Queue::Verdict::kDrop) instruments_->terminal_errors->add();
    if (verdict == Queue::Verdict::kRetry) instruments_->retries->add();
    if (result.error().code() == Code::kDeadlineExceeded) instruments_->timeouts->add();
}

}  // namespace basalt::controller
