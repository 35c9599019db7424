// A whole world in one process: a management cluster, datastores, tenants' control planes, and
// processes of basalt-controller that come and go.
//
// Everything runs on one SimLoop; the driver (run.h) acts between its turns. A control plane's API
// server is a model like the management cluster's; it answers while one of its Pods serves, and a
// Pod serves when the certificates in its volumes fit together and its datastore lets it in. Its
// state lies in the datastore: it begins anew when its keys are gone.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "async/sim_loop.h"
#include "etcd/model.h"
#include "pki/certificate.h"
#include "tests/sim/cluster.h"
#include "tests/sim/connection.h"
#include "tests/sim/keys.h"

namespace basalt::sim {

class Instance;

struct Datastore {
    Datastore(async::Loop& loop, pki::CertificateAuthority authority, pki::KeyPair administrator)
        : model(loop), ca(std::move(authority)), root(std::move(administrator)) {}
    etcd::ModelEtcd model;
    pki::CertificateAuthority ca;
    pki::KeyPair root;
    bool down = false;
    TimePoint slow_until{};  ///< Every call takes seconds.
};

/// One control plane's cluster, by the keys it has in a datastore.
struct Tenant {
    std::string datastore;
    std::string schema;
    std::shared_ptr<ApiServer> api;
    std::map<std::string, RunningPod> pods;  ///< Serving ones, by uid.
    std::string id() const { return datastore + "/" + schema; }
    bool controller_manager_leads = false;
    bool signing = false;       ///< A timer of the bootstrap signer is set.
    bool cleaning = false;      ///< A timer of the token cleaner is set.
    TimePoint may_lead_from{};  ///< Its controller manager does not lead before.
};

struct WorldOptions {
    uint64_t seed = 1;
    /// No faults, and everything else as quick as can be.
    bool calm = false;
};

class World final : public Workload {
 public:
    explicit World(WorldOptions options);
    ~World() override;

    async::SimLoop& loop() { return loop_; }
    Chaos& chaos() { return chaos_; }
    ApiServer& api() { return *api_; }
    Cluster& cluster() { return *cluster_; }

    // ---- processes
    // -----------------------------------------------------------------------------------------------
    Instance& start_instance();
    /// The process ends as if killed.
    void crash_instance(size_t index);
    const std::vector<std::unique_ptr<Instance>>& instances() const { return instances_; }
    /// Ends those that a crash point or a lost lease stopped; their number.
    size_t bury_dead();
    /// Which holds the lease; null when none that runs does.
    Instance* leader();

    // ---- surroundings
    // --------------------------------------------------------------------------------------------
    void make_namespace(const std::string& name);
    /// With its Secrets in basalt-system.
    void make_datastore(const std::string& name);
    Datastore& datastore(const std::string& name) { return *datastores_.at(name); }
    const std::map<std::string, std::unique_ptr<Datastore>>& datastores() const {
        return datastores_;
    }
    void set_datastore_down(const std::string& name, bool down);
    /// Null while there is none.
    Tenant* tenant(const std::string& datastore_name, const std::string& schema);
    /// The tenant of a control plane by its object; null while there is none.
    Tenant* tenant_of(const Value& control_plane);
    /// Its controller manager fails, and leads again so much later.
    void stop_controller_manager(Tenant& tenant, Duration duration);
    void mend_controller_managers();
    Result<std::shared_ptr<ApiServer>> dial_tenant(const std::string& server,
                                                   const std::string& server_name,
                                                   const std::map<std::string, std::string>& admin);
    bool is_ready(const Value& pod) const;
    static Result<std::shared_ptr<ApiServer>> accept(
        const Tenant& tenant, const RunningPod& pod, const std::string& server_name,
        const std::map<std::string, std::string>& admin);

    // ---- what was seen
    // -------------------------------------------------------------------------------------------
    /// Writes of controllers, but for leases and events; in all API servers and in etcd.
    uint64_t controller_writes() const { return controller_writes_; }
    /// The latest of them, for messages.
    const std::deque<std::string>& recent_writes() const { return recent_writes_; }
    TimePoint last_write_at() const { return last_write_at_; }
    /// What was done so far, what changed nothing included; but for leases.
    struct Activity {
        uint64_t writes = 0;       ///< That changed an object, by anybody; not of events.
        uint64_t requests = 0;     ///< Of the processes that run now, to change anything.
        uint64_t events = 0;       ///< Written.
        uint64_t etcd_writes = 0;  ///< Calls to change anything.
        bool operator==(const Activity&) const = default;
        std::string to_string() const;
    };
    Activity activity() const;
    /// A hash of all writes so far, with time and author: equal in two runs that
    /// did the same.
    uint64_t trace() const { return trace_; }
    /// Broken invariants; empty in a good run.
    std::vector<std::string> faults;
    bool verbose = false;
    /// A user, a role or a key of a control plane that was let go without its data, because its
    /// datastore did not answer for as long as the product waits.
    bool is_left_behind(const std::string& store, const std::string& name) const;

 private:
    std::string probe(const RunningPod& pod) override;
    void serving(const RunningPod& pod) override;
    void stopped(const std::string& pod_uid) override;
    std::string check_files(const RunningPod& pod) const;
    void forget_tenant(const std::string& id);
    std::string log_in(const RunningPod& pod, const Datastore& store, const std::string& schema,
                       const std::string& key) const;
    std::string enter_datastore(const RunningPod& pod, const std::string& name,
                                const std::string& schema);
    std::string enter_override(const RunningPod& pod, const std::string& override,
                               const std::string& schema);
    std::string refusal_of(const std::string& store, const std::string& schema,
                           const Admission& request) const;
    void start_tenant(Tenant& tenant, const RunningPod& pod);
    void lead_later(Tenant& tenant, Duration delay);
    void lead(Tenant& tenant);
    void fill_tenant(Tenant& tenant);
    void sign_later(const std::string& id, Duration delay);
    void sign_cluster_info(Tenant& tenant);
    void clean_later(const std::string& id);
    bool remove_expired_tokens(Tenant& tenant);
    Duration soon(Duration low, Duration high) {
        return options_.calm ? low : chaos_.between(low, high);
    }
    void observe(const Write& write, const std::string& where);
    void observe_etcd(const std::string& store, const std::string& who, const std::string& method);
    void note_controller_write(std::string line, const std::string& who, const std::string& what);
    std::string lease_holder() const;
    void check_leader(const std::string& who, const std::string& what);
    Duration way_to_etcd(const Datastore& store, const std::string& who);
    void check_left_data(const Write& write);

    WorldOptions options_;
    async::SimLoop loop_;
    Chaos chaos_;
    pki::SimKeySource keys_;
    KeyWatch key_watch_{loop_};
    std::unique_ptr<ApiServer> api_;
    std::unique_ptr<Cluster> cluster_;
    std::map<std::string, std::unique_ptr<Datastore>> datastores_;
    std::map<std::string, std::unique_ptr<Tenant>> tenants_;  ///< By "datastore/schema".
    std::vector<std::unique_ptr<Instance>> instances_;
    int instances_made_ = 0;
    int tenants_made_ = 0;
    uint64_t controller_writes_ = 0;
    uint64_t writes_ = 0;
    uint64_t event_writes_ = 0;
    uint64_t trace_ = 0;
    std::set<std::pair<std::string, std::string>> left_behind_;  ///< Datastore and name.
    TimePoint last_write_at_{};
    std::deque<std::string> recent_writes_;
};

/// The value of a container's flag ("--flag=value"), or "".
std::string flag_of(const Value& pod, const std::string& container, const std::string& flag);

}  // namespace basalt::sim
