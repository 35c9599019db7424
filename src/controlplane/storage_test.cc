// What control planes say of their DataStores, and what they tell them.
#include <gtest/gtest.h>

#include "async/sim_loop.h"
#include "controlplane/control_plane_controller.h"
#include "controlplane/testdata_test.h"
#include "etcd/model.h"
#include "kube/test_server.h"
#include "pki/certificate.h"

namespace basalt::controlplane {
namespace {

using data::Value;
using namespace std::chrono_literals;

const std::string kPlanes = "/apis/kamaji.clastix.io/v1alpha1/namespaces/team/tenantcontrolplanes/";
const std::string kDeployments = "/apis/apps/v1/namespaces/team/deployments/";

controller::EventRecorder::Options event_options() {
    controller::EventRecorder::Options options;
    options.controller = "basalt.dev/test";
    return options;
}

ControlPlaneOptions plane_options() {
    ControlPlaneOptions options;
    options.defaults.datastore = "main";
    options.image = "basalt:test";
    return options;
}

class StorageTest : public ::testing::Test {
 protected:
    StorageTest() {
        for (const char* name : {"main", "events", "other"}) add_datastore(name);
        registry.on_failure = [this](const std::string& name, const Error& error) {
            failures.emplace_back(name, error.code());
        };
        events.start(group);
    }
    ~StorageTest() override {
        group.cancel();
        loop.run_until([&] { return group.size() == 0; }, 1min);
        async::TaskGroup last(loop);
        last.spawn(subject.stop());
        loop.run_until([&] { return last.size() == 0; }, 1min);
    }
    void add_datastore(const std::string& name) {
        etcd::ModelEtcd& model = *(models[name] = std::make_unique<etcd::ModelEtcd>(loop));
        auto view = std::make_shared<DataStoreView>();
        view->name = name;
        view->driver = "etcd";
        view->endpoints = {name + ":2379"};
        pki::CertificateAuthority ca =
            pki::CertificateAuthority::create(keys, name, loop.wall_now());
        view->ca_pem = ca.certificate().to_pem();
        view->ca_key_pem = ca.key().to_pem();
        view->client = model.connect("root");
        ready[name] = {view, true, "Ready", "etcd answers", 0};
        registry.set(name, ready[name]);
    }
    void set_full(const std::string& name) {
        registry.set(name, {ready[name].view, false, "NoSpace", "etcd's space is used up", 0});
        subject.datastore_changed(name);
    }
    void set_ready(const std::string& name) {
        registry.set(name, ready[name]);
        subject.datastore_changed(name);
    }
    void put_plane(const std::string& name, const std::string& store,
                   const std::string& override_store = {}) {
        Value object = example_object();
        object.at("metadata").set("name", name);
        Value& spec = object.at("spec");
        spec.set("dataStore", store);
        spec.at("networkProfile").set("address", "172.18.0.10");
        if (!override_store.empty()) {
            spec.set("dataStoreOverrides",
                     Value::array({Value::object(
                         {{"resource", "/events"}, {"dataStore", override_store}})}));
        }
        Value service = kube::make_object(kube::resources::services(), {"team", name});
        service.at("spec").set("clusterIP", "10.96.0.10");
        server->put("/api/v1/namespaces/team/services/" + name, service);
        server->put(kPlanes + name, object);
    }
    Value condition(const std::string& name, std::string_view type) {
        const Value* object = server->object(kPlanes + name);
        return object == nullptr ? Value() : controller::find_condition((*object)["status"], type);
    }
    bool wait_condition(const std::string& name, std::string_view type, std::string_view reason) {
        return loop.run_until([&] { return condition(name, type)["reason"].as_string() == reason; },
                              10s);
    }
    void start() { group.spawn("manager", manager.run()); }
    /// As the management cluster does once the API server's Pod serves.
    void serve(const std::string& name) {
        ASSERT_TRUE(loop.run_until([&] { return server->object(kDeployments + name); }, 10s));
        Value deployment = *server->object(kDeployments + name);
        deployment.set("status", data::parse_yaml("{observedGeneration: 100, replicas: 1, "
                                                  "updatedReplicas: 1, readyReplicas: 1}")
                                     .value());
        server->put(kDeployments + name, deployment);
    }

    async::SimLoop loop{1};
    pki::SimKeySource keys{7};
    std::shared_ptr<kube::testing::TestServer> server =
        std::make_shared<kube::testing::TestServer>(loop);
    /// Of every tenant: it answers what `tenant_says`.
    std::string tenant_says = "etcdserver: mvcc: database space exceeded";
    std::shared_ptr<net::HttpTransport> tenant = std::make_shared<kube::testing::ScriptedTransport>(
        loop, [this](const net::HttpRequest&) -> Result<net::HttpResponse> {
            return kube::testing::respond(
                500, kube::testing::status_document(500, "InternalError", tenant_says));
        });
    kube::Client client{loop, server};
    controller::Manager manager{client, client};
    DataStoreRegistry registry;
    std::map<std::string, std::unique_ptr<etcd::ModelEtcd>> models;
    std::map<std::string, DataStoreRegistry::Entry> ready;
    std::vector<std::pair<std::string, Code>> failures;
    controller::EventRecorder events{client, event_options()};
    ControlPlaneController subject{
        manager,
        registry,
        keys,
        events,
        [this](const std::string&, const std::string&, const SecretData&) {
            return Result<std::shared_ptr<net::HttpTransport>>(tenant);
        },
        plane_options()};
    async::TaskGroup group{loop};
};

TEST_F(StorageTest, AFullDataStoreIsOneConditionOnAllOfIt) {
    put_plane("a", "main");
    put_plane("b", "other", "main");
    put_plane("c", "other");
    start();
    for (const char* name : {"a", "b", "c"})
        ASSERT_TRUE(wait_condition(name, kDataStoreReady, "Ready")) << name;
    loop.run_for(5s);
    const Value calm = *server->object(kPlanes + "c");
    set_full("main");
    for (const char* name : {"a", "b"}) {
        ASSERT_TRUE(wait_condition(name, kReady, "NoSpace")) << name;
        EXPECT_EQ(condition(name, kReady)["status"].as_string(), "False");
        EXPECT_EQ(condition(name, kReady)["message"].as_string(),
                  "DataStore main: etcd's space is used up");
        EXPECT_EQ(condition(name, kDataStoreReady)["reason"].as_string(), "NoSpace");
    }
    loop.run_for(5s);
    EXPECT_EQ(*server->object(kPlanes + "c"), calm) << "others notice nothing";
    set_ready("main");
    for (const char* name : {"a", "b"})
        EXPECT_TRUE(wait_condition(name, kDataStoreReady, "Ready")) << name;
    EXPECT_TRUE(failures.empty());
}

TEST_F(StorageTest, WhatEtcdRefusesIsToldToItsDataStore) {
    models["events"]->fault.before = [](std::string_view method) -> std::optional<Error> {
        if (method != "UserAdd") return {};
        return resource_exhausted("etcdserver: mvcc: database space exceeded");
    };
    put_plane("a", "main", "events");
    start();
    ASSERT_TRUE(loop.run_until([&] { return !failures.empty(); }, 10s));
    EXPECT_EQ(failures[0].first, "events");
    EXPECT_EQ(failures[0].second, Code::kResourceExhausted);
    ASSERT_TRUE(loop.run_until(
        [&] {
            return condition("a", kReady)["message"].as_string().find("DataStore events") !=
                   std::string_view::npos;
        },
        10s));
    models["events"]->fault = {};
    EXPECT_TRUE(loop.run_until([&] { return models["events"]->users.size() == 1; }, 1min));
}

// An API server answers 500 with etcd's words; what else fails there says nothing about etcd.
TEST_F(StorageTest, WhatEtcdRefusesTheTenantIsToldToo) {
    tenant_says = "failed calling webhook";
    put_plane("a", "main", "events");
    start();
    serve("a");
    ASSERT_TRUE(wait_condition("a", kClusterReady, "InternalError"));
    EXPECT_TRUE(failures.empty());
    tenant_says = "etcdserver: mvcc: database space exceeded";
    ASSERT_TRUE(loop.run_until([&] { return failures.size() >= 2; }, 2min));
    EXPECT_EQ(failures[0].first, "main");
    EXPECT_EQ(failures[1].first, "events");
    EXPECT_EQ(failures[0].second, Code::kUnavailable);
}

}  // namespace
}  // namespace basalt::controlplane
