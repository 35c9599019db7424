#include "controller/apply.h"

#include <algorithm>
#include <array>
#include <functional>

#include <fmt/format.h>

#include "data/hash.h"
#include "data/json.h"

namespace basalt::controller {

using kube::Value;

namespace {

/// Lists of objects whose items the built-in kinds tell apart by these members
/// (x-kubernetes-list-map-keys).
constexpr std::array<std::array<std::string_view, 2>, 10> kListKeys{{
    {"name", ""},
    {"type", ""},
    {"key", ""},
    {"containerPort", "protocol"},
    {"port", "protocol"},
    {"mountPath", ""},
    {"devicePath", ""},
    {"ip", ""},
    {"uid", ""},
    {"topologyKey", "whenUnsatisfiable"},
}};

constexpr std::array<std::array<std::string_view, 2>, 5> kDefaultsInside{{
    {"apiVersion", "v1"},
    {"divisor", "0"},
    {"protocol", "TCP"},
    {"apiGroup", "rbac.authorization.k8s.io"},
    {"scope", "*"},
}};

bool same_key(const Value& a, const Value& b, const std::array<std::string_view, 2>& keys) {
    for (const std::string_view key : keys) {
        // A key that one side leaves to its default ("protocol") does not tell them apart.
        if (key.empty() || a[key].is_null() || b[key].is_null()) continue;
        if (!(a[key] == b[key])) return false;
    }
    return true;
}

bool are_keys_of(const std::array<std::string_view, 2>& keys, const Value& list) {
    const data::Array& items = list.items();
    for (size_t i = 0; i < items.size(); ++i) {
        if (!items[i].is_object() || items[i][keys[0]].is_null()) return false;
        for (size_t j = 0; j < i; ++j) {
            if (same_key(items[i], items[j], keys)) return false;
        }
    }
    return true;
}

/// Null when the lists have no common keys.
const std::array<std::string_view, 2>* list_keys(const Value& intent, const Value& live) {
    if (intent.empty() || !intent[0].is_object()) return nullptr;
    for (const auto& keys : kListKeys) {
        if (are_keys_of(keys, intent) && are_keys_of(keys, live)) return &keys;
    }
    return nullptr;
}

bool subset(const Value& intent, const Value& live, const Value* owned);

const Value* keyed_item(const Value& list, const std::function<bool(const Value& item)>& matches) {
    for (const Value& item : list.items()) {
        if (matches(item)) return &item;
    }
    return nullptr;
}

/// The key of FieldsV1 ("k:{…}") under which `item` is owned; null when there is none.
const Value* owned_item(const Value& owned, const Value& item) {
    for (const data::Member& member : owned.members()) {
        if (!member.key().starts_with("k:")) continue;
        Result<Value> keys = data::parse_json(member.key().substr(2));
        if (!keys.ok()) continue;
        const data::Members& parts = keys->members();
        const bool matches = std::all_of(parts.begin(), parts.end(), [&](const data::Member& key) {
            return item[key.key()].is_null() || item[key.key()] == key.value;
        });
        if (matches) return &member.value;
    }
    return nullptr;
}

bool lists_equal(const Value& intent, const Value& live, const Value* owned) {
    if (intent.size() != live.size()) return false;
    for (size_t i = 0; i < intent.size(); ++i) {
        if (!subset(intent[i], live[i], owned)) return false;
    }
    return true;
}

bool is_set_owned(const Value& owned) {
    const data::Members& members = owned.members();
    return std::any_of(members.begin(), members.end(),
                       [](const data::Member& member) { return member.key().starts_with("v:"); });
}

bool list_subset(const Value& intent, const Value& live, const Value* owned) {
    // Owned as a whole, with whatever lies inside.
    if (owned != nullptr && owned->empty()) return lists_equal(intent, live, owned);
    if (owned != nullptr && is_set_owned(*owned)) {
        return std::all_of(intent.items().begin(), intent.items().end(), [&](const Value& item) {
            return owned->contains("v:" + data::to_json(item)) &&
                   std::find(live.items().begin(), live.items().end(), item) != live.items().end();
        });
    }
    const auto* keys = list_keys(intent, live);
    if (keys == nullptr) return lists_equal(intent, live, nullptr);
    for (const Value& item : intent.items()) {
        const Value* other =
            keyed_item(live, [&](const Value& each) { return same_key(item, each, *keys); });
        if (other == nullptr) return false;
        const Value* item_owned = owned == nullptr ? nullptr : owned_item(*owned, item);
        if (owned != nullptr && item_owned == nullptr) return false;
        if (!subset(item, *other, item_owned)) return false;
    }
    return true;
}

/// A map that is owned as a whole, or lies in something that is, may hold more than we want only
/// where the server filled in a default; else we want less than before. Defaults inside such maps
/// of the built-in kinds: fieldRef, resourceFieldRef, ports of NetworkPolicies, subjects of role
/// bindings, rules of admission, projected tokens. One that is not named here costs a PATCH for
/// each life of an Applier.
bool has_only_defaults_besides(const Value& intent, const Value& live) {
    const data::Members& members = live.members();
    return std::all_of(members.begin(), members.end(), [&](const data::Member& member) {
        if (intent.contains(member.key())) return true;
        for (const auto& [name, value] : kDefaultsInside) {
            if (member.key() == name && member.value.as_string() == value) return true;
        }
        return member.key() == "expirationSeconds" && member.value.as_int() == 3600;
    });
}

/// `owned` is what our manager owns here: empty when it owns it as a whole, null when that is not
/// known.
bool subset(const Value& intent, const Value& live, const Value* owned) {
    // What Go leaves out when empty reads back as absent.
    if (intent.empty() && live.is_null()) return true;
    if (intent.is_array()) return live.is_array() && list_subset(intent, live, owned);
    if (!intent.is_object())
        return intent == live || (live.is_null() && intent.is_bool() && !intent.as_bool());
    if (!live.is_object()) return false;
    const bool whole = owned != nullptr && owned->empty();
    if (whole && !has_only_defaults_besides(intent, live)) return false;
    for (const data::Member& member : intent.members()) {
        const Value* member_owned = owned;
        if (owned != nullptr && !whole) {
            member_owned = owned->find(fmt::format("f:{}", member.key()));
            if (member_owned == nullptr && !member.value.empty()) return false;
        }
        if (!subset(member.value, live[member.key()], member_owned)) return false;
    }
    return true;
}

/// True when everything that `owned` lists is in `intent`.
bool owns_no_more(const Value& owned, const Value& intent) {
    for (const data::Member& member : owned.members()) {
        const std::string_view key = member.key();
        const Value* part = nullptr;
        if (key == ".") continue;
        if (key.starts_with("f:")) {
            part = intent.find(key.substr(2));
        } else if (key.starts_with("k:")) {
            Result<Value> keys = data::parse_json(key.substr(2));
            if (!keys.ok()) return false;
            const data::Members& parts = keys->members();
            part = keyed_item(intent, [&](const Value& item) {
                return std::all_of(parts.begin(), parts.end(), [&](const data::Member& each) {
                    return item[each.key()].is_null() || item[each.key()] == each.value;
                });
            });
        } else if (key.starts_with("v:")) {
            Result<Value> value = data::parse_json(key.substr(2));
            if (!value.ok()) return false;
            part = keyed_item(intent, [&](const Value& item) { return item == *value; });
        } else if (key.starts_with("i:")) {
            continue;
        }
        if (part == nullptr || !owns_no_more(member.value, *part)) {
            // A list item's key that the server filled in by default.
            const bool defaulted_key =
                part == nullptr && member.value.empty() && owned.contains(".");
            if (!defaulted_key) return false;
        }
    }
    return true;
}

/// The part of an intent that an apply to `subresource` writes, without what is not a field.
Value relevant_intent(const Value& intent, std::string_view subresource) {
    Value part = intent;
    part.erase("apiVersion");
    part.erase("kind");
    if (Value* metadata = part.find("metadata")) {
        for (const char* name : {"name", "namespace", "resourceVersion", "uid", "managedFields"}) {
            metadata->erase(name);
        }
        if (metadata->empty()) part.erase("metadata");
    }
    if (subresource != "status") part.erase("status");
    return part;
}

uint64_t live_hash(const Value& live, std::string_view subresource) {
    Value part = live;
    if (Value* metadata = part.find("metadata")) {
        metadata->erase("resourceVersion");
        metadata->erase("managedFields");
        metadata->erase("generation");
    }
    if (subresource != "status") part.erase("status");
    return data::hash(part);
}

async::Task<Result<Applied>> unchanged(kube::SharedValue live) {
    Applied applied;
    applied.object = std::move(live);
    co_return std::move(applied);
}

async::Task<Result<bool>> nothing_removed() { co_return false; }

}  // namespace

Value owned_fields(const Value& live, std::string_view manager, std::string_view subresource) {
    for (const Value& entry : live["metadata"]["managedFields"].items()) {
        if (entry["manager"].as_string() == manager && entry["operation"].as_string() == "Apply" &&
            entry["subresource"].as_string() == subresource) {
            const Value& fields = entry["fieldsV1"];
            if (!fields.is_string()) return fields;
            return data::parse_json(fields.as_string()).value_or(Value());
        }
    }
    return {};
}

bool is_subset(const Value& intent, const Value& live) { return subset(intent, live, nullptr); }

bool in_force(const Value& intent, const Value& live, std::string_view manager,
              std::string_view subresource) {
    const Value part = relevant_intent(intent, subresource);
    if (live["metadata"]["managedFields"].empty()) return is_subset(part, live);
    const Value owned = owned_fields(live, manager, subresource);
    if (!owned.is_object()) return false;
    // FieldsV1 of an apply to the main resource never lists status.
    return subset(part, live, &owned) && owns_no_more(owned, part);
}

Value take_over_managers(const Value& live, const std::vector<std::string>& from,
                         std::string_view to) {
    const data::Array& entries = live["metadata"]["managedFields"].items();
    const auto is_foreign = [&](const Value& entry) {
        return entry["subresource"].as_string().empty() &&
               std::find(from.begin(), from.end(), entry["manager"].as_string()) != from.end();
    };
    if (std::none_of(entries.begin(), entries.end(), is_foreign)) return Value::array();
    data::Array kept;
    std::optional<size_t> ours;
    for (const Value& entry : entries) {
        const bool is_ours = entry["manager"].as_string() == to &&
                             entry["operation"].as_string() == "Apply" &&
                             entry["subresource"].as_string().empty();
        if (!is_ours && !is_foreign(entry)) {
            kept.push_back(entry);
            continue;
        }
        if (!ours) {
            ours = kept.size();
            kept.push_back(entry);
            kept.back().set("manager", to);
            kept.back().set("operation", "Apply");
            continue;
        }
        merge_fields(kept[*ours].at("fieldsV1"), entry["fieldsV1"]);
    }
    return Value::array(
        {Value::object({{"op", "test"},
                        {"path", "/metadata/resourceVersion"},
                        {"value", live["metadata"]["resourceVersion"]}}),
         Value::object(
             {{"op", "replace"}, {"path", "/metadata/managedFields"}, {"value", Value(kept)}})});
}

void merge_fields(Value& into, const Value& from) {
    for (const data::Member& member : from.members()) {
        if (Value* present = into.find(member.key())) {
            merge_fields(*present, member.value);
        } else {
            into.set(member.key(), member.value);
        }
    }
}

async::Task<Result<Applied>> Applier::apply(const kube::Resource& resource, const Value& intent,
                                            kube::SharedValue live,
                                            const kube::WriteOptions& options) {
    std::string memory_key;
    const uint64_t intent_hash = data::hash(intent);
    if (live) {
        memory_key = fmt::format("{}/{}", kube::uid_of(*live), options.subresource);
        const auto memory = memory_.find(memory_key);
        const bool known = memory != memory_.end() && memory->second.intent_hash == intent_hash &&
                           memory->second.live_hash == live_hash(*live, options.subresource);
        if (known || in_force(intent, *live, field_manager_, options.subresource)) {
            return unchanged(std::move(live));
        }
    }
    kube::WriteOptions write = options;
    if (write.field_manager.empty()) write.field_manager = field_manager_;
    return apply_now(resource, intent, std::move(write), intent_hash);
}

async::Task<Result<Applied>> Applier::apply_now(kube::Resource resource, Value intent,
                                                kube::WriteOptions options, uint64_t intent_hash) {
    ++writes_count_;
    Result<Value> answer = co_await client_.apply(resource, std::move(intent), options);
    if (!answer.ok()) co_return std::move(answer).error();
    if (!options.dry_run) {
        const std::string key = fmt::format("{}/{}", kube::uid_of(*answer), options.subresource);
        if (memory_.size() >= kMaxMemory) memory_.clear();
        memory_[key] = Memory{intent_hash, live_hash(*answer, options.subresource)};
    }
    Applied applied;
    applied.written = true;
    applied.object = std::make_shared<const Value>(std::move(*answer));
    co_return std::move(applied);
}

async::Task<Result<bool>> Applier::remove(const kube::Resource& resource, kube::SharedValue live,
                                          const kube::DeleteOptions& options) {
    if (!live || kube::is_deleting(*live)) return nothing_removed();
    return remove_now(resource, std::move(live), options);
}

async::Task<Result<bool>> Applier::remove_now(kube::Resource resource, kube::SharedValue live,
                                              kube::DeleteOptions options) {
    if (options.uid.empty()) options.uid = kube::uid_of(*live);
    ++writes_count_;
    const kube::ObjectKey key = kube::key_of(*live);
    Result<Value> answer = co_await client_.remove(resource, key, options);
    forget(kube::uid_of(*live));
    if (answer.ok()) co_return true;
    const Code code = answer.error().code();
    if (code == Code::kNotFound) co_return false;
    if (code != Code::kAborted || options.uid.empty()) co_return std::move(answer).error();
    // Another object of that name, or a conflict that says nothing about it.
    kube::GetOptions get_options;
    Result<Value> present = co_await client_.get(resource, key, get_options);
    const bool gone = present.ok() ? kube::uid_of(*present) != options.uid
                                   : present.error().code() == Code::kNotFound;
    if (gone) co_return false;
    co_return std::move(answer).error();
}

void Applier::forget(std::string_view uid) {
    const std::string prefix = fmt::format("{}/", uid);
    auto entry = memory_.lower_bound(prefix);
    while (entry != memory_.end() && entry->first.starts_with(prefix)) entry = memory_.erase(entry);
}

}  // namespace basalt::controller
