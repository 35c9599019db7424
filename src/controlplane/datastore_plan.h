// The thinking of the DataStore controller, as pure functions: what a DataStore names, whether it
// is usable, and what its status says.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/secret.h"
#include "base/time.h"
#include "controller/conditions.h"
#include "controlplane/settings.h"
#include "data/value.h"
#include "etcd/health.h"
#include "kube/object.h"

namespace basalt::controlplane {

/// Condition types of a DataStore beside Ready.
/// True: a server's version does not keep tenants apart (etcd::kSecureVersions does).
inline constexpr std::string_view kInsecure = "Insecure";
inline constexpr std::string_view kDataStoreValidation = "kamaji.clastix.io/DataStoreValidation";
inline constexpr std::string_view kDataStoreAllowedDeletion =
    "kamaji.clastix.io/DataStoreAllowedDeletion";

/// A certificate that ends sooner than this is mentioned.
inline constexpr Duration kMentionExpiry = std::chrono::hours(30 * 24);

/// The Secrets that a DataStore names and that are looked at, without duplicates. Inline content
/// wins over them.
std::vector<kube::ObjectKey> referenced_secrets(const data::Value& datastore);

/// The Secret, or null when there is none.
using SecretLookup = std::function<data::SharedValue(const kube::ObjectKey& key)>;

/// What is needed to connect to a DataStore and to sign for its tenants. All of it parses and fits
/// together.
struct DataStoreMaterial {
    std::vector<std::string> endpoints;  ///< host:port
    std::string ca_pem;
    Secret ca_key_pem;
    std::string client_certificate_pem;
    Secret client_key_pem;
    std::string identity;  ///< Changes when any of the above does.
    std::string notice;    ///< What ends soon, or "".
    WallTime ends_at;      ///< The first of the certificates.
};

/// Errors name field, Secret and key, and the remedy. Their reason() is one word for a condition:
/// Unsupported, SecretNotFound, SecretKeyNotFound, ContentMissing, InvalidCertificate, InvalidKey,
/// KeyMismatch, CertificateExpired, InvalidEndpoint.
Result<DataStoreMaterial> resolve_datastore(const data::Value& datastore,
                                            const SecretLookup& secrets, WallTime now);

/// What is known of a DataStore's fitness.
struct Verdict {
    /// Reached, and fit for tenants' writes. Also with `insecure`, which is reported beside it: not
    /// to be ready would stop the care for control planes that are there already.
    bool ready = false;
    std::string reason;  ///< Of the condition Ready.
    std::string message;
    bool resolved = false;  ///< Spec and Secrets are right, whatever the servers say.
    bool answered = false;  ///< Its servers were reached; the next two were seen.
    bool insecure = false;
    std::string insecure_message;
    std::string version;  ///< Of the oldest server.
};

Verdict judge_unresolved(const Error& error);
/// `health` is what etcd::check_health() returned, `notice` comes from the material.
Verdict judge_health(const Result<etcd::Health>& health, const std::string& notice);

/// "2.0 GiB"
std::string format_size(int64_t bytes);

/// Names of the DataStores that keep state of this control plane now, or will.
std::vector<std::string> used_datastores(const data::Value& control_plane,
                                         const SettingsDefaults& defaults);

struct DataStoreStatusInputs {
    const data::Value* object = nullptr;  ///< The DataStore as it is.
    Verdict verdict;
    std::vector<std::string> used_by;  ///< "namespace/name", sorted.
    WallTime now;
};
/// The complete status. A pass that finds nothing new yields an equal value.
data::Value build_datastore_status(const DataStoreStatusInputs& inputs);

}  // namespace basalt::controlplane
