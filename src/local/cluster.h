// A local management cluster from nothing to ready, and back to nothing.
//
// Each step looks at what is there and does what is missing, so that `basalt up` can be killed at
// any moment and run again, and running it twice changes nothing. One lock per cluster keeps two
// runs apart.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/progress.h"
#include "linux/file.h"
#include "local/images.h"
#include "local/kubectl.h"
#include "local/node.h"
#include "local/paths.h"
#include "local/state.h"

namespace basalt::local {

inline constexpr const char* kDefaultCluster = "basalt";

struct UpOptions {
    std::string name = kDefaultCluster;
    std::optional<int> nodes;  ///< What the cluster has, or 1 for a new one.
    /// Likewise, the newest for a new one, which alone takes another; see versions.h.
    std::optional<std::string> kubernetes_version;
    ArtifactSource images;
};

/// Progress goes to the terminal and to <state>/<name>/up.log, which a failure names with its last
/// lines.
Result<void> bring_up(const Paths& paths, const UpOptions& options);
/// Removes everything of the cluster; fine when there is nothing.
Result<void> tear_down(const Paths& paths, const std::string& name);

/// Text of `basalt status`.
Result<std::string> describe_cluster(const Paths& paths, const std::string& name);
/// The administrator's kubeconfig; works from the host. Errors: NotFound, FailedPrecondition before
/// it exists.
Result<std::string> read_kubeconfig(const Paths& paths, const std::string& name);

/// Errors: NotFound when there is no such cluster.
Result<ClusterState> require_cluster(const Paths& paths, const std::string& name);
std::vector<Node> nodes_of(const Paths& paths, const ClusterState& state,
                           const std::string& pause_image);
/// By name ("basalt-2") or number ("2").
Result<Node> find_node(const Paths& paths, const std::string& cluster, const std::string& node);

}  // namespace basalt::local
