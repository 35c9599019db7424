// kubeadm, unchanged, on the nodes: init on the first, join on the others. A run that was cut off
// is undone (kubeadm reset) and repeated; a finished one is remembered beside the node.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "local/images.h"
#include "local/node.h"
#include "local/state.h"
#include "local/template.h"

namespace basalt::local {

bool kubeadm_done(const Node& node);

/// Values for deploy/local/kubeadm-init.yaml.
Result<Variables> init_variables(const Node& node, const ClusterState& state,
                                 const std::vector<Image>& images);
/// Makes the control plane on `node` and writes the administrator's kubeconfig to `kubeconfig`.
Result<void> kubeadm_init(const Node& node, const std::string& configuration,
                          const std::string& kubeconfig,
                          const std::function<void(std::string_view)>& line);

struct JoinCredentials {
    std::string token;
    std::string ca_hash;
};
/// From the text of `kubeadm token create --print-join-command`.
Result<JoinCredentials> parse_join_command(const std::string& text);
/// The labels that kubeadm_init gives to a Node object, for one that was made anew.
Result<void> mark_control_plane(const Node& node);

Result<JoinCredentials> make_join_credentials(const Node& control_plane);

Result<void> kubeadm_join(const Node& node, const std::string& configuration,
                          const std::function<void(std::string_view)>& line);

}  // namespace basalt::local
