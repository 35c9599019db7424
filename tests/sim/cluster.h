// What else runs in a cluster: Deployments, ReplicaSets, kubelets, load balancer, garbage
// collector; as models that act on the API server's objects like the real ones, a random moment
// later. rollout_test.cc compares Deployments with the real controller manager; a change of
// replicas in the middle of a rollout goes to the new set alone here, to all sets in proportion
// there.
//
// A Pod becomes Ready when everything that its volumes name exists, after a random time, if its
// workload says so (Workload); control planes are workloads of the world. One loop.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/sim/api_server.h"
#include "tests/sim/connection.h"

namespace basalt::sim {

/// A started Pod with the content of its volumes as it was at its start: "volume/path" -> bytes.
struct RunningPod {
    SharedValue pod;
    std::map<std::string, std::string> files;
};

/// The IP address of the Pod with that uid.
std::string pod_address(std::string_view uid);

/// What runs in the Pods.
class Workload {
 public:
    virtual ~Workload() = default;
    /// Why the Pod cannot serve now, or "". Asked when it starts and after every touch().
    virtual std::string probe(const RunningPod& pod) = 0;
    virtual void serving(const RunningPod& pod) = 0;
    /// The Pod is gone or does not serve any more.
    virtual void stopped(const std::string& pod_uid) = 0;
};

class Cluster {
 public:
    Cluster(async::Loop& loop, Chaos& chaos, ApiServer& api, Workload& workload);
    ~Cluster();

    /// To be called from ApiServer::on_write.
    void note(const Write& write);
    /// Something outside changed: all Pods are probed again.
    void touch();
    /// Times are as short as they can be: for the undisturbed world.
    bool calm = false;

 private:
    struct PodState {
        TimePoint due{};
        bool serving = false;
        bool ready = false;
        bool probe_again = false;
        int restarts = 0;
        std::shared_ptr<RunningPod> running;
    };
    void wake(Duration low, Duration high);
    void step();
    void sync_deployments();
    void sync_deployment(const Value& deployment);
    void write_deployment_status(const Value& deployment, const std::vector<SharedValue>& sets,
                                 const std::string& current);
    SharedValue current_set(const Value& deployment, const std::vector<SharedValue>& sets);
    void scale(const Value& set, int64_t replicas);
    void sync_replica_sets();
    void sync_pods();
    void sync_pod(const Value& pod, PodState& state);
    std::string mount(const Value& pod, RunningPod& running) const;
    void report(const Value& pod, const std::string& reason, const std::string& message);
    void sync_services();
    std::vector<SharedValue> owned(const kube::Resource& resource, const Value& owner) const;
    Duration soon(Duration low, Duration high);

    async::Loop& loop_;
    Chaos& chaos_;
    ApiServer& api_;
    Workload& workload_;
    std::map<std::string, PodState> pods_;  ///< By uid.
    async::Loop::TimerId timer_ = 0;
    TimePoint timer_at_{};
    int names_ = 0;
};

}  // namespace basalt::sim
