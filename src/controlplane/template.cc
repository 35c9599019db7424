#include "controlplane/template.h"

#include "base/assert.h"
#include "data/json.h"
#include "data/yaml.h"

namespace basalt::controlplane {
namespace {

using data::Value;

const Value& find(const Placeholders& values, std::string_view name) {
    auto found = values.find(name);
    BASALT_ASSERT(found != values.end());
    return found->second;
}

Value fill_text(std::string_view text, const Placeholders& values) {
    std::string filled;
    for (size_t at = 0; at < text.size();) {
        size_t open = text.find("${", at);
        size_t close = open == std::string_view::npos ? open : text.find('}', open);
        if (close == std::string_view::npos) {
            filled += text.substr(at);
            break;
        }
        const Value& value = find(values, text.substr(open + 2, close - open - 2));
        if (open == 0 && close + 1 == text.size()) return value;
        filled += text.substr(at, open - at);
        filled += value.is_string() ? value.str() : data::to_json(value);
        at = close + 1;
    }
    return filled;
}

void fill(Value& value, const Placeholders& values) {
    if (value.is_string()) {
        if (value.as_string().find("${") != std::string_view::npos)
            value = fill_text(value.str(), values);
    } else if (value.is_array()) {
        for (Value& item : value.mutable_items()) fill(item, values);
    } else if (value.is_object()) {
        for (data::Member& member : value.mutable_members()) fill(member.value, values);
    }
}

}  // namespace

std::vector<Value> instantiate(std::string_view yaml, const Placeholders& values) {
    auto documents = data::parse_yaml_documents(yaml);
    BASALT_ASSERT(documents.ok());
    for (Value& document : *documents) fill(document, values);
    return *std::move(documents);
}

}  // namespace basalt::controlplane
