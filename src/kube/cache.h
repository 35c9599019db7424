// Cache: the state of a collection, kept current by a Reflector, shared by everyone who asks.
//
// Objects are immutable and shared: get() costs a pointer, and what a caller holds never changes
// under it. Handlers are called for every change with the old and the new object, in order per
// object, from the reflector's turn on the loop; a relist that misses an object delivers its
// deletion. Indices map strings to objects (the uid of an owner is built in).
//
// A cache is eventually consistent: it may lag behind our own writes. Level-based controllers cope.
//
// Cost: for each object its Value (measured: about twice the size of its JSON; a fifth of that when
// it is packed, see packed_object.h), 100 bytes for the table, and one entry an index. One loop.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "async/task_group.h"
#include "async/wait.h"
#include "kube/packed_object.h"
#include "kube/reflector.h"

namespace basalt::kube {

/// One change: `before` is null for a new object, `after` for a deleted one; never both.
struct Change {
    SharedValue before;
    SharedValue after;
    /// Part of the state that was there when the cache (or the handler) began: of lower urgency.
    bool initial = false;

    /// `after`, or the last state of a deleted object.
    const Value& object() const { return after ? *after : *before; }
};

/// Not a coroutine; must not block. It may add and remove handlers, but not destroy the cache.
using Handler = std::function<void(const Change& change)>;
/// The keys under which an object is found in an index.
using IndexFn = std::function<std::vector<std::string>(const Value& object)>;

struct CacheOptions {
    CacheOptions() = default;
    explicit CacheOptions(Resource what, std::string in_namespace = {})
        : resource(std::move(what)), ns(std::move(in_namespace)) {}

    Resource resource;
    std::string ns;  ///< "" is all namespaces.
    std::string label_selector;
    std::string field_selector;
    bool metadata_only = false;
    /// Keeps of metadata.managedFields only the entries of this manager; "" drops all of it.
    /// Appliers (controller/apply.h) want theirs. Their fieldsV1 is kept as JSON text.
    std::string keep_manager;
    /// Runs after managedFields were dropped. Caches with different transforms must differ in
    /// `variant`.
    Transform transform;
    std::string variant;
    /// Keeps objects packed: for large ones that are read now and then, one at a time.
    bool packed = false;
    /// For tuning and tests; resource, selectors and transform in it are ignored.
    Reflector::Options reflector;
};

class Cache final : private Sink {
 public:
    using HandlerId = uint64_t;

    Cache(Client& client, CacheOptions options);
    ~Cache() override;
    Cache(const Cache&) = delete;
    Cache& operator=(const Cache&) = delete;

    /// Begins watching, in `group`; once. The cache must outlive the group's tasks.
    void start(async::TaskGroup& group);
    bool started() const { return started_; }
    /// True once the whole state has arrived.
    bool has_synced() const { return synced_; }
    async::Task<Result<void>> wait_synced();

    /// Null when there is none.
    SharedValue get(const ObjectKey& key) const;
    /// Of one namespace, or all; in no order.
    std::vector<SharedValue> list(std::string_view ns = {},
                                  const LabelSelector& selector = {}) const;
    void for_each(const std::function<void(const SharedValue& object)>& visit) const;
    size_t size() const override { return objects_.size(); }
    bool has(const ObjectKey& key) const override { return objects_.contains(key); }

    /// Before start(), or any time (then the present objects are indexed).
    void add_index(const std::string& name, IndexFn fn);
    bool has_index(const std::string& name) const { return indices_.contains(name); }
    std::vector<SharedValue> by_index(const std::string& name, const std::string& key) const;
    /// Objects with an ownerReference of that uid. The index is made with the first use.
    std::vector<SharedValue> owned_by(std::string_view owner_uid);

    /// Calls `handler` for what is there already (initial = true) and then for every change.
    HandlerId add_handler(Handler handler);
    void remove_handler(HandlerId id);

    /// Puts an object in that our own write just returned, unless the cache has it newer: later
    /// reads of this process see its own write. Handlers are called; the watch's own event of that
    /// state is then no change.
    void observe_write(const Value& object);

    const CacheOptions& options() const { return options_; }
    const Reflector::Stats& stats() const { return reflector_.stats(); }
    const std::string& resource_version() const { return reflector_.resource_version(); }
    /// Bytes of all objects.
    size_t memory_size() const;

 private:
    /// An object as it is kept.
    class Held {
     public:
        Held(SharedValue object, bool packed);
        SharedValue get() const { return whole_ ? whole_ : packed_->unpack(); }
        size_t memory_size() const;

     private:
        SharedValue whole_;  ///< Null when it is packed.
        std::optional<PackedObject> packed_;
    };
    struct Index {
        IndexFn fn;
        std::unordered_map<std::string, std::unordered_set<ObjectKey>> keys;
    };
    void replace(std::vector<SharedValue> objects, const std::string& resource_version) override;
    void upsert(SharedValue object) override;
    void remove(SharedValue object) override;
    /// `before` is what get() says.
    void put(const ObjectKey& key, const SharedValue& before, SharedValue object, bool initial);
    void erase(const ObjectKey& key, SharedValue last);
    void index(const ObjectKey& key, const Value* before, const Value* after);
    static void index_one(Index& index, const ObjectKey& key, const Value* before,
                          const Value* after);
    void notify(const Change& change);

    CacheOptions options_;
    Reflector reflector_;
    std::unordered_map<ObjectKey, Held> objects_;
    std::map<std::string, Index> indices_;
    std::map<HandlerId, Handler> handlers_;
    HandlerId next_handler_ = 1;
    bool started_ = false;
    bool synced_ = false;
    async::Condition synced_changed_;
};

/// The caches of one client: who asks for the same collection gets the same cache.
class CacheSet {
 public:
    explicit CacheSet(Client& client) : client_(client) {}

    /// The cache of these options; made, and started when start() was called before, with the first
    /// request.
    Cache& get(const CacheOptions& options);
    Cache& get(const Resource& resource) { return get(CacheOptions(resource)); }
    void start(async::TaskGroup& group);
    /// Caches made from now on are not started: call before the group ends.
    void stop() { group_ = nullptr; }
    async::Task<Result<void>> wait_synced();
    /// Resources that are still missing, for a readiness message.
    std::vector<std::string> unsynced() const;
    void for_each(const std::function<void(const Cache& cache)>& visit) const;
    Client& client() const { return client_; }

 private:
    Client& client_;
    std::map<std::string, std::unique_ptr<Cache>> caches_;
    async::TaskGroup* group_ = nullptr;
};

}  // namespace basalt::kube
