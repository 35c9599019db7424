// Hosted control planes with real parts around our controllers, without a cluster: the management
// cluster is a real kube-apiserver with our CRDs, DataStores are real etcd servers, and the Pod of
// a control plane is played by the real kube-apiserver that its Deployment asks for, started with
// exactly those arguments and files. What is missing is done by hand: status of the Deployment,
// the controller manager's signatures.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "controlplane/control_plane_controller.h"
#include "controlplane/datastore_controller.h"
#include "etcd/etcd_process.h"
#include "pki/key.h"
#include "tests/integration/kube_server.h"

namespace basalt::integration {

using kube::ObjectKey;
using kube::Value;

class ControlPlaneTest : public KubeTest {
 protected:
    ControlPlaneTest();
    ~ControlPlaneTest() override;
    void SetUp() override;
    void TearDown() override;

    /// An etcd with an authority of its own, and the DataStore that names it. Names are made
    /// unique; returns the DataStore's.
    std::string add_datastore(const std::string& name, std::vector<std::string> flags = {});
    etcd::EtcdProcess& etcd_of(const std::string& datastore) { return *stores_.at(datastore); }
    etcd::Client& root_of(const std::string& datastore) { return *roots_.at(datastore); }
    /// How many keys begin with /<schema>/<what>.
    int64_t count_keys(const std::string& datastore, const std::string& schema,
                       const std::string& what = {});

    void start_controllers();
    void stop_controllers();

    /// A control plane in the test's namespace, listening on a port of its own; `patch` (YAML) is
    /// merged over it.
    void create(const std::string& name, const std::string& datastore,
                const std::string& patch = "{}");
    Value control_plane(const std::string& name);
    Value condition(const std::string& name, std::string_view type);
    void patch(const std::string& name, const std::string& yaml);
    bool wait_condition(const std::string& name, std::string_view type, std::string_view status,
                        std::string_view reason = {}, Duration limit = std::chrono::minutes(1));
    /// The same while Pods follow their Deployments.
    bool wait_ready(const std::string& name);
    bool wait_with_pods(const std::function<bool()>& done, Duration limit);
    void restart_pod(const std::string& name);
    /// How often the Pod was started: for each other template.
    int starts_count(const std::string& name) const { return pods_.at(name).starts_count; }
    /// To the API server of a control plane, as its administrator.
    kube::Client& tenant(const std::string& name);
    Value secret(const std::string& name);

    std::string ns_;
    controlplane::DataStoreRegistry registry_;

 private:
    struct Pod {
        std::string directory, template_text;
        std::unique_ptr<Process> process;
        int64_t ready_generation = 0;
        int starts_count = 0;
        int64_t port = 0;
    };
    struct Controllers;
    void install_kinds();
    void follow_deployments();
    void start_pod(const std::string& name, Pod& pod, const Value& deployment);
    void write_files(const std::string& directory, const Value& deployment);
    Result<std::shared_ptr<net::HttpTransport>> connect(const std::string& server,
                                                        const std::string& server_name,
                                                        const controlplane::SecretData& admin);
    void sign_tokens(const std::string& name);

    std::string run_id_;
    std::map<std::string, std::unique_ptr<etcd::EtcdProcess>> stores_;
    std::map<std::string, std::unique_ptr<etcd::Client>> roots_;
    std::map<std::string, Pod> pods_;
    std::map<std::string, std::unique_ptr<kube::Client>> tenants_;
    std::unique_ptr<kube::Client> work_;
    std::unique_ptr<Controllers> controllers_;
    TimePoint next_look_{};
};

}  // namespace basalt::integration
