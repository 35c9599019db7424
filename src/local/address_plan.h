// Which address, interface and name each part of a local cluster has: pure arithmetic on the
// cluster's index.
//
//   10.(200+i).0.0/16   node network of cluster i: one bridge on the host, connected, nothing
//   routed beyond it
//     .0.1              the host's end: bridge, registry
//     .0.11 … .0.42     nodes 1 … 32
//     .4.0/22           free for machines that tests attach to the bridge (virtual machines)
//     .8.0/24           addresses of LoadBalancer Services
//   10.32.k.0/24        Pods of node k    } the same in every local cluster: they never leave the
//   nodes, and the 10.33.0.0/16        Services          } host refuses them (a route
//   "unreachable"), so nothing escapes
//
// Pods and Services differ from what tenants' clusters use by default
// (10.244.0.0/16, 10.96.0.0/16), so a packet on the wrong side of a wall shows itself.
#pragma once

#include <string>
#include <vector>

namespace basalt::local {

inline constexpr int kClustersMax = 40;
inline constexpr int kNodesMax = 32;
inline constexpr const char* kPodRange = "10.32.0.0/16";
inline constexpr const char* kServiceRange = "10.33.0.0/16";
inline constexpr const char* kClusterDns = "10.33.0.10";
inline constexpr int kRegistryPort = 5000;

struct AddressPlan {
    int index = 0;  ///< 0 … kClustersMax-1, unique among the clusters of this machine.

    std::string bridge() const;                ///< "basalt0"
    std::string node_network() const;          ///< "10.200.0.0/16"
    std::string host_address() const;          ///< "10.200.0.1"
    std::string host_cidr() const;             ///< "10.200.0.1/16"
    std::string node_address(int node) const;  ///< Nodes count from 1.
    std::string node_cidr(int node) const;
    std::string host_interface(int node) const;  ///< Host's end of the node's veth pair, "bs0n1".
    std::string load_balancer_range() const;     ///< "10.200.8.1-10.200.8.254"
    /// Everything of the cluster's: what no tenant's control plane may dial. All of the node
    /// network but the machines that tests attach to the bridge.
    std::vector<std::string> protected_ranges() const;
    std::string registry() const;              ///< "10.200.0.1:5000"
    std::string api_server() const;            ///< "https://10.200.0.11:6443"
    static std::string pod_cidr(int node);     ///< "10.32.1.0/24"
    static std::string pod_gateway(int node);  ///< "10.32.1.1"
};

std::string node_name(const std::string& cluster, int node);  ///< "basalt-1"

/// The first index that neither another cluster has nor a route of this machine overlaps; -1 when
/// none is left. `routes` is the text of `ip -4 route show table all`.
int choose_index(const std::vector<int>& taken, const std::string& routes);

}  // namespace basalt::local
