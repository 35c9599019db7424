// The status of a TenantControlPlane, as a pure function of what was observed and done.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/time.h"
#include "controller/conditions.h"
#include "controlplane/objects.h"
#include "controlplane/settings.h"
#include "data/value.h"

namespace basalt::controlplane {

/// Condition types. Ready sums up the others: nodes can join now.
inline constexpr std::string_view kReady = "Ready";
inline constexpr std::string_view kProgressing = "Progressing";
inline constexpr std::string_view kDataStoreReady = "DataStoreReady";
inline constexpr std::string_view kEndpointReady = "EndpointReady";
inline constexpr std::string_view kCertificatesReady = "CertificatesReady";
inline constexpr std::string_view kPodsReady = "PodsReady";
inline constexpr std::string_view kClusterReady =
    "ClusterReady";  ///< Objects inside the tenant are in place.
inline constexpr std::string_view kUnsupportedCondition = "Unsupported";
/// Writes of the tenant are refused by spec.writePermissions; absent when none are.
inline constexpr std::string_view kWriteLimited = "WriteLimited";
/// False while a control plane that is being deleted waits for a DataStore; absent otherwise.
inline constexpr std::string_view kDataRemoved = "DataRemoved";

/// The steps of a pass, in their order, which is the order of causes.
struct StepName {
    std::string_view condition;
    const char* handler;  ///< In metrics.
};
inline constexpr StepName kSteps[] = {{kDataStoreReady, "datastore"},
                                      {kEndpointReady, "endpoint"},
                                      {kCertificatesReady, "certificates"},
                                      {kPodsReady, "pods"},
                                      {kClusterReady, "cluster"}};

/// How far a pass came; a step that was not reached says Unknown in its condition.
struct Progress {
    std::vector<controller::Condition> steps;
    /// Adds a step that holds.
    void done(std::string_view type, std::string_view reason, std::string_view message = {});
    /// Adds the step that stopped the pass, also after it seemed done.
    void stopped(std::string_view type, std::string_view reason, std::string_view message);
    bool all_done() const;
    bool is_done(std::string_view type) const;
    const controller::Condition* first_failure() const;
};

struct StatusInputs {
    const data::Value* previous = nullptr;  ///< The whole object as it is now.
    const Settings* settings = nullptr;     ///< Null for a spec that cannot be read.
    Progress progress;
    std::optional<Endpoint> endpoint;
    data::Value service, deployment;  ///< Live objects, or null.
    std::string datastore_driver;
    /// DataStores of former overrides that still hold data of the control plane.
    std::vector<std::string> former_datastores;
    /// How writes of the tenant are limited; "" when they are not; nothing when it is not known.
    std::optional<std::string> write_limits;
    /// Name of a Secret or ConfigMap -> checksum of its data.
    std::map<std::string, std::string> checksums;
    std::string tenant_objects_checksum;  ///< "" until they were applied.
    WallTime now;
};

/// The complete status. Times of parts that did not change are taken from the previous one, so that
/// a pass that changes nothing yields an equal value.
data::Value build_status(const StatusInputs& inputs);

/// What status.storage.overrides says: every DataStore beside the main one that holds, or is about
/// to hold, something of the control plane.
data::Value recorded_overrides(const Settings& settings, const std::vector<std::string>& former);

/// True when all replicas of the current template are there and no others.
bool rollout_finished(const data::Value& deployment);

}  // namespace basalt::controlplane
