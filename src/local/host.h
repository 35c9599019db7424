// The machine that a local cluster runs on: what it must have, and the few settings and links it is
// given.
#pragma once

#include <string>

#include "base/result.h"
#include "local/paths.h"

namespace basalt::local {

/// Root, programs, cgroups. FailedPrecondition says what is missing and how to get it.
Result<void> check_host();
/// `command` is what the error names. Errors: PermissionDenied.
Result<void> require_root(const std::string& command);
/// Raises limits that are too low for many control planes on one kernel; never lowers one.
Result<void> raise_kernel_limits();

/// `kubectl` and `basalt` on the PATH, and ~/.kube/config when the user has none of their own.
Result<void> link_programs(const Paths& paths, const std::string& kubernetes_version);
Result<void> link_kubeconfig(const std::string& kubeconfig);
void unlink_kubeconfig(const std::string& kubeconfig);

}  // namespace basalt::local
