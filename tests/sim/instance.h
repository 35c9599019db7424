// One process of basalt-controller: what its main() wires, on the simulated loop.
#pragma once

#include <memory>
#include <string>

#include "async/task_group.h"
#include "controller/events.h"
#include "controller/manager.h"
#include "controlplane/control_plane_controller.h"
#include "controlplane/datastore_controller.h"
#include "controlplane/kubeconfig_generator.h"
#include "tests/sim/connection.h"

namespace basalt::sim {

class World;

class Instance {
 public:
    Instance(World& world, std::string name, uint64_t seed);
    ~Instance();

    const std::string& name() const { return name_; }
    /// Of the lease.
    const std::string& identity() const { return identity_; }
    bool leads() const { return manager_.is_leading(); }
    /// Its main function returned, or a crash point was hit.
    bool ended() const { return ended_ || connection_->killed(); }
    /// After this many more writes; the coin says whether before or after the effect.
    void crash_at_write(uint64_t count, bool after_effect);
    /// Everything fails from now on; runs the loop until nothing of the process is left.
    void kill();
    void break_streams() { connection_->break_streams("the connection was reset"); }
    uint64_t requests_of_writes() const { return connection_->writes_count(); }

 private:
    controller::ManagerOptions manager_options(const std::string& identity) const;
    static kube::ClientOptions client_options();
    controlplane::TenantConnector tenant_connector();
    controlplane::EtcdConnector etcd_connector();
    async::Task<void> run();
    async::Task<void> stop();

    World& world_;
    std::string name_;
    std::string identity_;
    pki::SimKeySource keys_;
    std::shared_ptr<Connection> connection_;
    std::vector<std::weak_ptr<Connection>> tenant_connections_;
    kube::Client client_;
    kube::Client lease_client_;
    controller::Manager manager_;
    controller::EventRecorder events_;
    controlplane::DataStoreRegistry registry_;
    controlplane::ControlPlaneController control_planes_;
    controlplane::DataStoreController datastores_;
    controlplane::KubeconfigGeneratorController generators_;
    async::TaskGroup group_;
    async::TaskGroup events_group_;
    bool ended_ = false;
    uint64_t writes_left_ = 0;
    bool crash_after_effect_ = false;
};

}  // namespace basalt::sim
