// Which Kubernetes a cluster can have: the versions that distribution/versions.env names.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "local/paths.h"

namespace basalt::local {

/// "v1.36.3", newest first, as `distribution/build versions` prints them.
Result<std::vector<std::string>> known_kubernetes_versions(const Paths& paths);

/// The one of `known` that `wanted` means: "v1.36.3", "1.36.3" or "1.36"; the first when nothing is
/// wanted. Errors: InvalidArgument, naming those that there are.
Result<std::string> choose_kubernetes_version(const std::vector<std::string>& known,
                                              const std::optional<std::string>& wanted);

/// True when `wanted` names `version`, which needs not be a known one.
bool names_version(const std::string& version, const std::string& wanted);

}  // namespace basalt::local
