#include "local/cluster.h"

#include <unistd.h>

#include <algorithm>

#include <fmt/format.h>

#include "base/strings.h"
#include "linux/cgroup.h"
#include "linux/process.h"
#include "local/addons.h"
#include "local/datastore.h"
#include "local/host.h"
#include "local/kubeadm.h"
#include "local/network.h"
#include "local/parallel.h"
#include "local/registry.h"
#include "local/storage.h"
#include "local/template.h"
#include "local/versions.h"

namespace basalt::local {
namespace {

constexpr auto kApiLimit = std::chrono::minutes(8);
constexpr auto kRegisterLimit = std::chrono::minutes(2);
constexpr auto kLeftoversLimit = std::chrono::seconds(5);
constexpr size_t kLogTailLines = 15;

std::string kubeconfig_path(const Paths& paths, const std::string& name) {
    return paths.cluster(name) + "/kubeconfig";
}
std::string lock_path(const Paths& paths, const std::string& name) {
    return fmt::format("{}/.{}.lock", paths.state, name);
}

std::string cluster_cgroup(const std::string& name) { return "basalt/" + name; }

std::string kubectl_program(const Paths& paths, const ClusterState& state) {
    return fmt::format("{}/bin/kubernetes-{}/kubectl", paths.cache, state.kubernetes_version);
}

/// One run of `basalt up`.
class BringUp {
 public:
    BringUp(const Paths& paths, const UpOptions& options, cli::Progress& progress)
        : paths_(paths),
          options_(options),
          progress_(progress),
          kubectl_("", kubeconfig_path(paths, options.name)) {}

    Result<void> run() {
        BASALT_TRY(progress_.step("this machine", [&] { return prepare_host(); }));
        BASALT_TRY(progress_.step("binaries and images", [&] { return prepare_artifacts(); }));
        BASALT_TRY(progress_.step("network and registry", [&] { return prepare_network(); }));
        BASALT_TRY(progress_.step("nodes", [&] { return start_nodes(); }));
        BASALT_TRY(
            progress_.step("images of the control plane", [&] { return import_essential(); }));
        BASALT_TRY(progress_.step("control plane", [&] { return start_control_plane(); }));
        Result<void> completed = complete();
        if (!completed.ok()) log_cluster();
        return completed;
    }

    const ClusterState& state() const { return state_; }

 private:
    std::function<void(std::string_view)> detail() {
        return [this](std::string_view line) { progress_.detail(line); };
    }

    /// From a control plane that answers to a cluster that is whole.
    Result<void> complete() {
        BASALT_TRY(progress_.step("add-ons", [&] { return apply(); }));
        if (state_.nodes > 1) {
            BASALT_TRY(progress_.step("other nodes join", [&] { return join_nodes(); }));
        }
        return progress_.step("everything ready", [&] { return wait_ready(); });
    }

    Result<void> prepare_host() {
        BASALT_TRY(check_host());
        BASALT_TRY(raise_kernel_limits());
        BASALT_TRY(choose_state());
        // Should that be impossible, it is said here and not in the log of a node.
        return linux::make_cgroup(cluster_cgroup(state_.name));
    }

    Result<void> choose_state() {
        BASALT_ASSIGN(std::optional<ClusterState> known, load_state(paths_.cluster(options_.name)));
        if (known) {
            state_ = *known;
            BASALT_TRY(check_wishes());
            state_.nodes = options_.nodes.value_or(state_.nodes);
        } else {
            // Before anything is remembered: a wrong version would be there in the next run, too.
            BASALT_ASSIGN(std::vector<std::string> versions, known_kubernetes_versions(paths_));
            BASALT_ASSIGN(state_.kubernetes_version,
                          choose_kubernetes_version(versions, options_.kubernetes_version));
            // Two first runs at the same time must not choose the same network.
            BASALT_ASSIGN(linux::FileDescriptor lock,
                          linux::lock_file(paths_.state + "/.network.lock", true));
            state_.name = options_.name;
            state_.nodes = options_.nodes.value_or(1);
            BASALT_TRY(choose_network());
            return save_state(paths_.cluster(state_.name), state_);
        }
        return save_state(paths_.cluster(state_.name), state_);
    }

    /// Those that a cluster which is there cannot fulfil.
    Result<void> check_wishes() const {
        if (options_.kubernetes_version &&
            !names_version(state_.kubernetes_version, *options_.kubernetes_version)) {
            return failed_precondition(fmt::format(
                "cluster {} runs Kubernetes {}; remove it first (basalt down --name {})",
                state_.name, state_.kubernetes_version, state_.name));
        }
        if (!options_.nodes || *options_.nodes >= state_.nodes) return {};
        return failed_precondition(fmt::format(
            "cluster {} has {} nodes and does not shrink; leave --nodes out to keep them, or "
            "remove it first (basalt down --name {})",
            state_.name, state_.nodes, state_.name));
    }

    Result<void> choose_network() {
        std::vector<int> taken;
        BASALT_ASSIGN(std::vector<std::string> clusters, list_clusters(paths_.state));
        for (const std::string& name : clusters) {
            BASALT_ASSIGN(std::optional<ClusterState> other, load_state(paths_.cluster(name)));
            if (other) taken.push_back(other->plan.index);
        }
        BASALT_ASSIGN(std::string routes,
                      linux::run_ok({"ip", "-4", "route", "show", "table", "all"}));
        state_.plan.index = choose_index(taken, routes);
        if (state_.plan.index >= 0) return {};
        return resource_exhausted(
            "no node network is free between 10.200.0.0/16 and 10.239.0.0/16");
    }

    Result<void> prepare_artifacts() {
        BASALT_TRY(ensure_artifacts(paths_, state_.kubernetes_version, options_.images, detail()));
        BASALT_TRY(build_own_image(paths_));
        BASALT_ASSIGN(images_, list_images(paths_));
        BASALT_ASSIGN(Image pause, find_image(images_, "pause"));
        nodes_ = nodes_of(paths_, state_, pause.reference);
        kubectl_ = Kubectl(kubectl_program(paths_, state_), kubeconfig_path(paths_, state_.name));
        return link_programs(paths_, state_.kubernetes_version);
    }

    Result<void> prepare_network() {
        BASALT_TRY(ensure_bridge(state_.plan));
        return start_registry(paths_, state_);
    }

    Result<void> start_nodes() {
        std::vector<std::function<Result<void>()>> steps;
        for (const Node& node : nodes_) steps.push_back([&node] { return node.start(); });
        return run_parallel(steps);
    }

    /// What kubeadm init needs before it starts; everything else can follow while it waits for its
    /// Pods.
    bool essential(const Image& image) const {
        const ImageName name = split_reference(image.reference);
        return name.tag == state_.kubernetes_version || name.name == "pause" || name.name == "etcd";
    }

    Result<void> import_essential() {
        std::vector<Image> first;
        for (const Image& image : images_) {
            if (essential(image)) first.push_back(image);
        }
        return import_images(nodes_.front(), first, detail());
    }

    /// The first node gets everything; the others what every node runs, and pull the rest from the
    /// registry when a Pod asks for it. One node after the other: unpacking is bound by the disk.
    Result<void> import_everything() {
        std::vector<Image> common;
        for (const Image& image : images_) {
            if (on_every_node(image)) common.push_back(image);
        }
        for (const Node& node : nodes_) {
            const std::vector<Image>& wanted = node.spec().number == 1 ? images_ : common;
            BASALT_TRY(import_images(node, wanted,
                                     [this](std::string_view line) { progress_.log(line); }));
        }
        return {};
    }

    bool on_every_node(const Image& image) const {
        const ImageName name = split_reference(image.reference);
        if (name.name == "kube-proxy") return name.tag == state_.kubernetes_version;
        return name.name == "pause" || name.name == "etcd" || name.name == "coredns" ||
               name.repository.ends_with("/metallb") || name.repository.ends_with("/basalt");
    }

    Result<void> start_control_plane() {
        return run_parallel({[this] { return initialise(); },
                             [this] { return import_everything(); },
                             [this] { return fill_registry(paths_, state_, images_); }});
    }

    Result<void> initialise() {
        const Node& first = nodes_.front();
        BASALT_ASSIGN(Variables variables, init_variables(first, state_, images_));
        BASALT_ASSIGN(
            std::string configuration,
            render_template_file(paths_.deploy() + "/local/kubeadm-init.yaml", variables));
        BASALT_TRY(
            kubeadm_init(first, configuration, kubeconfig_path(paths_, state_.name), detail()));
        BASALT_TRY(link_kubeconfig(kubeconfig_path(paths_, state_.name)));
        BASALT_TRY(kubectl_.wait_for_api(kApiLimit));
        return register_first_node(first);
    }

    /// Should somebody have removed it from the cluster: a kubelet registers its node when it
    /// starts, and never again.
    Result<void> register_first_node(const Node& first) {
        BASALT_ASSIGN(std::string known, kubectl_.run({"get", "nodes", "-o", "name"}));
        const std::string object = "node/" + first.name();
        const std::vector<std::string_view> present = split(known, '\n');
        if (std::find(present.begin(), present.end(), object) != present.end()) return {};
        progress_.log(
            fmt::format("{} is not in the cluster: its kubelet starts anew", first.name()));
        first.kill_processes("kubelet");
        BASALT_TRY(kubectl_.wait_for({"get", object, "-o", "name", "--ignore-not-found"}, object,
                                     kRegisterLimit));
        return mark_control_plane(first);
    }

    /// Those that never did, and those that somebody removed from the cluster since.
    Result<void> join_nodes() {
        BASALT_ASSIGN(std::string known, kubectl_.run({"get", "nodes", "-o", "name"}));
        const std::vector<std::string_view> present = split(known, '\n');
        std::vector<const Node*> missing;
        for (const Node& node : nodes_) {
            if (node.spec().number == 1) continue;
            const bool is_present =
                std::find(present.begin(), present.end(), "node/" + node.name()) != present.end();
            if (!is_present || !kubeadm_done(node)) missing.push_back(&node);
        }
        if (missing.empty()) return {};
        BASALT_ASSIGN(JoinCredentials credentials, make_join_credentials(nodes_.front()));
        std::vector<std::function<Result<void>()>> steps;
        for (const Node* node : missing) {
            steps.push_back([this, node, &credentials] { return join_node(*node, credentials); });
        }
        return run_parallel(steps);
    }

    Result<void> join_node(const Node& node, const JoinCredentials& credentials) {
        BASALT_ASSIGN(
            std::string configuration,
            render_template_file(paths_.deploy() + "/local/kubeadm-join.yaml",
                                 {{"NODE_NAME", node.name()},
                                  {"NODE_ADDRESS", state_.plan.node_address(node.spec().number)},
                                  {"CONTROL_PLANE_ADDRESS", state_.plan.node_address(1)},
                                  {"TOKEN", credentials.token},
                                  {"CA_HASH", credentials.ca_hash}}));
        return kubeadm_join(node, configuration,
                            [this](std::string_view line) { progress_.log(line); });
    }

    Result<void> apply() {
        BASALT_ASSIGN(members_, current_members(kubectl_, state_.nodes));
        BASALT_ASSIGN(Addons addons, render_addons(paths_, state_, nodes_, images_, members_));
        BASALT_ASSIGN(std::string before,
                      kubectl_.run({"get", "deployment", "basalt-controller", "-n", "basalt-system",
                                    "--ignore-not-found", "-o", "name"}));
        BASALT_TRY(apply_workloads(kubectl_, addons));
        BASALT_TRY(restart_own_programs(!trim(before).empty()));
        BASALT_TRY(apply_objects(kubectl_, addons));
        for (const Node& node : nodes_) {
            BASALT_TRY(recycle_volumes(kubectl_, node));
        }
        return {};
    }

    /// Our own image keeps its tag when it is built anew, so nothing but a restart picks it up.
    /// What was there before this run has an unknown image when no run noted which.
    Result<void> restart_own_programs(bool were_there) {
        Result<Image> own = find_image(images_, "basalt/basalt", kBasaltTag);
        if (!own.ok()) return {};
        BASALT_ASSIGN(std::string stamp, archive_stamp(*own));
        const std::string marker = paths_.cluster(state_.name) + "/own-image";
        Result<std::string> running = linux::read_file(marker);
        if (running.ok() && *running == stamp) return {};
        if (were_there) {
            for (const char* kind : {"deployment", "daemonset"}) {
                BASALT_TRY(kubectl_.run({"rollout", "restart", kind, "-n", "basalt-system", "-l",
                                         "app.kubernetes.io/part-of=basalt"}));
            }
        }
        return linux::write_file_atomically(marker, stamp);
    }

    Result<void> wait_ready() {
        BASALT_TRY(wait_for_addons(paths_, kubectl_, state_.nodes));
        return enable_authentication(paths_, state_, kubectl_, nodes_.front());
    }

    /// What a person would look at next, into the log.
    void log_cluster() {
        for (const auto& arguments :
             {std::vector<std::string>{"get", "events", "-A", "--sort-by=.lastTimestamp"},
              std::vector<std::string>{"get", "nodes,pods", "-A", "-o", "wide"}}) {
            Result<std::string> text = kubectl_.run(arguments, {}, std::chrono::seconds(15));
            if (text.ok()) progress_.log(*text);
        }
    }

    const Paths& paths_;
    const UpOptions& options_;
    cli::Progress& progress_;
    Kubectl kubectl_;
    ClusterState state_;
    std::vector<Image> images_;
    std::vector<Node> nodes_;
    int members_ = 1;
};

Result<void> remove_nodes(const Paths& paths, const ClusterState& state) {
    std::vector<Node> nodes;
    ClusterState all = state;
    all.nodes = kNodesMax;  // a run that was cut off may have started more than it noted
    for (Node& node : nodes_of(paths, all, "")) {
        if (linux::exists(node.spec().directory)) nodes.push_back(std::move(node));
    }
    std::vector<std::function<Result<void>()>> steps;
    for (const Node& node : nodes) steps.push_back([&node] { return node.kill(); });
    return run_parallel(steps);
}

Result<void> remove_files(const Paths& paths, const std::string& name) {
    BASALT_TRY(linux::remove_tree(paths.cluster(name) + "/nodes"));
    BASALT_TRY(linux::remove_tree(paths.cluster(name)));
    ::unlink(lock_path(paths, name).c_str());
    BASALT_ASSIGN(std::vector<std::string> others, list_clusters(paths.state));
    if (others.empty()) ::unlink((paths.state + "/.network.lock").c_str());
    ::rmdir(paths.state.c_str());  // only when empty
    return {};
}

Result<void> remove_cgroups(const std::string& name) {
    const std::string cgroup = cluster_cgroup(name);
    // Should anything have slipped out of its node.
    linux::kill_cgroup(cgroup, kLeftoversLimit);
    BASALT_TRY(linux::remove_cgroup(cgroup, std::chrono::seconds(15)));
    (void)linux::remove_cgroup_if_empty("basalt");
    return {};
}

}  // namespace

std::vector<Node> nodes_of(const Paths& paths, const ClusterState& state,
                           const std::string& pause_image) {
    std::vector<Node> nodes;
    for (int number = 1; number <= state.nodes; ++number) {
        nodes.emplace_back(paths, make_node_spec(paths, state, number, pause_image));
    }
    return nodes;
}

Result<void> bring_up(const Paths& paths, const UpOptions& options) {
    BASALT_TRY(check_cluster_name(options.name));
    if (options.nodes && (*options.nodes < 1 || *options.nodes > kNodesMax)) {
        return invalid_argument(fmt::format("--nodes must be 1 to {}", kNodesMax));
    }
    BASALT_TRY(require_root("up"));
    BASALT_TRY(linux::make_directories(paths.cluster(options.name), 0700));
    Result<linux::FileDescriptor> lock = linux::lock_file(lock_path(paths, options.name), false);
    if (!lock.ok())
        return failed_precondition(
            fmt::format("another basalt works on cluster {} now", options.name));
    cli::Progress progress(paths.cluster(options.name) + "/up.log");
    BringUp bring(paths, options, progress);
    Result<void> result = bring.run();
    if (!result.ok()) {
        progress.note(fmt::format("The log {} ends with:\n{}", progress.log_path(),
                                  linux::tail_file(progress.log_path(), kLogTailLines)));
        return result;
    }
    progress.note(fmt::format("Cluster {} is up: {} node{}, Kubernetes {}, API {}", options.name,
                              bring.state().nodes, bring.state().nodes == 1 ? "" : "s",
                              bring.state().kubernetes_version, bring.state().plan.api_server()));
    progress.note(fmt::format("export KUBECONFIG={}", kubeconfig_path(paths, options.name)));
    return result;
}

Result<void> tear_down(const Paths& paths, const std::string& name) {
    BASALT_TRY(check_cluster_name(name));
    BASALT_TRY(require_root("down"));
    cli::Progress progress("");
    if (!linux::exists(paths.cluster(name))) {
        progress.note(fmt::format("There is no cluster {}.", name));
        return {};
    }
    Result<linux::FileDescriptor> lock = linux::lock_file(lock_path(paths, name), false);
    if (!lock.ok())
        return failed_precondition(fmt::format("another basalt works on cluster {} now", name));
    BASALT_ASSIGN(std::optional<ClusterState> state, load_state(paths.cluster(name)));
    unlink_kubeconfig(kubeconfig_path(paths, name));
    if (state) {
        BASALT_TRY(progress.step("nodes", [&] { return remove_nodes(paths, *state); }));
        BASALT_TRY(progress.step("registry", [&] { return stop_registry(paths, *state); }));
        BASALT_TRY(progress.step("network", [&] { return remove_bridge(state->plan); }));
    }
    BASALT_TRY(progress.step("control groups", [&] { return remove_cgroups(name); }));
    return progress.step("files", [&] { return remove_files(paths, name); });
}

Result<ClusterState> require_cluster(const Paths& paths, const std::string& name) {
    BASALT_TRY(check_cluster_name(name));
    BASALT_ASSIGN(std::optional<ClusterState> state, load_state(paths.cluster(name)));
    if (state) return *std::move(state);
    return not_found(
        fmt::format("there is no cluster {}; make it with: basalt up --name {}", name, name));
}

Result<std::string> read_kubeconfig(const Paths& paths, const std::string& name) {
    BASALT_ASSIGN(ClusterState state, require_cluster(paths, name));
    Result<std::string> text = linux::read_file(kubeconfig_path(paths, state.name));
    if (text.ok()) return text;
    return failed_precondition(
        fmt::format("cluster {} has no kubeconfig yet; run basalt up --name {}", name, name));
}

Result<Node> find_node(const Paths& paths, const std::string& cluster, const std::string& node) {
    BASALT_ASSIGN(ClusterState state, require_cluster(paths, cluster));
    std::string pause_image;
    if (Result<std::vector<Image>> images = list_images(paths); images.ok()) {
        if (Result<Image> pause = find_image(*images, "pause"); pause.ok())
            pause_image = pause->reference;
    }
    for (Node& candidate : nodes_of(paths, state, pause_image)) {
        if (candidate.name() == node || std::to_string(candidate.spec().number) == node)
            return std::move(candidate);
    }
    return not_found(fmt::format("cluster {} has no node {}", cluster, node));
}

Result<std::string> describe_cluster(const Paths& paths, const std::string& name) {
    BASALT_ASSIGN(ClusterState state, require_cluster(paths, name));
    std::string text = fmt::format(
        "cluster     {}\nkubernetes  {}\nAPI         {}\nnetwork     {} on {}\nregistry    {} {}\n",
        name, state.kubernetes_version, state.plan.api_server(), state.plan.node_network(),
        state.plan.bridge(), state.plan.registry(),
        registry_running(paths, state) ? "running" : "stopped");
    for (const Node& node : nodes_of(paths, state, "")) {
        text += fmt::format("node        {} {} {}\n", node.name(),
                            state.plan.node_address(node.spec().number),
                            node.running() ? "running" : "stopped");
    }
    const Kubectl kubectl(kubectl_program(paths, state), kubeconfig_path(paths, name));
    Result<std::string> ready =
        kubectl.run({"get", "--raw", "/readyz"}, {}, std::chrono::seconds(5));
    text += fmt::format("API server  {}\n", ready.ok() ? "ready" : ready.error().message());
    if (!ready.ok()) return text;
    Result<std::string> pods =
        kubectl.run({"get", "pods", "-A", "--no-headers",
                     "--field-selector=status.phase!=Running,status.phase!=Succeeded"});
    if (pods.ok() && !trim(*pods).empty()) text += "Pods that do not run:\n" + *pods;
    return text;
}

}  // namespace basalt::local
