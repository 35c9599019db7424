#include "local/kubeadm.h"

#include <fmt/format.h>

#include "base/strings.h"
#include "linux/file.h"

namespace basalt::local {
namespace {

// kubeadm's own limits (in its configuration) are shorter and say more when they end.
constexpr auto kKubeadmLimit = std::chrono::minutes(15);
constexpr const char* kConfigInside = "/var/lib/basalt/kubeadm.yaml";

std::string done_marker(const Node& node) { return node.spec().directory + "/kubeadm.done"; }

/// kubeadm reset leaves them, and says so. A table is named before it is deleted, so that there is
/// one.
Result<void> remove_proxy_rules(const Node& node) {
    for (const char* family : {"ip", "ip6"}) {
        BASALT_TRY(node.run_inside(
            {"nft", fmt::format("add table {0} kube-proxy; delete table {0} kube-proxy", family)}));
    }
    return {};
}

/// Leaves a node as it was before kubeadm first ran there.
Result<void> reset(const Node& node) {
    // A kubeadm whose starter was killed in this moment may still be about to end. Without its
    // configuration kubelet is not started again; a running one would bring back the Pods that
    // reset removes.
    node.kill_processes("kubeadm");
    BASALT_TRY(node.run_inside({"rm", "-f", "/var/lib/kubelet/config.yaml"}));
    node.kill_processes("kubelet");
    BASALT_TRY(node.run_inside({"kubeadm", "reset", "--force", "--cri-socket",
                                "unix:///run/containerd/containerd.sock", "--cleanup-tmp-dir"}));
    return remove_proxy_rules(node);
}

bool was_begun(const Node& node) {
    return linux::exists(node.etc_path("kubernetes")) ||
           linux::exists(node.spec().var() + "/lib/kubelet/config.yaml");
}

Result<void> run_kubeadm(const Node& node, const std::string& verb,
                         const std::string& configuration,
                         const std::function<void(std::string_view)>& line) {
    if (was_begun(node)) {
        BASALT_TRY(reset(node));
    }
    BASALT_TRY(linux::write_file_atomically(node.spec().var() + "/lib/basalt/kubeadm.yaml",
                                            configuration, 0600));
    std::vector<std::string> argv = {"kubeadm", verb, "--config", kConfigInside};
    if (verb == "init") argv.push_back("--skip-token-print");
    BASALT_TRY(node.run_inside(argv, {}, kKubeadmLimit, line));
    return {};
}

}  // namespace

bool kubeadm_done(const Node& node) { return linux::exists(done_marker(node)); }

Result<Variables> init_variables(const Node& node, const ClusterState& state,
                                 const std::vector<Image>& images) {
    BASALT_ASSIGN(Image coredns, find_image(images, "coredns/coredns"));
    BASALT_ASSIGN(Image etcd, find_image(images, "etcd"));
    const ImageName coredns_name = split_reference(coredns.reference);
    const ImageName etcd_name = split_reference(etcd.reference);
    return Variables{{"NODE_NAME", node.name()},
                     {"NODE_ADDRESS", state.plan.node_address(node.spec().number)},
                     {"CONTROL_PLANE_ADDRESS", state.plan.node_address(1)},
                     {"CLUSTER", state.name},
                     {"KUBERNETES_VERSION", state.kubernetes_version},
                     {"SERVICE_RANGE", kServiceRange},
                     {"CLUSTER_DNS", kClusterDns},
                     {"COREDNS_REPOSITORY", coredns_name.repository},
                     {"COREDNS_TAG", coredns_name.tag},
                     {"ETCD_REPOSITORY", etcd_name.repository},
                     {"ETCD_TAG", etcd_name.tag}};
}

Result<void> kubeadm_init(const Node& node, const std::string& configuration,
                          const std::string& kubeconfig,
                          const std::function<void(std::string_view)>& line) {
    if (!kubeadm_done(node)) {
        BASALT_TRY(run_kubeadm(node, "init", configuration, line));
        BASALT_TRY(linux::write_file_atomically(done_marker(node), "init\n"));
    }
    BASALT_ASSIGN(std::string admin, linux::read_file(node.etc_path("kubernetes/admin.conf")));
    BASALT_TRY(linux::update_file(kubeconfig, admin, 0600));
    return {};
}

Result<void> mark_control_plane(const Node& node) {
    BASALT_TRY(node.run_inside(
        {"kubeadm", "init", "phase", "mark-control-plane", "--config", kConfigInside}));
    return {};
}

Result<JoinCredentials> parse_join_command(const std::string& text) {
    JoinCredentials credentials;
    std::string_view previous;
    const std::string flat = replace_all(text, "\n", " ");
    for (std::string_view word : split(flat, ' ')) {
        if (previous == "--token") credentials.token = word;
        if (previous == "--discovery-token-ca-cert-hash") credentials.ca_hash = word;
        if (!word.empty()) previous = word;
    }
    if (credentials.token.empty() || credentials.ca_hash.empty()) {
        return internal_error("kubeadm printed no join command");
    }
    return credentials;
}

Result<JoinCredentials> make_join_credentials(const Node& control_plane) {
    BASALT_ASSIGN(std::string text, control_plane.run_inside({"kubeadm", "token", "create", "--ttl",
                                                              "1h", "--print-join-command"}));
    return parse_join_command(text);
}

Result<void> kubeadm_join(const Node& node, const std::string& configuration,
                          const std::function<void(std::string_view)>& line) {
    BASALT_TRY(run_kubeadm(node, "join", configuration, line));
    return linux::write_file_atomically(done_marker(node), "join\n");
}

}  // namespace basalt::local
