// The cluster's image registry: Debian's docker-registry on the bridge's address, so that nodes and
// machines on the bridge reach it. Its blobs are in the cache and outlive the cluster; several
// registries may serve them.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "local/images.h"
#include "local/paths.h"
#include "local/state.h"

namespace basalt::local {

/// Configuration file of docker-registry.
std::string render_registry_config(const std::string& address, const std::string& storage);

Result<void> start_registry(const Paths& paths, const ClusterState& state);
Result<void> stop_registry(const Paths& paths, const ClusterState& state);
bool registry_running(const Paths& paths, const ClusterState& state);

/// Puts every image into the registry, under its name without the host: registry.k8s.io/pause:3.10
/// becomes <registry>/pause:3.10. Skipped while `images` are the ones that were put there last.
Result<void> fill_registry(const Paths& paths, const ClusterState& state,
                           const std::vector<Image>& images);

}  // namespace basalt::local
