#include "controlplane/template.h"

#include <gtest/gtest.h>

#include "data/json.h"

namespace basalt::controlplane {
namespace {

using data::Value;

TEST(Template, KeepsTheTypeOfAValueThatStandsAlone) {
    const std::vector<Value> made =
        instantiate("{port: '${port}', list: '${list}', text: 'at ${host}:${port}/${host}'}",
                    {{"port", 6443}, {"host", "a.example"}, {"list", Value::array({"x", 1})}});
    ASSERT_EQ(made.size(), 1u);
    EXPECT_EQ(data::to_json(made[0]),
              R"({"port":6443,"list":["x",1],"text":"at a.example:6443/a.example"})");
}

TEST(Template, WhatATenantWroteChangesNoStructure) {
    const std::string hostile = "x'}\n---\nkind: Secret\nname: ${other} \"";
    const std::vector<Value> made = instantiate("kind: ConfigMap\nname: ${name}\nin: a ${name} b",
                                                {{"name", hostile}, {"other", "y"}});
    ASSERT_EQ(made.size(), 1u);
    EXPECT_EQ(made[0]["kind"].as_string(), "ConfigMap");
    EXPECT_EQ(made[0]["name"].str(), hostile);
    EXPECT_EQ(made[0]["in"].str(), "a " + hostile + " b");
}

TEST(Template, ReadsSeveralDocuments) {
    const std::vector<Value> made =
        instantiate("a: ${v}\n---\nb: [1, '${v}', 'no ${end']\n", {{"v", true}});
    ASSERT_EQ(made.size(), 2u);
    EXPECT_TRUE(made[0]["a"].as_bool());
    EXPECT_EQ(data::to_json(made[1]), R"({"b":[1,true,"no ${end"]})");
}

}  // namespace
}  // namespace basalt::controlplane
