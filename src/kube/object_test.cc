#include "kube/object.h"

#include <gtest/gtest.h>

#include "data/json.h"

namespace basalt::kube {
namespace {

Value parse(std::string_view text) { return data::parse_json(text).value(); }

TEST(Object, Keys) {
    const Value pod = parse(
        R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","namespace":"n","uid":"u"}})");
    EXPECT_EQ(key_of(pod), ObjectKey("n", "a"));
    EXPECT_EQ(key_of(pod).to_string(), "n/a");
    EXPECT_EQ(ObjectKey("x").to_string(), "x");
    EXPECT_EQ(gvk_of(pod).to_string(), "Pod.v1");
    EXPECT_EQ(describe(pod), "Pod n/a");
    EXPECT_LT(ObjectKey("a", "z"), ObjectKey("b", "a"));
    EXPECT_EQ(resources::deployments().to_string(), "deployments.v1.apps");
}

TEST(Object, Finalizers) {
    Value object = parse(R"({"metadata":{"name":"a"}})");
    EXPECT_TRUE(insert_finalizer(object, "x/y"));
    EXPECT_FALSE(insert_finalizer(object, "x/y"));
    EXPECT_TRUE(has_finalizer(object, "x/y"));
    EXPECT_TRUE(erase_finalizer(object, "x/y"));
    EXPECT_FALSE(erase_finalizer(object, "x/y"));
    EXPECT_FALSE(is_deleting(object));
}

TEST(Object, ControllerReference) {
    const Value owner =
        parse(R"({"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d","uid":"1"}})");
    const Value other =
        parse(R"({"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"e","uid":"2"}})");
    Value object = parse(R"({"metadata":{"name":"a"}})");
    ASSERT_TRUE(set_controller_reference(object, owner).ok());
    ASSERT_TRUE(set_controller_reference(object, owner).ok());
    EXPECT_EQ(owner_references(object).size(), 1u);
    EXPECT_TRUE(is_owned_by(object, "1"));
    EXPECT_EQ(controller_of(object)->name, "d");
    EXPECT_EQ(set_controller_reference(object, other).error().code(), Code::kFailedPrecondition);
}

TEST(LabelSelector, ParsesAndMatches) {
    struct Case {
        const char* selector;
        const char* labels;
        bool matches;
    };
    const Case cases[] = {
        {"", R"({"a":"1"})", true},
        {"a=1", R"({"a":"1"})", true},
        {"a==1", R"({"a":"1"})", true},
        {"a=1", R"({"a":"2"})", false},
        {"a!=1", R"({})", true},
        {"a!=1", R"({"a":"1"})", false},
        {"a", R"({"a":""})", true},
        {"!a", R"({"a":""})", false},
        {"a in (1, 2),b notin (3)", R"({"a":"2","b":"4"})", true},
        {"a in (1,2)", R"({"a":"3"})", false},
        {"a in (1,2)", R"({})", false},
        {"b notin (3)", R"({})", true},
        {"a=1,!b", R"({"a":"1","b":"x"})", false},
    };
    for (const Case& each : cases) {
        SCOPED_TRACE(each.selector);
        const Result<LabelSelector> selector = LabelSelector::parse(each.selector);
        ASSERT_TRUE(selector.ok());
        EXPECT_EQ(selector->matches_labels(parse(each.labels)), each.matches);
        const Result<LabelSelector> again = LabelSelector::parse(selector->to_string());
        ASSERT_TRUE(again.ok());
        EXPECT_EQ(again->to_string(), selector->to_string());
    }
    for (const char* bad : {"a in 1)", "a in (1", "=1", "a b", ",", "(x)", "a of (1)", "a==b==c",
                            "a=b=", "a!=b c", "a in (x y)", "a\x97=b", "a=b\x97"}) {
        EXPECT_FALSE(LabelSelector::parse(bad).ok()) << bad;
    }
}

TEST(LabelSelector, FromValue) {
    const Value both = parse(R"({"matchLabels":{"a":"1"},
                                 "matchExpressions":[{"key":"b","operator":"NotIn","values":["x"]}]})");
    const Result<LabelSelector> selector = LabelSelector::from_value(both);
    ASSERT_TRUE(selector.ok());
    EXPECT_EQ(selector->to_string(), "a=1,b!=x");
    EXPECT_TRUE(selector->matches_labels(parse(R"({"a":"1"})")));
    EXPECT_TRUE(LabelSelector::from_value(parse("{}"))->matches_labels(parse("{}")));
    EXPECT_FALSE(LabelSelector::from_value(Value())->matches_labels(parse("{}")));
    EXPECT_FALSE(
        LabelSelector::from_value(parse(R"({"matchExpressions":[{"key":"b","operator":"X"}]})"))
            .ok());
}

}  // namespace
}  // namespace basalt::kube
