// The first process of a node: what systemd is on a real machine, reduced to two services.
//
// It reaps every orphan of the PID namespace, keeps containerd running, starts kubelet once kubeadm
// has written its configuration (the way kubeadm's own unit file waits for it), restarts either
// with a growing delay, and on SIGTERM gives all processes a few seconds before the namespace ends.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "local/node_spec.h"

namespace basalt::local {

/// kubelet's arguments from kubeadm's environment file: KUBELET_KUBEADM_ARGS="--a=b --c=d".
std::vector<std::string> parse_kubeadm_flags(const std::string& text);

/// Configures the node's network (its eth0 is there), then serves until SIGTERM. Returns the exit
/// code.
int run_node_services(const NodeSpec& spec);

}  // namespace basalt::local
