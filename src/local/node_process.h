// The life of a node on the host: one small process that owns its namespaces.
//
// It stays in the host's namespaces (but in the node's cgroup), creates the node's first process in
// new mount, network, UTS, IPC, PID and cgroup namespaces, plugs a veth pair between it and the
// bridge, and waits. When the first process ends, the kernel takes everything with it: processes,
// mounts, interfaces, nftables. When this process is killed, the first one dies too. So there is
// never half a node.
#pragma once

#include "base/result.h"
#include "local/node_spec.h"

namespace basalt::local {

/// Body of the hidden command `basalt node-process`, started as a Daemon by start_node(). Blocks.
Result<int> run_node_process(const NodeSpec& spec);

}  // namespace basalt::local
