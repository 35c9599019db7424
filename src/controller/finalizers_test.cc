#include "controller/finalizers.h"

#include <gtest/gtest.h>

#include "controller/server_fixture_test.h"

namespace basalt::controller {
namespace {

using kube::Value;
using kube::testing::config_map;
using kube::testing::config_map_path;

class FinalizersTest : public ServerFixture {
 protected:
    FinalizersTest() { server->put(kPath, config_map("n", "a", "1")); }
    const Value& live() { return *server->object(kPath); }
    Result<Value> ensure(const Value& object, const std::string& name) {
        return run(ensure_finalizer(client, kube::resources::config_maps(), object, name));
    }
    Result<Value> drop(const Value& object, const std::string& name) {
        return run(drop_finalizer(client, kube::resources::config_maps(), object, name));
    }
    const std::string kPath = config_map_path("n", "a");
};

TEST_F(FinalizersTest, AreSetOnce) {
    const Result<Value> first = ensure(live(), "x/y");
    ASSERT_TRUE(first.ok());
    EXPECT_TRUE(kube::has_finalizer(live(), "x/y"));
    const size_t requests = server->requests.size();
    EXPECT_EQ(ensure(*first, "x/y").value(), *first);
    EXPECT_EQ(server->requests.size(), requests) << "it is there";
}

TEST_F(FinalizersTest, ConflictsShow) {
    const Value old = live();
    ASSERT_TRUE(ensure(old, "x/y").ok());
    EXPECT_EQ(ensure(old, "other/z").error().code(), Code::kAborted);
    EXPECT_TRUE(kube::has_finalizer(live(), "x/y")) << "nothing is lost";
}

TEST_F(FinalizersTest, AreNotSetOnWhatIsBeingDeleted) {
    Value object = live();
    object.at("metadata").set("deletionTimestamp", "2026-01-01T00:00:00Z");
    EXPECT_EQ(ensure(object, "x/y").error().code(), Code::kFailedPrecondition);
    EXPECT_FALSE(kube::has_finalizer(live(), "x/y"));
}

TEST_F(FinalizersTest, OnlyOneGoes) {
    ASSERT_TRUE(ensure(live(), "x/y").ok());
    ASSERT_TRUE(ensure(live(), "other/z").ok());
    ASSERT_TRUE(drop(live(), "x/y").ok());
    EXPECT_FALSE(kube::has_finalizer(live(), "x/y"));
    EXPECT_TRUE(kube::has_finalizer(live(), "other/z"));
    EXPECT_EQ(drop(live(), "x/y").value(), live()) << "it was not there";
}

TEST_F(FinalizersTest, WhatIsGoneIsDone) {
    const Result<Value> object = ensure(live(), "x/y");
    server->erase(kPath);
    const Result<Value> dropped = drop(*object, "x/y");
    EXPECT_TRUE(dropped.ok() && dropped->is_null());
}

}  // namespace
}  // namespace basalt::controller
