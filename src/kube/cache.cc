#include "kube/cache.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/strings.h"
#include "data/json.h"

namespace basalt::kube {
namespace {

constexpr const char* kOwnerIndex = "ownerUid";

std::vector<std::string> owner_uids(const Value& object) {
    std::vector<std::string> uids;
    for (const Value& item : object["metadata"]["ownerReferences"].items())
        uids.push_back(item["uid"].str());
    return uids;
}

/// managedFields are half of a small object; nobody but an applier reads them, and only its own. As
/// text they take a third of what their many small objects would.
void trim_managed_fields(Value& object, const std::string& keep_manager) {
    Value* metadata = object.find("metadata");
    if (metadata == nullptr) return;
    Value* fields = metadata->find("managedFields");
    if (fields == nullptr) return;
    if (keep_manager.empty()) {
        metadata->erase("managedFields");
        return;
    }
    std::erase_if(fields->mutable_items(),
                  [&](const Value& entry) { return entry["manager"].as_string() != keep_manager; });
    for (Value& entry : fields->mutable_items()) {
        Value* owned = entry.find("fieldsV1");
        if (owned != nullptr && owned->is_object()) *owned = data::to_json(*owned);
    }
}

Reflector::Options reflector_options(const CacheOptions& options) {
    Reflector::Options reflector = options.reflector;
    reflector.resource = options.resource;
    reflector.ns = options.ns;
    reflector.label_selector = options.label_selector;
    reflector.field_selector = options.field_selector;
    reflector.metadata_only = options.metadata_only;
    reflector.transform = [keep = options.keep_manager,
                           transform = options.transform](Value& object) {
        trim_managed_fields(object, keep);
        if (transform) transform(object);
    };
    return reflector;
}

/// Resource versions are numbers of one sequence; nothing when a server does otherwise.
std::optional<uint64_t> version_number(std::string_view version) {
    return parse_number<uint64_t>(version);
}

bool is_older(const Value& a, const Value& b) {
    const std::optional<uint64_t> x = version_number(resource_version_of(a));
    const std::optional<uint64_t> y = version_number(resource_version_of(b));
    return x && y && *x < *y;
}

}  // namespace

Cache::Held::Held(SharedValue object, bool packed) {
    if (packed) {
        packed_.emplace(*object);
    } else {
        whole_ = std::move(object);
    }
}

size_t Cache::Held::memory_size() const {
    return whole_ ? sizeof(Value) + whole_->heap_size() : packed_->size();
}

Cache::Cache(Client& client, CacheOptions options)
    : options_(std::move(options)), reflector_(client, *this, reflector_options(options_)) {}

Cache::~Cache() = default;

void Cache::start(async::TaskGroup& group) {
    BASALT_ASSERT(!started_);
    started_ = true;
    group.spawn(reflector_.run());
}

async::Task<Result<void>> Cache::wait_synced() {
    while (!synced_) {
        Result<void> waited = co_await synced_changed_.wait();
        if (!waited.ok()) co_return std::move(waited);
    }
    co_return Result<void>();
}

SharedValue Cache::get(const ObjectKey& key) const {
    const auto found = objects_.find(key);
    return found == objects_.end() ? nullptr : found->second.get();
}

std::vector<SharedValue> Cache::list(std::string_view ns, const LabelSelector& selector) const {
    std::vector<SharedValue> found;
    for (const auto& [key, held] : objects_) {
        if (!ns.empty() && key.ns != ns) continue;
        SharedValue object = held.get();
        if (selector.matches(*object)) found.push_back(std::move(object));
    }
    return found;
}

void Cache::for_each(const std::function<void(const SharedValue& object)>& visit) const {
    for (const auto& [key, held] : objects_) visit(held.get());
}

void Cache::add_index(const std::string& name, IndexFn fn) {
    Index& created = indices_[name];
    created.fn = std::move(fn);
    created.keys.clear();
    for (const auto& [key, held] : objects_) index_one(created, key, nullptr, held.get().get());
}

std::vector<SharedValue> Cache::by_index(const std::string& name, const std::string& key) const {
    std::vector<SharedValue> found;
    const auto index = indices_.find(name);
    BASALT_ASSERT(index != indices_.end());
    const auto keys = index->second.keys.find(key);
    if (keys == index->second.keys.end()) return found;
    for (const ObjectKey& object_key : keys->second) found.push_back(get(object_key));
    return found;
}

std::vector<SharedValue> Cache::owned_by(std::string_view owner_uid) {
    if (!has_index(kOwnerIndex)) add_index(kOwnerIndex, owner_uids);
    return by_index(kOwnerIndex, std::string(owner_uid));
}

Cache::HandlerId Cache::add_handler(Handler handler) {
    const HandlerId id = next_handler_++;
    handlers_.emplace(id, handler);
    // The handler may read the cache: a copy, so that it may also cause changes.
    std::vector<SharedValue> present;
    present.reserve(objects_.size());
    for (const auto& [key, held] : objects_) present.push_back(held.get());
    for (SharedValue& object : present) handler(Change{nullptr, std::move(object), true});
    return id;
}

void Cache::remove_handler(HandlerId id) { handlers_.erase(id); }

void Cache::notify(const Change& change) {
    std::vector<HandlerId> ids;
    for (const auto& [id, handler] : handlers_) ids.push_back(id);
    for (const HandlerId id : ids) {
        const auto found = handlers_.find(id);
        if (found == handlers_.end()) continue;
        const Handler handler = found->second;
        handler(change);
    }
}

void Cache::index_one(Index& index, const ObjectKey& key, const Value* before, const Value* after) {
    if (before != nullptr) {
        for (const std::string& text : index.fn(*before)) {
            const auto found = index.keys.find(text);
            if (found == index.keys.end()) continue;
            found->second.erase(key);
            if (found->second.empty()) index.keys.erase(found);
        }
    }
    if (after != nullptr) {
        for (const std::string& text : index.fn(*after)) index.keys[text].insert(key);
    }
}

void Cache::index(const ObjectKey& key, const Value* before, const Value* after) {
    for (auto& [name, one] : indices_) index_one(one, key, before, after);
}

void Cache::put(const ObjectKey& key, const SharedValue& before, SharedValue object, bool initial) {
    if (before && uid_of(*before) != uid_of(*object)) {
        // Deleted and made anew while we looked away.
        erase(key, before);
        put(key, nullptr, std::move(object), initial);
        return;
    }
    if (before && resource_version_of(*before) == resource_version_of(*object)) return;
    objects_.insert_or_assign(key, Held(object, options_.packed));
    index(key, before.get(), object.get());
    notify(Change{before, std::move(object), initial && !before});
}

void Cache::erase(const ObjectKey& key, SharedValue last) {
    const auto found = objects_.find(key);
    if (found == objects_.end()) return;
    const SharedValue before = found->second.get();
    objects_.erase(found);
    index(key, before.get(), nullptr);
    notify(Change{std::move(last), nullptr, false});
}

void Cache::replace(std::vector<SharedValue> objects, const std::string&) {
    std::unordered_set<ObjectKey> present;
    present.reserve(objects.size());
    for (const SharedValue& object : objects) present.insert(key_of(*object));
    std::vector<std::pair<ObjectKey, SharedValue>> gone;
    for (const auto& [key, held] : objects_) {
        if (!present.contains(key)) gone.emplace_back(key, held.get());
    }
    for (auto& [key, object] : gone) erase(key, std::move(object));
    for (SharedValue& object : objects) {
        const ObjectKey key = key_of(*object);
        put(key, get(key), std::move(object), !synced_);
    }
    if (synced_) return;
    synced_ = true;
    synced_changed_.notify_all();
}

void Cache::upsert(SharedValue object) {
    const ObjectKey key = key_of(*object);
    const SharedValue present = get(key);
    // Our own write may have been put in before an older event of the watch arrived, be it one of
    // an object of the same name that was there before.
    if (present && is_older(*object, *present)) return;
    put(key, present, std::move(object), false);
}

void Cache::remove(SharedValue object) {
    const ObjectKey key = key_of(*object);
    const SharedValue present = get(key);
    if (present && is_older(*object, *present)) return;  // As in upsert().
    erase(key, std::move(object));
}

void Cache::observe_write(const Value& object) {
    if (!synced_ || name_of(object).empty()) return;
    // What the watch has passed already may be deleted by now: it must not come back.
    const std::optional<uint64_t> seen = version_number(reflector_.resource_version());
    const std::optional<uint64_t> written = version_number(resource_version_of(object));
    if (!seen || !written || *written <= *seen) return;
    const ObjectKey key = key_of(object);
    const SharedValue present = get(key);
    if (present && !is_older(*present, object)) return;
    Value copy = object;
    trim_managed_fields(copy, options_.keep_manager);
    if (options_.transform) options_.transform(copy);
    copy.shrink_to_fit();
    put(key, present, std::make_shared<const Value>(std::move(copy)), false);
}

size_t Cache::memory_size() const {
    size_t size = 0;
    for (const auto& [key, held] : objects_) size += held.memory_size();
    return size;
}

namespace {

std::string cache_key(const CacheOptions& options) {
    return fmt::format("{}|{}|{}|{}|{}|{}|{}|{}", options.resource.to_string(), options.ns,
                       options.label_selector, options.field_selector,
                       options.metadata_only ? "metadata" : "", options.keep_manager,
                       options.variant, options.packed ? "packed" : "");
}

}  // namespace

Cache& CacheSet::get(const CacheOptions& options) {
    std::unique_ptr<Cache>& cache = caches_[cache_key(options)];
    if (!cache) {
        cache = std::make_unique<Cache>(client_, options);
        if (group_ != nullptr) cache->start(*group_);
    }
    return *cache;
}

void CacheSet::start(async::TaskGroup& group) {
    group_ = &group;
    for (const auto& [key, cache] : caches_) {
        if (!cache->started()) cache->start(group);
    }
}

async::Task<Result<void>> CacheSet::wait_synced() {
    for (;;) {
        Cache* missing = nullptr;
        for (const auto& [key, cache] : caches_) {
            if (!cache->has_synced()) missing = cache.get();
        }
        if (missing == nullptr) co_return Result<void>();
        Result<void> waited = co_await missing->wait_synced();
        if (!waited.ok()) co_return std::move(waited);
    }
}

std::vector<std::string> CacheSet::unsynced() const {
    std::vector<std::string> names;
    for (const auto& [key, cache] : caches_) {
        if (!cache->has_synced()) names.push_back(cache->options().resource.to_string());
    }
    return names;
}

void CacheSet::for_each(const std::function<void(const Cache& cache)>& visit) const {
    for (const auto& [key, cache] : caches_) visit(*cache);
}

}  // namespace basalt::kube
