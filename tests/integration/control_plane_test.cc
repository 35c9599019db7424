// Whole control planes with real parts: control_plane_world.h.
#include <fmt/format.h>

#include "controlplane/names.h"
#include "controlplane/write_permissions.h"
#include "data/base64.h"
#include "data/json.h"
#include "data/yaml.h"
#include "etcd/health.h"
#include "tests/integration/control_plane_world.h"

namespace basalt::integration {
namespace {

using namespace std::chrono_literals;
using namespace controlplane;
namespace resources = kube::resources;

Value config_map(const std::string& ns, const std::string& name) {
    Value object = kube::make_object(resources::config_maps(), ObjectKey(ns, name));
    object.set("data", Value::object({{"value", "1"}}));
    return object;
}

Value yaml(const std::string& text) { return data::parse_yaml(text).value(); }

// ---- overrides

class OverridesTest : public ControlPlaneTest {};

TEST_P(OverridesTest, EventsLiveInAnotherDataStoreWithAnAuthorityOfItsOwn) {
    const std::string main = add_datastore("main");
    const std::string events = add_datastore("events");
    start_controllers();
    create("a", main,
           fmt::format("{{spec: {{dataStoreOverrides: [{{resource: /events, dataStore: {}}}]}}}}",
                       events));
    ASSERT_TRUE(wait_ready("a"));
    const std::string uid = control_plane("a")["metadata"]["uid"].str();

    kube::Client& in = tenant("a");
    ASSERT_TRUE(run(in.create(resources::config_maps(), config_map("default", "x"))).ok());
    Value event = yaml(
        "{apiVersion: v1, kind: Event, metadata: {name: e, namespace: default}, involvedObject: "
        "{kind: ConfigMap, name: x, namespace: default}, reason: Tested, message: hello, type: "
        "Normal}");
    const kube::Resource core_events("v1", "events", "Event");
    ASSERT_TRUE(run(in.create(core_events, event)).ok());
    EXPECT_EQ(count_keys(events, uid, "events/"), 1);
    EXPECT_EQ(count_keys(main, uid, "events/"), 0);
    EXPECT_EQ(count_keys(events, uid, "configmaps/"), 0);
    EXPECT_GE(count_keys(main, uid, "configmaps/"), 1);
    for (const std::string& store : {main, events}) {
        Result<std::vector<etcd::Permission>> role = run(root_of(store).role_get(uid));
        ASSERT_TRUE(role.ok());
        ASSERT_EQ(role->size(), 1u);
        EXPECT_EQ(role->front().range, *etcd::tenant_range(uid));
        const auto used = [&] {
            Result<Value> object = run(client->get(data_stores(), ObjectKey(store)));
            return object.ok() && (*object)["status"]["usedBy"].as_string_list() ==
                                      std::vector<std::string>{ns_ + "/a"};
        };
        EXPECT_TRUE(wait_until(used, 20s)) << store;
    }

    // Away from there: nothing is left behind, and the rest goes on.
    patch("a", "{spec: {dataStoreOverrides: []}}");
    // The access goes first, so that nothing is written any more, and the keys at the end.
    const auto cleaned = [&] {
        Result<std::vector<std::string>> user = run(root_of(events).user_get(uid));
        return !user.ok() && user.error().code() == Code::kNotFound && count_keys(events, uid) == 0;
    };
    ASSERT_TRUE(wait_with_pods(cleaned, 1min));
    EXPECT_FALSE(run(root_of(events).role_get(uid)).ok());
    ASSERT_TRUE(wait_ready("a"));
    EXPECT_EQ(starts_count("a"), 2);
    EXPECT_TRUE(run(in.get(resources::config_maps(), ObjectKey("default", "x"))).ok());
    const auto unused = [&] {
        Result<Value> object = run(client->get(data_stores(), ObjectKey(events)));
        return object.ok() && (*object)["status"]["usedBy"].empty();
    };
    EXPECT_TRUE(wait_with_pods(unused, 20s));

    // And with it again, deletion cleans both.
    patch("a", fmt::format("{{spec: {{dataStoreOverrides: [{{resource: /events, dataStore: "
                           "{}}}]}}}}",
                           events));
    ASSERT_TRUE(wait_with_pods([&] { return run(root_of(events).user_get(uid)).ok(); }, 1min));
    ASSERT_TRUE(run(client->remove(tenant_control_planes(), ObjectKey(ns_, "a"))).ok());
    ASSERT_TRUE(wait_with_pods([&] { return control_plane("a").is_null(); }, 1min));
    for (const std::string& store : {main, events}) {
        EXPECT_EQ(count_keys(store, uid), 0) << store;
        EXPECT_FALSE(run(root_of(store).user_get(uid)).ok()) << store;
        EXPECT_FALSE(run(root_of(store).role_get(uid)).ok()) << store;
    }
}

TEST_P(OverridesTest, TheSecondClaimantOfAUserIsRefusedInThePassToo) {
    const std::string main = add_datastore("main");
    const std::string spec = "{spec: {dataStoreSchema: shared, dataStoreUsername: shared}}";
    // Without a webhook in between both exist.
    create("a", main, spec);
    create("b", main, spec);
    start_controllers();
    const auto is = [&](const char* name, std::string_view field, std::string_view value) {
        return condition(name, kDataStoreReady)[field].as_string() == value;
    };
    const auto decided = [&] {
        return (is("a", "status", "True") && is("b", "reason", "StorageInUse")) ||
               (is("b", "status", "True") && is("a", "reason", "StorageInUse"));
    };
    ASSERT_TRUE(wait_until(decided, 30s));
    const bool a_first = condition("a", kDataStoreReady)["status"].as_string() == "True";
    const std::string second = a_first ? "b" : "a";
    EXPECT_EQ(condition(a_first ? "a" : "b", kDataStoreReady)["status"].as_string(), "True");
    EXPECT_EQ(condition(second, kDataStoreReady)["reason"].as_string(), "StorageInUse");
    EXPECT_TRUE(secret(names::datastore_certificate(second)).is_null())
        << "no credential for what belongs to somebody else";
}

// Taken away in etcd while nobody looked: found again when the API server says that it is not well.
TEST_P(OverridesTest, StorageIsSetUpAgainWhenItWasLost) {
    const std::string main = add_datastore("main");
    start_controllers();
    create("a", main);
    ASSERT_TRUE(wait_ready("a"));
    const std::string uid = control_plane("a")["metadata"]["uid"].str();
    ASSERT_TRUE(run(root_of(main).user_delete(uid)).ok());
    Value status = yaml("{status: {readyReplicas: 0, availableReplicas: 0}}");
    kube::WriteOptions options;
    options.subresource = "status";
    ASSERT_TRUE(
        run(client->merge_patch(resources::deployments(), ObjectKey(ns_, "a"), status, options))
            .ok());
    EXPECT_TRUE(wait_until([&] { return run(root_of(main).user_get(uid)).ok(); }, 30s));
}

// ---- write permissions

class WriteLimitsTest : public ControlPlaneTest {
 protected:
    static std::string word(const Result<Value>& result) {
        if (result.ok()) return "allowed";
        if (result.error().code() == Code::kPermissionDenied) return "forbidden";
        return result.error().to_string();
    }
    kube::Client& in() { return tenant("a"); }
    std::string create_one(const Value& object, const kube::Resource& resource) {
        return word(run(in().create(resource, object)));
    }
    std::string change(const kube::Resource& resource, const ObjectKey& key) {
        return word(run(in().merge_patch(
            resource, key, yaml(fmt::format("{{metadata: {{annotations: {{n: '{}'}}}}}}", ++n_)))));
    }
    std::string remove(const kube::Resource& resource, const ObjectKey& key) {
        return word(run(in().remove(resource, key)));
    }
    void prepare() {
        const std::string main = add_datastore("main");
        start_controllers();
        create("a", main);
        ASSERT_TRUE(wait_ready("a"));
        ASSERT_EQ(create_one(yaml("{apiVersion: v1, kind: ServiceAccount, metadata: {name: "
                                  "default, namespace: default}}"),
                             accounts),
                  "allowed");
        for (const char* name : {"x", "y", "z"})
            ASSERT_EQ(create_one(config_map("default", name), resources::config_maps()), "allowed");
        ASSERT_EQ(create_one(pod("p"), resources::pods()), "allowed");
        ASSERT_EQ(create_one(yaml("{apiVersion: v1, kind: Node, metadata: {name: n1}}"),
                             resources::nodes()),
                  "allowed");
        for (const char* ns : {"kube-node-lease", "default"}) {
            Value lease = kube::make_object(resources::leases(), ObjectKey(ns, "n1"));
            lease.at("spec").set("holderIdentity", "n1");
            ASSERT_EQ(create_one(lease, resources::leases()), "allowed");
        }
    }
    Value pod(const std::string& name) {
        return yaml("{apiVersion: v1, kind: Pod, metadata: {name: " + name +
                    ", namespace: default}, spec: {containers: [{name: a, image: a}]}}");
    }
    /// What keeps the cluster alive, in every mode.
    void expect_alive() {
        EXPECT_EQ(change(resources::leases(), ObjectKey("kube-node-lease", "n1")), "allowed");
        EXPECT_EQ(change(resources::leases(), ObjectKey("default", "n1")), "allowed");
        EXPECT_EQ(change(resources::nodes(), ObjectKey("n1")), "allowed");
        kube::WriteOptions status;
        status.subresource = "status";
        Value beat = yaml("{status: {conditions: [{type: Ready, status: 'True', reason: " +
                          fmt::format("R{}", ++n_) + "}]}}");
        EXPECT_EQ(word(run(in().merge_patch(resources::nodes(), ObjectKey("n1"), beat, status))),
                  "allowed");
        const std::string name = fmt::format("s{}", ++n_);
        const kube::Resource core_events("v1", "events", "Event");
        EXPECT_EQ(create_one(yaml("{apiVersion: v1, kind: Event, metadata: {name: " + name +
                                  ", namespace: default}, involvedObject: {kind: Pod, name: p, "
                                  "namespace: default}, reason: Tested, message: m}"),
                             core_events),
                  "allowed");
        EXPECT_EQ(create_one(config_map("kube-system", name), resources::config_maps()), "allowed");
        EXPECT_EQ(remove(resources::config_maps(), ObjectKey("kube-system", name)), "allowed");
        const kube::Resource slices("discovery.k8s.io/v1", "endpointslices", "EndpointSlice");
        EXPECT_EQ(create_one(yaml("{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, "
                                  "addressType: IPv4, endpoints: [], metadata: {name: " +
                                  name + ", namespace: default}}"),
                             slices),
                  "allowed");
        const kube::Resource reviews("authorization.k8s.io/v1", "selfsubjectaccessreviews",
                                     "SelfSubjectAccessReview", false);
        EXPECT_EQ(create_one(yaml("{apiVersion: authorization.k8s.io/v1, kind: "
                                  "SelfSubjectAccessReview, spec: {resourceAttributes: {verb: "
                                  "get, resource: pods}}}"),
                             reviews),
                  "allowed");
        kube::WriteOptions token;
        token.subresource = "token";
        Value request = yaml(
            "{apiVersion: authentication.k8s.io/v1, kind: TokenRequest, metadata: {name: default, "
            "namespace: default}, spec: {audiences: []}}");
        EXPECT_EQ(word(run(in().create(accounts, request, token))), "allowed");
    }
    std::string evict() {
        kube::WriteOptions eviction;
        eviction.subresource = "eviction";
        Value request = yaml(
            "{apiVersion: policy/v1, kind: Eviction, metadata: {name: p, "
            "namespace: default}}");
        return word(run(in().create(resources::pods(), request, eviction)));
    }
    bool wait_limited(const char* status = "True") {
        const auto holds = [&] {
            return condition("a", kWriteLimited)["status"].as_string() == status;
        };
        if (!wait_with_pods(holds, 30s)) {
            ADD_FAILURE() << data::to_json(control_plane("a")["status"]["conditions"]);
            return false;
        }
        return true;
    }
    /// The API server's informers follow within a moment.
    bool becomes(const std::function<std::string()>& what, const char* word_wanted) {
        return wait_until([&] { return what() == word_wanted; }, 20s);
    }

    const kube::Resource accounts{"v1", "serviceaccounts", "ServiceAccount"};
    int n_ = 0;
};

TEST_P(WriteLimitsTest, NobodyInTheTenantWritesOrTakesThemAway) {
    ASSERT_NO_FATAL_FAILURE(prepare());
    const ObjectKey x("default", "x");
    const auto touch = [&] { return change(resources::config_maps(), x); };
    patch("a",
          "{spec: {writePermissions: {blockCreation: true, blockUpdate: true, "
          "blockDeletion: true}}}");
    ASSERT_TRUE(wait_limited());
    ASSERT_TRUE(becomes(touch, "forbidden")) << touch();
    Result<Value> refused =
        run(in().create(resources::config_maps(), config_map("default", "new")));
    ASSERT_FALSE(refused.ok());
    EXPECT_NE(refused.error().message().find("does not allow new objects"), std::string::npos)
        << refused.error().message();
    EXPECT_EQ(remove(resources::config_maps(), x), "forbidden");
    EXPECT_EQ(
        word(run(in().remove_collection(resources::config_maps(), "default", kube::ListOptions()))),
        "forbidden");
    EXPECT_EQ(create_one(pod("q"), resources::pods()), "forbidden");
    EXPECT_EQ(evict(), "forbidden");
    EXPECT_EQ(create_one(yaml("{apiVersion: v1, kind: Namespace, metadata: {name: more}}"),
                         resources::namespaces()),
              "forbidden");
    EXPECT_EQ(remove(resources::namespaces(), ObjectKey("default")), "forbidden");
    expect_alive();

    // What refuses the writes cannot be written either, in no way.
    const ObjectKey name{std::string(kLimitsName)};
    for (const kube::Resource* resource : {&resources::validating_admission_policies(),
                                           &resources::validating_admission_policy_bindings()}) {
        EXPECT_NE(remove(*resource, name), "allowed");
        EXPECT_NE(change(*resource, name), "allowed");
        EXPECT_TRUE(run(in().get(*resource, name)).ok());
    }
    EXPECT_NE(word(run(in().remove_collection(resources::validating_admission_policy_bindings(), "",
                                              kube::ListOptions()))),
              "allowed");
    EXPECT_TRUE(run(in().get(resources::validating_admission_policy_bindings(), name)).ok());
    EXPECT_NE(create_one(yaml("{apiVersion: admissionregistration.k8s.io/v1, kind: "
                              "ValidatingWebhookConfiguration, metadata: {name: mine}}"),
                         resources::validating_webhook_configurations()),
              "allowed");
    EXPECT_EQ(touch(), "forbidden");

    // Ours are mended all the same.
    const kube::Resource bindings("rbac.authorization.k8s.io/v1", "clusterrolebindings",
                                  "ClusterRoleBinding", false);
    const ObjectKey kubelets("kubeadm:kubelet-bootstrap");
    ASSERT_EQ(remove(bindings, kubelets), "allowed");
    EXPECT_TRUE(wait_with_pods([&] { return run(in().get(bindings, kubelets)).ok(); }, 30s));

    // A start under them, of the API server and of ours: nothing is written, nothing is open.
    const Value before = run(in().get(resources::validating_admission_policies(), name)).value();
    restart_pod("a");
    stop_controllers();
    start_controllers();
    ASSERT_TRUE(wait_with_pods(
        [&] { return starts_count("a") == 2 && run(in().request_text("GET", "/readyz")).ok(); },
        1min));
    ASSERT_TRUE(wait_ready("a"));
    EXPECT_EQ(touch(), "forbidden");
    const Value after = run(in().get(resources::validating_admission_policies(), name)).value();
    EXPECT_EQ(after["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"]);

    patch("a",
          "{spec: {writePermissions: {blockCreation: false, blockUpdate: false, "
          "blockDeletion: false}}}");
    ASSERT_TRUE(wait_limited(""));
    ASSERT_TRUE(becomes(touch, "allowed")) << touch();
    EXPECT_FALSE(run(in().get(resources::validating_admission_policies(), name)).ok());
    const std::string uid = control_plane("a")["metadata"]["uid"].str();
    const std::string store = control_plane("a")["spec"]["dataStore"].str();
    EXPECT_EQ(run(root_of(store).role_get(uid))->size(), 1u);
}

TEST_P(WriteLimitsTest, OneOperationAtATime) {
    ASSERT_NO_FATAL_FAILURE(prepare());
    const auto touch = [&] { return change(resources::config_maps(), ObjectKey("default", "x")); };
    const auto drop = [&] {
        return remove(resources::config_maps(), ObjectKey("default", "none"));
    };
    const auto add = [&] {
        return create_one(config_map("default", fmt::format("c{}", ++n_)),
                          resources::config_maps());
    };
    patch("a", "{spec: {writePermissions: {blockDeletion: true}}}");
    ASSERT_TRUE(wait_limited());
    // Another object each time: one that is deleted before the policy is known is gone.
    const auto drop_new = [&] {
        const std::string added = add();
        if (added != "allowed") return "creation: " + added;
        return remove(resources::config_maps(), ObjectKey("default", fmt::format("c{}", n_)));
    };
    ASSERT_TRUE(becomes(drop_new, "forbidden")) << drop_new();
    EXPECT_EQ(remove(resources::config_maps(), ObjectKey("default", "y")), "forbidden");
    EXPECT_TRUE(run(in().get(resources::config_maps(), ObjectKey("default", "y"))).ok());
    EXPECT_EQ(evict(), "forbidden");
    EXPECT_EQ(touch(), "allowed");
    EXPECT_EQ(add(), "allowed");
    // Only what guards itself is sealed.
    EXPECT_EQ(create_one(yaml("{apiVersion: admissionregistration.k8s.io/v1, kind: "
                              "ValidatingWebhookConfiguration, metadata: {name: mine}}"),
                         resources::validating_webhook_configurations()),
              "allowed");
    expect_alive();
    patch("a", "{spec: {writePermissions: {blockCreation: true, blockDeletion: null}}}");
    ASSERT_TRUE(becomes(add, "forbidden")) << add();
    EXPECT_NE(drop(), "forbidden");
    EXPECT_EQ(touch(), "allowed");
    EXPECT_EQ(evict(), "allowed");
    expect_alive();
    patch("a", "{spec: {writePermissions: {blockCreation: null, blockUpdate: true}}}");
    ASSERT_TRUE(becomes(touch, "forbidden")) << touch();
    EXPECT_EQ(add(), "allowed");
    expect_alive();
}

async::Task<void> delete_for_ever(kube::Client* in, const bool* stop, int* removed_count) {
    const ObjectKey name{std::string(kLimitsName)};
    kube::DeleteOptions options;
    while (!*stop) {
        Result<Value> one =
            co_await in->remove(resources::validating_admission_policy_bindings(), name, options);
        Result<Value> two =
            co_await in->remove(resources::validating_admission_policies(), name, options);
        *removed_count += (one.ok() ? 1 : 0) + (two.ok() ? 1 : 0);
    }
}

TEST_P(WriteLimitsTest, ARaceIsNotWon) {
    ASSERT_NO_FATAL_FAILURE(prepare());
    bool stop = false;
    int removed_count = 0;
    async::TaskGroup attack(*loop);
    for (int i = 0; i < 4; ++i) attack.spawn(delete_for_ever(&in(), &stop, &removed_count));
    patch("a", "{spec: {writePermissions: {blockUpdate: true}}}");
    EXPECT_TRUE(wait_limited());
    const int by_then = removed_count;
    const auto touch = [&] { return change(resources::config_maps(), ObjectKey("default", "x")); };
    EXPECT_TRUE(becomes(touch, "forbidden")) << touch();
    EXPECT_EQ(removed_count, by_then);
    stop = true;
    EXPECT_TRUE(wait_until([&] { return attack.size() == 0; }, 30s));
    EXPECT_EQ(touch(), "forbidden");
}

// ---- a full etcd

class FullStoreTest : public ControlPlaneTest {
 protected:
    /// Up to where freeing helps no more: the file grows ahead of the data, and the first alarms
    /// are mended by the controller before anybody sees them.
    void fill(etcd::Client& root) {
        const std::string block(500'000, 'x');
        Result<etcd::SpaceRelief> relief = etcd::SpaceRelief{true, 0, 0};
        for (int i = 0; i < 200 && relief->alarm_cleared; ++i) {
            Result<void> put = run(root.put(fmt::format("/filling/{}", i), block));
            if (put.ok()) continue;
            ASSERT_EQ(put.error().reason(), "NoSpace") << put.error().to_string();
            relief = run(etcd::relieve_space(root));
            ASSERT_TRUE(relief.ok()) << relief.error().to_string();
        }
        ASSERT_FALSE(relief->alarm_cleared);
    }
};

TEST_P(FullStoreTest, IsOneConditionOnAllOfItAndMendsItself) {
    const std::string full = add_datastore("full", {"--quota-backend-bytes=16777216"});
    const std::string other = add_datastore("other");
    start_controllers();
    create("a", full);
    create("b", full,
           fmt::format("{{spec: {{dataStore: {}, dataStoreOverrides: [{{resource: "
                       "/events, dataStore: {}}}]}}}}",
                       other, full));
    create("c", other);
    for (const char* name : {"a", "b", "c"}) ASSERT_TRUE(wait_ready(name)) << name;
    const Value calm = control_plane("c");

    ASSERT_NO_FATAL_FAILURE(fill(root_of(full)));
    for (const char* name : {"a", "b"}) {
        ASSERT_TRUE(wait_condition(name, kReady, "False", "NoSpace"));
        EXPECT_EQ(condition(name, kDataStoreReady)["reason"].as_string(), "NoSpace");
        const std::string message = condition(name, kReady)["message"].str();
        EXPECT_NE(message.find("DataStore " + full), std::string::npos) << message;
    }
    kube::Client& in_c = tenant("c");
    EXPECT_TRUE(run(in_c.create(resources::config_maps(), config_map("default", "x"))).ok());

    // Somebody makes room; compaction, defragmentation and the alarm are ours.
    etcd::KeyRange filling{"/filling/", "/filling0"};
    ASSERT_TRUE(run(root_of(full).delete_range(filling)).ok());
    for (const char* name : {"a", "b"}) ASSERT_TRUE(wait_condition(name, kReady, "True"));
    EXPECT_TRUE(run(root_of(full).alarms())->empty());
    for (const char* name : {"a", "b"}) {
        kube::Client& in = tenant(name);
        Result<Value> made =
            run(in.create(resources::config_maps(), config_map("default", "afterwards")));
        EXPECT_TRUE(made.ok()) << made.error().to_string();
    }
    EXPECT_EQ(control_plane("c")["metadata"]["resourceVersion"],
              calm["metadata"]["resourceVersion"])
        << "others notice nothing";
}

INSTANTIATE_TEST_SUITE_P(Kube, OverridesTest, testing::Values(BASALT_KUBE_VERSIONS), version_name);
INSTANTIATE_TEST_SUITE_P(Kube, WriteLimitsTest, testing::Values(BASALT_KUBE_VERSIONS),
                         version_name);
INSTANTIATE_TEST_SUITE_P(Kube, FullStoreTest, testing::Values("1.36.3"), version_name);

}  // namespace
}  // namespace basalt::integration
