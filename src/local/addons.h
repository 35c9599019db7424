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
    std::string first;   ///< Applied at once.
    std::string second;  ///< Objects of kinds that `first` defines.
};

Result<Addons> render_addons(const Paths& paths, const ClusterState& state,
                             const std::vector<Node>& nodes, const std::vector<Image>& images,
                             int datastore_members_count);
/// Applies both, the second as soon as the kinds are served.
Result<void> apply_addons(const Kubectl& kubectl, const Addons& addons);
/// Waits until every add-on runs.
Result<void> wait_for_addons(const Paths& paths, const Kubectl& kubectl, int nodes);

}  // namespace basalt::local
