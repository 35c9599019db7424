#include <CLI/CLI.hpp>
#include <cstdio>

#include <fmt/format.h>

#include "cmd/basalt-controller/app.h"

namespace {

using basalt::cmd::ControllerOptions;

// Of Kamaji's manager: accepted, so that its Deployment's arguments can stay, and without effect
// here.
constexpr const char* kIgnoredOptions[] = {
    "--kine-image",
    "--migrate-image",
    "--tmp-directory",
    "--cache-resync-period",
    "--controller-reconcile-timeout",
    "--certificate-expiration-deadline",
    "--pod-namespace",
    "--serviceaccount-name",
    "--webhook-ca-path",
    "--zap-encoder",
    "--zap-stacktrace-level",
    "--zap-time-encoding",
};
constexpr const char* kIgnoredFlags[] = {"--disable-telemetry", "--zap-devel"};

void add_options(CLI::App& app, ControllerOptions& options) {
    app.add_option("--kubeconfig", options.kubeconfig,
                   "How to reach the management cluster; in a Pod its own account");
    app.add_option("--namespace", options.namespace_name, "Namespace that the controller runs in")
        ->envname("POD_NAMESPACE");
    app.add_option("--identity", options.identity,
                   "Unique name of this process; the host's by default");
    app.add_option("--service-name,--webhook-service-name", options.service_name,
                   "Service in front of the webhooks and metrics");
    app.add_option("--datastore", options.datastore, "DataStore of control planes that name none");
    app.add_option("--image", options.image,
                   "Image with basalt-tunnel, for control planes and their agents");
    app.add_option("--protected-ranges", options.protected_ranges,
                   "Networks of the provider: its nodes, Pods, Services, load balancers; without "
                   "them, control planes without a tunnel dial nothing")
        ->envname("BASALT_PROTECTED_RANGES")
        ->delimiter(',');
    app.add_option("--dns-addresses", options.dns_addresses,
                   "Addresses of resolvers for control planes, beside Pods k8s-app=kube-dns")
        ->envname("BASALT_DNS_ADDRESSES")
        ->delimiter(',');
    app.add_flag("--leader-elect,!--no-leader-elect", options.leader_elect,
                 "Work only while holding the lease");
    app.add_option("--metrics-bind-address", options.metrics_address, "host:port, or 0 for none");
    app.add_flag("--metrics-secure,!--no-metrics-secure", options.metrics_secure,
                 "Serve metrics over TLS and ask the API server who may read them");
    app.add_option("--health-probe-bind-address", options.health_address,
                   "host:port of /healthz and /readyz");
    app.add_option("--webhook-port", options.webhook_port, "Port of the webhooks, or 0 for none")
        ->check(CLI::Range(0, 65535));
    app.add_option("--max-concurrent-tcp-reconciles", options.workers_count,
                   "Control planes worked on at the same time")
        ->check(CLI::Range(1, 1000));
    app.add_option("--log-level,--zap-log-level", options.log_level, "debug, info, warn or error");
    app.add_option("--log-format", options.log_format, "logfmt or json");
}

void add_ignored(CLI::App& app, ControllerOptions& options) {
    for (const char* name : kIgnoredOptions) {
        app.add_option_function<std::string>(
               name, [&options, name](const std::string&) { options.ignored.emplace_back(name); },
               "Without effect")
            ->group("");
    }
    for (const char* name : kIgnoredFlags) {
        app.add_flag_callback(
               name, [&options, name] { options.ignored.emplace_back(name); }, "Without effect")
            ->group("");
    }
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app("Basalt's controllers and admission webhooks.", "basalt-controller");
    ControllerOptions options;
    add_options(app, options);
    add_ignored(app, options);
    // "manager" is how Kamaji's image is started.
    std::string subcommand;
    app.add_option("command", subcommand, "")->group("")->check(CLI::IsMember({"manager"}));
    CLI11_PARSE(app, argc, argv);

    basalt::Result<void> result = basalt::cmd::run_controller(options);
    if (result.ok()) return 0;
    fmt::print(stderr, "basalt-controller: {}\n", result.error().message());
    return 1;
}
