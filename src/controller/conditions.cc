#include "controller/conditions.h"

#include <algorithm>

namespace basalt::controller {

using data::Value;

namespace {

constexpr size_t kMaxMessageSize = 32'768;

/// At most `limit` bytes, not cutting through a UTF-8 sequence.
std::string_view cut_utf8(std::string_view text, size_t limit) {
    if (text.size() <= limit) return text;
    while (limit > 0 && (static_cast<unsigned char>(text[limit]) & 0xc0) == 0x80) --limit;
    return text.substr(0, limit);
}

Value* find_in(Value& status, std::string_view type) {
    Value* conditions = status.find("conditions");
    if (conditions == nullptr || !conditions->is_array()) return nullptr;
    for (Value& item : conditions->mutable_items()) {
        if (item["type"].as_string() == type) return &item;
    }
    return nullptr;
}

bool update(Value& item, std::string_view name, const Value& value) {
    if (item[name] == value) return false;
    item.set(name, value);
    return true;
}

}  // namespace

const Value& find_condition(const Value& status, std::string_view type) {
    static const Value kNone;
    for (const Value& item : status["conditions"].items()) {
        if (item["type"].as_string() == type) return item;
    }
    return kNone;
}

bool is_condition_true(const Value& status, std::string_view type) {
    return find_condition(status, type)["status"].as_string() == kTrue;
}

bool set_condition(Value& status, const Condition& condition, WallTime now) {
    const std::string_view message = cut_utf8(condition.message, kMaxMessageSize);
    // The API wants a reason.
    const std::string_view reason =
        condition.reason.empty() ? "Unspecified" : std::string_view(condition.reason);
    Value* item = find_in(status, condition.type);
    if (item == nullptr) {
        Value created = Value::object({{"type", condition.type}, {"status", condition.status}});
        if (condition.observed_generation > 0)
            created.set("observedGeneration", condition.observed_generation);
        created.set("lastTransitionTime", format_rfc3339(now));
        created.set("reason", reason);
        created.set("message", message);
        status.at("conditions").push_back(std::move(created));
        return true;
    }
    bool changed = false;
    if (update(*item, "status", condition.status)) {
        item->set("lastTransitionTime", format_rfc3339(now));
        changed = true;
    }
    changed |= update(*item, "reason", reason);
    changed |= update(*item, "message", message);
    if (condition.observed_generation > 0) {
        changed |= update(*item, "observedGeneration", condition.observed_generation);
    }
    return changed;
}

bool remove_condition(Value& status, std::string_view type) {
    if (find_in(status, type) == nullptr) return false;
    std::erase_if(status.at("conditions").mutable_items(),
                  [&](const Value& item) { return item["type"].as_string() == type; });
    return true;
}

}  // namespace basalt::controller
