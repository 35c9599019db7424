// The controller process: its options and the wiring of its parts.
#pragma once

#include <string>

#include "base/log.h"
#include "base/result.h"

namespace basalt::cmd {

struct ControllerFlags {
    std::string kubeconfig;               ///< "": in-cluster, or the usual places.
    std::string datastore = "default";    ///< Of control planes that name none.
    std::string image;                    ///< Our own, for the tunnel.
    std::string namespace_name = "basalt-system";
    std::string identity;                 ///< "": the host's name.
    bool leader_elect = true;
    size_t workers_count = 8;
    std::string health_address = "0.0.0.0";
    int health_port = 8081;
    std::string log_level = "info";
    std::string log_format = "logfmt";
};

/// Until SIGTERM or SIGINT (ok), or lost leadership or a failure to start (an error).
Result<void> run_controller(const ControllerFlags& flags);

}  // namespace basalt::cmd
