#include "tests/sim/fields.h"

#include <algorithm>

#include "data/json.h"

namespace basalt::sim {

namespace {

bool is_keyed(const Value& value, const Shape& shape) {
    return value.is_array() &&
           (shape.kind == Shape::Kind::kListMap || shape.kind == Shape::Kind::kListSet);
}
bool is_granular(const Value& value, const Shape& shape) {
    return value.is_object() && shape.kind != Shape::Kind::kAtomic;
}

/// The path element of a list's item.
std::string element_of(const Value& item, const Shape& list) {
    if (list.kind == Shape::Kind::kListSet) return "v:" + data::to_json(item);
    std::vector<std::string> keys = list.keys;
    std::sort(keys.begin(), keys.end());
    Value named = Value::object();
    for (const std::string& key : keys) {
        const Value& present = item[key];
        named.set(key, present.is_null() ? list.items().field(key).default_value : present);
    }
    return "k:" + data::to_json(named);
}

const Value* find_item(const Value& list, const Shape& shape, const std::string& element) {
    for (const Value& item : list.items()) {
        if (element_of(item, shape) == element) return &item;
    }
    return nullptr;
}

void collect(const Value& value, const Shape& shape, FieldSet& set) {
    if (is_keyed(value, shape)) {
        for (const Value& item : value.items()) {
            FieldSet& child = set.children[element_of(item, shape)];
            child.member = true;
            if (shape.kind == Shape::Kind::kListMap && is_granular(item, shape.items())) {
                collect(item, shape.items(), child);
            }
        }
        return;
    }
    if (!is_granular(value, shape)) {
        set.member = true;
        return;
    }
    for (const data::Member& member : value.members()) {
        FieldSet& child = set.children["f:" + std::string(member.key())];
        if (member.value.is_null() || (member.value.is_object() && member.value.size() == 0))
            child.member = true;
        collect(member.value, shape.field(member.key()), child);
    }
}

void drop_empty(FieldSet& set) {
    std::erase_if(set.children, [](const auto& child) { return child.second.empty(); });
}

void compare_into(const Value* before, const Value* after, const Shape& shape, FieldSet& changed,
                  FieldSet& removed);

void compare_members(const Value* before, const Value* after, const Shape& shape, FieldSet& changed,
                     FieldSet& removed) {
    static const Value kNone;
    const Value& old_value = before != nullptr ? *before : kNone;
    const Value& new_value = after != nullptr ? *after : kNone;
    auto visit = [&](const std::string& element, const Value* a, const Value* b,
                     const Shape& part) {
        FieldSet more;
        FieldSet less;
        compare_into(a, b, part, more, less);
        if (!more.empty()) changed.children[element] = std::move(more);
        if (!less.empty()) removed.children[element] = std::move(less);
    };
    if (new_value.is_array() || old_value.is_array()) {
        for (const Value& item : new_value.items()) {
            const std::string element = element_of(item, shape);
            visit(element, find_item(old_value, shape, element), &item, shape.items());
        }
        for (const Value& item : old_value.items()) {
            const std::string element = element_of(item, shape);
            if (find_item(new_value, shape, element) == nullptr)
                visit(element, &item, nullptr, shape.items());
        }
        return;
    }
    for (const data::Member& member : new_value.members()) {
        visit("f:" + std::string(member.key()), old_value.find(member.key()), &member.value,
              shape.field(member.key()));
    }
    for (const data::Member& member : old_value.members()) {
        if (new_value.contains(member.key())) continue;
        visit("f:" + std::string(member.key()), &member.value, nullptr, shape.field(member.key()));
    }
}

void compare_into(const Value* before, const Value* after, const Shape& shape, FieldSet& changed,
                  FieldSet& removed) {
    const bool deep_before =
        before != nullptr && (is_keyed(*before, shape) || is_granular(*before, shape));
    const bool deep_after =
        after != nullptr && (is_keyed(*after, shape) || is_granular(*after, shape));
    if (before == nullptr) changed.member = true;
    if (after == nullptr) removed.member = true;
    if (deep_before || deep_after) {
        compare_members(before, after, shape, changed, removed);
        return;
    }
    if (before != nullptr && after != nullptr && !(*before == *after)) changed.member = true;
}

Value merge_lists(const Value& live, const Value& config, const Shape& shape) {
    auto elements = [&](const Value& list) {
        std::vector<std::string> found;
        for (const Value& item : list.items()) found.push_back(element_of(item, shape));
        return found;
    };
    const std::vector<std::string> left = elements(live);
    const std::vector<std::string> right = elements(config);
    auto has = [](const std::vector<std::string>& list, const std::string& element) {
        return std::find(list.begin(), list.end(), element) != list.end();
    };
    // The applied order holds for what both have; what only the live list has keeps its place.
    Value merged = Value::array();
    size_t l = 0;
    for (size_t r = 0; r < right.size(); ++r) {
        const bool shared = has(left, right[r]);
        while (l < left.size() && (shared ? left[l] != right[r] : !has(right, left[l]))) {
            if (!has(right, left[l])) merged.push_back(live[l]);
            ++l;
        }
        if (shared && l < left.size()) ++l;
        const Value* present = find_item(live, shape, right[r]);
        merged.push_back(present != nullptr && shape.kind == Shape::Kind::kListMap
                             ? merge_applied(*present, config[r], shape.items())
                             : config[r]);
    }
    for (; l < left.size(); ++l) {
        if (!has(right, left[l])) merged.push_back(live[l]);
    }
    return merged;
}

}  // namespace

FieldSet parse_fields(const Value& fields_v1) {
    FieldSet set;
    for (const data::Member& member : fields_v1.members()) {
        if (member.key() == ".") {
            set.member = true;
            continue;
        }
        FieldSet child = parse_fields(member.value);
        if (member.value.size() == 0) child.member = true;
        set.children[std::string(member.key())] = std::move(child);
    }
    return set;
}

Value print_fields(const FieldSet& set) {
    Value printed = Value::object();
    if (set.member && !set.children.empty()) printed.set(".", Value::object());
    for (const auto& [element, child] : set.children) printed.set(element, print_fields(child));
    return printed;
}

std::vector<std::string> list_paths(const FieldSet& set) {
    std::vector<std::string> paths;
    if (set.member) paths.emplace_back();
    for (const auto& [element, child] : set.children) {
        for (const std::string& path : list_paths(child)) {
            paths.push_back((element.starts_with("f:") ? "." + element.substr(2)
                                                       : "[" + element.substr(2) + "]") +
                            path);
        }
    }
    return paths;
}

FieldSet fields_of(const Value& value, const Shape& shape) {
    FieldSet set;
    collect(value, shape, set);
    return set;
}

FieldSet unite(FieldSet a, const FieldSet& b) {
    a.member |= b.member;
    for (const auto& [element, child] : b.children) {
        FieldSet& mine = a.children[element];
        mine = unite(std::move(mine), child);
    }
    return a;
}

FieldSet subtract(const FieldSet& a, const FieldSet& b) {
    FieldSet result;
    result.member = a.member && !b.member;
    for (const auto& [element, child] : a.children) {
        auto other = b.children.find(element);
        result.children[element] =
            other == b.children.end() ? child : subtract(child, other->second);
    }
    drop_empty(result);
    return result;
}

FieldSet intersect(const FieldSet& a, const FieldSet& b) {
    FieldSet result;
    result.member = a.member && b.member;
    for (const auto& [element, child] : a.children) {
        auto other = b.children.find(element);
        if (other != b.children.end()) result.children[element] = intersect(child, other->second);
    }
    drop_empty(result);
    return result;
}

FieldChanges compare_fields(const Value& before, const Value& after, const Shape& shape) {
    FieldChanges changes;
    compare_into(&before, &after, shape, changes.changed, changes.removed);
    drop_empty(changes.changed);
    drop_empty(changes.removed);
    return changes;
}

Value merge_applied(const Value& live, const Value& config, const Shape& shape) {
    if (is_keyed(config, shape)) return merge_lists(live, config, shape);
    if (!is_granular(config, shape) || !live.is_object()) return config;
    Value merged = live;
    for (const data::Member& member : config.members()) {
        const Shape& part = shape.field(member.key());
        merged.set(member.key(), merge_applied(live[member.key()], member.value, part));
    }
    return merged;
}

void prune_applied(Value& object, const FieldSet& last, const FieldSet& managed,
                   const Shape& shape) {
    for (const auto& [element, child] : last.children) {
        auto other = managed.children.find(element);
        const bool is_field = element.starts_with("f:");
        const bool kept = other != managed.children.end() && (is_field || other->second.member);
        const bool mine = is_field || child.member;
        if (object.is_array()) {
            auto& items = object.mutable_items();
            auto item = std::find_if(items.begin(), items.end(), [&](const Value& each) {
                return element_of(each, shape) == element;
            });
            if (item == items.end()) continue;
            if (!kept && mine) {
                items.erase(item);
            } else if (other != managed.children.end()) {
                prune_applied(*item, child, other->second, shape.items());
            }
            continue;
        }
        const std::string name = is_field ? element.substr(2) : std::string();
        Value* part = object.find(name);
        if (part == nullptr) continue;
        if (!kept) {
            object.erase(name);
        } else {
            prune_applied(*part, child, other->second, shape.field(name));
        }
    }
}

}  // namespace basalt::sim
