#include "data/pointer.h"

#include <gtest/gtest.h>

#include "data/json.h"

namespace basalt::data {
namespace {

TEST(Pointer, ExamplesOfTheRfc) {
    const Value document =
        parse_json(
            R"({"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"e^f":3,"g|h":4,"i\\j":5,"k\"l":6," ":7,"m~n":8})")
            .value();
    EXPECT_EQ(pointer_get(document, "").value(), document);
    EXPECT_EQ(to_json(pointer_get(document, "/foo").value()), R"(["bar","baz"])");
    EXPECT_EQ(pointer_get(document, "/foo/0")->as_string(), "bar");
    EXPECT_EQ(pointer_get(document, "/")->as_int(-1), 0);
    EXPECT_EQ(pointer_get(document, "/a~1b")->as_int(), 1);
    EXPECT_EQ(pointer_get(document, "/c%d")->as_int(), 2);
    EXPECT_EQ(pointer_get(document, "/i\\j")->as_int(), 5);
    EXPECT_EQ(pointer_get(document, "/ ")->as_int(), 7);
    EXPECT_EQ(pointer_get(document, "/m~0n")->as_int(), 8);
}

TEST(Pointer, Errors) {
    const Value document = parse_json(R"({"a":[1,2],"b":"x"})").value();
    for (const char* bad : {"a", "/~", "/~2", "/a~"}) {
        EXPECT_EQ(pointer_get(document, bad).error().code(), Code::kInvalidArgument) << bad;
    }
    for (const char* missing :
         {"/c", "/a/2", "/a/-", "/a/01", "/a/x", "/a/-1", "/b/c", "/a/99999999999999999999"}) {
        EXPECT_EQ(pointer_get(document, missing).error().code(), Code::kNotFound) << missing;
    }
}

TEST(Pointer, Set) {
    Value document;
    ASSERT_TRUE(pointer_set(document, "/a/b~1c", 1).ok());
    ASSERT_TRUE(pointer_set(document, "/list", Value::array()).ok());
    ASSERT_TRUE(pointer_set(document, "/list/-", 1).ok());
    ASSERT_TRUE(pointer_set(document, "/list/1/x", 2).ok());
    ASSERT_TRUE(pointer_set(document, "/list/0", 0).ok());
    EXPECT_EQ(to_json(document), R"({"a":{"b/c":1},"list":[0,{"x":2}]})");
    EXPECT_FALSE(pointer_set(document, "/list/5", 0).ok());
    EXPECT_FALSE(pointer_set(document, "/list/x", 0).ok());
    EXPECT_FALSE(pointer_set(document, "/a/b~1c/d", 0).ok());
    ASSERT_TRUE(pointer_set(document, "", "all").ok());
    EXPECT_EQ(document.as_string(), "all");
}

TEST(Pointer, Remove) {
    Value document = parse_json(R"({"a":[1,2,3],"b":{"c":1}})").value();
    ASSERT_TRUE(pointer_remove(document, "/a/1").ok());
    ASSERT_TRUE(pointer_remove(document, "/b/c").ok());
    EXPECT_EQ(to_json(document), R"({"a":[1,3],"b":{}})");
    EXPECT_EQ(pointer_remove(document, "/a/2").error().code(), Code::kNotFound);
    EXPECT_EQ(pointer_remove(document, "/x/y").error().code(), Code::kNotFound);
    ASSERT_TRUE(pointer_remove(document, "").ok());
    EXPECT_TRUE(document.is_null());
}

TEST(Pointer, Text) {
    const Pointer pointer = Pointer().child("a/b").child("m~n").child("");
    EXPECT_EQ(pointer.to_string(), "/a~1b/m~0n/");
    EXPECT_EQ(Pointer::parse("/a~1b/m~0n/").value(), pointer);
    EXPECT_TRUE(Pointer::parse("/a")->is_above(Pointer::parse("/a/b").value()));
    EXPECT_FALSE(Pointer::parse("/a")->is_above(Pointer::parse("/ab").value()));
    EXPECT_FALSE(Pointer::parse("/a")->is_above(Pointer::parse("/a").value()));
}

}  // namespace
}  // namespace basalt::data
