// A fence before an etcd::Client: whoever may not write any more starts no write.
#pragma once

#include <functional>
#include <memory>

#include "etcd/client.h"

namespace basalt::etcd {

/// Asks `guard` before each call that changes something (keys, users, roles, alarms, files) and
/// returns its error instead of calling `client`. Questions pass. What `guard` refers to must
/// outlive the result; it is asked on the client's loop.
std::shared_ptr<Client> guard_writes(std::shared_ptr<Client> client,
                                     std::function<Result<void>()> guard);

}  // namespace basalt::etcd
