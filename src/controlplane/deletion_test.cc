// The end of control planes, and the order in which they start.
#include <algorithm>

#include <gtest/gtest.h>

#include "base/time.h"
#include "controlplane/control_plane_fixture_test.h"
#include "controlplane/names.h"

namespace basalt::controlplane {
namespace {

using data::Value;
using namespace std::chrono_literals;

class DeletionTest : public ControlPlaneFixture {
 protected:
    void start_one() {
        put_plane("a", "main", "events");
        start();
        serve("a");
        ASSERT_TRUE(wait_condition("a", kPodsReady, "Serving"));
        ASSERT_EQ(models["main"]->users.size(), 1u);
        ASSERT_EQ(models["events"]->users.size(), 1u);
    }
    /// Of the Deployment, while it is paused and nobody puts it right.
    void edit_unseen(const std::function<void(Value& metadata)>& edit) {
        Value object = *server->object(kPlanes + "a");
        object.at("metadata").at("annotations").set(names::kPausedAnnotation, "true");
        server->put(kPlanes + "a", object);
        loop.run_for(1s);
        Value deployment = *server->object(kDeployments + "a");
        edit(deployment.at("metadata"));
        server->put(kDeployments + "a", deployment);
        loop.run_for(1s);
    }
    void remove() {
        Value object = *server->object(kPlanes + "a");
        object.at("metadata").erase("annotations");
        object.at("metadata").set("deletionTimestamp", format_rfc3339(loop.wall_now()));
        server->put(kPlanes + "a", object);
    }
    bool is_free() {
        return !kube::has_finalizer(*server->object(kPlanes + "a"), names::kFinalizer);
    }
    bool has_event(std::string_view reason) {
        return std::any_of(server->requests.begin(), server->requests.end(),
                           [&](const net::HttpRequest& request) {
                               return request.target.find("/events") != std::string::npos &&
                                      request.body.find(reason) != std::string::npos;
                           });
    }
};

// While it was paused nobody put the labels back, so the Deployment is in no cache.
TEST_F(DeletionTest, ADeploymentThatLostItsLabelsGoesToo) {
    ASSERT_NO_FATAL_FAILURE(start_one());
    edit_unseen([](Value& metadata) { metadata.erase("labels"); });
    remove();
    EXPECT_TRUE(loop.run_until([&] { return !server->object(kDeployments + "a"); }, 10s));
    EXPECT_TRUE(loop.run_until([&] { return is_free(); }, 10s));
}

// kubectl delete --cascade=orphan: the garbage collector takes the owner away first.
TEST_F(DeletionTest, AnOrphanedDeploymentGoesToo) {
    ASSERT_NO_FATAL_FAILURE(start_one());
    edit_unseen([](Value& metadata) { metadata.erase("ownerReferences"); });
    remove();
    EXPECT_TRUE(loop.run_until([&] { return !server->object(kDeployments + "a"); }, 10s));
    EXPECT_TRUE(loop.run_until([&] { return is_free(); }, 10s));
    EXPECT_TRUE(models["main"]->users.empty());
}

TEST_F(DeletionTest, ADeploymentOfSomebodyElseStays) {
    ASSERT_NO_FATAL_FAILURE(start_one());
    edit_unseen([](Value& metadata) {
        metadata.set("ownerReferences", Value::array({Value::object({{"apiVersion", "v1"},
                                                                     {"kind", "ConfigMap"},
                                                                     {"name", "other"},
                                                                     {"uid", "other-uid"},
                                                                     {"controller", true}})}));
    });
    remove();
    EXPECT_TRUE(loop.run_until([&] { return is_free(); }, 10s));
    EXPECT_TRUE(server->object(kDeployments + "a"));
}

TEST_F(DeletionTest, PodsGoFirstThenWhatIsStored) {
    ASSERT_NO_FATAL_FAILURE(start_one());
    Value pod = kube::make_object(kube::resources::pods(), {"team", "a-1"});
    pod.at("metadata")
        .set("labels", Value::object({{names::kNameLabel, "a"},
                                      {names::kProjectLabel, names::kProject},
                                      {"pod-template-hash", "1"}}));
    server->put("/api/v1/namespaces/team/pods/a-1", pod);
    loop.run_for(1s);
    remove();
    ASSERT_TRUE(loop.run_until([&] { return !server->object(kDeployments + "a"); }, 10s));
    loop.run_for(1min);
    EXPECT_FALSE(is_free()) << "a Pod still writes";
    EXPECT_EQ(models["main"]->users.size(), 1u);
    server->erase("/api/v1/namespaces/team/pods/a-1");
    ASSERT_TRUE(loop.run_until([&] { return is_free(); }, 10s));
    for (const char* name : {"main", "events"}) {
        EXPECT_TRUE(models[name]->users.empty()) << name;
        EXPECT_TRUE(models[name]->roles.empty()) << name;
        EXPECT_TRUE(models[name]->data.empty()) << name;
    }
}

TEST_F(DeletionTest, ASilentDataStoreDelaysItForABoundedTime) {
    ASSERT_NO_FATAL_FAILURE(start_one());
    models["events"]->fault.before = [](std::string_view) -> std::optional<Error> {
        return unavailable("connection refused");
    };
    remove();
    loop.run_for(4min);
    EXPECT_FALSE(is_free());
    EXPECT_TRUE(has_event("DataStoreUnavailable"));
    EXPECT_TRUE(models["main"]->users.empty()) << "the one that answers does not wait";
    ASSERT_TRUE(loop.run_until([&] { return is_free(); }, 2min));
    EXPECT_TRUE(has_event("DataLeftBehind"));
}

// Neither a DataStore that was away long before, nor Pods that were slow to go, use patience up.
TEST_F(DeletionTest, PatienceBeginsWithTheFirstAttempt) {
    ASSERT_NO_FATAL_FAILURE(start_one());
    models["events"]->fault.before = [](std::string_view) -> std::optional<Error> {
        return unavailable("connection refused");
    };
    Value pod = kube::make_object(kube::resources::pods(), {"team", "a-1"});
    pod.at("metadata")
        .set("labels", Value::object({{names::kNameLabel, "a"},
                                      {names::kProjectLabel, names::kProject},
                                      {"pod-template-hash", "1"}}));
    server->put("/api/v1/namespaces/team/pods/a-1", pod);
    loop.run_for(1s);
    remove();
    loop.run_for(20min);
    EXPECT_TRUE(condition("a", kDataRemoved).is_null());
    server->erase("/api/v1/namespaces/team/pods/a-1");
    EXPECT_TRUE(wait_condition("a", kDataRemoved, "DataStoreUnavailable"));
    EXPECT_NE(condition("a", kDataRemoved)["message"].as_string().find("DataStore events"),
              std::string_view::npos);
    loop.run_for(4min);
    EXPECT_FALSE(is_free());
    ASSERT_TRUE(loop.run_until([&] { return is_free(); }, 2min));
}

TEST_F(DeletionTest, ADataStoreThatNobodyLookedAtIsWaitedFor) {
    const std::string main = "/apis/kamaji.clastix.io/v1alpha1/datastores/main";
    server->put(main, kube::make_object(data_stores(), kube::ObjectKey("main")));
    registry.erase("main");
    put_plane("a", "main");
    start();
    ASSERT_TRUE(wait_condition("a", kDataStoreReady, "WaitingForDataStore"));
    remove();
    loop.run_for(1min);
    EXPECT_FALSE(is_free()) << "nothing is on record, but nothing is known either";
    set_ready("main");
    ASSERT_TRUE(loop.run_until([&] { return is_free(); }, 10s));
}

TEST_F(DeletionTest, WhatWasNeverSetUpIsNotWaitedFor) {
    put_plane("a", "nowhere");
    start();
    ASSERT_TRUE(wait_condition("a", kDataStoreReady, "DataStoreNotFound"));
    remove();
    ASSERT_TRUE(loop.run_until([&] { return is_free(); }, 10s));
    EXPECT_FALSE(has_event("DataLeftBehind"));
}

class StartingTest : public ControlPlaneFixture {
 protected:
    size_t started_count() {
        size_t count = 0;
        for (const char* name : {"a", "b", "c"})
            count += server->object(kDeployments + name) != nullptr;
        return count;
    }
};

TEST_F(StartingTest, AsManyStartAsTheCoresCanTake) {
    for (const char* name : {"a", "b", "c"}) put_plane(name, "main");
    start();
    ASSERT_TRUE(loop.run_until([&] { return started_count() == 1; }, 10s));
    loop.run_for(5s);
    EXPECT_EQ(started_count(), 1u);
    size_t queued_count = 0;
    for (const char* name : {"a", "b", "c"})
        queued_count += condition(name, kPodsReady)["reason"].as_string() == "Queued";
    EXPECT_EQ(queued_count, 2u);
    // A node comes: twice its cores may start.
    Value node = kube::make_object(kube::resources::nodes(), kube::ObjectKey("n1"));
    node.at("status").at("allocatable").set("cpu", "900m");
    server->put("/api/v1/nodes/n1", node);
    ASSERT_TRUE(loop.run_until([&] { return started_count() == 2; }, 10s));
    loop.run_for(5s);
    EXPECT_EQ(started_count(), 2u);
    node.at("status").at("allocatable").set("cpu", 2);
    server->put("/api/v1/nodes/n1", node);
    EXPECT_TRUE(loop.run_until([&] { return started_count() == 3; }, 10s));
}

}  // namespace
}  // namespace basalt::controlplane
