// The file system of a node, put together in the node's own mount namespace: the host's /usr and
// /etc below a writable layer of the node's, its own /var, /opt and /root from its directory,
// everything else fresh. The host's files cannot be changed from inside, and the host sees none of
// the node's mounts.
#pragma once

#include "base/result.h"
#include "local/node_spec.h"

namespace basalt::local {

/// To be called in new mount, PID and cgroup namespaces; on success "/" is the node's.
Result<void> enter_node_root(const NodeSpec& spec);

}  // namespace basalt::local
