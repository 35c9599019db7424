// The end of control planes, the order in which they start, and what is told of them.
#include <algorithm>

#include <gtest/gtest.h>

#include "base/time.h"
#include "controlplane/control_plane_fixture_test.h"
#include "controlplane/names.h"
#include "controlplane/start_slots.h"

namespace basalt::controlplane {
namespace {

using data::Value;
using namespace std::chrono_literals;

class DeletionTest : public ControlPlaneFixture {
 protected:
    /// One of the control plane "a".
    void put_pod() {
        Value pod = kube::make_object(kube::resources::pods(), {"team", "a-1"});
        pod.at("metadata")
            .set("labels", Value::object({{names::kNameLabel, "a"},
                                          {names::kProjectLabel, names::kProject},
                                          {"pod-template-hash", "1"}}));
        server->put("/api/v1/namespaces/team/pods/a-1", pod);
    }
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
    put_pod();
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
    put_pod();
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
    void set_cores(int cores) {
        Value node = kube::make_object(kube::resources::nodes(), kube::ObjectKey("n1"));
        node.at("status").at("allocatable").set("cpu", cores);
        server->put("/api/v1/nodes/n1", node);
    }
    void set_replicas(const std::string& name, int count) {
        Value object = *server->object(kPlanes + name);
        object.at("spec").at("controlPlane").at("deployment").set("replicas", count);
        server->put(kPlanes + name, object);
    }
    void set_version(const std::string& name, const char* version) {
        Value object = *server->object(kPlanes + name);
        object.at("spec").at("kubernetes").set("version", version);
        server->put(kPlanes + name, object);
    }
    int64_t replicas_of(const std::string& name) {
        const Value* deployment = server->object(kDeployments + name);
        return deployment == nullptr ? -1 : (*deployment)["spec"]["replicas"].as_int(-1);
    }
    bool runs_version(const std::string& name, std::string_view version) {
        const Value* deployment = server->object(kDeployments + name);
        if (deployment == nullptr) return false;
        for (const Value& item : (*deployment)["spec"]["template"]["spec"]["containers"].items()) {
            if (item["name"].as_string() == "kube-apiserver")
                return item["image"].as_string().ends_with(version);
        }
        return false;
    }
    bool is_queued(const std::string& name) {
        return condition(name, kPodsReady)["reason"].as_string() == "Queued";
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

TEST_F(StartingTest, WakingTakesItsTurn) {
    put_plane("a", "main");
    put_plane("b", "main");
    set_replicas("b", 0);
    start();
    ASSERT_TRUE(loop.run_until([&] { return replicas_of("a") == 1; }, 10s));
    ASSERT_TRUE(wait_condition("b", kPodsReady, "Sleeping")) << "sleeping needs no slot";
    EXPECT_EQ(replicas_of("b"), 0);
    set_replicas("b", 1);
    ASSERT_TRUE(loop.run_until([&] { return is_queued("b"); }, 10s));
    loop.run_for(30s);
    EXPECT_TRUE(is_queued("b"));
    EXPECT_EQ(replicas_of("b"), 0);
    // Nobody waits to go to sleep, and whoever does lets the next one go.
    set_replicas("a", 0);
    EXPECT_TRUE(loop.run_until([&] { return replicas_of("a") == 0; }, 10s));
    EXPECT_TRUE(loop.run_until([&] { return replicas_of("b") == 1; }, 10s));
}

TEST_F(StartingTest, UpgradesTakeTurns) {
    set_cores(1);  // Two at a time.
    for (const char* name : {"a", "b", "c"}) {
        put_plane(name, "main");
        set_version(name, "v1.35.4");
    }
    start();
    ASSERT_TRUE(loop.run_until([&] { return started_count() == 3; }, 2 * StartSlots::kHoldMax));
    for (const char* name : {"a", "b", "c"}) {
        ASSERT_NO_FATAL_FAILURE(serve(name));
        ASSERT_TRUE(wait_condition(name, kPodsReady, "Serving"));
    }
    loop.run_for(StartSlots::kHoldMax);
    for (const char* name : {"a", "b", "c"}) set_version(name, "v1.36.3");
    const auto count = [&](std::string_view version) {
        size_t n = 0;
        for (const char* name : {"a", "b", "c"}) n += runs_version(name, version);
        return n;
    };
    ASSERT_TRUE(loop.run_until([&] { return count("v1.36.3") == 2; }, 10s));
    loop.run_for(30s);
    EXPECT_EQ(count("v1.36.3"), 2u);
    EXPECT_EQ(count("v1.35.4"), 1u) << "whoever waits is as it was";
    for (const char* name : {"a", "b", "c"}) {
        EXPECT_EQ(is_queued(name), runs_version(name, "v1.35.4")) << name;
        EXPECT_EQ(replicas_of(name), 1) << name;
    }
    EXPECT_TRUE(loop.run_until([&] { return count("v1.36.3") == 3; }, StartSlots::kHoldMax));
}

// What is wrong is an event when it begins and when it changes, not at each look.
class ReportTest : public ControlPlaneFixture {
 protected:
    void fail(const std::string& reason, const std::string& message) {
        registry.set("main", {ready["main"].view, false, reason, message, 0});
    }
    /// Another pass, and that it took place: conditions name the generation that they are about.
    void look_again() {
        Value object = *server->object(kPlanes + "a");
        object.at("spec")
            .at("networkProfile")
            .set("certSANs", Value::array({"x" + std::to_string(++looks_count) + ".example.org"}));
        server->put(kPlanes + "a", object);
        const int64_t generation = kube::generation_of(*server->object(kPlanes + "a"));
        ASSERT_TRUE(loop.run_until(
            [&] { return condition("a", kReady)["observedGeneration"].as_int() == generation; },
            10s));
    }
    size_t events_count(std::string_view reason) {
        return static_cast<size_t>(std::count_if(
            server->requests.begin(), server->requests.end(), [&](const net::HttpRequest& request) {
                return request.method == "POST" &&
                       request.target.find("/events") != std::string::npos &&
                       request.body.find("\"reason\":\"" + std::string(reason) + "\"") !=
                           std::string::npos;
            }));
    }

    int looks_count = 0;
};

TEST_F(ReportTest, EachFailureIsToldOnce) {
    fail("NoSpace", "etcd's space is used up");
    put_plane("a", "main");
    start();
    ASSERT_TRUE(wait_condition("a", kReady, "NoSpace"));
    ASSERT_TRUE(loop.run_until([&] { return events_count("NoSpace") == 1; }, 10s));
    const uint64_t first = events.recorded_count();
    for (int i = 0; i < 3; ++i) ASSERT_NO_FATAL_FAILURE(look_again());
    loop.run_for(1h);
    EXPECT_EQ(events.recorded_count(), first) << "it is the same all the time";

    fail("NoSpace", "etcd's space is still used up");
    ASSERT_NO_FATAL_FAILURE(look_again());
    EXPECT_EQ(events.recorded_count(), first + 1) << "other words are news";
    fail("Unreachable", "etcd does not answer");
    ASSERT_NO_FATAL_FAILURE(look_again());
    ASSERT_TRUE(loop.run_until([&] { return events_count("Unreachable") == 1; }, 10s));
    EXPECT_EQ(events.recorded_count(), first + 2);
    ASSERT_NO_FATAL_FAILURE(look_again());
    EXPECT_EQ(events.recorded_count(), first + 2);
}

}  // namespace
}  // namespace basalt::controlplane
