#include "controller/queue.h"

#include <algorithm>

namespace basalt::controller {

namespace {
constexpr double kDebtMax = 60;  // Seconds.
}

Queue::Queue(QueueOptions options) : options_(options), tokens_(options.retries_burst) {}

bool Queue::add(const Key& key, Priority priority, TimePoint ready_at, TimePoint now) {
    auto found = items_.find(key);
    if (found == items_.end()) {
        if (items_.size() >= options_.items_count_max) return false;
        found = items_.try_emplace(key).first;
    }
    enqueue(key, found->second, priority, ready_at, now);
    return true;
}

void Queue::enqueue(const Key& key, Item& item, Priority priority, TimePoint ready_at,
                    TimePoint now) {
    if (item.queued) {
        // Old news about a key that waits for its retry leaves it waiting.
        const bool waits = !item.held && !item.ready && item.retries_count > 0;
        if (waits && priority < Priority::kRetry) return;
        if (!item.held) unlink(key, item);
        item.ready_at = std::min(item.ready_at, ready_at);
        item.priority = std::max(item.priority, priority);
    } else {
        item.queued = true;
        item.ready_at = ready_at;
        item.priority = priority;
        item.order = next_order_++;
    }
    if (item.held) return;  // done() puts it in its place.
    item.ready = item.ready_at <= now;
    if (item.ready) {
        ready_.emplace(-static_cast<int>(item.priority), item.order, key);
    } else {
        delayed_.emplace(item.ready_at, key);
    }
}

void Queue::unlink(const Key& key, Item& item) {
    if (item.ready) {
        ready_.erase(ReadyEntry(-static_cast<int>(item.priority), item.order, key));
    } else {
        delayed_.erase({item.ready_at, key});
    }
}

void Queue::promote(TimePoint now) {
    while (!delayed_.empty() && delayed_.begin()->first <= now) {
        const Key key = delayed_.begin()->second;
        delayed_.erase(delayed_.begin());
        Item& item = items_.at(key);
        item.ready = true;
        item.order = next_order_++;
        ready_.emplace(-static_cast<int>(item.priority), item.order, key);
    }
}

std::variant<Queue::Popped, Queue::Wait> Queue::pop(TimePoint now) {
    promote(now);
    if (ready_.empty()) return Wait{next_at()};
    Popped popped;
    popped.key = std::get<2>(*ready_.begin());
    ready_.erase(ready_.begin());
    Item& item = items_.at(popped.key);
    popped.priority = item.priority;
    popped.waited = now - item.ready_at;
    popped.retries_count = item.retries_count;
    item.queued = false;
    item.ready = false;
    item.held = true;
    item.priority = Priority::kLow;
    return popped;
}

Duration Queue::backoff(int retries, uint64_t random) const {
    Duration delay = options_.backoff_min;
    for (int i = 1; i < retries && delay < options_.backoff_max; ++i) delay *= 2;
    delay = std::min(delay, options_.backoff_max);
    return delay + delay * static_cast<int64_t>(random % 1000) / 10'000;
}

TimePoint Queue::take_retry_token(TimePoint now) {
    if (!tokens_at_) tokens_at_ = now;
    const double elapsed = std::chrono::duration<double>(now - *tokens_at_).count();
    tokens_ = std::min(options_.retries_burst, tokens_ + elapsed * options_.retries_per_second) - 1;
    // However many keys fail, another's retry waits no longer than this debt takes to pay.
    tokens_ = std::max(tokens_, -options_.retries_per_second * kDebtMax);
    tokens_at_ = now;
    if (tokens_ >= 0) return now;
    const std::chrono::duration<double> wait(-tokens_ / options_.retries_per_second);
    return now + std::chrono::duration_cast<Duration>(wait);
}

void Queue::done(const Key& key, Verdict verdict, std::optional<Duration> delay, TimePoint now,
                 uint64_t random) {
    const auto found = items_.find(key);
    BASALT_ASSERT(found != items_.end() && found->second.held);
    Item& item = found->second;
    item.held = false;
    const bool changed_meanwhile = std::exchange(item.queued, false);
    if (verdict == Verdict::kRetry) {
        ++item.retries_count;
        ++retries_count_;
    } else {
        item.retries_count = 0;
    }
    if (changed_meanwhile) {
        const Priority priority = item.priority;
        enqueue(key, item, priority, item.ready_at, now);
    }
    if (verdict == Verdict::kRetry && !changed_meanwhile) {
        const Duration wait =
            std::max(backoff(item.retries_count, random), delay.value_or(Duration(0)));
        enqueue(key, item, Priority::kRetry, std::max(now + wait, take_retry_token(now)), now);
    } else if (verdict == Verdict::kForget && delay) {
        enqueue(key, item, Priority::kRetry, now + *delay, now);
    }
    if (!item.queued) items_.erase(found);
}

size_t Queue::ready_count(TimePoint now) const {
    size_t count = ready_.size();
    for (auto it = delayed_.begin(); it != delayed_.end() && it->first <= now; ++it) ++count;
    return count;
}

std::optional<TimePoint> Queue::next_at() const {
    if (delayed_.empty()) return std::nullopt;
    return delayed_.begin()->first;
}

int Queue::retries_of(const Key& key) const {
    const auto found = items_.find(key);
    return found == items_.end() ? 0 : found->second.retries_count;
}

}  // namespace basalt::controller
