// The controller of control planes in virtual time: a small API server, models of etcd, and tenants
// that answer what a test says.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "async/sim_loop.h"
#include "controlplane/control_plane_controller.h"
#include "controlplane/testdata_test.h"
#include "etcd/model.h"
#include "kube/test_server.h"
#include "pki/certificate.h"

namespace basalt::controlplane {

inline const std::string kPlanes =
    "/apis/kamaji.clastix.io/v1alpha1/namespaces/team/tenantcontrolplanes/";
inline const std::string kDeployments = "/apis/apps/v1/namespaces/team/deployments/";

inline controller::EventRecorder::Options event_options() {
    controller::EventRecorder::Options options;
    options.controller = "basalt.dev/test";
    return options;
}

inline ControlPlaneOptions plane_options() {
    ControlPlaneOptions options;
    options.defaults.datastore = "main";
    options.image = "basalt:test";
    return options;
}

class ControlPlaneFixture : public ::testing::Test {
 protected:
    ControlPlaneFixture() {
        for (const char* name : {"main", "events", "other"}) add_datastore(name);
        registry.on_failure = [this](const std::string& name, const Error& error) {
            failures.emplace_back(name, error.code());
        };
        events.start(group);
    }
    ~ControlPlaneFixture() override {
        group.cancel();
        loop.run_until([&] { return group.size() == 0; }, std::chrono::minutes(1));
        async::TaskGroup last(loop);
        last.spawn(subject.stop());
        loop.run_until([&] { return last.size() == 0; }, std::chrono::minutes(1));
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
        data::Value object = example_object();
        object.at("metadata").set("name", name);
        data::Value& spec = object.at("spec");
        spec.set("dataStore", store);
        spec.at("networkProfile").set("address", "172.18.0.10");
        if (!override_store.empty()) {
            spec.set("dataStoreOverrides",
                     data::Value::array({data::Value::object(
                         {{"resource", "/events"}, {"dataStore", override_store}})}));
        }
        data::Value service = kube::make_object(kube::resources::services(), {"team", name});
        service.at("spec").set("clusterIP", "10.96.0.10");
        server->put("/api/v1/namespaces/team/services/" + name, service);
        server->put(kPlanes + name, object);
    }
    data::Value condition(const std::string& name, std::string_view type) {
        const data::Value* object = server->object(kPlanes + name);
        return object == nullptr ? data::Value()
                                 : controller::find_condition((*object)["status"], type);
    }
    bool wait_condition(const std::string& name, std::string_view type, std::string_view reason) {
        return loop.run_until([&] { return condition(name, type)["reason"].as_string() == reason; },
                              std::chrono::seconds(10));
    }
    void start() { group.spawn("manager", manager.run()); }
    /// As the management cluster does once the API server's Pod serves.
    void serve(const std::string& name) {
        ASSERT_TRUE(loop.run_until([&] { return server->object(kDeployments + name); },
                                   std::chrono::seconds(10)));
        data::Value deployment = *server->object(kDeployments + name);
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
    SecretData admin;  ///< What a tenant was last spoken to with.
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
        [this](const std::string&, const std::string&, const SecretData& credentials) {
            admin = credentials;
            return Result<std::shared_ptr<net::HttpTransport>>(tenant);
        },
        plane_options()};
    async::TaskGroup group{loop};
};

}  // namespace basalt::controlplane
