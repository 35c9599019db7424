// What control planes say of their DataStores, and what they tell them.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "controlplane/control_plane_fixture_test.h"

namespace basalt::controlplane {
namespace {

using data::Value;
using namespace std::chrono_literals;

class StorageTest : public ControlPlaneFixture {};

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

TEST_F(StorageTest, ADataStoreThatIsAwayHidesNoPods) {
    put_plane("a", "main");
    start();
    serve("a");
    ASSERT_TRUE(wait_condition("a", kPodsReady, "Serving"));
    loop.run_for(5s);
    auto resources = [&] {
        return (*server->object(kPlanes + "a"))["status"]["kubernetesResources"];
    };
    const Value before = resources();
    set_full("main");
    ASSERT_TRUE(wait_condition("a", kReady, "NoSpace"));
    EXPECT_EQ(resources(), before);
    Value deployment = *server->object(kDeployments + "a");
    deployment.at("status").set("readyReplicas", 0);
    server->put(kDeployments + "a", deployment);
    EXPECT_TRUE(loop.run_until(
        [&] { return resources()["deployment"]["readyReplicas"].as_int(7) == 0; }, 10s));
}

// Right after a start nobody has looked at the DataStores yet.
TEST_F(StorageTest, WhatIsNotKnownYetIsNotSaid) {
    const std::string main = "/apis/kamaji.clastix.io/v1alpha1/datastores/main";
    server->put(main, kube::make_object(data_stores(), kube::ObjectKey("main")));
    put_plane("a", "main");
    start();
    serve("a");
    ASSERT_TRUE(wait_condition("a", kPodsReady, "Serving"));
    loop.run_for(5s);
    const Value before = *server->object(kPlanes + "a");
    registry.erase("main");
    subject.datastore_changed("main");
    put_plane("b", "main");
    ASSERT_TRUE(wait_condition("b", kDataStoreReady, "WaitingForDataStore"));
    loop.run_for(5s);
    EXPECT_EQ(*server->object(kPlanes + "a"), before);
    set_ready("main");
    EXPECT_TRUE(wait_condition("b", kCertificatesReady, "Valid"));
    EXPECT_EQ(condition("a", kDataStoreReady)["reason"].as_string(), "Ready");
    // Gone before anybody looked.
    registry.erase("main");
    server->erase(main);
    EXPECT_TRUE(wait_condition("a", kDataStoreReady, "DataStoreNotFound"));
}

// Were it the other way round, a process that ended in between, and a spec that named another
// DataStore then, would leave a user behind for ever.
TEST_F(StorageTest, OnRecordBeforeAnythingIsThere) {
    std::vector<std::string> on_record;
    for (const char* name : {"main", "events"}) {
        models[name]->fault.before = [&](std::string_view method) -> std::optional<Error> {
            const Value& storage = (*server->object(kPlanes + "a"))["status"]["storage"];
            if (method == "UserAdd") {
                on_record.push_back(storage["dataStoreName"].str() + " and " +
                                    storage["overrides"].items()[0]["dataStoreName"].str());
            }
            return {};
        };
    }
    put_plane("a", "main", "events");
    start();
    ASSERT_TRUE(wait_condition("a", kCertificatesReady, "Valid"));
    EXPECT_EQ(on_record, (std::vector<std::string>{"main and events", "main and events"}));
}

// They call a server of Kamaji's, and refuse every write when it is gone.
TEST_F(StorageTest, LimitsOfKamajiEndWithItsTakeover) {
    put_plane("a", "main");
    put_plane("b", "main");
    const std::string kind = "/validatingwebhookconfigurations/";
    std::map<std::string, std::string>& stored = models["main"]->data;
    for (const char* name : {"a", "b"}) {
        Value plane = *server->object(kPlanes + name);
        plane.set("status",
                  data::parse_yaml(fmt::format("{{storage: {{driver: etcd, dataStoreName: main, "
                                               "setup: {{schema: {0}, user: {0}}}}}}}",
                                               name))
                      .value());
        if (std::string_view(name) == "a") {
            // With limits of our own, which would keep its API server from deleting them.
            plane.at("spec").set(
                "writePermissions",
                data::parse_yaml("{blockCreation: true, blockUpdate: true, blockDeletion: true}")
                    .value());
        } else {
            // Ours for long: what has such a name is somebody's.
            plane.at("status").set(
                "conditions",
                Value::array({Value::object(
                    {{"type", kClusterReady}, {"status", "True"}, {"reason", "InPlace"}})}));
        }
        plane.at("metadata").set("uid", name);
        server->put(kPlanes + name, plane);
        for (const char* webhook : {"kamaji-freeze", "kamaji-write-permissions", "theirs"})
            stored["/" + std::string(name) + kind + webhook] = "{}";
    }
    start();
    for (const char* name : {"a", "b"})
        ASSERT_TRUE(wait_condition(name, kCertificatesReady, "Valid")) << name;
    EXPECT_FALSE(stored.contains("/a" + kind + "kamaji-freeze"));
    EXPECT_FALSE(stored.contains("/a" + kind + "kamaji-write-permissions"));
    EXPECT_TRUE(stored.contains("/a" + kind + "theirs"));
    EXPECT_TRUE(stored.contains("/a/validatingadmissionpolicies/kamaji-write-permissions"));
    EXPECT_TRUE(stored.contains("/b" + kind + "kamaji-freeze"));
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
