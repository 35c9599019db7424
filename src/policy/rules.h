// NetworkPolicies as nftables rules of one node. Pure.
//
// The semantics are those of networking.k8s.io/v1: a Pod that no policy selects is open; one that
// is selected for a direction accepts in it what at least one of its policies allows. Both ends are
// judged where the Pods are: egress on the node of the source, ingress on that of the destination.
// Answers belong to the connection that was allowed. A Pod reaches itself, and its node reaches it
// (the kubelet's probes). hostNetwork Pods are their node and no Pods here.
//
// A Pod that is selected for egress also has an address that no API knows: its link-local one of
// IPv6, on which whatever listens on [::] of its node would answer. Nothing new may come from
// there but ICMPv6, which finds neighbours.
//
// Addresses are seen after the Service's address was replaced by an endpoint's, so an ipBlock means
// real ends, never a ClusterIP.
//
// Cost: one jump by address for each new connection, then the rules of the Pod's policies in order.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "data/value.h"

namespace basalt::policy {

inline constexpr const char* kTable = "basalt-policy";

/// What a node has to know of the cluster. Objects as the API has them.
struct World {
    std::string node;
    std::vector<data::Value> policies;  ///< NetworkPolicy
    std::vector<data::Value> pods;      ///< Pod: metadata, spec.{nodeName,hostNetwork,containers},
                                        ///< status.{phase,podIPs}
    std::map<std::string, data::Value> namespace_labels;
    std::string v4_routes, v6_routes;  ///< The node's /proc/net/route and /proc/net/ipv6_route.
};

/// A script for `nft -f -` that replaces the node's table in one transaction. The same world, in
/// whatever order, gives the same text.
std::string render_rules(const World& world);

/// Drops what render_rules() does not read.
void keep_of_pod(data::Value& pod);

}  // namespace basalt::policy
