// What admission refuses beyond the schema: rules that need more than the object itself, or more
// arithmetic than a rule in the schema can do.
//
// Pure functions. Each finding names a field and says what to do; several come at once. An update
// is looked at only where it changes something: an object that was accepted by an earlier version
// of this program, or before a DataStore was removed, can still be edited elsewhere.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "controlplane/settings.h"
#include "data/value.h"

namespace basalt::controlplane {

struct FieldError {
    FieldError() = default;
    FieldError(std::string field_path, std::string text)
        : field(std::move(field_path)), message(std::move(text)) {}
    std::string field;  ///< "spec.networkProfile.address"
    std::string message;
};

/// "field: message; field: message", for an answer to a user.
std::string to_text(const std::vector<FieldError>& errors);

struct KnownDataStore {
    KnownDataStore() = default;
    explicit KnownDataStore(std::string driver_name) : driver(std::move(driver_name)) {}
    std::string driver;
};

/// Keys and user of one control plane in one DataStore.
struct StorageClaim {
    StorageClaim() = default;
    std::string owner;  ///< "namespace/name"
    std::string owner_uid;
    std::string datastore;
    std::string schema;
    std::string user;
};

/// What a control plane claims: in its DataStore and in those of its overrides.
std::vector<StorageClaim> storage_claims(const data::Value& control_plane,
                                         const SettingsDefaults& defaults);
/// A claim of somebody else to the same keys or the same user; null when there is none. Sharing
/// either would give one tenant the other's data.
const StorageClaim* find_conflict(const StorageClaim& claim,
                                  const std::vector<StorageClaim>& others);

struct ValidationContext {
    ValidationContext() = default;
    SettingsDefaults defaults;
    std::map<std::string, KnownDataStore> datastores;
    /// Of all control planes, the one in question may be among them.
    std::vector<StorageClaim> claims;
};

/// `old` is null on creation. An object that is being deleted is always fine.
std::vector<FieldError> validate_control_plane(const data::Value& object, const data::Value* old,
                                               const ValidationContext& context);
std::vector<FieldError> validate_data_store(const data::Value& object, const data::Value* old);
std::vector<FieldError> validate_kubeconfig_generator(const data::Value& object,
                                                      const data::Value* old);

/// True when kube-apiserver 1.`minor` has the admission plugin.
bool has_admission_plugin(std::string_view plugin, int minor);

}  // namespace basalt::controlplane
