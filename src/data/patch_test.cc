#include "data/patch.h"

#include <gtest/gtest.h>

#include <random>

#include "base/limits.h"
#include "data/json.h"

namespace basalt::data {
namespace {

Value json(std::string_view text) { return parse_json(text).value(); }

/// The patched document, or the error's code name.
std::string apply(std::string_view document, std::string_view patch) {
    const Result<Value> patched = apply_json_patch(json(document), json(patch));
    return patched.ok() ? to_json(*patched) : std::string(code_name(patched.error().code()));
}

TEST(JsonPatch, ExamplesOfTheRfc) {
    EXPECT_EQ(apply(R"({"foo":"bar"})", R"([{"op":"add","path":"/baz","value":"qux"}])"),
              R"({"foo":"bar","baz":"qux"})");
    EXPECT_EQ(apply(R"({"foo":["bar","baz"]})", R"([{"op":"add","path":"/foo/1","value":"qux"}])"),
              R"({"foo":["bar","qux","baz"]})");
    EXPECT_EQ(apply(R"({"baz":"qux","foo":"bar"})", R"([{"op":"remove","path":"/baz"}])"),
              R"({"foo":"bar"})");
    EXPECT_EQ(apply(R"({"foo":["bar","qux","baz"]})", R"([{"op":"remove","path":"/foo/1"}])"),
              R"({"foo":["bar","baz"]})");
    EXPECT_EQ(apply(R"({"baz":"qux"})", R"([{"op":"replace","path":"/baz","value":"boo"}])"),
              R"({"baz":"boo"})");
    EXPECT_EQ(apply(R"({"foo":{"bar":"baz","waldo":"fred"},"qux":{"corge":"grault"}})",
                    R"([{"op":"move","from":"/foo/waldo","path":"/qux/thud"}])"),
              R"({"foo":{"bar":"baz"},"qux":{"corge":"grault","thud":"fred"}})");
    EXPECT_EQ(apply(R"({"foo":["all","grass","cows","eat"]})",
                    R"([{"op":"move","from":"/foo/1","path":"/foo/3"}])"),
              R"({"foo":["all","cows","eat","grass"]})");
    EXPECT_EQ(
        apply(
            R"({"baz":"qux","foo":["a",2,"c"]})",
            R"([{"op":"test","path":"/baz","value":"qux"},{"op":"test","path":"/foo/1","value":2}])"),
        R"({"baz":"qux","foo":["a",2,"c"]})");
    EXPECT_EQ(apply(R"({"baz":"qux"})", R"([{"op":"test","path":"/baz","value":"bar"}])"),
              "FailedPrecondition");
    EXPECT_EQ(
        apply(R"({"foo":"bar"})", R"([{"op":"add","path":"/child","value":{"grandchild":{}}}])"),
        R"({"foo":"bar","child":{"grandchild":{}}})");
    EXPECT_EQ(apply(R"({"foo":"bar"})", R"([{"op":"add","path":"/baz","value":"qux","xyz":123}])"),
              R"({"foo":"bar","baz":"qux"})");
    EXPECT_EQ(apply(R"({"foo":"bar"})", R"([{"op":"add","path":"/baz/bat","value":"qux"}])"),
              "FailedPrecondition");
    EXPECT_EQ(apply(R"({"/":9,"~1":10})", R"([{"op":"test","path":"/~01","value":10}])"),
              R"({"/":9,"~1":10})");
    EXPECT_EQ(apply(R"({"/":9,"~1":10})", R"([{"op":"test","path":"/~01","value":"10"}])"),
              "FailedPrecondition");
    EXPECT_EQ(
        apply(R"({"foo":["bar"]})", R"([{"op":"add","path":"/foo/-","value":["abc","def"]}])"),
        R"({"foo":["bar",["abc","def"]]})");
}

TEST(JsonPatch, MoreCases) {
    EXPECT_EQ(apply(R"({"a":1})", R"([{"op":"add","path":"","value":[1]}])"), "[1]");
    EXPECT_EQ(apply(R"({"a":1})", R"([{"op":"replace","path":"","value":null}])"), "null");
    EXPECT_EQ(apply(R"({"a":null})", R"([{"op":"test","path":"/a","value":null}])"),
              R"({"a":null})");
    EXPECT_EQ(apply(R"({"a":{"b":1}})", R"([{"op":"copy","from":"/a","path":"/a/c"}])"),
              R"({"a":{"b":1,"c":{"b":1}}})");
    EXPECT_EQ(apply(R"({"a":{"b":1}})", R"([{"op":"move","from":"/a/b","path":"/a"}])"),
              R"({"a":1})");
    EXPECT_EQ(apply(R"({"a":1})", R"([{"op":"move","from":"/a","path":"/a"}])"), R"({"a":1})");
    EXPECT_EQ(apply(R"([1,2])", R"([{"op":"replace","path":"/1","value":3}])"), "[1,3]");
    EXPECT_EQ(apply(R"({"a":1})", R"([{"op":"test","path":"/a","value":1.0}])"), R"({"a":1})");
}

TEST(JsonPatch, Errors) {
    for (const char* malformed :
         {R"({})", R"([1])", R"([{}])", R"([{"op":"add"}])", R"([{"op":"add","path":"/a"}])",
          R"([{"op":"x","path":"/a","value":1}])", R"([{"op":"add","path":"a","value":1}])",
          R"([{"op":"move","path":"/a"}])", R"([{"op":"move","from":"/a","path":"/a/b"}])",
          R"([{"op":"add","path":"/l/x","value":1}])",
          R"([{"op":"add","path":"/l/01","value":1}])"}) {
        EXPECT_EQ(apply(R"({"a":{},"l":[1]})", malformed), "InvalidArgument") << malformed;
    }
    for (const char* unmet :
         {R"([{"op":"remove","path":"/x"}])", R"([{"op":"replace","path":"/x","value":1}])",
          R"([{"op":"add","path":"/l/2","value":1}])", R"([{"op":"remove","path":"/l/-"}])",
          R"([{"op":"copy","from":"/x","path":"/a"}])",
          R"([{"op":"test","path":"/x","value":null}])",
          R"([{"op":"add","path":"/s/x","value":1}])"}) {
        EXPECT_EQ(apply(R"({"a":{},"l":[1],"s":"text"})", unmet), "FailedPrecondition") << unmet;
    }
    const Result<Value> failed = apply_json_patch(
        json("{}"), json(R"([{"op":"add","path":"/a","value":1},{"op":"remove","path":"/b"}])"));
    EXPECT_EQ(failed.error().message(), "JSON patch: operation 1: nothing at \"/b\"");
}

TEST(JsonPatch, Limits) {
    Value doubling = Value::array();
    for (int i = 0; i < 30; ++i) {
        doubling.push_back(json(R"({"op":"copy","from":"/l","path":"/l/-"})"));
    }
    EXPECT_EQ(apply_json_patch(json(R"({"l":["a long string, longer than fourteen"]})"), doubling)
                  .error()
                  .code(),
              Code::kResourceExhausted);
    Value many = Value::array();
    for (size_t i = 0; i <= limits::kMaxPatchOperations; ++i)
        many.push_back(json(R"({"op":"test","path":"","value":{}})"));
    EXPECT_EQ(apply_json_patch(json("{}"), many).error().code(), Code::kResourceExhausted);
    // Wrapping again and again must not nest without bound.
    Value wrapping = Value::array();
    for (int i = 0; i < 100; ++i) {
        wrapping.push_back(json(R"({"op":"add","path":"/b","value":{}})"));
        wrapping.push_back(json(R"({"op":"move","from":"/a","path":"/b/a"})"));
        wrapping.push_back(json(R"({"op":"move","from":"/b","path":"/a"})"));
    }
    EXPECT_EQ(apply_json_patch(json(R"({"a":{}})"), wrapping).error().code(),
              Code::kResourceExhausted);
}

TEST(MergePatch, ExamplesOfTheRfc) {
    const char* cases[][3] = {
        {R"({"a":"b"})", R"({"a":"c"})", R"({"a":"c"})"},
        {R"({"a":"b"})", R"({"b":"c"})", R"({"a":"b","b":"c"})"},
        {R"({"a":"b"})", R"({"a":null})", R"({})"},
        {R"({"a":"b","b":"c"})", R"({"a":null})", R"({"b":"c"})"},
        {R"({"a":["b"]})", R"({"a":"c"})", R"({"a":"c"})"},
        {R"({"a":"c"})", R"({"a":["b"]})", R"({"a":["b"]})"},
        {R"({"a":{"b":"c"}})", R"({"a":{"b":"d","c":null}})", R"({"a":{"b":"d"}})"},
        {R"({"a":[{"b":"c"}]})", R"({"a":[1]})", R"({"a":[1]})"},
        {R"(["a","b"])", R"(["c","d"])", R"(["c","d"])"},
        {R"({"a":"b"})", R"(["c"])", R"(["c"])"},
        {R"({"a":"foo"})", "null", "null"},
        {R"({"a":"foo"})", R"("bar")", R"("bar")"},
        {R"({"e":null})", R"({"a":1})", R"({"e":null,"a":1})"},
        {R"([1,2])", R"({"a":"b","c":null})", R"({"a":"b"})"},
        {R"({})", R"({"a":{"bb":{"ccc":null}}})", R"({"a":{"bb":{}}})"},
    };
    for (const auto& [document, patch, expected] : cases) {
        EXPECT_EQ(to_json(apply_merge_patch(json(document), json(patch))), expected)
            << document << patch;
    }
}

TEST(Diff, SmallestSensiblePatch) {
    const auto diff = [](const char* from, const char* to) {
        return to_json(diff_to_json_patch(json(from), json(to)));
    };
    EXPECT_EQ(diff(R"({"a":1})", R"({"a":1.0})"), "[]");
    EXPECT_EQ(
        diff(R"({"a":1,"b":{"c/d":2}})", R"({"b":{"c/d":3},"e":4})"),
        R"([{"op":"remove","path":"/a"},{"op":"replace","path":"/b/c~1d","value":3},{"op":"add","path":"/e","value":4}])");
    EXPECT_EQ(diff("[1,2,3,4]", "[1,3,4]"), R"([{"op":"remove","path":"/1"}])");
    EXPECT_EQ(diff("[1,4]", "[1,2,3,4]"),
              R"([{"op":"add","path":"/1","value":2},{"op":"add","path":"/2","value":3}])");
    EXPECT_EQ(diff(R"([{"n":"a","i":"1"}])", R"([{"n":"a","i":"2"}])"),
              R"([{"op":"replace","path":"/0/i","value":"2"}])");
    EXPECT_EQ(diff("1", "{}"), R"([{"op":"replace","path":"","value":{}}])");
    EXPECT_EQ(to_json(merge_diff(json(R"({"a":1,"b":{"c":1,"d":2},"l":[1]})"),
                                 json(R"({"b":{"c":1,"d":3},"l":[1,2]})"))),
              R"({"a":null,"b":{"d":3},"l":[1,2]})");
    EXPECT_EQ(to_json(merge_diff(json(R"({"a":1})"), json(R"({"a":1})"))), "{}");
}

class Random {
 public:
    Value value(int depth) {
        const unsigned kind = pick(depth > 0 ? 6 : 4);
        if (kind == 0)
            return pick(2) == 0 ? Value(true) : Value("text of more than fourteen bytes");
        if (kind < 4) return Value(static_cast<int>(pick(4)));
        if (kind == 4) {
            Value array = Value::array();
            for (unsigned i = pick(5); i > 0; --i) array.push_back(value(depth - 1));
            return array;
        }
        Value object = Value::object();
        static constexpr const char* kKeys[] = {"a", "b/c", "~", "",
                                                "terminationGracePeriodSeconds"};
        for (unsigned i = pick(5); i > 0; --i) object.set(kKeys[pick(5)], value(depth - 1));
        return object;
    }

 private:
    unsigned pick(unsigned below) { return static_cast<unsigned>(engine_() % below); }
    std::mt19937 engine_{20240229};  // a fixed seed: the same documents each run
};

TEST(Diff, ApplyingItGivesTheTarget) {
    Random random;
    for (int i = 0; i < 5000; ++i) {
        const Value from = random.value(4);
        const Value to = random.value(4);
        const Value patch = diff_to_json_patch(from, to);
        const Result<Value> patched = apply_json_patch(from, patch);
        ASSERT_TRUE(patched.ok()) << to_json(from) << to_json(to) << to_json(patch);
        EXPECT_EQ(*patched, to) << to_json(from) << to_json(to) << to_json(patch);
        EXPECT_EQ(apply_merge_patch(from, merge_diff(from, to)), to)
            << to_json(from) << to_json(to);
    }
}

}  // namespace
}  // namespace basalt::data
