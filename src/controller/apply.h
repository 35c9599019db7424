// Server-side apply that writes only when something would change.
//
// An intent is what we want of an object and nothing else. It is in force when the live object
// (from a cache) holds every value of it and our manager's entry in managedFields owns exactly its
// fields: a field that an earlier intent had and this one has not must still be taken away. If so,
// no request is made.
//
// The API server normalises some values ("1000m" becomes "1", "60s" becomes "1m0s"), which looks
// like a difference. Therefore an Applier also remembers, per object, the hash of the last intent
// and the hash of what the server answered: the same intent over the same live content is not sent
// again. The memory is lost with the process: the worst case is one PATCH an object, which the
// server recognises as no change.
//
// Caches that feed an Applier keep our entry of managedFields: CacheOptions::keep_manager. One
// loop.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "kube/cache.h"
#include "kube/client.h"

namespace basalt::controller {

/// True when `live` needs no apply of `intent` by `manager`. `live` without managedFields is
/// compared by values only. `subresource` is that of the apply ("status" or "").
bool in_force(const kube::Value& intent, const kube::Value& live, std::string_view manager,
              std::string_view subresource = {});

/// Values of `intent` are all in `live`. Lists are compared by their merge keys when both name them
/// (name, type, key, port + protocol, mountPath, ip, uid …), else item by item.
bool is_subset(const kube::Value& intent, const kube::Value& live);

/// What an apply of `manager` owns, as FieldsV1; null when it owns nothing. `live` is from a cache
/// or from the API server.
kube::Value owned_fields(const kube::Value& live, std::string_view manager,
                         std::string_view subresource);

/// Managers of an earlier writer (an update or another name) whose fields we take over: their
/// entries are renamed to ours, so that fields can be removed later. Returns a JSON patch (with a
/// test of resourceVersion), empty when nothing is to do. As client-go's csaupgrade does.
kube::Value take_over_managers(const kube::Value& live, const std::vector<std::string>& from,
                               std::string_view to);

/// Adds the fields of one FieldsV1 to another.
void merge_fields(kube::Value& into, const kube::Value& from);

struct Applied {
    Applied() = default;
    bool written = false;
    kube::SharedValue object;  ///< The live object: the server's answer, or what the cache had.
};

class Applier {
 public:
    /// Objects remembered, 100 bytes each. remove() forgets its object; those that others delete
    /// stay until the memory is full and starts anew, which costs a PATCH an object.
    static constexpr size_t kMaxMemory = 50'000;

    Applier(kube::Client& client, std::string field_manager)
        : client_(client), field_manager_(std::move(field_manager)) {}

    /// `live` is null when the cache has none. `options.subresource` "status" applies status only.
    async::Task<Result<Applied>> apply(const kube::Resource& resource, const kube::Value& intent,
                                       kube::SharedValue live,
                                       const kube::WriteOptions& options = {});
    /// Deletes, if it is there and not being deleted yet. True when a request was made and found
    /// something.
    async::Task<Result<bool>> remove(const kube::Resource& resource, kube::SharedValue live,
                                     const kube::DeleteOptions& options = {});

    const std::string& field_manager() const { return field_manager_; }
    uint64_t writes_count() const { return writes_count_; }
    size_t memory_count() const { return memory_.size(); }

 private:
    struct Memory {
        uint64_t intent_hash = 0;
        uint64_t live_hash = 0;
    };
    async::Task<Result<Applied>> apply_now(kube::Resource resource, kube::Value intent,
                                           kube::WriteOptions options, uint64_t intent_hash);
    void forget(std::string_view uid);
    async::Task<Result<bool>> remove_now(kube::Resource resource, kube::SharedValue live,
                                         kube::DeleteOptions options);

    kube::Client& client_;
    std::string field_manager_;
    std::map<std::string, Memory, std::less<>> memory_;  ///< By uid and subresource.
    uint64_t writes_count_ = 0;
};

}  // namespace basalt::controller
