#include "controller/apply.h"

#include <gtest/gtest.h>

#include "controller/server_fixture_test.h"
#include "data/json.h"
#include "data/patch.h"

namespace basalt::controller {
namespace {

using kube::Value;

Value parse(std::string_view text) { return data::parse_json(text).value(); }

// As kube-apiserver answers an apply: defaults filled in, ownership recorded.
constexpr const char* kLive = R"({
  "apiVersion":"apps/v1","kind":"Deployment",
  "metadata":{"name":"d","namespace":"n","uid":"u","resourceVersion":"9","labels":{"app":"x","other":"y"},
    "managedFields":[
      {"manager":"us","operation":"Apply","apiVersion":"apps/v1","fieldsType":"FieldsV1","fieldsV1":{
        "f:metadata":{"f:labels":{"f:app":{}}},
        "f:spec":{"f:replicas":{},"f:selector":{},"f:template":{"f:metadata":{"f:labels":{"f:app":{}}},
          "f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:name":{},
             "f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}}},
             "f:resources":{"f:requests":{"f:cpu":{}}}}},
            "f:tolerations":{}}}}}},
      {"manager":"kubectl","operation":"Update","fieldsV1":{"f:metadata":{"f:labels":{"f:other":{}}}}}]},
  "spec":{"replicas":2,"revisionHistoryLimit":10,"selector":{"matchLabels":{"app":"x"}},
    "template":{"metadata":{"creationTimestamp":null,"labels":{"app":"x"}},
      "spec":{"containers":[{"name":"c","image":"i:1","imagePullPolicy":"Always",
          "ports":[{"containerPort":80,"protocol":"TCP"}],"resources":{"requests":{"cpu":"500m"}}},
          {"name":"injected","image":"s"}],
        "tolerations":[{"key":"a","operator":"Exists"}],"restartPolicy":"Always"}}},
  "status":{"replicas":2}})";

constexpr const char* kIntent = R"({
  "apiVersion":"apps/v1","kind":"Deployment",
  "metadata":{"name":"d","namespace":"n","labels":{"app":"x"}},
  "spec":{"replicas":2,"selector":{"matchLabels":{"app":"x"}},
    "template":{"metadata":{"labels":{"app":"x"}},
      "spec":{"containers":[{"name":"c","image":"i:1","ports":[{"containerPort":80}],
          "resources":{"requests":{"cpu":"500m"}}}],
        "tolerations":[{"key":"a","operator":"Exists"}]}}}})";

bool is_in_force_after(std::string_view merge_patch_of_intent) {
    const Value intent = data::apply_merge_patch(parse(kIntent), parse(merge_patch_of_intent));
    const Value live = parse(kLive);
    // As a cache keeps it.
    Value cached = live;
    for (Value& entry : cached.at("metadata").at("managedFields").mutable_items()) {
        entry.set("fieldsV1", data::to_json(entry["fieldsV1"]));
    }
    const bool result = in_force(intent, live, "us");
    EXPECT_EQ(in_force(intent, cached, "us"), result);
    return result;
}

TEST(InForce, StableStateNeedsNothing) { EXPECT_TRUE(is_in_force_after("{}")); }

TEST(InForce, ChangesAreSeen) {
    EXPECT_FALSE(is_in_force_after(R"({"spec":{"replicas":3}})"));
    EXPECT_FALSE(is_in_force_after(R"({"spec":{"minReadySeconds":3}})"));
    EXPECT_FALSE(is_in_force_after(R"({"metadata":{"labels":{"new":"1"}}})"));
    EXPECT_FALSE(is_in_force_after(R"({"spec":{"template":{"spec":{"tolerations":[]}}}})"));
    EXPECT_FALSE(is_in_force_after(
        R"({"spec":{"template":{"spec":{"containers":[{"name":"c","image":"i:2","ports":[{"containerPort":80}]}]}}}})"));
}

TEST(InForce, FieldsThatWeStopWantingAreSeen) {
    EXPECT_FALSE(is_in_force_after(R"({"spec":{"replicas":null}})"));
    EXPECT_FALSE(is_in_force_after(R"({"metadata":{"labels":{"app":null}}})"));
    EXPECT_FALSE(is_in_force_after(R"({"spec":{"template":{"spec":{"tolerations":null}}}})"));
    EXPECT_FALSE(is_in_force_after(
        R"({"spec":{"template":{"spec":{"containers":[{"name":"c","image":"i:1","ports":[{"containerPort":80}]}]}}}})"));
    EXPECT_FALSE(is_in_force_after(
        R"({"spec":{"template":{"spec":{"containers":[{"name":"c","image":"i:1",
            "resources":{"requests":{"cpu":"500m"}}}]}}}})"));
}

TEST(InForce, ShrinkingAnAtomicListIsSeen) {
    Value live = parse(kLive);
    Value* tolerations = &live.at("spec").at("template").at("spec").at("tolerations");
    tolerations->push_back(parse(R"({"key":"b","operator":"Exists"})"));
    EXPECT_FALSE(in_force(parse(kIntent), live, "us"));
}

// What lies inside a list that is owned as a whole has no entry of its own in managedFields.
TEST(InForce, ShrinkingInsideAnAtomicListIsSeen) {
    const Value live = parse(R"({"metadata":{"managedFields":[
        {"manager":"us","operation":"Apply","fieldsV1":{"f:spec":{"f:ingress":{},"f:podSelector":{}}}}]},
        "spec":{"podSelector":{"matchLabels":{"a":"b","c":"d"}},
            "ingress":[{"ports":[{"protocol":"TCP","port":6443},{"protocol":"TCP","port":8132}],
                        "from":[{"ipBlock":{"cidr":"10.0.0.0/8","except":["10.1.0.0/16"]}}]}]}})");
    const Value same = parse(R"({"spec":{"podSelector":{"matchLabels":{"a":"b","c":"d"}},
        "ingress":[{"ports":[{"port":6443},{"protocol":"TCP","port":8132}],
                    "from":[{"ipBlock":{"cidr":"10.0.0.0/8","except":["10.1.0.0/16"]}}]}]}})");
    EXPECT_TRUE(in_force(same, live, "us")) << "the protocol is a default";
    for (const char* fewer : {
             R"({"spec":{"ingress":[{"ports":[{"port":6443}],
                "from":[{"ipBlock":{"cidr":"10.0.0.0/8","except":["10.1.0.0/16"]}}]}]}})",
             R"({"spec":{"ingress":[{"ports":[{"port":6443},{"port":8132}],
                "from":[{"ipBlock":{"cidr":"10.0.0.0/8"}}]}]}})",
             R"({"spec":{"ingress":[{"ports":[{"port":6443},{"port":8132}]}]}})",
             R"({"spec":{"podSelector":{"matchLabels":{"c":null}}}})",
         }) {
        const Value intent = data::apply_merge_patch(same, parse(fewer));
        EXPECT_FALSE(in_force(intent, live, "us")) << fewer;
    }
}

TEST(InForce, FieldsOwnedByOthersOnlyAreNotOurs) {
    Value live = parse(kLive);
    live.at("metadata").at("managedFields").mutable_items()[0].set("manager", "earlier");
    EXPECT_FALSE(in_force(parse(kIntent), live, "us"));
    live.at("metadata").erase("managedFields");
    EXPECT_TRUE(in_force(parse(kIntent), live, "us")) << "without managedFields values decide";
}

TEST(InForce, StatusIsSeparate) {
    Value live = parse(kLive);
    live.at("metadata")
        .at("managedFields")
        .push_back(parse(
            R"({"manager":"us","operation":"Apply","subresource":"status","fieldsV1":{"f:status":{"f:replicas":{}}}})"));
    Value intent = parse(R"({"metadata":{"name":"d"},"status":{"replicas":2}})");
    EXPECT_TRUE(in_force(intent, live, "us", "status"));
    intent.at("status").set("replicas", 3);
    EXPECT_FALSE(in_force(intent, live, "us", "status"));
}

TEST(TakeOver, MergesEntriesUnderOneName) {
    const Value live = parse(R"({"metadata":{"resourceVersion":"5","managedFields":[
        {"manager":"kamaji","operation":"Update","fieldsV1":{"f:spec":{"f:a":{}}}},
        {"manager":"manager","operation":"Update","fieldsV1":{"f:spec":{"f:b":{}}}},
        {"manager":"kubelet","operation":"Update","subresource":"status","fieldsV1":{"f:status":{}}}]}})");
    const Value patch = take_over_managers(live, {"kamaji", "manager"}, "us");
    const Result<Value> patched = data::apply_json_patch(live, patch);
    ASSERT_TRUE(patched.ok());
    const Value& entries = (*patched)["metadata"]["managedFields"];
    ASSERT_EQ(entries.size(), 2u);
    EXPECT_EQ(entries[0]["manager"].as_string(), "us");
    EXPECT_EQ(entries[0]["operation"].as_string(), "Apply");
    EXPECT_EQ(data::to_json(entries[0]["fieldsV1"]), R"({"f:spec":{"f:a":{},"f:b":{}}})");
    EXPECT_EQ(take_over_managers(*patched, {"kamaji", "manager"}, "us").size(), 0u);
}

class ApplierTest : public ServerFixture {
 protected:
    Applier applier{client, "us"};
};

TEST_F(ApplierTest, NormalisedValuesAreSentOnce) {
    // The server rewrites "1000m" as "1": compared by value, the intent never seems to be in force.
    server->intercept =
        [&](const net::HttpRequest& request) -> std::optional<Result<net::HttpResponse>> {
        if (request.method != "PATCH") return std::nullopt;
        Value stored = data::parse_json(request.body).value();
        stored.at("metadata").set("uid", "u").set("resourceVersion", "5");
        stored.at("data").set("value", "1");
        return kube::testing::respond(200, stored);
    };
    const Value intent = kube::testing::config_map("n", "a", "1000m");
    Result<Applied> first = run(applier.apply(kube::resources::config_maps(), intent, nullptr));
    ASSERT_TRUE(first.ok());
    EXPECT_TRUE(first->written);
    Result<Applied> second =
        run(applier.apply(kube::resources::config_maps(), intent, first->object));
    ASSERT_TRUE(second.ok());
    EXPECT_FALSE(second->written);
    // Somebody else changed it: ours again.
    Value drifted = *first->object;
    drifted.at("data").set("value", "2");
    Result<Applied> third = run(applier.apply(kube::resources::config_maps(), intent,
                                              std::make_shared<const Value>(std::move(drifted))));
    EXPECT_TRUE(third->written);
    EXPECT_EQ(applier.writes_count(), 2u);
    EXPECT_EQ(applier.memory_count(), 1u);
    static_cast<void>(run(applier.remove(kube::resources::config_maps(), first->object)));
    EXPECT_EQ(applier.memory_count(), 0u);
}

TEST_F(ApplierTest, RemovesOnlyWhatIsMeant) {
    server->put(kube::testing::config_map_path("n", "a"), kube::testing::config_map("n", "a", "1"));
    const auto live =
        std::make_shared<const Value>(*server->object(kube::testing::config_map_path("n", "a")));
    EXPECT_TRUE(*run(applier.remove(kube::resources::config_maps(), live)));
    EXPECT_FALSE(*run(applier.remove(kube::resources::config_maps(), live)));
    EXPECT_FALSE(*run(applier.remove(kube::resources::config_maps(), nullptr)));
    EXPECT_NE(server->requests[0].body.find(R"("preconditions":{"uid":")"), std::string::npos);
}

// A server may answer a conflict although the object that was meant is there: taken for its end, a
// deletion would wait for ever for an event that never comes.
TEST_F(ApplierTest, AConflictIsNotTheEndOfAnObject) {
    server->put(kube::testing::config_map_path("n", "a"), kube::testing::config_map("n", "a", "1"));
    const auto live =
        std::make_shared<const Value>(*server->object(kube::testing::config_map_path("n", "a")));
    server->intercept =
        [](const net::HttpRequest& request) -> std::optional<Result<net::HttpResponse>> {
        if (request.method != "DELETE") return std::nullopt;
        return kube::testing::respond(
            409, Value::object({{"kind", "Status"}, {"reason", "Conflict"}, {"code", 409}}));
    };
    Result<bool> removed = run(applier.remove(kube::resources::config_maps(), live));
    ASSERT_FALSE(removed.ok());
    EXPECT_EQ(removed.error().code(), Code::kAborted);
    // Another one of that name: the one that was meant is gone.
    Value other = *live;
    other.at("metadata").set("uid", "former");
    removed = run(applier.remove(kube::resources::config_maps(),
                                 std::make_shared<const Value>(std::move(other))));
    ASSERT_TRUE(removed.ok());
    EXPECT_FALSE(*removed);
}

}  // namespace
}  // namespace basalt::controller
