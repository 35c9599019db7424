// The wiring of basalt-controller: one loop, one connection for work, one for the lease, all
// controllers and servers.
#pragma once

#include <string>
#include <vector>

#include "async/real_loop.h"
#include "base/log.h"
#include "base/result.h"

namespace basalt::cmd {

struct ControllerOptions {
    std::string kubeconfig;
    std::string namespace_name = "basalt-system";  ///< Where it runs: lease, certificate, Service.
    std::string identity;                          ///< Unique name of this process; "": the host's.
    std::string service_name = "basalt-controller";
    std::string datastore = "default";
    std::string image = "ghcr.io/basalt/basalt:dev";
    /// Networks of the provider: no control plane dials them for its tenant.
    std::vector<std::string> protected_ranges;
    std::vector<std::string> dns_addresses;  ///< Resolvers that are no Pods (a cache on each node).
    bool leader_elect = true;
    std::string metrics_address = ":8443";
    bool metrics_secure =
        true;  ///< TLS, and only for those whom the API server lets read /metrics.
    std::string health_address = ":8081";
    int webhook_port = 9443;  ///< 0: no webhooks.
    size_t workers_count = 8;
    std::string log_level = "info";
    std::string log_format = "logfmt";
    /// Flags that were given and have no effect.
    std::vector<std::string> ignored;
};

/// Runs until SIGTERM or SIGINT (ok), or until something fails.
Result<void> run_controller(const ControllerOptions& options);

}  // namespace basalt::cmd
