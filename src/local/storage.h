// Volumes on the nodes' disks: directories announced as local PersistentVolumes of the StorageClass
// "local".
#pragma once

#include <string>

#include "base/result.h"
#include "local/kubectl.h"
#include "local/node.h"

namespace basalt::local {

/// Claims that one node can hold; more are made by running `basalt up` after some were released.
inline constexpr int kVolumesPerNode = 10;

/// Makes the directories and returns the manifests of their PersistentVolumes.
Result<std::string> make_volumes(const Node& node, const std::string& volume_template);

/// Empties volumes whose claim was deleted and offers them again: nothing else does that for static
/// ones.
Result<void> recycle_volumes(const Kubectl& kubectl, const Node& node);

}  // namespace basalt::local
