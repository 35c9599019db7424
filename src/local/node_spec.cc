#include "local/node_spec.h"

#include <fmt/format.h>

#include "linux/file.h"

namespace basalt::local {
namespace {

/// Registries whose images the local registry serves; hosts.toml is the same for each.
constexpr const char* kMirroredRegistries[] = {"registry.k8s.io", "quay.io", "ghcr.io", "docker.io",
                                               "basalt.local"};

std::string hosts_file(const NodeSpec& spec) {
    std::string text = "127.0.0.1 localhost\n::1 localhost\n";
    for (int node = 1; node <= kNodesMax; ++node) {
        text += fmt::format("{} {}\n", spec.plan.node_address(node), node_name(spec.cluster, node));
    }
    return text;
}

}  // namespace

NodeSpec make_node_spec(const Paths& paths, const ClusterState& state, int number,
                        const std::string& pause_image) {
    NodeSpec spec;
    spec.cluster = state.name;
    spec.name = node_name(state.name, number);
    spec.number = number;
    spec.plan = state.plan;
    spec.directory = paths.node(state.name, spec.name);
    spec.binaries = fmt::format("{}/bin/kubernetes-{}", paths.cache, state.kubernetes_version);
    spec.templates = paths.deploy() + "/local/node";
    spec.pause_image = pause_image;
    return spec;
}

Variables node_variables(const NodeSpec& spec) {
    return {{"NODE_NAME", spec.name},
            {"NODE_ADDRESS", spec.plan.node_address(spec.number)},
            {"NODE_CIDR", spec.plan.node_cidr(spec.number)},
            {"HOST_ADDRESS", spec.plan.host_address()},
            {"POD_CIDR", AddressPlan::pod_cidr(spec.number)},
            {"POD_RANGE", kPodRange},
            {"SERVICE_RANGE", kServiceRange},
            {"REGISTRY", spec.plan.registry()},
            {"PAUSE_IMAGE", spec.pause_image}};
}

Result<void> write_node_files(const NodeSpec& spec) {
    const Variables variables = node_variables(spec);
    const std::pair<const char*, const char*> files[] = {
        {"containerd.toml", "/containerd/config.toml"},
        {"cni.conflist", "/cni/net.d/10-basalt.conflist"},
        {"network.nft", "/basalt/network.nft"},
        {"crictl.yaml", "/crictl.yaml"},
        {"resolv.conf", "/resolv.conf"},
    };
    for (const auto& [source, target] : files) {
        BASALT_ASSIGN(
            std::string text,
            render_template_file(fmt::format("{}/{}", spec.templates, source), variables));
        BASALT_TRY(linux::update_file(spec.etc() + target, text));
    }
    BASALT_ASSIGN(std::string mirror,
                  render_template_file(spec.templates + "/hosts.toml", variables));
    for (const char* registry : kMirroredRegistries) {
        BASALT_TRY(linux::update_file(
            fmt::format("{}/containerd/certs.d/{}/hosts.toml", spec.etc(), registry), mirror));
    }
    BASALT_TRY(linux::update_file(spec.etc() + "/hosts", hosts_file(spec)));
    BASALT_TRY(linux::update_file(spec.etc() + "/hostname", spec.name + "\n"));
    return {};
}

}  // namespace basalt::local
