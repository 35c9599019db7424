#include <CLI/CLI.hpp>
#include <cstdio>

#include "cmd/basalt-controller/app.h"

int main(int argc, char** argv) {
    CLI::App app("Basalt's controllers and admission webhooks.", "basalt-controller");
    basalt::cmd::ControllerFlags flags;
    app.add_option("--kubeconfig", flags.kubeconfig, "Instead of the Pod's service account")->type_name("FILE");
    app.add_option("--datastore", flags.datastore, "DataStore of control planes that name none");
    app.add_option("--image", flags.image, "Basalt's own image, for the tunnel")->required();
    app.add_option("--namespace", flags.namespace_name, "Where the lease is kept");
    app.add_option("--identity", flags.identity, "Unique name of this process; default: the host's");
    app.add_option("--leader-elect", flags.leader_elect, "Act only while holding the lease");
    app.add_option("--max-concurrent-tcp-reconciles", flags.workers_count, "Control planes worked on at once")
        ->check(CLI::Range(1, 256));
    app.add_option("--health-address", flags.health_address, "Address of /healthz and /readyz");
    app.add_option("--health-port", flags.health_port, "Port of /healthz and /readyz");
    app.add_option("--log-level", flags.log_level, "debug, info, warn or error");
    app.add_option("--log-format", flags.log_format, "logfmt or json");
    CLI11_PARSE(app, argc, argv);

    basalt::Result<void> result = basalt::cmd::run_controller(flags);
    if (result.ok()) return 0;
    std::fprintf(stderr, "basalt-controller: %s\n", result.error().to_string().c_str());
    return 1;
}
