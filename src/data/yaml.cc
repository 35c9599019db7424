#include "data/yaml.h"

#include <fmt/format.h>
#include <yaml.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <unordered_set>
#include <utility>

#include "data/base64.h"
#include "data/utf8.h"
#include "data/yaml_scalar.h"

namespace basalt::data {
namespace {

constexpr std::string_view kTagPrefix = "tag:yaml.org,2002:";

/// libyaml compares each %TAG directive with all before it; real documents have none or one.
constexpr size_t kMaxTagDirectives = 100;

size_t count_tag_directives(std::string_view text) {
    size_t count = 0;
    for (size_t at = text.find("%TAG"); at != std::string_view::npos;
         at = text.find("%TAG", at + 1)) {
        if (at == 0 || text[at - 1] == '\n' || text[at - 1] == '\r') ++count;
    }
    return count;
}

/// "!!str" for the long form of it; others as they are.
std::string short_tag(const yaml_char_t* tag) {
    if (tag == nullptr) return {};
    const std::string_view text(reinterpret_cast<const char*>(tag));
    if (text == "!") return {};
    if (text.substr(0, kTagPrefix.size()) == kTagPrefix) {
        return "!!" + std::string(text.substr(kTagPrefix.size()));
    }
    return std::string(text);
}

struct Extent {
    size_t bytes = 0;
    size_t depth = 0;
};

Extent measure(const Value& value) {
    Extent extent{sizeof(Value) + value.as_string().size(), 0};
    const auto add = [&](const Value& child) {
        const Extent below = measure(child);
        extent.bytes += below.bytes;
        extent.depth = std::max(extent.depth, below.depth);
    };
    for (const Value& item : value.items()) add(item);
    for (const Member& member : value.members()) {
        extent.bytes += sizeof(Value) + member.key().size();
        add(member.value);
    }
    if (value.is_array() || value.is_object()) ++extent.depth;
    return extent;
}

/// Turns the parser's events into Values. Every build function finds its first event in event_ and
/// leaves its last.
class Reader {
 public:
    Reader(std::string_view text, const ParseOptions& options) : options_(options) {
        const int initialized = yaml_parser_initialize(&parser_);
        BASALT_ASSERT(initialized == 1);  // fails only without memory
        yaml_parser_set_encoding(&parser_, YAML_UTF8_ENCODING);
        yaml_parser_set_input_string(&parser_, reinterpret_cast<const unsigned char*>(text.data()),
                                     text.size());
    }
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;
    ~Reader() {
        yaml_event_delete(&event_);
        yaml_parser_delete(&parser_);
    }

    Result<std::vector<Value>> documents() {
        std::vector<Value> documents;
        for (;;) {
            BASALT_TRY(next());
            if (event_.type == YAML_STREAM_END_EVENT) return documents;
            if (event_.type != YAML_DOCUMENT_START_EVENT) continue;
            anchors_.clear();
            copied_ = 0;
            BASALT_TRY(next());
            const bool blank = event_.type == YAML_SCALAR_EVENT && event_.data.scalar.length == 0 &&
                               event_.data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
                               event_.data.scalar.tag == nullptr;
            BASALT_ASSIGN(Value document, build(0));
            if (blank) continue;
            if (documents.size() >= limits::kMaxDocumentsPerStream) {
                return resource_exhausted(
                    fmt::format("YAML: over {} documents", limits::kMaxDocumentsPerStream));
            }
            documents.push_back(std::move(document));
        }
    }

 private:
    Result<void> next() {
        yaml_event_delete(&event_);
        event_ = {};
        if (yaml_parser_parse(&parser_, &event_) == 1) return {};
        event_ = {};
        const char* problem = parser_.problem != nullptr ? parser_.problem : "malformed";
        return invalid_argument(
            fmt::format("YAML line {}: {}", parser_.problem_mark.line + 1, problem));
    }

    Error fault(std::string_view what) const {
        return invalid_argument(fmt::format("YAML line {}: {}", event_.start_mark.line + 1, what));
    }

    Result<void> check_depth(size_t depth) const {
        if (depth <= options_.max_depth) return {};
        return resource_exhausted(fmt::format("YAML line {}: nested over {} levels",
                                              event_.start_mark.line + 1, options_.max_depth));
    }

    Result<void> charge(size_t bytes) {
        copied_ += bytes;
        if (copied_ <= limits::kMaxAliasedBytes) return {};
        return resource_exhausted(
            fmt::format("YAML line {}: anchors and aliases copy over {} bytes",
                        event_.start_mark.line + 1, limits::kMaxAliasedBytes));
    }

    /// `depth`: containers around this node.
    Result<Value> build(size_t depth) {
        const yaml_char_t* name = nullptr;
        switch (event_.type) {
            case YAML_ALIAS_EVENT: return expand_alias(depth);
            case YAML_SCALAR_EVENT: name = event_.data.scalar.anchor; break;
            case YAML_SEQUENCE_START_EVENT: name = event_.data.sequence_start.anchor; break;
            case YAML_MAPPING_START_EVENT: name = event_.data.mapping_start.anchor; break;
            default: return fault("unexpected event");
        }
        const std::string anchor = name != nullptr ? reinterpret_cast<const char*>(name) : "";
        BASALT_ASSIGN(Value value, build_content(depth));
        if (!anchor.empty()) {
            const Extent extent = measure(value);
            BASALT_TRY(charge(extent.bytes));
            anchors_.insert_or_assign(anchor, Anchor{value, extent});
        }
        return value;
    }

    Result<Value> build_content(size_t depth) {
        if (event_.type == YAML_SCALAR_EVENT) return build_scalar();
        BASALT_TRY(check_depth(depth + 1));
        return event_.type == YAML_SEQUENCE_START_EVENT ? build_sequence(depth + 1)
                                                        : build_mapping(depth + 1);
    }

    Result<Value> expand_alias(size_t depth) {
        const auto found = anchors_.find(reinterpret_cast<const char*>(event_.data.alias.anchor));
        if (found == anchors_.end()) return fault("unknown anchor");
        BASALT_TRY(charge(found->second.extent.bytes));
        BASALT_TRY(check_depth(depth + found->second.extent.depth));
        return found->second.value;
    }

    Result<Value> build_sequence(size_t depth) {
        Array items;
        for (;;) {
            BASALT_TRY(next());
            if (event_.type == YAML_SEQUENCE_END_EVENT) break;
            BASALT_ASSIGN(Value item, build(depth));
            items.push_back(std::move(item));
        }
        items.shrink_to_fit();
        return Value(std::move(items));
    }

    Result<Value> build_mapping(size_t depth) {
        const size_t line = event_.start_mark.line + 1;
        Members members;
        std::vector<Value> merges;
        for (;;) {
            BASALT_TRY(next());
            if (event_.type == YAML_MAPPING_END_EVENT) break;
            if (is_merge_key()) {
                BASALT_TRY(next());
                BASALT_ASSIGN(Value merged, build(depth));
                BASALT_TRY(collect_merge(std::move(merged), merges));
                continue;
            }
            BASALT_ASSIGN(const Value key, build(depth));
            if (key.is_null() || key.is_array() || key.is_object())
                return fault("unsupported kind of key");
            BASALT_TRY(next());
            BASALT_ASSIGN(Value value, build(depth));
            members.push_back(Member{Value::shared_string(scalar_to_key(key)), std::move(value)});
        }
        BASALT_TRY(check_duplicates(members, line));
        if (!merges.empty()) apply_merges(members, merges);
        members.shrink_to_fit();
        return Value(std::move(members));
    }

    bool is_merge_key() const {
        if (event_.type != YAML_SCALAR_EVENT) return false;
        const auto& scalar = event_.data.scalar;
        if (std::string_view(reinterpret_cast<const char*>(scalar.value), scalar.length) != "<<")
            return false;
        const std::string tag = short_tag(scalar.tag);
        return tag == "!!merge" || (tag.empty() && scalar.plain_implicit != 0);
    }

    Result<void> collect_merge(Value merged, std::vector<Value>& merges) const {
        if (merged.is_object()) {
            merges.push_back(std::move(merged));
            return {};
        }
        if (!merged.is_array()) return fault("a merge needs a mapping or a list of mappings");
        for (Value& item : merged.mutable_items()) {
            if (!item.is_object()) return fault("a merge needs a mapping or a list of mappings");
            merges.push_back(std::move(item));
        }
        return {};
    }

    /// Members that are there win over merged ones, earlier merges over later ones.
    static void apply_merges(Members& members, std::vector<Value>& merges) {
        std::unordered_set<std::string> keys;
        for (const Member& member : members) keys.emplace(member.key());
        for (Value& merged : merges) {
            for (Member& member : merged.mutable_members()) {
                if (keys.emplace(member.key()).second) members.push_back(std::move(member));
            }
        }
    }

    static Result<void> check_duplicates(const Members& members, size_t line) {
        std::vector<std::string_view> keys;
        keys.reserve(members.size());
        for (const Member& member : members) keys.push_back(member.key());
        std::sort(keys.begin(), keys.end());
        const auto twice = std::adjacent_find(keys.begin(), keys.end());
        if (twice == keys.end()) return {};
        return invalid_argument(
            fmt::format("YAML line {}: key \"{}\" appears twice", line, *twice));
    }

    Result<Value> build_scalar() {
        const auto& scalar = event_.data.scalar;
        const std::string_view text(reinterpret_cast<const char*>(scalar.value), scalar.length);
        const std::string tag = short_tag(scalar.tag);
        if (tag.empty() && scalar.plain_implicit == 0) return Value(text);
        if (tag == "!!binary") return decode_binary(text);
        const bool resolves =
            tag.empty() || tag == "!!bool" || tag == "!!int" || tag == "!!float" || tag == "!!null";
        if (!resolves) return Value(text);
        const Value value = resolve_plain_scalar(text);
        if (value.type() == Type::kDouble && !std::isfinite(value.as_double())) {
            return fault("infinity and NaN have no form in JSON");
        }
        const bool fits = tag.empty() || (tag == "!!bool" && value.is_bool()) ||
                          (tag == "!!int" && value.is_int()) ||
                          (tag == "!!float" && value.is_number()) ||
                          (tag == "!!null" && value.is_null());
        if (!fits) return fault("the value does not fit its tag");
        if (tag == "!!float") return Value(value.as_double());
        return value;
    }

    Result<Value> decode_binary(std::string_view text) const {
        std::string stripped;
        for (const char c : text) {
            if (c != '\n' && c != '\r' && c != ' ') stripped += c;
        }
        const Result<std::string> bytes = base64_decode(stripped);
        if (!bytes.ok()) return fault("!!binary is not base64");
        if (!is_valid_utf8(*bytes)) return fault("!!binary holds no text");
        return Value(*bytes);
    }

    struct Anchor {
        Value value;
        Extent extent;
    };

    ParseOptions options_;
    yaml_parser_t parser_{};
    yaml_event_t event_{};
    std::map<std::string, Anchor, std::less<>> anchors_;
    size_t copied_ = 0;
};

}  // namespace

Result<std::vector<Value>> parse_yaml_documents(std::string_view text,
                                                const ParseOptions& options) {
    if (text.size() > options.max_size) {
        return resource_exhausted(fmt::format("YAML text of {} bytes is over the limit of {}",
                                              text.size(), options.max_size));
    }
    if (count_tag_directives(text) > kMaxTagDirectives) {
        return resource_exhausted(fmt::format("YAML: over {} tag directives", kMaxTagDirectives));
    }
    return Reader(text, options).documents();
}

Result<Value> parse_yaml(std::string_view text, const ParseOptions& options) {
    BASALT_ASSIGN(std::vector<Value> documents, parse_yaml_documents(text, options));
    if (documents.size() > 1) return invalid_argument("YAML: more than one document");
    if (documents.empty()) return Value();
    return std::move(documents.front());
}

}  // namespace basalt::data
