#include "controller/events.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/log.h"
#include "data/hash.h"

namespace basalt::controller {

using kube::Value;

namespace {

constexpr size_t kMaxNoteSize = 1024;  // the API's limits on events.k8s.io/v1
constexpr size_t kMaxReasonSize = 128;
/// Objects and series remembered; the oldest go first. Bounds memory under a storm of names.
constexpr size_t kMaxSeries = 4096;

std::string_view cut_utf8(std::string_view text, size_t limit) {
    if (text.size() <= limit) return text;
    while (limit > 0 && (static_cast<unsigned char>(text[limit]) & 0xc0) == 0x80) --limit;
    return text.substr(0, limit);
}

Value reference_to(const Value& object) {
    const Value& metadata = object["metadata"];
    Value reference =
        Value::object({{"apiVersion", object["apiVersion"]}, {"kind", object["kind"]}});
    for (const char* name : {"name", "namespace", "uid", "resourceVersion"}) {
        reference.set_unless_empty(name, metadata[name]);
    }
    return reference;
}

/// Events of cluster-scoped objects live in "default".
std::string event_namespace(const Value& regarding) {
    const std::string ns(kube::namespace_of(regarding));
    return ns.empty() ? "default" : ns;
}

}  // namespace

EventRecorder::EventRecorder(kube::Client& client, Options options)
    : client_(client), options_(std::move(options)) {}

void EventRecorder::start(async::TaskGroup& group) { group.spawn("events", run()); }

bool EventRecorder::take_token(const std::string& object_id) {
    const TimePoint now = client_.loop().now();
    const double burst = static_cast<double>(options_.burst_per_object);
    auto [found, created] = buckets_.try_emplace(object_id);
    Bucket& bucket = found->second;
    if (created) {
        bucket.tokens = burst;
    } else {
        const double elapsed = std::chrono::duration<double>(now - bucket.at).count();
        const double rate = 1 / std::chrono::duration<double>(options_.refill_per_object).count();
        bucket.tokens = std::min(burst, bucket.tokens + elapsed * rate);
    }
    bucket.at = now;
    if (bucket.tokens < 1) return false;
    bucket.tokens -= 1;
    return true;
}

void EventRecorder::record(const Value& regarding, Severity severity, std::string_view reason,
                           std::string_view note, std::string_view action) {
    async::Loop& loop = client_.loop();
    const std::string object_id(kube::uid_of(regarding).empty()
                                    ? kube::describe(regarding)
                                    : std::string(kube::uid_of(regarding)));
    const char* type = severity == Severity::kWarning ? "Warning" : "Normal";
    // Other words are a new fact, which the object of a series has no room for: its note never
    // changes.
    const std::string id =
        fmt::format("{}|{}|{}|{}|{:x}", object_id, type, reason, action, data::fnv1a(note));
    auto found = series_.find(id);
    const bool goes_on =
        found != series_.end() && loop.now() - found->second.last_seen < options_.series_end;
    if (goes_on) {
        ++recorded_count_;
        Series& series = found->second;
        ++series.count;
        series.last_seen = loop.now();
        series.last_seen_wall = loop.wall_now();
        enqueue(id);
        return;
    }
    if (series_.size() >= kMaxSeries) expire();
    if (queue_.size() >= options_.queue_count_max || series_.size() >= kMaxSeries ||
        !take_token(object_id)) {
        ++dropped_count_;
        return;
    }
    ++recorded_count_;
    Series series;
    series.last_seen = loop.now();
    series.last_seen_wall = loop.wall_now();
    const kube::ObjectKey key(
        event_namespace(regarding),
        fmt::format("{}.{:016x}", cut_utf8(kube::name_of(regarding), 200), loop.random()));
    series.event = kube::make_object(kube::resources::events(), key);
    series.event.set("eventTime", format_rfc3339_micro(loop.wall_now()));
    series.event.set("type", type);
    series.event.set("reason", cut_utf8(reason, kMaxReasonSize));
    series.event.set("action", cut_utf8(action.empty() ? reason : action, kMaxReasonSize));
    series.event.set("note", cut_utf8(note, kMaxNoteSize));
    series.event.set("regarding", reference_to(regarding));
    series.event.set("reportingController", options_.controller);
    series.event.set("reportingInstance", cut_utf8(options_.instance, kMaxReasonSize));
    series_.insert_or_assign(id, std::move(series));
    enqueue(id);
}

void EventRecorder::enqueue(const std::string& id) {
    Series& series = series_.at(id);
    if (series.queued) return;
    series.queued = true;
    queue_.push_back(id);
    queue_changed_.notify_one();
}

void EventRecorder::expire() {
    const TimePoint now = client_.loop().now();
    std::erase_if(series_, [&](const auto& entry) {
        return !entry.second.queued && now - entry.second.last_seen >= options_.series_end;
    });
    std::erase_if(buckets_, [&](const auto& entry) {
        const auto full =
            options_.refill_per_object * static_cast<int64_t>(options_.burst_per_object);
        return now - entry.second.at >= full;
    });
}

async::Task<Result<void>> EventRecorder::run() {
    async::Loop& loop = client_.loop();
    for (;;) {
        if (queue_.empty()) {
            expire();
            Result<void> waited = co_await queue_changed_.wait();
            if (!waited.ok()) co_return std::move(waited);
            continue;
        }
        const std::string id = std::move(queue_.front());
        queue_.pop_front();
        const auto found = series_.find(id);
        if (found == series_.end() || !found->second.queued)
            continue;  // Queued twice, and written already.
        Series& series = found->second;
        const bool known = series.written_count > 1;
        const TimePoint due = series.last_written + options_.series_interval;
        if (known && loop.now() < due) {
            // One write an interval is enough for a series; the timer brings it back.
            wait_for_interval(id, due);
            continue;
        }
        series.queued = false;
        Result<void> written = co_await write(id);
        if (written.ok()) continue;
        if (written.error().code() == Code::kCancelled) co_return std::move(written);
        ++dropped_count_;
        log_debug("event not written", {{"error", written.error().to_string()}});
    }
}

void EventRecorder::wait_for_interval(const std::string& id, TimePoint due) {
    const async::Loop::TimerId timer = next_timer_++;
    timers_[timer] = client_.loop().call_at(due, [this, id, timer] {
        timers_.erase(timer);
        queue_.push_back(id);
        queue_changed_.notify_one();
    });
}

EventRecorder::~EventRecorder() {
    for (const auto& [key, timer] : timers_) client_.loop().cancel_timer(timer);
}

async::Task<Result<void>> EventRecorder::write(std::string id) {
    Series& series = series_.at(id);
    series.last_written = client_.loop().now();
    const int64_t count = series.count;
    const bool is_new = series.written_count == 0;
    Value event = series.event;
    const kube::ObjectKey key = kube::key_of(event);
    const Value state = Value::object(
        {{"count", count}, {"lastObservedTime", format_rfc3339_micro(series.last_seen_wall)}});
    if (!is_new) {
        const Value patch = Value::object({{"series", state}});
        Result<Value> patched = co_await client_.merge_patch(kube::resources::events(), key, patch);
        if (patched.ok()) {
            note_written(id, count);
            co_return Result<void>();
        }
        // Events expire on the server, too (an hour); then the series starts anew.
        if (patched.error().code() != Code::kNotFound) co_return std::move(patched).error();
    }
    if (count > 1) event.set("series", state);
    Result<Value> created = co_await client_.create(kube::resources::events(), std::move(event));
    if (!created.ok() && created.error().code() != Code::kAlreadyExists)
        co_return std::move(created).error();
    note_written(id, count);
    co_return Result<void>();
}

void EventRecorder::note_written(const std::string& id, int64_t count) {
    const auto found = series_.find(id);
    if (found != series_.end()) found->second.written_count = count;
}

}  // namespace basalt::controller
