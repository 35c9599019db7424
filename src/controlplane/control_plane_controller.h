// The controller of TenantControlPlanes: docs/design/control-planes.md.
//
// reconcile() is one pass. It goes through the steps in order; a step either holds, or stops the
// pass with a condition (to be continued by a watch), or fails with an error (to be retried with
// back-off). Whatever happened, the status is written at the end, if it differs.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "controller/apply.h"
#include "controller/controller.h"
#include "controller/events.h"
#include "controller/manager.h"
#include "controlplane/certificates.h"
#include "controlplane/datastore.h"
#include "controlplane/objects.h"
#include "controlplane/resources.h"
#include "controlplane/start_slots.h"
#include "controlplane/status.h"
#include "controlplane/tenant_connector.h"
#include "controlplane/tenant_session.h"
#include "controlplane/validate.h"

namespace basalt::controlplane {

struct ControlPlaneOptions {
    ControlPlaneOptions() = default;
    SettingsDefaults defaults;
    std::string image;                          ///< Our own, for the tunnel.
    std::vector<std::string> protected_ranges;  ///< Surroundings::protected_ranges.
    std::vector<std::string> dns_addresses;     ///< Surroundings::dns_addresses.
    size_t workers_count = 8;
    /// A control plane whose DataStore is gone or does not answer is let go this long after the
    /// first attempt to remove its data.
    Duration deletion_patience = std::chrono::minutes(5);
};

class ControlPlaneController {
 public:
    ControlPlaneController(controller::Manager& manager, DataStoreRegistry& datastores,
                           pki::KeySource& keys, controller::EventRecorder& events,
                           TenantConnector connector, ControlPlaneOptions options);
    ~ControlPlaneController();

    /// A DataStore became something else: its control planes look again.
    void datastore_changed(const std::string& name);
    /// Ends all sessions and waits for them. The manager does so before it gives up the lease.
    async::Task<void> stop();
    /// How often the certificates of a control plane were read and judged.
    uint64_t certificate_readings() const { return certificate_readings_; }

 private:
    struct Pass;
    using Step =
        async::Task<Result<bool>>;  ///< True: go on. False: the pass is stopped, with a condition.

    async::Task<Result<controller::Outcome>> reconcile(controller::Key key);
    async::Task<Result<controller::Outcome>> run(Pass* pass);
    Step run_steps(Pass* pass);
    Step check_datastore(Pass* pass);
    /// The DataStore is there, and nobody has looked at it yet: nothing is known of it.
    bool is_unseen(const std::string& datastore) const;
    Step ensure_endpoint(Pass* pass);
    Step ensure_certificates(Pass* pass);
    Step ensure_pods(Pass* pass);
    std::vector<data::Value> plan_pods(Pass* pass, const Surroundings& surroundings,
                                       data::Value workload) const;
    async::Task<Result<void>> remove_budget(Pass* pass, bool was_wanted);
    async::Task<Result<void>> remove_tunnel_secrets(Pass* pass, bool was_wanted);
    Step judge_pods(Pass* pass);
    Step ensure_cluster(Pass* pass);
    const StorageClaim* find_claimant(const Pass& pass, std::vector<StorageClaim>* claims) const;
    std::string storage_stamp(const Pass& pass) const;
    std::string certificates_stamp(const Pass& pass) const;
    /// From the cache, else from the API server, as without our label; null when there is none.
    async::Task<Result<data::SharedValue>> find_owned(kube::Resource resource, kube::ObjectKey key);
    async::Task<Result<void>> record_datastores(Pass* pass);
    async::Task<Result<void>> ensure_storage(Pass* pass);
    /// User, role and range in one DataStore, less what must not be written.
    async::Task<Result<bool>> ensure_tenant(Pass* pass, size_t store);
    async::Task<Result<void>> clean_former_datastores(Pass* pass);
    void doubt_storage(const Pass& pass, const Error& why);
    Error refused_by(const DataStoreView& view, Error error) const;
    async::Task<Result<void>> limit_writes(Pass* pass, bool unsealed);
    async::Task<Result<void>> remove_kamaji_limits(Pass* pass);
    static std::shared_ptr<const DataStoreView> store_of(const Pass& pass,
                                                         const std::string& resource);
    void note_rotations(Pass* pass) const;
    async::Task<Result<void>> collect_secrets(Pass* pass);
    Result<void> plan_key_material(Pass* pass);
    async::Task<Result<void>> apply_all(Pass* pass, std::vector<data::Value> intents);
    async::Task<Result<void>> apply_one(Pass* pass, data::Value intent);
    async::Task<Result<void>> remove_unwanted(Pass* pass, kube::Resource resource, std::string name,
                                              bool was_wanted);
    async::Task<Result<void>> adopt(kube::Resource resource, data::SharedValue live);
    async::Task<Result<controller::Outcome>> finalize(Pass* pass);
    async::Task<Result<bool>> remove_workload(Pass* pass);
    async::Task<Result<bool>> remove_storage(Pass* pass);
    async::Task<Result<bool>> wait_for_datastores(Pass* pass, Duration patience,
                                                  std::vector<std::string> left);
    async::Task<Result<void>> remove_storage_from(std::string datastore, std::string user,
                                                  std::string schema);
    async::Task<Result<void>> write_status(Pass* pass);
    async::Task<Result<void>> put_status(Pass* pass, data::Value status);
    async::Task<void> prepare_cluster(Pass* pass, std::vector<data::SharedValue> pods);
    async::Task<Result<std::shared_ptr<TenantSession>>> session_of(Pass* pass, std::string host);
    Result<std::vector<data::Value>> tenant_objects_of(const Pass& pass) const;
    async::Task<void> drop_session(std::string key);
    Surroundings surroundings_of(const Pass& pass) const;
    kube::Cache& cache_of(const data::Value& intent);
    void report(const Pass& pass);
    bool may_start(Pass* pass, const data::Value& intent);
    void free_slot(const std::string& key);
    void count_cores();
    void wake_granted();

    controller::Manager& manager_;
    DataStoreRegistry& datastores_;
    pki::KeySource& keys_;
    controller::EventRecorder& events_;
    TenantConnector connector_;
    ControlPlaneOptions options_;
    controller::Applier applier_;
    kube::Cache& control_planes_;
    kube::Cache& data_stores_;
    kube::Cache& pods_;
    kube::Cache& nodes_;
    std::map<std::string, kube::Cache*> owned_;  ///< By kind.
    controller::Controller* controller_ = nullptr;
    StartSlots slots_{1};
    std::map<std::string, std::shared_ptr<TenantSession>> sessions_;
    /// Storage that was seen to be right: uid -> storage_stamp() of it.
    std::map<std::string, std::string> storage_done_;
    /// Certificates that were seen to be right: uid -> what they were seen with, and until when
    /// that says something.
    struct CertificatesDone {
        std::string stamp;
        WallTime renew_at;
    };
    std::map<std::string, CertificatesDone> certificates_done_;
    uint64_t certificate_readings_ = 0;
};

}  // namespace basalt::controlplane
