#include "kube/packed_object.h"

#include <gtest/gtest.h>

#include "data/json.h"

namespace basalt::kube {
namespace {

TEST(PackedObject, UnpacksToTheSameObject) {
    Result<Value> object = data::parse_json(
        R"({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a\"ü\u0000"},
            "data":{"empty":"","list":[],"none":null,"yes":true,"map":{}},
            "numbers":[0,-1,9007199254740993,18446744073709551615,0.1,1e300]})");
    ASSERT_TRUE(object.ok()) << object.error().to_string();
    const PackedObject packed(*object);
    EXPECT_EQ(*packed.unpack(), *object);
    EXPECT_EQ(data::to_json(*packed.unpack()), data::to_json(*object));
}

TEST(PackedObject, IsMuchSmallerThanTheObject) {
    Value object;
    for (int i = 0; i < 100; ++i) {
        Value item = Value::object({{"name", "container-" + std::to_string(i)}, {"port", i}});
        object.at("items").push_back(std::move(item));
    }
    EXPECT_LT(PackedObject(object).size(), object.heap_size() / 5);
}

}  // namespace
}  // namespace basalt::kube
