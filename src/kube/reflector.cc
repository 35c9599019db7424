#include "kube/reflector.h"

#include <algorithm>

#include <fmt/format.h>

#include "async/wait.h"
#include "base/log.h"

namespace basalt::kube {
namespace {

/// Events handled before others get their turn on the loop.
constexpr size_t kEventsPerTurn = 256;
/// A watch that ends sooner than this without an event is a failure in disguise.
constexpr Duration kShortestWatch = std::chrono::seconds(1);
constexpr std::string_view kOverLimit = "OverLimit";

// No transient failure: the same events would come again, only a new list can be within the limits.
Error over_limit(std::string message) {
    return failed_precondition(std::move(message)).with_cause(0, std::string(kOverLimit));
}

}  // namespace

Reflector::Reflector(Client& client, Sink& sink, Options options)
    : client_(client),
      sink_(sink),
      options_(std::move(options)),
      use_watch_list_(options_.watch_list),
      backoff_next_(options_.backoff_min) {}

Result<SharedValue> Reflector::share(Value object) const {
    if (name_of(object).empty()) {
        return invalid_argument(
            fmt::format("{}: an object without a name", options_.resource.to_string()));
    }
    if (options_.metadata_only) {
        object.set("apiVersion", options_.resource.api_version());
        object.set("kind", options_.resource.kind);
    }
    if (options_.transform) options_.transform(object);
    object.shrink_to_fit();
    if (object.heap_size() > options_.object_size_max) {
        return over_limit(fmt::format("{}: an object is larger than {} bytes",
                                      options_.resource.to_string(), options_.object_size_max));
    }
    return std::make_shared<const Value>(std::move(object));
}

Result<void> Reflector::check_count(size_t count) const {
    if (count <= options_.objects_count_max) return {};
    return over_limit(fmt::format("{}: more than {} objects", options_.resource.to_string(),
                                  options_.objects_count_max));
}

int64_t Reflector::random_timeout_seconds() {
    const int64_t least = std::max<int64_t>(
        1, std::chrono::duration_cast<std::chrono::seconds>(options_.watch_timeout_min).count());
    return least + static_cast<int64_t>(client_.loop().random() % static_cast<uint64_t>(least + 1));
}

WatchOptions Reflector::watch_options(int64_t timeout_seconds) const {
    WatchOptions watch;
    watch.label_selector = options_.label_selector;
    watch.field_selector = options_.field_selector;
    watch.metadata_only = options_.metadata_only;
    watch.timeout_seconds = timeout_seconds;
    return watch;
}

async::Task<Result<void>> Reflector::backoff() {
    async::Loop& loop = client_.loop();
    const TimePoint now = loop.now();
    if (last_failure_ != TimePoint() && now - last_failure_ >= options_.backoff_reset) {
        backoff_next_ = options_.backoff_min;
    }
    last_failure_ = now;
    const Duration delay =
        backoff_next_ + backoff_next_ * static_cast<int64_t>(loop.random() % 1000) / 2000;
    backoff_next_ = std::min(backoff_next_ * 2, options_.backoff_max);
    Result<void> slept = co_await async::sleep_for(loop, delay);
    co_return std::move(slept);
}

async::Task<void> Reflector::run() {
    for (;;) {
        Result<void> synced = co_await sync();
        if (synced.ok()) {
            stats_.last_error.clear();
            stats_.over_limit = false;
            synced = co_await watch_once();
        }
        // A list is needed again. After "410 Gone" at once, after failures later.
        if (!synced.ok()) {
            if (synced.error().code() == Code::kCancelled) co_return;
            stats_.last_error = synced.error().to_string();
            stats_.over_limit = synced.error().reason() == kOverLimit;
            if (!is_expired(synced.error())) {
                log_warn("list or watch failed", {{"resource", options_.resource.to_string()},
                                                  {"error", stats_.last_error}});
            }
        }
        Result<void> slept = co_await backoff();
        if (!slept.ok()) co_return;
    }
}

async::Task<Result<void>> Reflector::sync() {
    open_stream_.reset();
    if (use_watch_list_) {
        ++stats_.watch_lists_count;
        Result<std::unique_ptr<Watch>> stream = co_await sync_by_watch();
        if (stream.ok()) {
            open_stream_ = std::move(*stream);
            co_return Result<void>();
        }
        if (stream.error().code() != Code::kInvalidArgument) co_return std::move(stream).error();
        // A server without the feature refuses the parameter.
        use_watch_list_ = false;
        log_debug("no streaming lists", {{"resource", options_.resource.to_string()},
                                         {"error", stream.error().to_string()}});
    }
    // The limit of each page, and of all of them: a server could send pages for ever.
    async::Task<Result<void>> listing = sync_by_list();
    Result<void> listed =
        co_await async::with_timeout(client_.loop(), options_.list_timeout, std::move(listing));
    co_return std::move(listed);
}

async::Task<Result<std::unique_ptr<Watch>>> Reflector::sync_by_watch() {
    async::Loop& loop = client_.loop();
    open_timeout_seconds_ = random_timeout_seconds();
    WatchOptions watch = watch_options(open_timeout_seconds_);
    watch.send_initial_events = true;
    Result<std::unique_ptr<Watch>> stream =
        co_await client_.watch(options_.resource, options_.ns, watch);
    if (!stream.ok()) co_return std::move(stream);
    std::vector<SharedValue> objects;
    async::Task<Result<void>> receiving = receive_initial(stream->get(), &objects);
    Result<void> received =
        co_await async::with_timeout(loop, options_.list_timeout, std::move(receiving));
    if (!received.ok()) co_return std::move(received).error();
    sink_.replace(std::move(objects), resource_version_);
    co_return std::move(stream);
}

async::Task<Result<void>> Reflector::receive_initial(Watch* stream,
                                                     std::vector<SharedValue>* objects) {
    // The server may mix changes into the initial events.
    std::map<ObjectKey, SharedValue> found;
    size_t turn = 0;
    for (;;) {
        Result<std::optional<WatchEvent>> event = co_await stream->next();
        if (!event.ok()) co_return std::move(event).error();
        if (!event->has_value())
            co_return unavailable("the watch ended before the initial events did");
        WatchEvent& present = **event;
        ++stats_.events_count;
        if (is_initial_events_end(present)) {
            resource_version_ = resource_version_of(present.object);
            break;
        }
        if (present.type == EventType::kBookmark) continue;
        ObjectKey key = key_of(present.object);
        if (present.type == EventType::kDeleted) {
            found.erase(key);
        } else {
            Result<SharedValue> object = share(std::move(present.object));
            if (!object.ok()) co_return std::move(object).error();
            found[std::move(key)] = *std::move(object);
            Result<void> counted = check_count(found.size());
            if (!counted.ok()) co_return std::move(counted);
        }
        if (++turn % kEventsPerTurn == 0) {
            Result<void> yielded = co_await async::yield(client_.loop());
            if (!yielded.ok()) co_return std::move(yielded);
        }
    }
    objects->reserve(found.size());
    for (auto& [key, object] : found) objects->push_back(std::move(object));
    co_return Result<void>();
}

async::Task<Result<void>> Reflector::sync_by_list() {
    ++stats_.lists_count;
    ListOptions list;
    list.label_selector = options_.label_selector;
    list.field_selector = options_.field_selector;
    list.metadata_only = options_.metadata_only;
    list.page_size = options_.page_size;
    list.timeout = options_.list_timeout;
    std::vector<SharedValue> objects;
    std::string token;
    std::string version;
    for (;;) {
        Result<ObjectList> page =
            co_await client_.list_page(options_.resource, options_.ns, list, token);
        if (!page.ok()) {
            if (token.empty() || list.page_size == 0 || !is_expired(page.error()))
                co_return std::move(page).error();
            // The first page's version was compacted away meanwhile: all at once.
            list.page_size = 0;
            token.clear();
            objects.clear();
            continue;
        }
        for (Value& item : page->items) {
            Result<SharedValue> object = share(std::move(item));
            if (!object.ok()) co_return std::move(object).error();
            objects.push_back(*std::move(object));
        }
        Result<void> counted = check_count(objects.size());
        if (!counted.ok()) co_return std::move(counted);
        version = std::move(page->resource_version);
        token = std::move(page->continue_token);
        if (token.empty()) break;
    }
    resource_version_ = std::move(version);
    sink_.replace(std::move(objects), resource_version_);
    co_return Result<void>();
}

/// Watches, again and again, until only a new list helps.
async::Task<Result<void>> Reflector::watch_once() {
    async::Loop& loop = client_.loop();
    for (;;) {
        const TimePoint since = loop.now();
        const uint64_t events_before = stats_.events_count;
        std::unique_ptr<Watch> stream = std::move(open_stream_);
        Result<void> ended;
        if (!stream) {
            open_timeout_seconds_ = random_timeout_seconds();
            WatchOptions watch = watch_options(open_timeout_seconds_);
            watch.resource_version = resource_version_;
            Result<std::unique_ptr<Watch>> opened =
                co_await client_.watch(options_.resource, options_.ns, watch);
            if (opened.ok()) {
                stream = std::move(*opened);
            } else {
                ended = std::move(opened).error();
            }
        }
        if (stream) {
            ++stats_.watches_count;
            stats_.last_error.clear();
            Result<void> consumed = co_await consume(std::move(stream));
            ended = std::move(consumed);
        }
        note_end(ended, since, events_before);
        const bool very_short =
            loop.now() - since < kShortestWatch && stats_.events_count == events_before;
        if (ended.ok() && !very_short) continue;
        if (!ended.ok()) {
            if (ended.error().code() == Code::kCancelled) co_return std::move(ended);
            if (!is_transient(ended.error()) || is_expired(ended.error()))
                co_return std::move(ended);
            stats_.last_error = ended.error().to_string();
        }
        Result<void> slept = co_await backoff();
        if (!slept.ok()) co_return std::move(slept);
    }
}

void Reflector::note_end(const Result<void>& ended, TimePoint since, uint64_t events_before) {
    const Duration took = client_.loop().now() - since;
    const char* reason = "error";
    if (!ended.ok()) {
        if (ended.error().code() == Code::kCancelled) return;
        if (is_expired(ended.error())) reason = "expired";
    } else if (took < kShortestWatch && stats_.events_count == events_before) {
        reason = "very_short";
    } else {
        reason = took + std::chrono::seconds(1) >= std::chrono::seconds(open_timeout_seconds_)
                     ? "timeout"
                     : "closed";
    }
    ++stats_.close_reasons[reason];
}

async::Task<Result<void>> Reflector::consume(std::unique_ptr<Watch> stream) {
    async::Loop& loop = client_.loop();
    // The server ends the stream in time; if even that does not arrive, the connection is dead.
    const Duration limit = std::chrono::seconds(open_timeout_seconds_) + options_.watch_grace;
    async::Task<Result<void>> consuming = consume_events(stream.get());
    Result<void> consumed = co_await async::with_timeout(loop, limit, std::move(consuming));
    co_return std::move(consumed);
}

async::Task<Result<void>> Reflector::consume_events(Watch* stream) {
    size_t turn = 0;
    for (;;) {
        Result<std::optional<WatchEvent>> event = co_await stream->next();
        if (!event.ok()) co_return std::move(event).error();
        if (!event->has_value()) co_return Result<void>();
        Result<void> delivered = deliver(std::move(**event));
        if (!delivered.ok()) co_return std::move(delivered);
        if (++turn % kEventsPerTurn == 0) {
            Result<void> yielded = co_await async::yield(client_.loop());
            if (!yielded.ok()) co_return std::move(yielded);
        }
    }
}

Result<void> Reflector::deliver(WatchEvent event) {
    ++stats_.events_count;
    std::string version(resource_version_of(event.object));
    if (version.empty()) return invalid_argument("watch: an event without a resource version");
    if (event.type == EventType::kBookmark) {
        resource_version_ = std::move(version);
        return {};
    }
    BASALT_ASSIGN(SharedValue object, share(std::move(event.object)));
    if (event.type == EventType::kDeleted) {
        sink_.remove(std::move(object));
    } else {
        BASALT_TRY(check_count(sink_.size() + (sink_.has(key_of(*object)) ? 0 : 1)));
        sink_.upsert(std::move(object));
    }
    resource_version_ = std::move(version);
    return {};
}

}  // namespace basalt::kube
