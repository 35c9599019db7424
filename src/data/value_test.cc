#include "data/value.h"

#include <gtest/gtest.h>

#include <limits>
#include <type_traits>

#include "data/json.h"
#include "data/well_known.h"

namespace basalt::data {
namespace {

const std::string kLong = "a string of more than fourteen bytes";

TEST(Value, NullReadsAsNothing) {
    const Value value;
    EXPECT_TRUE(value.is_null());
    EXPECT_TRUE(value["a"]["b"][3].is_null());
    EXPECT_EQ(value.as_string("x"), "x");
    EXPECT_EQ(value.as_int(7), 7);
    EXPECT_TRUE(value.as_bool(true));
    EXPECT_EQ(value.size(), 0u);
    EXPECT_TRUE(value.items().empty());
    EXPECT_TRUE(value.members().empty());
}

TEST(Value, IntegersKeepTheirValue) {
    const uint64_t big = std::numeric_limits<uint64_t>::max();
    EXPECT_EQ(Value(big).as_uint(), big);
    EXPECT_EQ(Value(big).type(), Type::kUint);
    EXPECT_EQ(Value(big).as_int(-1), -1);
    EXPECT_EQ(Value(5u).type(), Type::kInt);
    EXPECT_EQ(Value(uint64_t{5}).as_int(), 5);
    EXPECT_EQ(Value(-5).as_uint(9), 9u);
    EXPECT_EQ(Value(3.0).as_int(), 3);
    EXPECT_EQ(Value(3.5).as_int(-1), -1);
    EXPECT_EQ(Value(-0x1p63).as_int(), std::numeric_limits<int64_t>::min());
    EXPECT_EQ(Value(0x1p63).as_int(-1), -1);
    EXPECT_EQ(Value(0x1p63).as_uint(), uint64_t{1} << 63);
    EXPECT_EQ(Value(0x1p64).as_uint(1), 1u);
    EXPECT_EQ(Value(std::numeric_limits<double>::quiet_NaN()).as_int(4), 4);
}

TEST(Value, NumbersCompareExactly) {
    EXPECT_EQ(Value(1), Value(1.0));
    EXPECT_EQ(Value(1u), Value(1));
    EXPECT_EQ(Value(-2), Value(-2.0));
    EXPECT_FALSE(Value(1) == Value(-1.0));
    EXPECT_FALSE(Value(1) == Value(true));
    const int64_t max = std::numeric_limits<int64_t>::max();
    EXPECT_FALSE(Value(max) == Value(static_cast<uint64_t>(max) + 1));
    EXPECT_FALSE(Value((int64_t{1} << 53) + 1) == Value(0x1p53));
    EXPECT_EQ(Value(uint64_t{1} << 63), Value(0x1p63));
    EXPECT_FALSE(Value(max) == Value(0x1p63));
}

TEST(Value, PointersDoNotBecomeBooleans) {
    EXPECT_FALSE((std::is_constructible_v<Value, int*>));
    EXPECT_FALSE((std::is_convertible_v<const Value*, Value>));
    EXPECT_TRUE((std::is_constructible_v<Value, bool>));
}

TEST(Value, StringsOfAllSizes) {
    for (const size_t size : {0u, 1u, 13u, 14u, 15u, 1000u}) {
        const std::string text(size, 'x');
        Value value(text);
        const Value copy = value;
        const Value moved = std::move(value);
        EXPECT_EQ(copy.as_string(), text);
        EXPECT_EQ(moved.as_string(), text);
        EXPECT_TRUE(value.is_null());  // NOLINT: moved-from is null by contract
        EXPECT_EQ(copy, moved);
    }
    EXPECT_EQ(Value(std::string("a\0b", 3)).as_string().size(), 3u);
}

TEST(Value, WellKnownStringsAreShared) {
    const Value value = Value::shared_string("resourceVersion");
    EXPECT_EQ(value.as_string(), "resourceVersion");
    EXPECT_EQ(value.heap_size(), 0u);
    Value copy = value;
    EXPECT_EQ(copy.as_string().data(), value.as_string().data());
    EXPECT_EQ(copy, Value("resourceVersion"));
    copy = "other";
    EXPECT_EQ(value.as_string(), "resourceVersion");
    EXPECT_GT(Value::shared_string("resourceVersioN").heap_size(), 0u);
    EXPECT_EQ(find_well_known("short"), nullptr);
    ASSERT_NE(find_well_known("creationTimestamp"), nullptr);
    EXPECT_EQ(*find_well_known("creationTimestamp"), "creationTimestamp");
}

TEST(Value, AssignmentFromItself) {
    Value value = Value::object({{"child", Value::object({{"text", kLong}})}});
    const Value& alias = value;
    value = alias;
    EXPECT_EQ(value["child"]["text"].as_string(), kLong);
    Value& same = value;
    value = std::move(same);
    EXPECT_EQ(value["child"]["text"].as_string(), kLong);
}

TEST(Value, AssignmentFromBelowItself) {
    Value value = Value::object({{"child", Value::object({{"text", kLong}})}});
    value = value["child"];
    EXPECT_EQ(to_json(value), "{\"text\":\"" + kLong + "\"}");
    value = std::move(value.at("text"));
    EXPECT_EQ(value.as_string(), kLong);

    Value parent = Value::object({{"a", kLong}});
    parent.set("copy", parent);
    EXPECT_EQ(parent["copy"]["a"].as_string(), kLong);
    Value array = Value::array({kLong});
    for (int i = 0; i < 10; ++i) array.push_back(array[0]);
    EXPECT_EQ(array[10].as_string(), kLong);
}

TEST(Value, KeysMayPointIntoTheValue) {
    Value text("key-inside");
    text.at(text.as_string()) = 1;
    EXPECT_EQ(to_json(text), R"({"key-inside":1})");
    Value object = Value::object({{"name", kLong}});
    object.at(object["name"].as_string()) = 2;
    EXPECT_EQ(object[kLong].as_int(), 2);
    EXPECT_TRUE(object.erase(object.members()[0].key()));
    EXPECT_EQ(object.size(), 1u);
}

TEST(Value, BuildingMovesNestedValues) {
    Value inner = Value::array({1, "two", 3.5, nullptr, true, Value::object()});
    const Value value =
        Value::object({{"inner", std::move(inner)}, {"map", Value::object({{"k", kLong}})}});
    EXPECT_EQ(to_json(value),
              R"({"inner":[1,"two",3.5,null,true,{}],"map":{"k":")" + kLong + R"("}})");
    EXPECT_EQ(to_json(Value::object({{"a", 1}, {"b", 2}, {"a", 3}})), R"({"a":3,"b":2})");
}

TEST(Value, SetEraseAndOmitEmpty) {
    Value value;
    value.set("a", 1).set("b", "x").set_unless_empty("c", "").set_unless_empty("d", Value::array());
    value.set_unless_empty("zero", 0).set_unless_empty("no", false);
    EXPECT_EQ(to_json(value), R"({"a":1,"b":"x","zero":0,"no":false})");
    EXPECT_TRUE(value.erase("a"));
    EXPECT_FALSE(value.erase("a"));
    value.at("list").push_back(1);
    value.at("list").push_back("x");
    EXPECT_EQ(value["list"].size(), 2u);
    EXPECT_TRUE(value["list"][2].is_null());
    EXPECT_TRUE(value["list"][-1].is_null());
}

TEST(Value, LaterDuplicatesWinInSmallAndLargeObjects) {
    for (const int count : {3, 100}) {
        Members members;
        for (int i = 0; i < count; ++i)
            members.push_back({Value("k" + std::to_string(i)), Value(i)});
        members.push_back({Value("k1"), Value("new")});
        const Value value(std::move(members));
        EXPECT_EQ(value.size(), static_cast<size_t>(count));
        EXPECT_EQ(value["k1"].as_string(), "new");
        EXPECT_EQ(value.members()[1].key(), "k1");
    }
}

TEST(Value, ObjectsCompareWithoutOrder) {
    for (const int count : {2, 5, 100}) {
        Value a = Value::object();
        Value b = Value::object();
        for (int i = 0; i < count; ++i) a.set("k" + std::to_string(i), i);
        for (int i = count; i-- > 0;) b.set("k" + std::to_string(i), i);
        EXPECT_EQ(a, b);
        b.set("k0", "other");
        EXPECT_FALSE(a == b);
        b.erase("k0");
        EXPECT_FALSE(a == b);
        b.set("other", 0);
        EXPECT_FALSE(a == b);
    }
}

TEST(Value, MapsAndLists) {
    const std::map<std::string, std::string> map{{"a", "1"}, {"b", kLong}};
    EXPECT_EQ(Value::from(map).as_string_map(), map);
    const std::vector<std::string> list{"x", kLong};
    EXPECT_EQ(Value::from(list).as_string_list(), list);
    EXPECT_EQ(Value::array({1, "x"}).as_string_list(), std::vector<std::string>{"x"});
}

TEST(Value, HeapSizeAndShrink) {
    EXPECT_EQ(Value("short").heap_size(), 0u);
    EXPECT_EQ(Value(kLong).heap_size(), 4 + kLong.size());
    Value value = Value::object();
    for (int i = 0; i < 5; ++i) value.set("k" + std::to_string(i), i);
    value.shrink_to_fit();
    EXPECT_EQ(value.heap_size(), sizeof(Members) + 5 * sizeof(Member));
}

}  // namespace
}  // namespace basalt::data
