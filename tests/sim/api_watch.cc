// Watches of the model API server.
#include <fmt/format.h>

#include "base/strings.h"
#include "data/json.h"
#include "tests/sim/api_server.h"

namespace basalt::sim {

namespace {

constexpr Duration kBookmarkInterval = std::chrono::minutes(1);

class StreamReader final : public net::BodyReader {
 public:
    explicit StreamReader(std::shared_ptr<Stream> stream) : stream_(std::move(stream)) {}
    async::Task<Result<std::optional<std::string>>> read() override {
        for (;;) {
            if (stream_->broken) co_return *stream_->broken;
            if (!stream_->lines.empty()) {
                std::optional<std::string> line(std::move(stream_->lines.front()));
                stream_->lines.pop_front();
                co_return std::move(line);
            }
            if (stream_->ended) co_return std::optional<std::string>();
            Result<void> waited = co_await stream_->changed.wait();
            if (!waited.ok()) co_return std::move(waited).error();
        }
    }
    const net::Headers& trailers() const override { return trailers_; }

 private:
    std::shared_ptr<Stream> stream_;
    net::Headers trailers_;
};

}  // namespace

void Stream::push(std::string line) {
    lines.push_back(std::move(line));
    changed.notify_all();
}
void Stream::end() {
    ended = true;
    changed.notify_all();
}
void Stream::fail(Error error) {
    broken = std::move(error);
    changed.notify_all();
}

std::unique_ptr<net::BodyReader> read_stream(std::shared_ptr<Stream> stream) {
    return std::make_unique<StreamReader>(std::move(stream));
}

std::unique_ptr<net::BodyReader> read_text(std::string text) {
    auto stream = std::make_shared<Stream>();
    if (!text.empty()) stream->push(std::move(text));
    stream->end();
    return read_stream(std::move(stream));
}

bool ApiServer::selects(const Watcher& watcher, const Value& object) const {
    if (!watcher.ns.empty() && kube::namespace_of(object) != watcher.ns) return false;
    if (!watcher.labels.matches(object)) return false;
    for (const auto& [path, wanted] : watcher.fields) {
        const Value* value = &object;
        for (std::string_view part : split(path, '.')) value = &(*value)[part];
        if (value->as_string() != wanted) return false;
    }
    return true;
}

std::string ApiServer::event_line(const char* type, const Watcher& watcher, const Kind& kind,
                                  const Value& object) const {
    Value shown = object;
    if (watcher.metadata_only) {
        shown = Value::object({{"kind", "PartialObjectMetadata"},
                               {"apiVersion", "meta.k8s.io/v1"},
                               {"metadata", object["metadata"]}});
    } else {
        shown.set("apiVersion", kind.resource.api_version()).set("kind", kind.resource.kind);
    }
    return data::to_json(Value::object({{"type", type}, {"object", std::move(shown)}})) + "\n";
}

std::string ApiServer::bookmark(const Kind& kind, bool initial_end) const {
    Value metadata = Value::object({{"resourceVersion", std::to_string(version_)}});
    if (initial_end)
        metadata.set("annotations", Value::object({{"k8s.io/initial-events-end", "true"}}));
    Value object =
        Value::object({{"kind", kind.resource.kind}, {"apiVersion", kind.resource.api_version()}});
    object.set("metadata", std::move(metadata));
    return data::to_json(Value::object({{"type", "BOOKMARK"}, {"object", std::move(object)}})) +
           "\n";
}

/// An object that comes into or goes out of a selection appears and disappears.
void ApiServer::deliver(Watcher& watcher, const Collection& collection, const Event& event) const {
    std::shared_ptr<Stream> stream = watcher.stream.lock();
    if (stream == nullptr || stream->ended || stream->broken) return;
    const bool was = event.before != nullptr && selects(watcher, *event.before);
    const bool is = event.after != nullptr && selects(watcher, *event.after);
    if (is) {
        stream->push(
            event_line(was ? "MODIFIED" : "ADDED", watcher, *collection.kind, *event.after));
    } else if (was) {
        Value last = *event.before;
        last.at("metadata").set("resourceVersion", std::to_string(event.version));
        stream->push(event_line("DELETED", watcher, *collection.kind, last));
    }
}

ApiServer::Answer ApiServer::open_watch(const Request& request) {
    Collection& collection = *request.collection;
    const bool initial = request.text("sendInitialEvents") == "true";
    if (initial && !supports_watch_list) {
        return {422,
                make_status(422, "Invalid",
                            "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for "
                            "watch unless the WatchList feature gate is enabled"),
                nullptr};
    }
    Watcher watcher;
    auto stream = std::make_shared<Stream>();
    watcher.stream = stream;
    watcher.ns = request.key.ns;
    watcher.metadata_only = request.metadata_only;
    watcher.bookmarks = request.text("allowWatchBookmarks") == "true";
    Result<kube::LabelSelector> labels = kube::LabelSelector::parse(request.text("labelSelector"));
    if (!labels.ok())
        return {400, make_status(400, "BadRequest", labels.error().message()), nullptr};
    watcher.labels = *labels;
    // Named: the parts are views of it.
    const std::string field_selector = request.text("fieldSelector");
    for (std::string_view part : split(field_selector, ',')) {
        const size_t equals = part.find('=');
        if (equals != std::string_view::npos) {
            watcher.fields[std::string(part.substr(0, equals))] =
                std::string(part.substr(equals + 1));
        }
    }
    const std::string asked = request.text("resourceVersion");
    const uint64_t from = parse_number<uint64_t>(asked).value_or(0);
    if (from > version_)
        return {504, make_status(504, "Timeout", "Too large resource version"), nullptr};
    if (initial || from == 0) {
        for (const auto& [key, object] : collection.objects) {
            if (selects(watcher, *object))
                stream->push(event_line("ADDED", watcher, *collection.kind, *object));
        }
        if (initial) stream->push(bookmark(*collection.kind, true));
    } else if (from < collection.compacted) {
        const Value gone = make_status(410, "Expired", "too old resource version");
        stream->push(data::to_json(Value::object({{"type", "ERROR"}, {"object", gone}})) + "\n");
        stream->end();
        return {200, Value(), std::move(stream)};
    } else {
        for (const Event& event : collection.history) {
            if (event.version > from) deliver(watcher, collection, event);
        }
    }
    const int64_t seconds = parse_number<int64_t>(request.text("timeoutSeconds")).value_or(0);
    watcher.ends_at = loop_.now() + std::chrono::seconds(seconds > 0 ? seconds : 1800);
    forget_streams(collection);
    collection.watchers.push_back(std::move(watcher));
    arm(collection, std::prev(collection.watchers.end()));
    return {200, Value(), std::move(stream)};
}

void ApiServer::arm(Collection& collection, std::list<Watcher>::iterator watcher) {
    const TimePoint due = std::min(watcher->ends_at, loop_.now() + kBookmarkInterval);
    watcher->timer = loop_.call_at(due, [this, &collection, watcher] {
        watcher->timer = 0;
        std::shared_ptr<Stream> stream = watcher->stream.lock();
        if (stream == nullptr || stream->ended || stream->broken) return;
        if (watcher->bookmarks) stream->push(bookmark(*collection.kind, false));
        if (loop_.now() >= watcher->ends_at) {
            stream->end();
        } else {
            arm(collection, watcher);
        }
    });
}

void ApiServer::forget_streams(Collection& collection) {
    for (auto watcher = collection.watchers.begin(); watcher != collection.watchers.end();) {
        std::shared_ptr<Stream> stream = watcher->stream.lock();
        if (stream != nullptr && !stream->ended && !stream->broken) {
            ++watcher;
            continue;
        }
        if (watcher->timer != 0) loop_.cancel_timer(watcher->timer);
        watcher = collection.watchers.erase(watcher);
    }
}

void ApiServer::compact() {
    pages_.clear();
    for (auto& [id, collection] : collections_) {
        collection.history.clear();
        collection.compacted = version_;
    }
}

void ApiServer::break_watches(const std::string& why) {
    for (auto& [id, collection] : collections_) {
        for (Watcher& watcher : collection.watchers) {
            if (auto stream = watcher.stream.lock()) stream->fail(unavailable(why));
        }
    }
}

void ApiServer::end_watches() {
    for (auto& [id, collection] : collections_) {
        for (Watcher& watcher : collection.watchers) {
            if (auto stream = watcher.stream.lock()) stream->end();
        }
    }
}

// ---- what the controller manager does
// ---------------------------------------------------------------------------

const Value* ApiServer::owner_of(const Value& reference, const std::string& ns) const {
    const std::string group = kube::split_api_version(reference["apiVersion"].as_string()).first;
    for (const auto& [id, collection] : collections_) {
        const kube::Resource& resource = collection.kind->resource;
        if (resource.group != group || resource.kind != reference["kind"].as_string()) continue;
        const ObjectKey key(resource.namespaced ? ns : std::string(), reference["name"].str());
        auto found = collection.objects.find(key);
        if (found == collection.objects.end()) return nullptr;
        const bool same = kube::uid_of(*found->second) == reference["uid"].as_string();
        return same ? found->second.get() : nullptr;
    }
    return nullptr;
}

bool ApiServer::finish_foreground(Collection& collection, const ObjectKey& key,
                                  const Value& object) {
    bool waiting = false;
    bool worked = false;
    const std::string uid(kube::uid_of(object));
    for (auto& [id, other] : collections_) {
        std::vector<ObjectKey> dependents;
        for (const auto& [other_key, dependent] : other.objects) {
            for (const Value& reference : (*dependent)["metadata"]["ownerReferences"].items()) {
                if (reference["uid"].as_string() != uid) continue;
                waiting |= reference["blockOwnerDeletion"].as_bool();
                if (!kube::is_deleting(*dependent)) dependents.push_back(other_key);
            }
        }
        for (const ObjectKey& dependent : dependents) {
            Request request =
                internal("DELETE", other.kind->resource, dependent, "garbage-collector");
            request.body = Value::object({{"propagationPolicy", "Foreground"}});
            delete_one(request);
            worked = true;
        }
    }
    if (waiting) return worked;
    Value changed = object;
    kube::erase_finalizer(changed, "foregroundDeletion");
    Request request = internal("PATCH", collection.kind->resource, key, "garbage-collector");
    Value finalizers = changed["metadata"]["finalizers"];
    request.body = Value::object({{"metadata", Value::object({{"finalizers", finalizers}})}});
    update_one(request);
    return true;
}

bool ApiServer::collect_owned() {
    bool worked = false;
    for (auto& [id, collection] : collections_) {
        std::vector<std::pair<ObjectKey, SharedValue>> objects(collection.objects.begin(),
                                                               collection.objects.end());
        for (const auto& [key, object] : objects) {
            if (!collection.objects.contains(key)) continue;
            if (kube::is_deleting(*object)) {
                if (kube::has_finalizer(*object, "foregroundDeletion")) {
                    worked |= finish_foreground(collection, key, *object);
                }
                continue;
            }
            const Value& references = (*object)["metadata"]["ownerReferences"];
            bool owned = references.size() == 0;
            for (const Value& reference : references.items())
                owned |= owner_of(reference, key.ns) != nullptr;
            if (owned) continue;
            Request request =
                internal("DELETE", collection.kind->resource, key, "garbage-collector");
            request.body = Value::object({{"propagationPolicy", "Background"}});
            delete_one(request);
            worked = true;
        }
    }
    return worked;
}

bool ApiServer::collect_namespaces() {
    bool worked = false;
    for (const SharedValue& ns : list(kube::resources::namespaces())) {
        if (!kube::is_deleting(*ns)) continue;
        const std::string name(kube::name_of(*ns));
        size_t left = 0;
        for (auto& [id, collection] : collections_) {
            if (!collection.kind->resource.namespaced) continue;
            for (const SharedValue& object : list(collection.kind->resource, name)) {
                ++left;
                if (kube::is_deleting(*object)) continue;
                delete_one(internal("DELETE", collection.kind->resource, kube::key_of(*object),
                                    "namespace-controller"));
                worked = true;
            }
        }
        if (left > 0) continue;
        erase(kube::resources::namespaces(), ObjectKey(name), "namespace-controller");
        worked = true;
    }
    return worked;
}

bool ApiServer::collect() {
    const bool namespaces = collect_namespaces();
    const bool owned = collect_owned();
    return namespaces || owned;
}

}  // namespace basalt::sim
