// What a bare cluster gets on top: storage, load balancer addresses, the default DataStore, and
// Basalt itself (its kinds and controller) where the share directory has them.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "local/images.h"
#include "local/kubectl.h"
#include "local/node.h"
#include "local/paths.h"
#include "local/state.h"

namespace basalt::local {

struct Addons {
    std::string workloads;  ///< With the kinds of our own.
    std::string objects;    ///< Of those kinds: they need a controller that answers.
};

Result<Addons> render_addons(const Paths& paths, const ClusterState& state,
                             const std::vector<Node>& nodes, const std::vector<Image>& images,
                             int datastore_members_count);
/// Returns when the kinds are served.
Result<void> apply_workloads(const Kubectl& kubectl, const Addons& addons);
/// Waits for the admission webhook of the controller that apply_workloads() started.
Result<void> apply_objects(const Kubectl& kubectl, const Addons& addons);
/// Waits until every add-on runs.
Result<void> wait_for_addons(const Paths& paths, const Kubectl& kubectl, int nodes);

}  // namespace basalt::local
