#include "data/hash.h"

#include <gtest/gtest.h>

#include "data/base64.h"
#include "data/json.h"
#include "data/utf8.h"

namespace basalt::data {
namespace {

uint64_t hash_of(std::string_view json) { return hash(parse_json(json).value()); }

TEST(Hash, Fnv1a) {
    EXPECT_EQ(fnv1a(""), 0xcbf29ce484222325u);
    EXPECT_EQ(fnv1a("a"), 0xaf63dc4c8601ec8cu);
    EXPECT_EQ(fnv1a("foobar"), 0x85944171f73967e8u);
    EXPECT_EQ(fnv1a("bar", fnv1a("foo")), fnv1a("foobar"));
}

TEST(Hash, DependsOnContentOnly) {
    EXPECT_EQ(hash_of(R"({"a":1,"b":[1,2]})"), hash_of(R"({"b":[1,2.0],"a":1})"));
    EXPECT_NE(hash_of("[1,2]"), hash_of("[2,1]"));
    EXPECT_NE(hash_of(R"({"a":1,"b":2})"), hash_of(R"({"a":2,"b":1})"));
    EXPECT_NE(hash_of(R"({"a":{"b":1}})"), hash_of(R"({"a":1,"b":{}})"));
    for (const char* other :
         {"false", "0", "\"\"", "[]", "{}", "true", "1", "-1", "0.5", "[null]", "\"null\""}) {
        EXPECT_NE(hash_of(other), hash_of("null")) << other;
    }
    EXPECT_NE(hash_of("\"a\""), hash_of("\"a\\u0000\""));
    EXPECT_EQ(hash(Value(0x1p63)), hash(Value(uint64_t{1} << 63)));
    EXPECT_EQ(hash(Value(-3)), hash(Value(-3.0)));
    EXPECT_EQ(hash(Value(0)), hash(Value(-0.0)));
    EXPECT_EQ(hash(Value("resourceVersion")), hash(Value::shared_string("resourceVersion")));
    EXPECT_EQ(hash_hex(255), "00000000000000ff");
}

/// Written into objects, so it may never change.
TEST(Hash, IsTheSameInEveryRelease) {
    EXPECT_EQ(hash_hex(hash_of(R"({"kind":"Pod","spec":{"replicas":3,"x":[true,null,"ü",1.5]}})")),
              "123e2585541705e3");
}

TEST(Base64, VectorsOfTheRfc) {
    const char* cases[][2] = {{"", ""},
                              {"f", "Zg=="},
                              {"fo", "Zm8="},
                              {"foo", "Zm9v"},
                              {"foob", "Zm9vYg=="},
                              {"fooba", "Zm9vYmE="},
                              {"foobar", "Zm9vYmFy"}};
    for (const auto& [bytes, text] : cases) {
        EXPECT_EQ(base64_encode(bytes), text);
        EXPECT_EQ(base64_decode(text).value(), bytes);
    }
    std::string all;
    for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
    EXPECT_EQ(base64_decode(base64_encode(all)).value(), all);
}

TEST(Base64, IsStrict) {
    for (const char* bad : {"Z", "Zg", "Zg=", "Zg===", "Zh==", "Zm9", "Zm9v\n", "Zm 9v",
                            "====", "=m9v", "Z=9v", "Zm9-", "Zm9v="}) {
        EXPECT_FALSE(base64_decode(bad).ok()) << bad;
    }
    EXPECT_EQ(base64_decode_lines("\r\nZm9v\nYm\r\nFy\n").value(), "foobar");
    EXPECT_EQ(base64_decode_lines("Zg\n==\n").value(), "f");
    for (const char* bad : {"Zm 9v", "Zm9v\t", "Zm\n9"})
        EXPECT_FALSE(base64_decode_lines(bad).ok()) << bad;
}

TEST(Utf8, Lengths) {
    EXPECT_EQ(utf8_length(""), 0u);
    EXPECT_EQ(utf8_length(std::string_view("\0", 1)), 1u);
    EXPECT_EQ(clip_utf8("abc", 3), "abc");
    EXPECT_EQ(clip_utf8("abcdef", 5), "ab…");
    EXPECT_EQ(clip_utf8("aéé", 4), "a…") << "not inside of a character";
    EXPECT_EQ(clip_utf8("abcdef", 2), "");
    EXPECT_EQ(utf8_length("é"), 2u);
    EXPECT_EQ(utf8_length("\uFFFD"), 3u);
    EXPECT_EQ(utf8_length("😀"), 4u);
    for (const char* bad :
         {"\x80", "\xc0\x80", "\xc1\xbf", "\xc3", "\xe0\x80\x80", "\xe2\x82", "\xed\xa0\x80",
          "\xf0\x80\x80\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff"}) {
        EXPECT_EQ(utf8_length(bad), 0u);
        EXPECT_FALSE(is_valid_utf8(bad));
    }
    EXPECT_TRUE(is_valid_utf8("aé\uFFFD😀"));
}

}  // namespace
}  // namespace basalt::data
