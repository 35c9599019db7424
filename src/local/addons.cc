#include "local/addons.h"

#include <thread>

#include <fmt/format.h>

#include "base/strings.h"
#include "linux/file.h"
#include "local/datastore.h"
#include "local/parallel.h"
#include "local/storage.h"
#include "local/template.h"

namespace basalt::local {
namespace {

constexpr auto kReadyLimit = std::chrono::minutes(8);
constexpr auto kWebhookLimit = std::chrono::minutes(4);

/// All *.yaml of a directory as one stream, but for `except`; nothing for a missing directory.
Result<std::string> read_manifests(const std::string& directory, const Variables* variables,
                                   std::string_view except = {}) {
    std::string manifests;
    for (const std::string& name : linux::list_directory(directory)) {
        if (!name.ends_with(".yaml") || name == except) continue;
        const std::string path = directory + "/" + name;
        BASALT_ASSIGN(std::string text, variables != nullptr
                                            ? render_template_file(path, *variables)
                                            : linux::read_file(path));
        manifests += "---\n" + text + "\n";
    }
    return manifests;
}

bool has_controller(const Paths& paths) { return linux::exists(paths.deploy() + "/controller"); }

bool has_datastore_kind(const Paths& paths) {
    for (const std::string& name : linux::list_directory(paths.deploy() + "/crds")) {
        if (name.find("datastore") != std::string::npos) return true;
    }
    return false;
}

Result<void> wait_rollout(const Kubectl& kubectl, const std::string& name_space,
                          const std::string& workload) {
    BASALT_TRY(
        kubectl.run({"rollout", "status", "-n", name_space, workload,
                     fmt::format("--timeout={}s", std::chrono::seconds(kReadyLimit).count())},
                    {}, kReadyLimit + std::chrono::seconds(10)));
    return {};
}

}  // namespace

Result<Addons> render_addons(const Paths& paths, const ClusterState& state,
                             const std::vector<Node>& nodes, const std::vector<Image>& images,
                             int datastore_members_count) {
    BASALT_ASSIGN(Image controller, find_image(images, "metallb/controller"));
    BASALT_ASSIGN(Image speaker, find_image(images, "metallb/speaker"));
    BASALT_ASSIGN(Image etcd, find_image(images, "etcd"));
    const Variables variables = {
        {"METALLB_CONTROLLER_IMAGE", controller.reference},
        {"METALLB_SPEAKER_IMAGE", speaker.reference},
        {"LOAD_BALANCER_RANGE", state.plan.load_balancer_range()},
        {"PROTECTED_RANGES", fmt::format("{}", fmt::join(state.plan.protected_ranges(), ","))}};
    Addons addons;
    BASALT_ASSIGN(addons.workloads,
                  read_manifests(paths.deploy() + "/local/manifests", &variables));
    BASALT_ASSIGN(std::string volume, linux::read_file(paths.deploy() + "/local/volume.yaml"));
    for (const Node& node : nodes) {
        BASALT_ASSIGN(std::string volumes, make_volumes(node, volume));
        addons.workloads += volumes;
    }
    BASALT_ASSIGN(std::string datastore,
                  datastore_manifests(paths, state, etcd, datastore_members_count));
    BASALT_ASSIGN(std::string kinds, read_manifests(paths.deploy() + "/crds", nullptr));
    // The namespace is the local one's: there, other things that need more rights run in it, too.
    BASALT_ASSIGN(std::string basalt,
                  read_manifests(paths.deploy() + "/controller", nullptr, "00-namespace.yaml"));
    addons.workloads += datastore + kinds + basalt;
    BASALT_ASSIGN(addons.objects,
                  render_template_file(paths.deploy() + "/local/address-pool.yaml", variables));
    if (has_datastore_kind(paths)) {
        BASALT_ASSIGN(std::string object, datastore_object(paths, datastore_members_count));
        addons.objects += "---\n" + object;
    }
    return addons;
}

Result<void> apply_workloads(const Kubectl& kubectl, const Addons& addons) {
    BASALT_TRY(kubectl.apply(addons.workloads).context("apply add-ons"));
    BASALT_TRY(kubectl.run({"wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"},
                           {}, std::chrono::seconds(90)));
    return {};
}

Result<void> apply_objects(const Kubectl& kubectl, const Addons& addons) {
    // An admission webhook among the add-ons may need a while until it answers.
    const auto deadline = std::chrono::steady_clock::now() + kWebhookLimit;
    for (;;) {
        Result<void> applied = kubectl.apply(addons.objects);
        if (applied.ok() || std::chrono::steady_clock::now() >= deadline)
            return std::move(applied).context("apply add-ons");
        std::this_thread::sleep_for(std::chrono::seconds(1));
    }
}

Result<void> wait_for_addons(const Paths& paths, const Kubectl& kubectl, int nodes) {
    std::vector<std::pair<std::string, std::string>> workloads = {
        {"kube-system", "daemonset/kube-proxy"},     {"kube-system", "deployment/coredns"},
        {"metallb-system", "deployment/controller"}, {"metallb-system", "daemonset/speaker"},
        {"basalt-system", "statefulset/etcd"},
    };
    if (has_controller(paths)) {
        workloads.emplace_back("basalt-system", "daemonset/basalt-node");
        workloads.emplace_back("basalt-system", "deployment/basalt-controller");
    }
    BASALT_TRY(kubectl.run({"wait", "--for=condition=Ready", "nodes", "--all", "--timeout=480s"},
                           {}, kReadyLimit + std::chrono::seconds(10)));
    BASALT_TRY(kubectl.wait_for({"get", "nodes", "-o", "jsonpath={range .items[*]}x{end}"},
                                std::string(static_cast<size_t>(nodes), 'x'), kReadyLimit));
    for (const auto& [name_space, workload] : workloads) {
        BASALT_TRY(wait_rollout(kubectl, name_space, workload));
    }
    return {};
}

}  // namespace basalt::local
