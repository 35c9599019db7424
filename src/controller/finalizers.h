// Finalizers: a lock against deletion, taken before the first side effect.
#pragma once

#include <string>

#include "kube/client.h"

namespace basalt::controller {

/// Adds `name`, unless it is there. Returns the object as it is then. Fails (Aborted) when `object`
/// is older than the server's, and FailedPrecondition when it is being deleted: the API refuses new
/// finalizers then.
async::Task<Result<kube::Value>> ensure_finalizer(kube::Client& client,
                                                  const kube::Resource& resource,
                                                  const kube::Value& object,
                                                  const std::string& name);
/// Removes `name`, if it is there. An object that is gone already counts as done (a null Value).
async::Task<Result<kube::Value>> drop_finalizer(kube::Client& client,
                                                const kube::Resource& resource,
                                                const kube::Value& object, const std::string& name);

}  // namespace basalt::controller
