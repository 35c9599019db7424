// What is remembered of a cluster: the few choices that must not change while it lives. Everything
// else is read from the system itself, so that a killed `basalt up` can be run again.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "local/address_plan.h"

namespace basalt::local {

struct ClusterState {
    std::string name;
    AddressPlan plan;
    int nodes = 1;
    std::string kubernetes_version;  ///< "v1.36.3"

    friend bool operator==(const ClusterState& a, const ClusterState& b) {
        return a.name == b.name && a.plan.index == b.plan.index && a.nodes == b.nodes &&
               a.kubernetes_version == b.kubernetes_version;
    }
};

std::string render_state(const ClusterState& state);
/// Errors: InvalidArgument with the line.
Result<ClusterState> parse_state(const std::string& text);

/// Names of clusters, nodes and interfaces are made from it: a lower-case DNS label of at most 30
/// characters.
Result<void> check_cluster_name(const std::string& name);

/// Nothing when there is no such cluster. Errors: PermissionDenied for who may not know that.
Result<std::optional<ClusterState>> load_state(const std::string& cluster_directory);
Result<void> save_state(const std::string& cluster_directory, const ClusterState& state);
/// Names of the clusters in the state directory. Errors: PermissionDenied.
Result<std::vector<std::string>> list_clusters(const std::string& state_directory);

}  // namespace basalt::local
