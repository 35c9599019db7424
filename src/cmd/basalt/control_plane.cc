// Commands about control planes: describe, kubeconfig get, upgrade, sleep, wake.
#include <unistd.h>
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>

#include <fmt/format.h>

#include "async/wait.h"
#include "base/strings.h"
#include "cli/cluster_session.h"
#include "cli/control_plane_report.h"
#include "cli/control_plane_wait.h"
#include "cli/progress.h"
#include "cmd/basalt/commands.h"
#include "controlplane/names.h"
#include "controlplane/resources.h"
#include "data/base64.h"
#include "kube/object.h"

namespace basalt::cmd {
namespace {

using cli::ClusterFlags;
using cli::ClusterSession;
using controlplane::data_stores;
using controlplane::tenant_control_planes;
using data::Value;
namespace names = controlplane::names;

constexpr int kDefaultReplicas = 1;
constexpr int kMaxReplicas = 100;

struct Arguments {
    ClusterFlags cluster;
    std::string name;
    std::string version;
    std::string file = "admin.conf";
    int replicas = 0;
    bool wait = false;
    std::string timeout = "10m";
};

void add_cluster_flags(CLI::App& app, Arguments& arguments) {
    app.add_option("--kubeconfig", arguments.cluster.kubeconfig,
                   "Kubeconfig of the management cluster")
        ->type_name("FILE");
    app.add_option("--context", arguments.cluster.context, "Context in the kubeconfig");
    app.add_option("-n,--namespace", arguments.cluster.namespace_name,
                   "Namespace of the control plane");
    app.add_option("NAME", arguments.name, "Name of the TenantControlPlane")->required();
}

void add_wait_flags(CLI::App& app, Arguments& arguments) {
    app.add_flag("--wait", arguments.wait, "Wait until it is done, and show how it goes");
    app.add_option("--timeout", arguments.timeout, "How long to wait, for instance 90s")
        ->check(no_error(parse_duration))
        ->capture_default_str();
}

// Null when there is none.
Result<Value> find(ClusterSession& session, const kube::Resource& resource,
                   const kube::ObjectKey& key) {
    Result<Value> found = session.run(session.client().get(resource, key));
    if (!found.ok() && found.error().code() == Code::kNotFound) return Value();
    return found;
}

Result<std::vector<Value>> list_owned(ClusterSession& session, const kube::Resource& resource,
                                      const std::string& name) {
    kube::ListOptions options;
    options.label_selector = fmt::format("{}={}", names::kNameLabel, name);
    BASALT_ASSIGN(kube::ObjectList list,
                  session.run(session.client().list(resource, session.namespace_name(), options)));
    return std::move(list.items);
}

Result<int> describe(const Arguments& arguments) {
    BASALT_ASSIGN(auto session, ClusterSession::open(arguments.cluster));
    kube::ObjectKey key(session->namespace_name(), arguments.name);
    cli::ControlPlaneWorld world;
    BASALT_ASSIGN(world.control_plane,
                  session->run(session->client().get(tenant_control_planes(), key)));
    kube::ObjectKey store(cli::datastore_name(world.control_plane));
    if (!store.name.empty()) {
        BASALT_ASSIGN(world.datastore, find(*session, data_stores(), store));
    }
    BASALT_ASSIGN(world.deployment, find(*session, kube::resources::deployments(), key));
    BASALT_ASSIGN(world.service, find(*session, kube::resources::services(), key));
    BASALT_ASSIGN(world.pods, list_owned(*session, kube::resources::pods(), arguments.name));
    BASALT_ASSIGN(world.secrets, list_owned(*session, kube::resources::secrets(), arguments.name));
    world.now = session->client().loop().wall_now();
    cli::ControlPlaneReport report = cli::describe_control_plane(world);
    const bool colour = ::isatty(STDOUT_FILENO) == 1 && ::getenv("NO_COLOR") == nullptr;
    fmt::print("{}\n\n{}", report.headline, cli::draw(report.tree, colour));
    return report.ready ? 0 : 2;
}

Result<int> print_kubeconfig(const Arguments& arguments) {
    BASALT_ASSIGN(auto session, ClusterSession::open(arguments.cluster));
    kube::ObjectKey key(session->namespace_name(), names::admin_kubeconfig(arguments.name));
    BASALT_ASSIGN(Value secret,
                  session->run(session->client().get(kube::resources::secrets(), key)));
    const Value& encoded = secret["data"][arguments.file];
    if (encoded.empty()) {
        return not_found(
            fmt::format("Secret {} has no key {}: use admin.conf, admin.svc, super-admin.conf or "
                        "super-admin.svc",
                        key.to_string(), arguments.file));
    }
    BASALT_ASSIGN(std::string text, data::base64_decode(encoded.as_string()));
    fmt::print("{}", text);
    return 0;
}

Result<void> wait_for(ClusterSession& session, const kube::ObjectKey& key,
                      const cli::ControlPlaneGoal& goal, Duration limit) {
    cli::Progress progress("");
    return progress.step(key.to_string(), [&] {
        std::string missing;
        auto on_missing = [&](const std::string& text) {
            missing = text;
            progress.detail(text);
        };
        async::Task<Result<void>> waiting = cli::wait_for_control_plane(
            session.client(), tenant_control_planes(), key, goal, on_missing);
        async::Loop& loop = session.client().loop();
        Result<void> waited = session.run(async::with_timeout(loop, limit, std::move(waiting)));
        if (waited.ok() || waited.error().code() != Code::kDeadlineExceeded) return waited;
        return Result<void>(Error(Code::kDeadlineExceeded,
                                  fmt::format("not done after {}: {}; it goes on, see: basalt "
                                              "describe tcp {} --namespace {}",
                                              format_duration(limit), missing, key.name, key.ns)));
    });
}

Result<int> patch(const Arguments& arguments, ClusterSession& session, const Value& body,
                  const std::string& done, const cli::ControlPlaneGoal& goal) {
    BASALT_ASSIGN(Duration limit, parse_duration(arguments.timeout));
    kube::ObjectKey key(session.namespace_name(), arguments.name);
    BASALT_ASSIGN(Value patched,
                  session.run(session.client().merge_patch(tenant_control_planes(), key, body)));
    fmt::print("{} {}\n", kube::key_of(patched).to_string(), done);
    if (!arguments.wait) return 0;
    std::fflush(stdout);
    BASALT_TRY(wait_for(session, key, goal, limit));
    return 0;
}

Value replicas_patch(int replicas) {
    Value body;
    body.at("spec").at("controlPlane").at("deployment").set("replicas", replicas);
    return body;
}

Result<Value> get_control_plane(ClusterSession& session, const std::string& name) {
    kube::ObjectKey key(session.namespace_name(), name);
    return session.run(session.client().get(tenant_control_planes(), key));
}

Result<int> upgrade(const Arguments& arguments) {
    BASALT_ASSIGN(auto session, ClusterSession::open(arguments.cluster));
    Value body;
    body.at("spec").at("kubernetes").set("version", arguments.version);
    cli::ControlPlaneGoal goal;
    // As the status writes it.
    goal.version = (arguments.version.starts_with('v') ? "" : "v") + arguments.version;
    return patch(arguments, *session, body, "is being upgraded to " + arguments.version, goal);
}

int replicas_of(const Value& control_plane) {
    const Value& replicas = control_plane["spec"]["controlPlane"]["deployment"]["replicas"];
    return static_cast<int>(replicas.as_int(kDefaultReplicas));
}

Result<int> sleep(const Arguments& arguments) {
    BASALT_ASSIGN(auto session, ClusterSession::open(arguments.cluster));
    BASALT_ASSIGN(Value present, get_control_plane(*session, arguments.name));
    Value body = replicas_patch(0);
    if (const int replicas = replicas_of(present); replicas > 0) {
        body.at("metadata")
            .at("annotations")
            .set(names::kReplicasAnnotation, std::to_string(replicas));
    }
    cli::ControlPlaneGoal goal;
    goal.asleep = true;
    return patch(arguments, *session, body, "goes to sleep", goal);
}

Result<int> wake(const Arguments& arguments) {
    BASALT_ASSIGN(auto session, ClusterSession::open(arguments.cluster));
    BASALT_ASSIGN(Value present, get_control_plane(*session, arguments.name));
    int replicas = arguments.replicas > 0 ? arguments.replicas : replicas_of(present);
    if (replicas == 0) {
        std::string_view noted = kube::annotation_of(present, names::kReplicasAnnotation);
        replicas = std::clamp(parse_number<int>(noted).value_or(kDefaultReplicas), 1, kMaxReplicas);
    }
    Value body = replicas_patch(replicas);
    body.at("metadata").at("annotations").set(names::kReplicasAnnotation, Value());
    return patch(arguments, *session, body, "wakes up", cli::ControlPlaneGoal());
}

template <class Run>
void run_with(CLI::App* command, Context& context, std::shared_ptr<Arguments> arguments, Run run) {
    command->callback([&context, arguments, run] {
        context.action = [arguments, run]() -> Result<int> { return run(*arguments); };
    });
}

}  // namespace

void add_describe(CLI::App& app, Context& context) {
    CLI::App* command = app.add_subcommand("describe", "Explain an object, its root cause first");
    command->require_subcommand(1);
    auto arguments = std::make_shared<Arguments>();
    CLI::App* tcp =
        command->add_subcommand("tcp", "A control plane; exit code 2 when it is not Ready");
    add_cluster_flags(*tcp, *arguments);
    run_with(tcp, context, arguments, describe);
}

void add_tenant_kubeconfig(CLI::App& kubeconfig, Context& context) {
    auto arguments = std::make_shared<Arguments>();
    CLI::App* get = kubeconfig.add_subcommand("get", "Print the kubeconfig of a control plane");
    add_cluster_flags(*get, *arguments);
    get->add_option("--key", arguments->file,
                    "admin.conf, admin.svc, super-admin.conf or super-admin.svc")
        ->capture_default_str();
    run_with(get, context, arguments, print_kubeconfig);
}

void add_upgrade(CLI::App& app, Context& context) {
    auto arguments = std::make_shared<Arguments>();
    CLI::App* command =
        app.add_subcommand("upgrade", "Change the Kubernetes version of a control plane");
    add_cluster_flags(*command, *arguments);
    command->add_option("VERSION", arguments->version, "For instance v1.36.3")->required();
    add_wait_flags(*command, *arguments);
    run_with(command, context, arguments, upgrade);
}

void add_sleep(CLI::App& app, Context& context) {
    auto arguments = std::make_shared<Arguments>();
    CLI::App* command =
        app.add_subcommand("sleep", "Stop the Pods of a control plane and keep its data");
    add_cluster_flags(*command, *arguments);
    add_wait_flags(*command, *arguments);
    run_with(command, context, arguments, sleep);
}

void add_wake(CLI::App& app, Context& context) {
    auto arguments = std::make_shared<Arguments>();
    CLI::App* command = app.add_subcommand("wake", "Start a control plane that sleeps");
    add_cluster_flags(*command, *arguments);
    command->add_option("--replicas", arguments->replicas, "How many; else as many as fell asleep")
        ->check(CLI::Range(1, kMaxReplicas));
    add_wait_flags(*command, *arguments);
    run_with(command, context, arguments, wake);
}

}  // namespace basalt::cmd
