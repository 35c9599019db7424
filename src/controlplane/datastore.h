// DataStores as control planes see them: where they are, how to sign for them, and a connection to
// them.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/secret.h"
#include "data/value.h"
#include "etcd/client.h"
#include "etcd/tenancy.h"

namespace basalt::controlplane {

/// One DataStore, resolved. Immutable; a change of the object or of its Secrets makes another one.
struct DataStoreView {
    std::string name;
    std::string driver;
    std::vector<std::string> endpoints;  ///< host:port
    std::string ca_pem;
    Secret ca_key_pem;
    std::shared_ptr<etcd::Client> client;  ///< Shared by all control planes of the DataStore.
};

/// User, role and key range of a control plane; the role is named like the schema, as Kamaji does.
inline Result<etcd::Tenant> etcd_tenant(const std::string& user, const std::string& schema) {
    BASALT_ASSIGN(etcd::KeyRange range, etcd::tenant_range(schema));
    return etcd::Tenant{user, schema, std::move(range)};
}

/// The DataStores of the process, by name. Written by the DataStore controller, read by the others;
/// one loop.
class DataStoreRegistry {
 public:
    struct Entry {
        std::shared_ptr<const DataStoreView> view;  ///< Null while it cannot be resolved.
        bool ready = false;
        std::string reason;  ///< Why it is not ready, CamelCase.
        std::string message;
        /// Another number each time when it became ready, or something else: what was seen in it
        /// before says nothing any more. Set by set().
        uint64_t epoch = 0;
    };
    void set(const std::string& name, Entry entry) {
        const Entry* before = find(name);
        const bool same = before != nullptr && before->ready && before->view == entry.view;
        entry.epoch = same ? before->epoch : ++epochs_;
        entries_[name] = std::move(entry);
    }
    void erase(const std::string& name) { entries_.erase(name); }
    /// Null until the DataStore was looked at.
    const Entry* find(const std::string& name) const {
        auto found = entries_.find(name);
        return found == entries_.end() ? nullptr : &found->second;
    }

    /// Set by the DataStore controller: where failures of using a DataStore are reported to.
    std::function<void(const std::string& name, const Error& error)> on_failure;
    void report_failure(const std::string& name, const Error& error) const {
        if (on_failure) on_failure(name, error);
    }

 private:
    std::map<std::string, Entry> entries_;
    uint64_t epochs_ = 0;
};

}  // namespace basalt::controlplane
