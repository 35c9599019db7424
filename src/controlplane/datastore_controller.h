// The controller of DataStores: resolves what they name, connects, and says whether they can take
// tenants.
//
// A pass resolves endpoints and PEM texts (datastore_plan.h), keeps one etcd::Client for as long as
// none of them changes, asks the servers when it is time to, and publishes the outcome three times:
// in the registry, from which control planes take it; to `on_change`, when they have to look again;
// in the status, with conditions and events.
//
// Secrets are watched one by one, each with a field selector on its name: the few that DataStores
// name are then in memory and no other, an unrelated Secret's change wakes nobody, and the server
// answers from its index. (One metadata watch of all Secrets would cost memory for each of them and
// an event for each of their changes, and the content would still have to be read.) A watch ends
// when no DataStore names its Secret any more.
//
// The servers are asked at the start, when something changed, when a control plane reports a
// failure (at most every kSuspicionInterval), with a back-off of 1 to 30 s while they are not fit,
// and every half minute while they are: a full etcd shows in no other way. While the alarm NOSPACE
// is raised, space is freed and the alarm cleared.
//
// One loop. stop() before destruction.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "async/task_group.h"
#include "controller/apply.h"
#include "controller/controller.h"
#include "controller/events.h"
#include "controller/manager.h"
#include "controlplane/datastore.h"
#include "controlplane/datastore_plan.h"

namespace basalt::controlplane {

/// Makes a client for what a DataStore resolved to.
using EtcdConnector =
    std::function<Result<std::shared_ptr<etcd::Client>>(const DataStoreMaterial& material)>;
/// Over TLS. `loop` must outlive the clients.
EtcdConnector etcd_connector(async::Loop& loop);

struct DataStoreOptions {
    DataStoreOptions() = default;
    SettingsDefaults defaults;
    size_t workers_count = 4;
    Duration healthy_interval = std::chrono::seconds(30);
    Duration backoff_min = std::chrono::seconds(1);
    Duration backoff_max = std::chrono::seconds(30);
    /// Of freeing space while the alarm stays, or comes back soon; it costs the servers a pause
    /// each.
    Duration relief_backoff_min = std::chrono::seconds(30);
    Duration relief_backoff_max = std::chrono::minutes(10);
    Duration check_timeout = std::chrono::seconds(30);
    /// How long a Secret's watch may take to show its state.
    Duration secret_timeout = std::chrono::seconds(10);
};

/// Between two checks that control planes ask for.
inline constexpr Duration kSuspicionInterval = std::chrono::seconds(5);

class DataStoreController {
 public:
    using OnChange = std::function<void(const std::string& name)>;

    DataStoreController(controller::Manager& manager, DataStoreRegistry& registry,
                        controller::EventRecorder& events, EtcdConnector connector,
                        DataStoreOptions options, OnChange on_change);
    ~DataStoreController();
    DataStoreController(const DataStoreController&) = delete;
    DataStoreController& operator=(const DataStoreController&) = delete;

    /// A control plane could not use the DataStore: it is looked at soon. Errors that say nothing
    /// about the servers are ignored.
    void report_failure(const std::string& name, const Error& error);
    /// Ends the watches of Secrets and waits for them.
    async::Task<void> stop();

    size_t watched_secrets_count() const { return secrets_.size(); }

 private:
    struct State {
        std::string identity;  ///< Of the material that `view` was made from.
        std::shared_ptr<const DataStoreView> view;
        Verdict verdict;
        TimePoint checked_at{};
        TimePoint check_due{};
        Duration backoff{0};
        bool suspected = false;
        TimePoint relief_due{};
        Duration relief_backoff{0};
        bool relieved = false;  ///< The last time the alarm could be cleared.
        int64_t relief_size_in_use = 0;
        std::string deletion_note;
        std::vector<kube::ObjectKey> secrets;
    };
    struct SecretWatch {
        SecretWatch(kube::Client& client, async::Loop& loop, kube::CacheOptions options);
        kube::Cache cache;
        async::TaskGroup group;
        std::set<std::string> users;  ///< Names of DataStores.
    };

    async::Task<Result<controller::Outcome>> reconcile(controller::Key key);
    async::Task<Result<controller::Outcome>> serve(std::string name, data::SharedValue object,
                                                   std::vector<std::string> used_by);
    async::Task<Result<void>> watch_secrets(std::string name, State* state,
                                            std::vector<kube::ObjectKey> wanted);
    async::Task<Result<void>> wait_for_secret(kube::ObjectKey key);
    async::Task<void> release_secret(kube::ObjectKey key, std::string name);
    async::Task<Result<void>> resolve(State* state, data::SharedValue object);
    async::Task<Result<void>> check(State* state, std::string notice, data::SharedValue object);
    async::Task<Result<bool>> relieve(State* state, etcd::Health health, data::SharedValue object);
    async::Task<void> forget(std::string name);
    async::Task<Result<void>> write_status(const State* state, data::SharedValue object,
                                           std::vector<std::string> used_by);
    void publish(const std::string& name, const State& state);
    void report(const State& state, const data::Value& object,
                const std::vector<std::string>& used_by);
    void note_deletion(State& state, const data::Value& object,
                       const std::vector<std::string>& used_by);
    void schedule(State& state);
    data::SharedValue find_secret(const kube::ObjectKey& key) const;
    std::vector<std::string> users_of(const std::string& name) const;
    std::vector<controller::Key> concerned(const kube::Change& change) const;

    controller::Manager& manager_;
    DataStoreRegistry& registry_;
    controller::EventRecorder& events_;
    EtcdConnector connector_;
    DataStoreOptions options_;
    OnChange on_change_;
    controller::Applier applier_;
    kube::Cache& data_stores_;
    kube::Cache& control_planes_;
    controller::Controller* controller_ = nullptr;
    std::map<std::string, State> states_;
    std::map<kube::ObjectKey, std::unique_ptr<SecretWatch>> secrets_;
};

}  // namespace basalt::controlplane
