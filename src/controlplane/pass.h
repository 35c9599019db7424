// What one pass of the ControlPlaneController knows. Private to it.
#pragma once

#include "controlplane/control_plane_controller.h"

namespace basalt::controlplane {

/// Lives in the frame of reconcile().
struct ControlPlaneController::Pass {
    data::SharedValue object;
    Settings settings;
    bool readable = true;
    Progress progress;
    std::optional<Endpoint> endpoint;
    std::shared_ptr<const DataStoreView> datastore;
    std::map<std::string, std::vector<std::string>> override_endpoints;
    data::SharedValue service, deployment;
    std::map<std::string, data::SharedValue> live_secrets;
    CertificateSet certificates;
    std::map<std::string, std::string> checksums;
    std::string tenant_checksum;
    std::optional<Duration> again;

    bool stop(std::string_view type, std::string_view reason, std::string message) {
        progress.stopped(type, reason, message);
        return false;
    }
};

}  // namespace basalt::controlplane
