// DataStores as control planes see them: where they are, how to sign for them, and a connection to
// them.
#pragma once

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
    };
    void set(const std::string& name, Entry entry) { entries_[name] = std::move(entry); }
    void erase(const std::string& name) { entries_.erase(name); }
    /// Null until the DataStore was looked at.
    const Entry* find(const std::string& name) const {
        auto found = entries_.find(name);
        return found == entries_.end() ? nullptr : &found->second;
    }

 private:
    std::map<std::string, Entry> entries_;
};

}  // namespace basalt::controlplane
