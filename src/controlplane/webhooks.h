// Admission of TenantControlPlanes, DataStores and KubeconfigGenerators: validate.h behind the API
// server's protocol.
//
// They validate only; defaults are the schema's. Changes of the status do not pass here: the
// configuration in deploy/controller names the main resources alone. What is asked for and not in
// force yet comes back as a warning.
//
// A control plane's Deployment is also shown to the API server, as a dry run, so that what
// Kubernetes refuses in it (a toleration, a resource, a security context) is refused where the user
// sees it; and so is its Service of type NodePort, since only the API server knows which ports
// nodes have and which are taken. Only the verdict "invalid" counts: a server that does not answer
// is no reason to refuse.
//
// Answers come on every replica, the leader or not. One loop; must outlive the router's requests.
#pragma once

#include "controller/manager.h"
#include "controller/webhook.h"
#include "controlplane/validate.h"

namespace basalt::controlplane {

inline constexpr const char* kControlPlaneWebhook =
    "/validate-kamaji-clastix-io-v1alpha1-tenantcontrolplane";
inline constexpr const char* kDataStoreWebhook = "/validate-kamaji-clastix-io-v1alpha1-datastore";
inline constexpr const char* kGeneratorWebhook =
    "/validate-kamaji-clastix-io-v1alpha1-kubeconfiggenerator";

class Webhooks {
 public:
    /// `client` is for dry runs and has no write guard: replicas that do not lead ask, too.
    Webhooks(controller::Manager& manager, kube::Client& client, SettingsDefaults defaults);
    void add_routes(controller::Router& router);

 private:
    using Answer = async::Task<Result<controller::AdmissionResponse>>;
    Answer check_control_plane(controller::AdmissionRequest request);
    Answer check_data_store(controller::AdmissionRequest request);
    Answer check_generator(controller::AdmissionRequest request);
    async::Task<std::optional<FieldError>> try_deployment(data::Value object);
    async::Task<std::vector<FieldError>> try_node_ports(data::Value object);
    /// The answer to a dry run that found `intent` invalid: a Status, its message filled in.
    async::Task<std::optional<data::Value>> find_refusal(kube::Resource resource,
                                                         data::Value intent);
    ValidationContext context() const;

    controller::Manager& manager_;
    kube::Client& client_;
    SettingsDefaults defaults_;
    kube::Cache& control_planes_;
    kube::Cache& data_stores_;
    kube::Cache& deployments_;
};

}  // namespace basalt::controlplane
