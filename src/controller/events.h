// Events (events.k8s.io/v1) about objects, for people.
//
// record() never blocks and never fails: events are a courtesy. The same event again (same object,
// type, reason, action, note) becomes a series: one object on the server whose count rises, written
// at most every `series_interval`. An object that causes more than 25 events is limited to one in 5
// minutes; a queue that is full drops the newest. Counters say how many.
//
// One loop.
#pragma once

#include <deque>
#include <string>
#include <unordered_map>

#include "async/task_group.h"
#include "async/wait.h"
#include "kube/client.h"

namespace basalt::controller {

enum class Severity { kNormal, kWarning };

class EventRecorder {
 public:
    struct Options {
        Options() = default;
        std::string controller;  ///< reportingController: "basalt.dev/control-plane"
        std::string instance;    ///< reportingInstance: the Pod's name
        size_t queue_count_max = 1000;
        size_t burst_per_object = 25;
        Duration refill_per_object = std::chrono::minutes(5);
        Duration series_interval = std::chrono::seconds(30);
        /// A series that was quiet for this long ends; the next one is a new event.
        Duration series_end = std::chrono::minutes(6);
    };

    EventRecorder(kube::Client& client, Options options);
    ~EventRecorder();
    EventRecorder(const EventRecorder&) = delete;
    EventRecorder& operator=(const EventRecorder&) = delete;

    /// Writes what is recorded, until it is cancelled: a Manager's runnable, for the leader. Once.
    async::Task<Result<void>> run();
    /// The same, in `group`.
    void start(async::TaskGroup& group);
    /// `regarding` is the object (apiVersion, kind and metadata are used). `reason` is CamelCase;
    /// `action` says what was done ("" is `reason`); `note` is cut at 1,024 bytes, the API's limit.
    void record(const kube::Value& regarding, Severity severity, std::string_view reason,
                std::string_view note, std::string_view action = {});

    uint64_t recorded_count() const { return recorded_count_; }
    uint64_t dropped_count() const { return dropped_count_; }
    size_t queued_count() const { return queue_.size(); }

 private:
    struct Series {
        kube::Value event;  ///< As sent last.
        int64_t count = 1;
        int64_t written_count = 0;  ///< 0: not yet on the server.
        TimePoint last_seen{};
        WallTime last_seen_wall{};
        TimePoint last_written{};
        bool queued = false;  ///< In the queue, or waiting for its interval.
    };
    struct Bucket {
        double tokens = 0;
        TimePoint at{};
    };
    async::Task<Result<void>> write(std::string id);
    void note_written(const std::string& id, int64_t count);
    void wait_for_interval(const std::string& id, TimePoint due);
    bool take_token(const std::string& object_id);
    void enqueue(const std::string& id);
    void expire();

    kube::Client& client_;
    Options options_;
    std::unordered_map<std::string, Series> series_;
    std::unordered_map<std::string, Bucket> buckets_;
    std::deque<std::string> queue_;
    async::Condition queue_changed_;
    uint64_t recorded_count_ = 0;
    uint64_t dropped_count_ = 0;
    std::unordered_map<uint64_t, async::Loop::TimerId> timers_;
    uint64_t next_timer_ = 1;
};

}  // namespace basalt::controller
