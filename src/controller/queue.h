// Work queue of a controller: de-duplicating, delaying, rate limited, with priorities.
//
// A watch storm delivers the same key a hundred times; a failing object must not starve the others;
// two workers must never hold one key. The naive answer, a set and a timer for each key, costs a
// timer for each retry; here one ordered set holds the delayed keys and the driver (Controller)
// arms a single timer for its head.
//
// Within one priority keys come out in the order in which they became ready. A failing key waits 5
// ms doubling to 1,000 s (jittered); retries of all keys together are limited to 10 a second after
// a burst of 100, the limits of client-go, but none is put off by others for more than a minute. A
// new event about a key that waits for its retry does not cut the wait short unless it is of higher
// priority than kRetry, which events of users are: a user who mends an object sees the effect at
// once.
//
// No I/O, no clock, no threads: time comes in by argument. Cost: O(log n) an operation.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <variant>

#include "base/result.h"
#include "base/time.h"
#include "kube/object.h"

namespace basalt::controller {

using Key = kube::ObjectKey;

enum class Priority : int {
    kLow = 0,     ///< Initial lists and resyncs.
    kRetry = 1,   ///< A retry or a requeue.
    kNormal = 2,  ///< A change.
    kHigh = 3,    ///< Somebody waits: deletion, wake-up.
};

/// What a reconcile asks for. Default: nothing until something changes.
struct Outcome {
    Outcome() = default;
    /// Again after this, unless a change comes first.
    std::optional<Duration> requeue_after;
};
inline Outcome requeue_after(Duration delay) {
    Outcome outcome;
    outcome.requeue_after = delay;
    return outcome;
}

struct QueueOptions {
    QueueOptions() = default;
    Duration backoff_min = std::chrono::milliseconds(5);
    Duration backoff_max = std::chrono::seconds(1000);
    /// Token bucket over the retries of all keys.
    double retries_per_second = 10;
    double retries_burst = 100;
    /// Bounds memory; keys above it are refused.
    size_t items_count_max = 1'000'000;
};

class Queue {
 public:
    struct Popped {
        Key key;
        Priority priority = Priority::kNormal;
        Duration waited{0};  ///< Since it became ready.
        int retries_count = 0;
    };
    /// Nothing is ready; something will be at `when` (never, when empty).
    struct Wait {
        std::optional<TimePoint> when;
    };

    explicit Queue(QueueOptions options = {});

    /// Makes `key` ready at `ready_at`; keeps the earlier time and the higher priority if it is
    /// queued already. A key that is held by a worker becomes ready after done(). False when the
    /// queue is full.
    bool add(const Key& key, Priority priority, TimePoint ready_at, TimePoint now);

    /// The next ready key, which stays locked to the caller until done().
    std::variant<Popped, Wait> pop(TimePoint now);

    enum class Verdict {
        kForget,  ///< Success: the retry count starts anew; `requeue_after` may ask for more.
        kRetry,   ///< Failure: back off.
        kDrop,    ///< Failure that only a change mends: no retry.
    };
    /// Unlocks. `random` gives the jitter. `retry_after` is the least delay of a retry.
    void done(const Key& key, Verdict verdict, std::optional<Duration> delay, TimePoint now,
              uint64_t random);

    size_t ready_count(TimePoint now) const;
    /// When the next key that is not ready yet gets ready; nothing when there is none. Exact after
    /// pop().
    std::optional<TimePoint> next_at() const;
    size_t size() const { return items_.size(); }  ///< Ready, delayed or held.
    uint64_t retries_count() const { return retries_count_; }
    int retries_of(const Key& key) const;

 private:
    struct Item {
        bool queued = false;
        bool held = false;
        bool ready = false;  ///< In ready_ rather than in delayed_.
        Priority priority = Priority::kLow;
        TimePoint ready_at{};
        uint64_t order = 0;
        int retries_count = 0;
    };
    using ReadyEntry = std::tuple<int, uint64_t, Key>;  ///< Negated priority, order, key.
    void enqueue(const Key& key, Item& item, Priority priority, TimePoint ready_at, TimePoint now);
    void unlink(const Key& key, Item& item);
    void promote(TimePoint now);
    Duration backoff(int retries, uint64_t random) const;
    TimePoint take_retry_token(TimePoint now);

    QueueOptions options_;
    std::unordered_map<Key, Item> items_;
    std::set<std::pair<TimePoint, Key>> delayed_;
    std::set<ReadyEntry> ready_;
    uint64_t next_order_ = 1;
    uint64_t retries_count_ = 0;
    double tokens_;
    std::optional<TimePoint> tokens_at_;
};

}  // namespace basalt::controller
