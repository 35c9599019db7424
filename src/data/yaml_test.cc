#include "data/yaml.h"

#include <gtest/gtest.h>

#include <fstream>
#include <limits>

#include "data/yaml_scalar.h"

namespace basalt::data {
namespace {

Code code_of(std::string_view text) {
    const Result<Value> value = parse_yaml(text);
    return value.ok() ? Code::kOk : value.error().code();
}

// Inputs with what sigs.k8s.io/yaml (YAMLToJSONStrict) makes of them: {"yaml": …, "json": …} or
// {"yaml": …, "error": true}; "differs" says why we mean something else.
TEST(ParseYaml, AgreesWithGo) {
    std::ifstream file(BASALT_SOURCE_DIR "/src/data/testdata/yaml_vectors.jsonl");
    ASSERT_TRUE(file.is_open());
    size_t count = 0;
    for (std::string line; std::getline(file, line); ++count) {
        const Value row = parse_json(line).value();
        if (row.contains("differs")) continue;
        const std::string yaml = row["yaml"].str();
        const Result<Value> value = parse_yaml(yaml);
        if (row["error"].as_bool()) {
            EXPECT_FALSE(value.ok()) << yaml << to_json(*value);
            continue;
        }
        ASSERT_TRUE(row["json"].is_string());
        if (!value.ok()) {
            ADD_FAILURE() << yaml << value.error().to_string();
            continue;
        }
        EXPECT_EQ(to_canonical_json(*value),
                  to_canonical_json(parse_json(row["json"].as_string()).value()))
            << yaml;
        // What is printed must read back the same.
        const Result<Value> again = parse_yaml(to_yaml(*value));
        ASSERT_TRUE(again.ok()) << to_yaml(*value);
        EXPECT_EQ(*again, *value) << to_yaml(*value);
    }
    EXPECT_GT(count, 300u);
}

TEST(ParseYaml, Documents) {
    const auto documents =
        parse_yaml_documents("# head\n---\na: 1\n---\n# none\n---\n\n---\nb: 2\n...\n---\n- c\n");
    ASSERT_TRUE(documents.ok()) << documents.error().message();
    ASSERT_EQ(documents->size(), 3u);
    EXPECT_EQ(to_yaml_documents(*documents), "a: 1\n---\nb: 2\n---\n- c\n");
    EXPECT_EQ(code_of("a: 1\n---\nb: 2\n"), Code::kInvalidArgument);
    EXPECT_EQ(code_of("---\na: 1\n---\n"), Code::kOk);
    EXPECT_TRUE(parse_yaml("")->is_null());
    // Anchors do not reach into the next document.
    EXPECT_FALSE(parse_yaml_documents("a: &x 1\n---\nb: *x\n").ok());
}

TEST(ParseYaml, ErrorsTellTheLine) {
    const Result<Value> value = parse_yaml("a: 1\nb: [\n");
    ASSERT_FALSE(value.ok());
    EXPECT_EQ(value.error().message().substr(0, 11), "YAML line 3");
    EXPECT_EQ(parse_yaml("x: 1\ny1:\n  b: 1\n  b: 2\n").error().message(),
              "YAML line 3: key \"b\" appears twice");
}

TEST(ParseYaml, ExplicitMembersWinOverMerges) {
    const Value value = parse_yaml("d: &d {a: 1, b: 2}\nm:\n  b: 3\n  <<: *d\n").value();
    EXPECT_EQ(to_json(value["m"]), R"({"b":3,"a":1})");
}

TEST(ParseYaml, LimitsAliases) {
    std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
    for (int i = 1; i < 12; ++i) {
        const std::string before = "*a" + std::to_string(i - 1);
        bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + before;
        for (int j = 1; j < 10; ++j) bomb += ", " + before;
        bomb += "]\n";
    }
    EXPECT_EQ(code_of(bomb), Code::kResourceExhausted);
    std::string large = "a: &a " + std::string(1'000'000, 'x') + "\nb: [";
    for (int i = 0; i < 100; ++i) large += "*a, ";
    EXPECT_EQ(code_of(large + "]\n"), Code::kResourceExhausted);
    std::string deep = "a0: &a0 [x]\n";
    for (int i = 1; i < 100; ++i) {
        deep += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [*a" +
                std::to_string(i - 1) + "]\n";
    }
    EXPECT_EQ(code_of(deep), Code::kResourceExhausted);
}

TEST(ParseYaml, LimitsDepthAndSize) {
    EXPECT_EQ(code_of(std::string(64, '[') + std::string(64, ']')), Code::kOk);
    EXPECT_EQ(code_of(std::string(65, '[') + std::string(65, ']')), Code::kResourceExhausted);
    EXPECT_EQ(code_of(std::string(100'000, '[')), Code::kResourceExhausted);
    std::string dashes;
    for (int i = 0; i < 70; ++i) dashes += "- ";
    EXPECT_EQ(code_of(dashes + "x\n"), Code::kResourceExhausted);
    ParseOptions options;
    options.max_size = 3;
    EXPECT_FALSE(parse_yaml("a: 1", options).ok());
}

TEST(ParseYaml, LimitsTagDirectives) {
    std::string text;
    for (int i = 0; i < 50'000; ++i) text += "%TAG !a" + std::to_string(i) + "! tag:x\n";
    EXPECT_EQ(code_of(text + "---\na\n"), Code::kResourceExhausted);
    EXPECT_EQ(code_of("%TAG !a! tag:x\n---\n!a!b c\n"), Code::kOk);
}

TEST(ParseYaml, RefusesBadUtf8AndNul) {
    EXPECT_FALSE(parse_yaml("a: \xff\n").ok());
    EXPECT_FALSE(parse_yaml(std::string_view("a: x\0y\n", 7)).ok());
}

TEST(ToYaml, Layout) {
    const Value value = parse_json(R"({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "a", "labels": {}, "annotations": {"x/y": "true", "n": "1", "empty": ""}},
        "spec": {"containers": [{"name": "c", "args": ["--flag=1", "-v", "- x"], "ports": [{"containerPort": 80}]}],
                 "matrix": [[1, 2], [], [[3]]], "tolerations": []},
        "script": "#!/bin/sh\necho hi\n\nexit 0\n", "no": null})")
                            .value();
    EXPECT_EQ(to_yaml(value),
              "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  labels: {}\n  annotations:\n    "
              "x/y: \"true\"\n"
              "    \"n\": \"1\"\n    empty: \"\"\nspec:\n  containers:\n  - name: c\n    args:\n   "
              " - --flag=1\n    - -v\n"
              "    - \"- x\"\n    ports:\n    - containerPort: 80\n  matrix:\n  - - 1\n    - 2\n  "
              "- []\n  - - - 3\n"
              "  tolerations: []\nscript: |\n  #!/bin/sh\n  echo hi\n\n  exit 0\n\"no\": null\n");
    EXPECT_EQ(parse_yaml(to_yaml(value)).value(), value);
    EXPECT_EQ(to_yaml(Value()), "null\n");
    EXPECT_EQ(to_yaml(Value::object()), "{}\n");
    EXPECT_EQ(to_yaml(Value("a: b")), "\"a: b\"\n");
}

TEST(ToYaml, StringsReadBack) {
    const std::vector<std::string> texts{"",
                                         " ",
                                         "a",
                                         " a",
                                         "a ",
                                         "a b",
                                         "yes",
                                         "No",
                                         "y",
                                         "~",
                                         "null",
                                         "1",
                                         "1.0",
                                         "0x1F",
                                         "1e3",
                                         "1_000",
                                         ".5",
                                         ".inf",
                                         ".nan",
                                         "-",
                                         "--",
                                         "---",
                                         "--- a",
                                         "...",
                                         "...x",
                                         "- a",
                                         "-a",
                                         "? a",
                                         "?a",
                                         ": a",
                                         ":a",
                                         "a:",
                                         "a: b",
                                         "a:b",
                                         "a #b",
                                         "a#b",
                                         "#a",
                                         "&a",
                                         "*a",
                                         "!a",
                                         "|",
                                         ">",
                                         "'a'",
                                         "\"a\"",
                                         "%a",
                                         "@a",
                                         "`a`",
                                         "[a]",
                                         "{a}",
                                         "a,b",
                                         "<<",
                                         "=",
                                         "2024-01-02",
                                         "2024-01-02T03:04:05Z",
                                         "12:30:45",
                                         "+1",
                                         "a\nb",
                                         "a\nb\n",
                                         "a\n\nb\n\n",
                                         "\n",
                                         "\n\n",
                                         "\na",
                                         " a\nb",
                                         "\ta\nb",
                                         "a\n b\n  c\n",
                                         "a\n \nb",
                                         "a\n  ",
                                         "a\n\t\n",
                                         "a \nb ",
                                         "a\r\nb",
                                         "a\tb",
                                         "a\tb\n",
                                         "\t",
                                         "é",
                                         "😀",
                                         "\u0085",
                                         "a\u2028b\n",
                                         "\uFEFFx",
                                         "\x7f",
                                         "a\x01",
                                         "\xC2\xA0",
                                         "\uFFFE",
                                         "null\n",
                                         "# a\nb\n",
                                         "a: b\nc: d\n",
                                         "- a\n- b\n",
                                         "--- \na\n",
                                         "...\na\n",
                                         std::string("a\0b", 3),
                                         std::string(2000, 'k'),
                                         std::string(2000, '1') + "\n" + std::string(2000, ' ')};
    Value all = Value::object();
    for (const std::string& text : texts) {
        for (const Value& value :
             {Value(text), Value::array({text, text}), Value::object({{text, text}}),
              Value::array({Value::object({{text, Value::array({text})}, {"z", text}})})}) {
            const std::string yaml = to_yaml(value);
            const Result<Value> again = parse_yaml(yaml);
            ASSERT_TRUE(again.ok()) << yaml << again.error().message();
            EXPECT_EQ(*again, value) << yaml << to_json(value);
        }
        all.set(text, Value::array({text, Value::object({{"in", text}})}));
    }
    EXPECT_EQ(parse_yaml(to_yaml(all)).value(), all);
    const std::vector<Value> documents{Value("a\n\n"), all, Value(), Value::array({"x\n\n\n"})};
    const auto again = parse_yaml_documents(to_yaml_documents(documents));
    ASSERT_TRUE(again.ok()) << again.error().message();
    EXPECT_EQ(*again, documents);
}

TEST(ToYaml, NumbersReadBack) {
    for (const Value& value :
         {Value(0), Value(-1), Value(1.5), Value(1e21), Value(1e300), Value(5e-324), Value(1e-7),
          Value(std::numeric_limits<uint64_t>::max()),
          Value(std::numeric_limits<int64_t>::min())}) {
        EXPECT_EQ(parse_yaml(to_yaml(value)).value(), value) << to_yaml(value);
    }
}

// A parser looks ahead 1024 characters for the ":" of a key.
TEST(Yaml, LongKeysAreReadBack) {
    for (const std::string& key : {std::string(2000, 'k'), std::string(200, '\0'),
                                   std::string(200, '\t') + "\n" + std::string(700, 'k')}) {
        const Value object = Value::object({{key, "text"}, {"other", 1}});
        EXPECT_EQ(parse_yaml(to_yaml(object)).value(), object);
    }
}

TEST(YamlScalar, Keys) {
    EXPECT_EQ(scalar_to_key(Value(1234567.5)), "1.2345675e+06");
    EXPECT_EQ(scalar_to_key(Value(0.1)), "0.1");
    EXPECT_EQ(scalar_to_key(Value(0.00001)), "1e-05");
    EXPECT_EQ(scalar_to_key(Value(123456.0)), "123456");
}

}  // namespace
}  // namespace basalt::data
