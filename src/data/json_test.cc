#include "data/json.h"

#include <gtest/gtest.h>

#include <limits>

namespace basalt::data {
namespace {

std::string round_trip(std::string_view text) {
    const Result<Value> value = parse_json(text);
    return value.ok() ? to_json(*value) : "error: " + value.error().message();
}

Code code_of(std::string_view text, const ParseOptions& options = {}) {
    const Result<Value> value = parse_json(text, options);
    return value.ok() ? Code::kOk : value.error().code();
}

TEST(ParseJson, KeepsDocuments) {
    for (const char* text : {
             "null",
             "true",
             "false",
             "0",
             "-1",
             "\"\"",
             "\"a\"",
             "[]",
             "{}",
             "[[],{}]",
             "1.5",
             R"({"a":{"b":[1,2,{"c":null}]},"d":"x"})",
             "9223372036854775807",
             "-9223372036854775808",
             "18446744073709551615",
             R"({"terminationGracePeriodSeconds":30})",
             "0.1",
             "1e+21",
             "1e-7",
             "1.7976931348623157e+308",
             "5e-324",
             "0.000001",
             "123456.789",
         }) {
        EXPECT_EQ(round_trip(text), text);
    }
}

TEST(ParseJson, DoublesAreExact) {
    // Each is a case where a fast conversion is off by one unit in the last place.
    for (const double number :
         {0.1, 1.0 / 3, 2.2250738585072014e-308, 9007199254740993.5, 1.2345678901234567e-5,
          7.2057594037927933e16, 1e22, 1e23, 8.41e21, 123456789012345678.0}) {
        const std::string text = to_json(Value(number));
        const Result<Value> value = parse_json(text);
        ASSERT_TRUE(value.ok()) << text;
        EXPECT_EQ(value->as_double(), number) << text;
    }
    EXPECT_EQ(parse_json("18446744073709551616")->type(), Type::kDouble);
    EXPECT_EQ(to_json(Value(std::numeric_limits<double>::infinity())), "null");
    EXPECT_EQ(to_json(Value(-0.0)), "0");
    EXPECT_EQ(to_json(Value(3.0)), "3");
    EXPECT_EQ(code_of("1e400"), Code::kInvalidArgument);
    EXPECT_EQ(round_trip("1e-400"), "0");
}

TEST(ParseJson, Strings) {
    EXPECT_EQ(parse_json(R"("\u0041\n\t\"\\\/\u00e9\ud83d\ude00")")->as_string(), "A\n\t\"\\/é😀");
    EXPECT_EQ(parse_json(R"({"a\nb":1})")->members()[0].key(), "a\nb");
    EXPECT_EQ(to_json(Value(std::string("a\0\x1f\x7f\"\\\b\f\r", 9))),
              "\"a\\u0000\\u001f\x7f\\\"\\\\\\b\\f\\r\"");
    EXPECT_EQ(to_json(Value("é😀")), "\"é😀\"");
    EXPECT_EQ(to_json(Value("a\xff\xc3(\xed\xa0\x80z")), "\"a\uFFFD\uFFFD(\uFFFD\uFFFD\uFFFDz\"");
    const std::string large(100'000, 'x');
    EXPECT_EQ(parse_json("\"\\n" + large + "\\n\"")->as_string(), "\n" + large + "\n");
}

TEST(ParseJson, RefusesWhatIsNotJson) {
    for (const char* text : {"",
                             " ",
                             "{",
                             "[1,]",
                             "{\"a\":1,}",
                             "{a:1}",
                             "'a'",
                             "nul",
                             "01",
                             "+1",
                             "1.",
                             ".5",
                             "NaN",
                             "\"\x01\"",
                             "\"\xff\"",
                             "\"\xed\xa0\x80\"",
                             "\"\\ud800\"",
                             "[1] 2",
                             "[] []",
                             "// x\n1",
                             "\xEF\xBB\xBF{}",
                             "{\"a\"}",
                             "\"\\x\""}) {
        EXPECT_EQ(code_of(text), Code::kInvalidArgument) << text;
    }
}

TEST(ParseJson, ErrorsTellThePlace) {
    const Result<Value> value = parse_json("{\n  \"a\": 1,\n  \"b\": x\n}");
    ASSERT_FALSE(value.ok());
    EXPECT_EQ(value.error().message().substr(0, 22), "JSON line 3 column 8: ");
}

TEST(ParseJson, Limits) {
    const auto nested = [](size_t depth) {
        return std::string(depth, '[') + std::string(depth, ']');
    };
    EXPECT_EQ(code_of(nested(64)), Code::kOk);
    EXPECT_EQ(code_of(nested(65)), Code::kResourceExhausted);
    ParseOptions options;
    options.max_depth = 2;
    EXPECT_EQ(code_of("[[]]", options), Code::kOk);
    EXPECT_EQ(code_of("[{\"a\":[]}]", options), Code::kResourceExhausted);
    options.max_size = 3;
    EXPECT_EQ(code_of("[1]", options), Code::kOk);
    EXPECT_EQ(code_of("[1 ]", options), Code::kResourceExhausted);
}

TEST(ParseJson, LastDuplicateWins) {
    EXPECT_EQ(round_trip(R"({"a":1,"b":2,"a":3})"), R"({"a":3,"b":2})");
    std::string text = "{";
    for (int i = 0; i < 50'000; ++i) text += "\"k" + std::to_string(i) + "\":0,";
    const Result<Value> value = parse_json(text + "\"k7\":1}");  // takes minutes if it is quadratic
    ASSERT_TRUE(value.ok());
    EXPECT_EQ(value->size(), 50'000u);
    EXPECT_EQ((*value)["k7"].as_int(), 1);
}

TEST(ParseJson, AllocatesExactly) {
    Value value = parse_json(R"({"a":[1,2,3],"b":{"c":1,"d":2,"e":3}})").value();
    const size_t size = value.heap_size();
    value.shrink_to_fit();
    EXPECT_EQ(value.heap_size(), size);
}

TEST(ToJson, PrettyAndCanonical) {
    const Value value = parse_json(R"({"b":[1,{"z":1,"y":[]}],"a":{},"c":1.0})").value();
    EXPECT_EQ(to_pretty_json(value),
              "{\n  \"b\": [\n    1,\n    {\n      \"z\": 1,\n      \"y\": []\n    }\n  ],\n  "
              "\"a\": {},\n  \"c\": 1\n}");
    EXPECT_EQ(to_canonical_json(value), R"({"a":{},"b":[1,{"y":[],"z":1}],"c":1})");
}

struct Split {
    std::vector<std::string> documents;
    Code error = Code::kOk;
    bool idle = false;
};

Split split(std::string_view text, size_t chunk_size,
            size_t limit = JsonLineSplitter::kDefaultMaxDocumentSize) {
    Split split;
    JsonLineSplitter splitter(limit);
    for (size_t i = 0; i < text.size(); i += chunk_size) {
        splitter.feed(text.substr(i, chunk_size));
        for (;;) {
            const auto next = splitter.next();
            if (!next.ok()) {
                split.error = next.error().code();
                return split;
            }
            if (!next->has_value()) break;
            split.documents.emplace_back(**next);
        }
    }
    split.idle = splitter.idle();
    return split;
}

TEST(JsonLineSplitter, FindsDocumentsWhateverTheChunks) {
    const std::string text =
        "{\"a\":\"}\"}\n{\"b\":\"\\\"}{\\\\\"}\r\n  [1,[2]] {}{\"c\":{\"d\":[]}}\n";
    const std::vector<std::string> expected{"{\"a\":\"}\"}", "{\"b\":\"\\\"}{\\\\\"}", "[1,[2]]",
                                            "{}", "{\"c\":{\"d\":[]}}"};
    for (size_t chunk = 1; chunk <= text.size(); ++chunk) {
        const Split result = split(text, chunk);
        EXPECT_EQ(result.documents, expected) << chunk;
        EXPECT_EQ(result.error, Code::kOk);
        EXPECT_TRUE(result.idle);
    }
}

TEST(JsonLineSplitter, TruncationIsNotIdle) {
    EXPECT_FALSE(split("{} {\"a\":", 3).idle);
    EXPECT_TRUE(split("{} \n", 3).idle);
    EXPECT_TRUE(JsonLineSplitter().idle());
}

TEST(JsonLineSplitter, RefusesOtherBytesAndStaysInError) {
    EXPECT_EQ(split("{} x {}", 1).error, Code::kInvalidArgument);
    EXPECT_EQ(split("]", 1).error, Code::kInvalidArgument);
    JsonLineSplitter splitter;
    splitter.feed("1");
    EXPECT_FALSE(splitter.next().ok());
    splitter.feed("{}");
    EXPECT_FALSE(splitter.next().ok());
    EXPECT_FALSE(splitter.idle());
}

TEST(JsonLineSplitter, LimitsTheDocument) {
    const std::string ten = "[12345678]";
    EXPECT_EQ(split(ten + ten + "\n" + ten, 4, 10).documents.size(), 3u);
    EXPECT_EQ(split(ten, 4, 9).error, Code::kResourceExhausted);
    EXPECT_EQ(split(ten, 100, 9).error, Code::kResourceExhausted);
    EXPECT_EQ(split("[123456789", 1, 9).error, Code::kResourceExhausted);
}

TEST(JsonLineSplitter, LargeDocumentsInSmallChunksAndTheirMemory) {
    const std::string large = "{\"x\":\"" + std::string(8 * limits::kMiB, 'y') + "\"}";
    JsonLineSplitter splitter;
    size_t found = 0;
    for (size_t i = 0; i < large.size();
         i += 1000) {  // takes minutes if each feed looks at all again
        splitter.feed(std::string_view(large).substr(i, 1000));
        const auto next = splitter.next();
        ASSERT_TRUE(next.ok());
        if (next->has_value()) {
            EXPECT_EQ(**next, large);
            ++found;
        }
    }
    EXPECT_EQ(found, 1u);
    EXPECT_EQ(splitter.buffered(), 0u);
}

TEST(JsonLineSplitter, Values) {
    JsonLineSplitter splitter;
    splitter.feed("{\"a\":1}{\"a\" 2}");
    const auto first = splitter.next_value();
    ASSERT_TRUE(first.ok() && first->has_value());
    EXPECT_EQ((**first)["a"].as_int(), 1);
    EXPECT_FALSE(splitter.next_value().ok());
}

}  // namespace
}  // namespace basalt::data
