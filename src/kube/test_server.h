// For tests of kube/ and controller/: transports that answer in this process, on any loop.
//
// ScriptedTransport asks a function for each request. TestServer is a small API server: it stores
// objects of any resource with resource versions and conflicts, and serves list (paged), watch
// (with bookmarks, "410 Gone" below a compacted version, and streaming lists unless switched off)
// and the simple writes. An apply is a merge; there is no ownership, admission or garbage
// collection.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "async/wait.h"
#include "data/json.h"
#include "data/patch.h"
#include "kube/object.h"
#include "net/http.h"

namespace basalt::kube::testing {

/// Chunks that a test pushes; shared between the reader and whoever writes.
struct BodyPipe {
    std::deque<std::string> chunks;
    bool ended = false;
    std::optional<Error> broken;
    bool abandoned = false;  ///< The reader was dropped.
    async::Condition changed;

    void push(std::string chunk) {
        chunks.push_back(std::move(chunk));
        changed.notify_all();
    }
    void end() {
        ended = true;
        changed.notify_all();
    }
    void fail(Error error) {
        broken = std::move(error);
        changed.notify_all();
    }
};

class PipeReader final : public net::BodyReader {
 public:
    explicit PipeReader(std::shared_ptr<BodyPipe> pipe) : pipe_(std::move(pipe)) {}
    ~PipeReader() override { pipe_->abandoned = true; }
    async::Task<Result<std::optional<std::string>>> read() override {
        for (;;) {
            if (!pipe_->chunks.empty()) {
                std::optional<std::string> chunk(std::move(pipe_->chunks.front()));
                pipe_->chunks.pop_front();
                co_return std::move(chunk);
            }
            if (pipe_->broken) co_return *pipe_->broken;
            if (pipe_->ended) co_return std::optional<std::string>();
            Result<void> waited = co_await pipe_->changed.wait();
            if (!waited.ok()) co_return std::move(waited).error();
        }
    }
    const net::Headers& trailers() const override { return trailers_; }

 private:
    std::shared_ptr<BodyPipe> pipe_;
    net::Headers trailers_;
};

inline net::HttpResponse respond(int status, std::string body, net::Headers headers = {}) {
    net::HttpResponse response;
    response.status = status;
    response.headers = std::move(headers);
    auto pipe = std::make_shared<BodyPipe>();
    if (!body.empty()) pipe->push(std::move(body));
    pipe->end();
    response.body = std::make_unique<PipeReader>(std::move(pipe));
    return response;
}

inline net::HttpResponse respond(int status, const Value& body) {
    return respond(status, data::to_json(body));
}

inline net::HttpResponse respond_stream(std::shared_ptr<BodyPipe> pipe) {
    net::HttpResponse response;
    response.status = 200;
    response.body = std::make_unique<PipeReader>(std::move(pipe));
    return response;
}

inline Value status_document(int code, std::string_view reason, std::string_view message) {
    return Value::object({{"kind", "Status"},
                          {"apiVersion", "v1"},
                          {"status", "Failure"},
                          {"message", message},
                          {"reason", reason},
                          {"code", code}});
}

class ScriptedTransport : public net::HttpTransport {
 public:
    using Answer = std::function<Result<net::HttpResponse>(const net::HttpRequest&)>;
    ScriptedTransport(async::Loop& loop, Answer answer) : loop_(loop), answer_(std::move(answer)) {}
    async::Task<Result<net::HttpResponse>> send(net::HttpRequest request) override {
        requests.push_back(request);
        Result<void> slept = co_await async::sleep_for(loop_, latency);
        if (!slept.ok()) co_return std::move(slept).error();
        co_return answer_(request);
    }
    std::vector<net::HttpRequest> requests;
    Duration latency = std::chrono::milliseconds(1);

 private:
    async::Loop& loop_;
    Answer answer_;
};

class TestServer : public net::HttpTransport {
 public:
    explicit TestServer(async::Loop& loop) : loop_(loop) {}

    bool supports_watch_list = true;
    Duration latency = std::chrono::milliseconds(2);
    /// Asked first: a response instead of the server's, or nothing.
    std::function<std::optional<Result<net::HttpResponse>>(const net::HttpRequest&)> intercept;
    std::vector<net::HttpRequest> requests;

    async::Task<Result<net::HttpResponse>> send(net::HttpRequest request) override {
        requests.push_back(request);
        Result<void> slept = co_await async::sleep_for(loop_, latency);
        if (!slept.ok()) co_return std::move(slept).error();
        if (intercept) {
            std::optional<Result<net::HttpResponse>> other = intercept(request);
            if (other) co_return std::move(*other);
        }
        co_return handle(request);
    }

    size_t count(std::string_view method, std::string_view in_target = {}) const {
        size_t n = 0;
        for (const net::HttpRequest& request : requests) {
            n += request.method == method && request.target.find(in_target) != std::string::npos;
        }
        return n;
    }
    /// The stored object at a path without query, or null.
    const Value* object(const std::string& path) const {
        const auto found = objects_.find(path);
        return found == objects_.end() ? nullptr : &found->second;
    }
    /// Creates or replaces, as another client would.
    void put(const std::string& path, Value object) { store(path, std::move(object)); }
    void erase(const std::string& path) { remove(path); }
    /// Watches and continuations from below `version` get "410 Gone".
    void compact() { compacted_ = version_; }
    void break_watches(Error error) {
        for (auto& watch : watches_) watch->pipe->fail(error);
        watches_.clear();
    }
    void end_watches() {
        for (auto& watch : watches_) watch->pipe->end();
        watches_.clear();
    }
    void send_bookmarks() {
        for (auto& watch : watches_) watch->pipe->push(bookmark(false));
    }
    size_t watches_count() const { return watches_.size(); }
    uint64_t version() const { return version_; }
    void advance(uint64_t versions) { version_ += versions; }

 private:
    struct Event {
        uint64_t version;
        std::string path;
        std::string type;
        Value object;
    };
    struct OpenWatch {
        std::string prefix;
        std::shared_ptr<BodyPipe> pipe;
    };
    struct Target {
        std::string path;
        std::map<std::string, std::string> query;
    };

    static Target parse_target(const std::string& text) {
        Target target;
        const size_t mark = text.find('?');
        target.path = text.substr(0, mark);
        if (mark == std::string::npos) return target;
        size_t start = mark + 1;
        while (start <= text.size()) {
            const size_t end = std::min(text.find('&', start), text.size());
            const std::string pair = text.substr(start, end - start);
            const size_t equals = pair.find('=');
            if (equals != std::string::npos) {
                Result<std::string> value = net::percent_decode(pair.substr(equals + 1), true);
                target.query[pair.substr(0, equals)] = value.ok() ? *value : "";
            }
            start = end + 1;
        }
        return target;
    }

    /// "/api/v1/namespaces/a/pods/b" or "/api/v1/pods": whether the path names an object.
    static bool names_object(const std::string& path) {
        const auto parts = split_path(path);
        const size_t base = parts[0] == "api" ? 2 : 3;
        const bool in_namespace = parts.size() > base + 2 && parts[base] == "namespaces";
        return parts.size() > base + (in_namespace ? 3 : 1);
    }
    static std::vector<std::string> split_path(const std::string& path) {
        std::vector<std::string> parts;
        size_t start = 1;
        while (start <= path.size()) {
            const size_t end = std::min(path.find('/', start), path.size());
            parts.push_back(path.substr(start, end - start));
            start = end + 1;
        }
        return parts;
    }
    /// Does an object's path belong to a collection's, of one namespace or all?
    static bool in_collection(const std::string& object_path, const std::string& collection) {
        if (object_path.substr(0, object_path.rfind('/')) == collection) return true;
        const std::string resource = collection.substr(collection.rfind('/'));
        const std::string root = collection.substr(0, collection.rfind('/'));
        if (!object_path.starts_with(root + "/namespaces/")) return false;
        const std::string parent = object_path.substr(0, object_path.rfind('/'));
        return parent.ends_with(resource);
    }

    std::string bookmark(bool initial_end) const {
        Value metadata = Value::object({{"resourceVersion", std::to_string(version_)}});
        if (initial_end) {
            metadata.set("annotations", Value::object({{"k8s.io/initial-events-end", "true"}}));
        }
        Value object = Value::object({{"kind", "X"}, {"apiVersion", "v1"}});
        object.set("metadata", std::move(metadata));
        return data::to_json(Value::object({{"type", "BOOKMARK"}, {"object", object}})) + "\n";
    }
    static std::string event_line(const std::string& type, const Value& object) {
        return data::to_json(Value::object({{"type", type}, {"object", object}})) + "\n";
    }

    void publish(const std::string& path, const std::string& type, const Value& object) {
        history_.push_back({version_, path, type, object});
        for (auto& watch : watches_) {
            if (in_collection(path, watch->prefix)) watch->pipe->push(event_line(type, object));
        }
        std::erase_if(watches_, [](const auto& watch) { return watch->pipe->abandoned; });
    }

    const Value& store(const std::string& path, Value object) {
        const auto found = objects_.find(path);
        const bool is_new = found == objects_.end();
        Value& metadata = object.at("metadata");
        if (is_new) {
            metadata.set("uid", "uid-" + std::to_string(++uids_));
            metadata.set("generation", 1);
        } else {
            metadata.set("uid", found->second["metadata"]["uid"]);
            metadata.set("generation", generation_of(found->second) +
                                           (object["spec"] == found->second["spec"] ? 0 : 1));
            Value same = object;
            same.at("metadata")
                .set("resourceVersion", found->second["metadata"]["resourceVersion"]);
            if (same == found->second) return found->second;
        }
        metadata.set("resourceVersion", std::to_string(++version_));
        Value& stored = objects_[path];
        stored = std::move(object);
        publish(path, is_new ? "ADDED" : "MODIFIED", stored);
        return stored;
    }
    void remove(const std::string& path) {
        const auto found = objects_.find(path);
        if (found == objects_.end()) return;
        Value last = found->second;
        objects_.erase(found);
        last.at("metadata").set("resourceVersion", std::to_string(++version_));
        publish(path, "DELETED", last);
    }

    net::HttpResponse failure(int code, std::string_view reason, std::string_view message) const {
        return respond(code, status_document(code, reason, message));
    }

    net::HttpResponse handle(const net::HttpRequest& request) {
        Target target = parse_target(request.target);
        for (const char* suffix : {"/status"}) {
            if (target.path.ends_with(suffix)) {
                target.path.resize(target.path.size() - std::string_view(suffix).size());
            }
        }
        const bool is_object = names_object(target.path);
        if (request.method == "GET" && target.query["watch"] == "true") return watch(target);
        if (request.method == "GET" && !is_object) return list(target);
        const Value* present = object(target.path);
        if (request.method == "GET") {
            return present != nullptr ? respond(200, *present)
                                      : failure(404, "NotFound", target.path + " not found");
        }
        if (request.method == "POST") return create(target, request);
        if (request.method == "DELETE") {
            if (present == nullptr) return failure(404, "NotFound", target.path + " not found");
            const Value last = *present;
            remove(target.path);
            return respond(200, last);
        }
        return update(target, request, present);
    }

    net::HttpResponse create(const Target& target, const net::HttpRequest& request) {
        Value body = data::parse_json(request.body).value_or(Value());
        const std::string path = target.path + "/" + std::string(name_of(body));
        if (objects_.contains(path)) return failure(409, "AlreadyExists", path + " already exists");
        return respond(201, store(path, std::move(body)));
    }

    net::HttpResponse update(const Target& target, const net::HttpRequest& request,
                             const Value* present) {
        const std::string_view type = request.headers.get("content-type");
        Value body = data::parse_json(request.body).value_or(Value());
        const bool is_apply = type == "application/apply-patch+yaml";
        if (present == nullptr && !is_apply)
            return failure(404, "NotFound", target.path + " not found");
        const std::string_view version = resource_version_of(body);
        if (present != nullptr && !version.empty() && version != resource_version_of(*present)) {
            return failure(409, "Conflict", target.path + " was changed");
        }
        if (request.method == "PUT") return respond(200, store(target.path, std::move(body)));
        Value base = present != nullptr ? *present : Value();
        if (type == "application/json-patch+json") {
            Result<Value> patched = data::apply_json_patch(std::move(base), body);
            if (!patched.ok()) return failure(422, "Invalid", patched.error().message());
            return respond(200, store(target.path, std::move(*patched)));
        }
        return respond(200, store(target.path, data::apply_merge_patch(std::move(base), body)));
    }

    net::HttpResponse list(Target& target) {
        const size_t limit = static_cast<size_t>(atoi(target.query["limit"].c_str()));
        const std::string& token = target.query["continue"];
        uint64_t version = version_;
        std::string after;
        if (!token.empty()) {
            version = std::stoull(token.substr(0, token.find(' ')));
            after = token.substr(token.find(' ') + 1);
            if (version < compacted_)
                return failure(410, "Expired", "The provided continue parameter is too old");
        }
        Value metadata = Value::object({{"resourceVersion", std::to_string(version)}});
        Value items = Value::array();
        for (const auto& [path, stored] : objects_) {
            if (path <= after || !in_collection(path, target.path)) continue;
            if (limit > 0 && items.size() == limit) {
                metadata.set("continue", std::to_string(version) + " " + last_path_);
                break;
            }
            Value item = stored;
            item.erase("kind");  // As the built-in kinds do.
            item.erase("apiVersion");
            items.push_back(std::move(item));
            last_path_ = path;
        }
        Value answer = Value::object({{"kind", "List"}, {"apiVersion", "v1"}});
        answer.set("metadata", std::move(metadata)).set("items", std::move(items));
        return respond(200, answer);
    }

    net::HttpResponse watch(Target& target) {
        const bool initial = target.query["sendInitialEvents"] == "true";
        if (initial && !supports_watch_list) {
            return failure(422, "Invalid",
                           "sendInitialEvents: Forbidden: sendInitialEvents is forbidden");
        }
        auto pipe = std::make_shared<BodyPipe>();
        const std::string& version = target.query["resourceVersion"];
        const uint64_t since = version.empty() ? 0 : std::stoull(version);
        if (initial) {
            for (const auto& [path, stored] : objects_) {
                if (in_collection(path, target.path)) pipe->push(event_line("ADDED", stored));
            }
            pipe->push(bookmark(true));
        } else if (since < compacted_) {
            pipe->push(
                event_line("ERROR", status_document(410, "Expired", "too old resource version")));
            pipe->end();
            return respond_stream(std::move(pipe));
        } else {
            for (const Event& event : history_) {
                if (event.version > since && in_collection(event.path, target.path)) {
                    pipe->push(event_line(event.type, event.object));
                }
            }
        }
        watches_.push_back(std::make_unique<OpenWatch>(OpenWatch{target.path, pipe}));
        return respond_stream(std::move(pipe));
    }

    async::Loop& loop_;
    std::map<std::string, Value> objects_;
    std::vector<Event> history_;
    std::vector<std::unique_ptr<OpenWatch>> watches_;
    std::string last_path_;
    uint64_t version_ = 100;
    uint64_t compacted_ = 0;
    int uids_ = 0;
};

inline Value config_map(const std::string& ns, const std::string& name,
                        const std::string& data_value) {
    Value object = make_object(resources::config_maps(), ObjectKey(ns, name));
    object.set("data", Value::object({{"value", data_value}}));
    return object;
}
inline std::string config_map_path(const std::string& ns, const std::string& name) {
    return "/api/v1/namespaces/" + ns + "/configmaps/" + name;
}

/// Runs `task` on the simulated loop to its end and returns its result.
template <class T>
async::Task<void> capture(async::Task<T> task, std::optional<T>* slot) {
    T result = co_await task;
    slot->emplace(std::move(result));
}

}  // namespace basalt::kube::testing
