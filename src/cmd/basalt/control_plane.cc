// Commands about control planes: describe, kubeconfig get, upgrade, sleep, wake.
#include <unistd.h>
#include <CLI/CLI.hpp>
#include <memory>

#include <fmt/format.h>

#include "cli/cluster_session.h"
#include "cli/control_plane_report.h"
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

struct Arguments {
    ClusterFlags cluster;
    std::string name;
    std::string version;
    std::string file = "admin.conf";
    int replicas = 1;
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
    kube::ObjectKey store(world.control_plane["status"]["storage"]["dataStoreName"].str());
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

Result<int> patch(const Arguments& arguments, const Value& body, const std::string& done) {
    BASALT_ASSIGN(auto session, ClusterSession::open(arguments.cluster));
    kube::ObjectKey key(session->namespace_name(), arguments.name);
    BASALT_ASSIGN(Value patched,
                  session->run(session->client().merge_patch(tenant_control_planes(), key, body)));
    fmt::print("{} {}\n", kube::key_of(patched).to_string(), done);
    return 0;
}

Value replicas_patch(int replicas) {
    Value body;
    body.at("spec").at("controlPlane").at("deployment").set("replicas", replicas);
    return body;
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
    run_with(command, context, arguments, [](const Arguments& given) {
        Value body;
        body.at("spec").at("kubernetes").set("version", given.version);
        return patch(given, body, "is being upgraded to " + given.version);
    });
}

void add_sleep(CLI::App& app, Context& context) {
    auto arguments = std::make_shared<Arguments>();
    CLI::App* command =
        app.add_subcommand("sleep", "Stop the Pods of a control plane and keep its data");
    add_cluster_flags(*command, *arguments);
    run_with(command, context, arguments, [](const Arguments& given) {
        return patch(given, replicas_patch(0), "goes to sleep");
    });
}

void add_wake(CLI::App& app, Context& context) {
    auto arguments = std::make_shared<Arguments>();
    CLI::App* command = app.add_subcommand("wake", "Start a control plane that sleeps");
    add_cluster_flags(*command, *arguments);
    command->add_option("--replicas", arguments->replicas, "How many")->check(CLI::Range(1, 100));
    run_with(command, context, arguments, [](const Arguments& given) {
        return patch(given, replicas_patch(given.replicas), "wakes up");
    });
}

}  // namespace basalt::cmd
