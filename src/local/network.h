// A cluster's network: one bridge on the host, one veth pair a node, routes between the nodes' Pod
// ranges.
//
// The host has a connected route to the node network and nothing else; it forwards nothing. A
// packet from the host to a Pod or Service address is refused by a route "unreachable" instead of
// leaving by the default route.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>

#include "base/result.h"
#include "local/address_plan.h"
#include "local/node_spec.h"

namespace basalt::local {

/// Bridge with the host's address, and the refusing routes. Idempotent.
Result<void> ensure_bridge(const AddressPlan& plan);
/// Removes what ensure_bridge() made; waits for the nodes' interfaces to vanish. Idempotent.
Result<void> remove_bridge(const AddressPlan& plan);

/// From the host: a veth pair, one end on the bridge, the other as eth0 in the network namespace of
/// `pid`.
Result<void> plug_node(const NodeSpec& spec, pid_t pid);
/// In the node: addresses, routes, forwarding and address translation.
Result<void> configure_node_network(const NodeSpec& spec);

/// Input of `ip -batch` for configure_node_network().
std::string render_node_routes(const NodeSpec& spec);

}  // namespace basalt::local
