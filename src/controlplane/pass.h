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
    /// All DataStores in use, the main one first.
    struct Store {
        std::string name;
        std::shared_ptr<const DataStoreView> view;
        uint64_t epoch = 0;
    };
    std::vector<Store> stores;
    std::map<std::string, std::vector<std::string>> override_endpoints;
    /// Of former overrides, not cleaned yet.
    std::vector<std::string> former_datastores;
    std::optional<std::string> write_limits;
    data::SharedValue service, deployment;
    std::map<std::string, data::SharedValue> live_secrets;
    CertificateSet certificates;  ///< Empty when the live ones are known to be good.
    std::map<std::string, std::string> checksums;
    std::string tenant_checksum;
    std::optional<Duration> again;
    bool knows_nothing = false;  ///< Right after a start: the status stays as it is.

    /// What lies in a Secret of this control plane, from the step for certificates on.
    SecretData key_material(const std::string& secret) const {
        auto planned = certificates.secrets.find(secret);
        return planned != certificates.secrets.end() ? planned->second
                                                     : read_secret(*live_secrets.at(secret));
    }
    /// An error in a step, unless it was stopped with a better word.
    void fail(std::string_view type, const Error& error) {
        if (error.code() == Code::kCancelled || progress.first_failure() != nullptr) return;
        progress.stopped(
            type,
            error.reason().empty() ? code_name(error.code()) : std::string_view(error.reason()),
            error.message());
    }
    bool stop(std::string_view type, std::string_view reason, std::string message) {
        progress.stopped(type, reason, message);
        return false;
    }
};

}  // namespace basalt::controlplane
