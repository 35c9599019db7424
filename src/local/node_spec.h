// All that a node's process has to know of itself; derived from the cluster's state, never stored.
#pragma once

#include <string>

#include "local/address_plan.h"
#include "local/paths.h"
#include "local/state.h"
#include "local/template.h"

namespace basalt::local {

/// Where a node finds kubelet, kubeadm, …, bound from the cache.
inline constexpr const char* kNodeBinaries = "/opt/basalt/bin";

struct NodeSpec {
    std::string cluster;
    std::string name;  ///< Host name and node name.
    int number = 1;    ///< From 1; node 1 runs the control plane.
    AddressPlan plan;
    std::string directory;    ///< Of this node, on the host.
    std::string binaries;     ///< Kubernetes binaries, on the host.
    std::string templates;    ///< deploy/local/node, on the host.
    std::string pause_image;  ///< What containerd's sandboxes run.

    std::string cgroup() const { return "basalt/" + cluster + "/" + name; }
    std::string var() const { return directory + "/var"; }
    std::string etc() const { return directory + "/etc"; }
};

NodeSpec make_node_spec(const Paths& paths, const ClusterState& state, int number,
                        const std::string& pause_image);
Variables node_variables(const NodeSpec& spec);
/// Writes the node's own files of /etc (containerd, CNI, hosts, …) into its layer over the host's
/// /etc.
Result<void> write_node_files(const NodeSpec& spec);

}  // namespace basalt::local
