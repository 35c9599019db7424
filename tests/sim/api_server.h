// A model of one kube-apiserver with its store, in memory: the management cluster's, or a tenant's.
//
// It answers requests as the real one does where our client can see it: resource versions,
// generations, conflicts, preconditions, selectors, pages, watches (bookmarks, streaming lists,
// "410 Gone"), merge and JSON patches, server-side apply with managedFields, status and scale
// subresources, finalizers, deletion, ownership. There is no authentication, no admission but what
// `admit` says, and no validation beyond a few immutable fields. agreement_test.cc runs the same
// scripts against this and a real one.
//
// A request takes effect at once, inside handle(); latency and faults are the connection's
// (connection.h). Namespace deletion and garbage collection are done by collect(), which the world
// calls when it sees fit. One loop.
#pragma once

#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "async/wait.h"
#include "kube/object.h"
#include "net/http.h"
#include "tests/sim/admission.h"
#include "tests/sim/fields.h"
#include "tests/sim/shape.h"

namespace basalt::sim {

using data::SharedValue;
using kube::ObjectKey;

/// One open watch: what was not read yet. Shared by the server, which writes, and the reader.
struct Stream {
    std::deque<std::string> lines;
    bool ended = false;  ///< The server closed it.
    std::optional<Error> broken;
    async::Condition changed;

    void push(std::string line);
    void end();
    void fail(Error error);
};

/// What a write did, as observers see it.
struct Write {
    std::string who;  ///< The connection's name, or the model's.
    const Kind* kind = nullptr;
    ObjectKey key;
    SharedValue before;  ///< Null: created.
    SharedValue after;   ///< Null: deleted.
    std::string method;
};

class ApiServer {
 public:
    /// `name` appears in uids and messages. `kinds` must outlive the server.
    ApiServer(async::Loop& loop, std::string name, std::vector<const Kind*> kinds);
    ~ApiServer();
    ApiServer(const ApiServer&) = delete;
    ApiServer& operator=(const ApiServer&) = delete;

    struct Answer {
        int status = 200;
        Value body;
        std::shared_ptr<Stream> stream;  ///< Of a watch.
    };
    /// One request of the connection `who`.
    Answer handle(const net::HttpRequest& request, const std::string& who);

    // ---- for models and scripts, in this process
    // -----------------------------------------------------------------
    SharedValue get(const kube::Resource& resource, const ObjectKey& key) const;
    std::vector<SharedValue> list(const kube::Resource& resource, const std::string& ns = {}) const;
    /// Answers of 400 and above are errors.
    Result<Value> create(const kube::Resource& resource, const Value& object,
                         const std::string& who);
    Result<Value> patch(const kube::Resource& resource, const ObjectKey& key,
                        const Value& merge_patch, const std::string& who,
                        const std::string& subresource = {});
    Result<Value> remove(const kube::Resource& resource, const ObjectKey& key,
                         const std::string& who, const Value& options = {});
    /// Takes the object away whatever holds it: a kubelet's last word on a Pod.
    void erase(const kube::Resource& resource, const ObjectKey& key, const std::string& who);

    /// One round of garbage collection and namespace deletion; true when something was done.
    bool collect();

    // ---- faults
    // --------------------------------------------------------------------------------------------------
    /// Forgets history: older watches and continuations get "410 Gone".
    void compact();
    void break_watches(const std::string& why);
    void end_watches();
    /// Streaming lists are refused as a server without the feature does.
    bool supports_watch_list = true;

    /// Asked about each write before its effect: why it is forbidden, or "". None: nothing is.
    std::function<std::string(const Admission& request)> admit;
    /// Called after each write; must not write itself.
    std::function<void(const Write& write)> on_write;
    /// Answer to GET /version.
    std::string version = "v1.36.3";

    uint64_t resource_version() const { return version_; }
    /// That came over connections.
    uint64_t requests_count() const { return requests_count_; }
    const std::string& name() const { return name_; }
    std::vector<const Kind*> kinds() const;
    const Kind* kind_of(const kube::Resource& resource) const;

 private:
    struct Event {
        uint64_t version;
        SharedValue before, after;
    };
    struct Watcher {
        std::weak_ptr<Stream> stream;
        std::string ns;
        kube::LabelSelector labels;
        std::map<std::string, std::string> fields;
        bool metadata_only = false;
        bool bookmarks = false;
        async::Loop::TimerId timer = 0;
        TimePoint ends_at{};
    };
    struct Collection {
        const Kind* kind = nullptr;
        std::map<ObjectKey, SharedValue> objects;
        std::deque<Event> history;
        uint64_t compacted = 0;
        std::list<Watcher> watchers;
    };
    struct Request {
        std::string method;
        std::vector<std::string> path;
        std::map<std::string, std::string> query;
        std::string content_type;
        bool metadata_only = false;
        Value body;
        std::string who;
        std::string manager;
        Collection* collection = nullptr;
        ObjectKey key;
        std::string subresource;
        std::string text(const std::string& name) const;
    };
    struct Page {
        std::vector<SharedValue> rest;
        uint64_t version = 0;
    };

    Answer route(Request& request);
    Answer get_one(const Request& request);
    Answer list_many(const Request& request);
    Answer open_watch(const Request& request);
    Answer create_one(const Request& request);
    Answer update_one(const Request& request);
    Answer delete_one(const Request& request);
    Answer delete_many(const Request& request);
    Answer apply_one(const Request& request);
    Answer scale(const Request& request);
    Answer store(const Request& request, SharedValue live, Value wanted, bool is_apply);
    Answer insert(const Request& request, Value object);

    std::optional<Answer> refuse_namespace(const Request& request) const;
    std::optional<Answer> refuse(const Request& request, const char* operation, const Value* object,
                                 const Value* before) const;
    void finish_defaults(const Kind& kind, const ObjectKey& key, const Value* live,
                         Value& object) const;
    void commit(Collection& collection, const ObjectKey& key, Value object, const Request& request);
    void drop(Collection& collection, const ObjectKey& key, const Request& request);
    void publish(Collection& collection, const ObjectKey& key, SharedValue before,
                 SharedValue after, const Request& request);
    void deliver(Watcher& watcher, const Collection& collection, const Event& event) const;
    bool selects(const Watcher& watcher, const Value& object) const;
    std::string event_line(const char* type, const Watcher& watcher, const Kind& kind,
                           const Value& object) const;
    std::string bookmark(const Kind& kind, bool initial_end) const;
    void arm(Collection& collection, std::list<Watcher>::iterator watcher);
    void forget_streams(Collection& collection);
    Value stamped(const Kind& kind, Value object);
    Collection* find(const kube::Resource& resource);
    const Collection* find(const kube::Resource& resource) const;
    bool collect_namespaces();
    bool collect_owned();
    bool finish_foreground(Collection& collection, const ObjectKey& key, const Value& object);
    const Value* owner_of(const Value& reference, const std::string& ns) const;
    Request internal(std::string method, const kube::Resource& resource, const ObjectKey& key,
                     const std::string& who);

    async::Loop& loop_;
    std::string name_;
    std::map<std::string, Collection> collections_;  ///< By "group/version/plural".
    std::map<std::string, Page> pages_;              ///< By continue token.
    uint64_t version_ = 1000;
    uint64_t requests_count_ = 0;
    uint64_t uids_ = 0;
    uint64_t tokens_ = 0;
};

/// Reads a Stream as a response's body; `keep` is held as long.
std::unique_ptr<net::BodyReader> read_stream(std::shared_ptr<Stream> stream);
/// A body of one piece.
std::unique_ptr<net::BodyReader> read_text(std::string text);
/// A Status document.
Value make_status(int code, std::string_view reason, std::string_view message);

}  // namespace basalt::sim
