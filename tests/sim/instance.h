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
#include "tests/sim/process_loop.h"

namespace basalt::sim {

class World;

class Instance {
 public:
    Instance(World& world, std::string name, uint64_t seed);
    ~Instance();

    const std::string& name() const { return name_; }
    /// Of the lease.
    const std::string& identity() const { return identity_; }
    /// Its main function returned, or a crash point was hit.
    bool ended() const { return ended_ || connection_->killed(); }
    /// After this many more writes; the coin says whether before or after the effect.
    void crash_at_write(uint64_t count, bool after_effect);
    /// Everything fails from now on; runs the loop until nothing of the process is left.
    void kill();
    /// SIGTERM: it ends in good order.
    void ask_to_end() { group_.cancel(); }
    /// Nothing gets from it to anybody, or back, for so long: API servers of tenants and etcd
    /// included.
    void cut_off(Duration duration);
    /// It stands still for so long, its timers included; what it sent before arrives. Then it is
    /// slow for a while.
    void freeze(Duration duration, Duration waking = Duration(0));
    /// For so long there is a pause before each of its steps, at most that long.
    void slow_down(Duration duration, Duration pause_max);
    bool is_disturbed() const;
    /// Its calendar is so far from the world's.
    void set_clock(Duration offset) { loop_.set_clock(offset); }
    /// A partition, a standstill and slowness end, and its clock is right.
    void mend();
    const Link& link() const { return *link_; }

 private:
    controller::ManagerOptions manager_options(const std::string& identity) const;
    static kube::ClientOptions client_options();
    controlplane::TenantConnector tenant_connector();
    controlplane::EtcdConnector etcd_connector();
    async::Task<void> run();
    async::Task<void> stop();
    void recover();

    World& world_;
    ProcessLoop loop_;
    std::string name_;
    std::string identity_;
    std::shared_ptr<Link> link_ = std::make_shared<Link>();
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
    async::Loop::TimerId recovery_timer_ = 0;
    bool ended_ = false;
    uint64_t writes_left_ = 0;
    bool crash_after_effect_ = false;
};

}  // namespace basalt::sim
