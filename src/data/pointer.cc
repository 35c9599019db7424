#include "data/pointer.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "base/strings.h"

namespace basalt::data {
namespace {

/// An index of an existing item, or nothing.
const Value* find_item(const Value& array, std::string_view segment) noexcept {
    const std::optional<size_t> index = parse_number<size_t>(segment);
    if (!index || (segment.size() > 1 && segment[0] == '0')) return nullptr;
    return *index < array.size() ? &array.items()[*index] : nullptr;
}

Error no_such(const Pointer& pointer) {
    return not_found(fmt::format("nothing at \"{}\"", pointer.to_string()));
}

Result<Value*> step_for_set(Value& value, const std::string& segment) {
    if (value.is_null()) value = Value::object();
    if (value.is_object()) return &value.at(segment);
    if (!value.is_array())
        return invalid_argument(fmt::format("\"{}\" lies below a scalar", segment));
    BASALT_ASSIGN(const size_t index, parse_index(segment, value.size()));
    Array& items = value.mutable_items();
    if (index > items.size())
        return invalid_argument(fmt::format("index {} is out of range", index));
    if (index == items.size()) items.emplace_back();
    return &items[index];
}

}  // namespace

Result<Pointer> Pointer::parse(std::string_view text) {
    Pointer pointer;
    if (text.empty()) return pointer;
    if (text[0] != '/') return invalid_argument("a JSON pointer starts with \"/\"");
    std::string segment;
    for (size_t i = 1; i < text.size(); ++i) {
        if (text[i] == '/') {
            pointer.segments_.push_back(std::exchange(segment, {}));
        } else if (text[i] == '~') {
            const char escaped = i + 1 < text.size() ? text[i + 1] : '\0';
            if (escaped != '0' && escaped != '1')
                return invalid_argument("JSON pointer: \"~\" without 0 or 1");
            segment += escaped == '0' ? '~' : '/';
            ++i;
        } else {
            segment += text[i];
        }
    }
    pointer.segments_.push_back(std::move(segment));
    return pointer;
}

Pointer Pointer::child(std::string_view segment) const {
    Pointer child = *this;
    child.segments_.emplace_back(segment);
    return child;
}

std::string Pointer::to_string() const {
    std::string text;
    for (const std::string& segment : segments_) {
        text += '/';
        text += escape_pointer_segment(segment);
    }
    return text;
}

bool Pointer::is_above(const Pointer& other) const noexcept {
    return segments_.size() < other.segments_.size() &&
           std::equal(segments_.begin(), segments_.end(), other.segments_.begin());
}

const Value* Pointer::find(const Value& document) const noexcept {
    const Value* value = &document;
    for (const std::string& segment : segments_) {
        value = value->is_array() ? find_item(*value, segment) : value->find(segment);
        if (value == nullptr) return nullptr;
    }
    return value;
}

Value* Pointer::find(Value& document) const noexcept {
    return const_cast<Value*>(find(std::as_const(document)));
}

std::string escape_pointer_segment(std::string_view segment) {
    std::string escaped;
    escaped.reserve(segment.size());
    for (const char c : segment) {
        if (c == '~') {
            escaped += "~0";
        } else if (c == '/') {
            escaped += "~1";
        } else {
            escaped += c;
        }
    }
    return escaped;
}

Result<Value> pointer_get(const Value& document, std::string_view pointer) {
    BASALT_ASSIGN(const Pointer parsed, Pointer::parse(pointer));
    const Value* value = parsed.find(document);
    if (value == nullptr) return no_such(parsed);
    return *value;
}

Result<void> pointer_set(Value& document, std::string_view pointer, Value value) {
    BASALT_ASSIGN(const Pointer parsed, Pointer::parse(pointer));
    Value* place = &document;
    for (const std::string& segment : parsed.segments()) {
        BASALT_ASSIGN(place, step_for_set(*place, segment));
    }
    *place = std::move(value);
    return {};
}

Result<void> pointer_remove(Value& document, std::string_view pointer) {
    BASALT_ASSIGN(Pointer parsed, Pointer::parse(pointer));
    if (parsed.is_root()) {
        document = Value();
        return {};
    }
    std::vector<std::string> segments = parsed.segments();
    const std::string last = std::move(segments.back());
    segments.pop_back();
    Value* parent = Pointer(std::move(segments)).find(document);
    if (parent == nullptr) return no_such(parsed);
    if (parent->is_array()) {
        const Value* item = find_item(*parent, last);
        if (item == nullptr) return no_such(parsed);
        Array& items = parent->mutable_items();
        items.erase(items.begin() + (item - items.data()));
        return {};
    }
    if (!parent->erase(last)) return no_such(parsed);
    return {};
}

Result<size_t> parse_index(std::string_view segment, size_t size) {
    if (segment == "-") return size;
    const std::optional<size_t> index = parse_number<size_t>(segment);
    if (!index || (segment.size() > 1 && segment[0] == '0')) {
        return invalid_argument(fmt::format("\"{}\" is not an array index", segment));
    }
    return *index;
}

}  // namespace basalt::data
