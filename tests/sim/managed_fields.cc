#include "tests/sim/managed_fields.h"

#include <vector>

#include <fmt/format.h>

#include "base/strings.h"

namespace basalt::sim {

namespace {

struct Entry {
    Manager manager;
    FieldSet set;
};

bool is_same(const Manager& a, const Manager& b) {
    return a.name == b.name && a.is_apply == b.is_apply && a.subresource == b.subresource;
}

std::vector<Entry> read_entries(const Value& object) {
    std::vector<Entry> entries;
    for (const Value& item : object["metadata"]["managedFields"].items()) {
        Entry entry;
        entry.manager = {item["manager"].str(), item["operation"].as_string() == "Apply",
                         item["subresource"].str(), item["apiVersion"].str(), item["time"].str()};
        entry.set = parse_fields(item["fieldsV1"]);
        entry.set.member = false;
        entries.push_back(std::move(entry));
    }
    return entries;
}

void write_entries(const std::vector<Entry>& entries, Value& object) {
    Value list = Value::array();
    for (const Entry& entry : entries) {
        if (entry.set.empty()) continue;
        Value item = Value::object({{"manager", entry.manager.name},
                                    {"operation", entry.manager.is_apply ? "Apply" : "Update"},
                                    {"apiVersion", entry.manager.api_version},
                                    {"time", entry.manager.time},
                                    {"fieldsType", "FieldsV1"},
                                    {"fieldsV1", print_fields(entry.set)}});
        item.set_unless_empty("subresource", entry.manager.subresource);
        list.push_back(std::move(item));
    }
    object.at("metadata").erase("managedFields");
    if (list.size() > 0) object.at("metadata").set("managedFields", std::move(list));
}

Entry& entry_of(std::vector<Entry>& entries, const Manager& manager) {
    for (Entry& entry : entries) {
        if (is_same(entry.manager, manager)) return entry;
    }
    entries.push_back({manager, {}});
    return entries.back();
}

Value without_times(Value object) {
    if (Value* metadata = object.find("metadata")) {
        metadata->erase("resourceVersion");
        if (Value* entries = metadata->find("managedFields")) {
            for (Value& entry : entries->mutable_items()) entry.erase("time");
        }
    }
    return object;
}

}  // namespace

Value tracked_part(const Kind& kind, Value object, const std::string& subresource) {
    if (subresource == "status") return Value::object({{"status", object["status"]}});
    object.erase("apiVersion");
    object.erase("kind");
    if (Value* metadata = object.find("metadata")) {
        for (const char* name :
             {"name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp",
              "deletionTimestamp", "deletionGracePeriodSeconds", "managedFields", "selfLink"}) {
            metadata->erase(name);
        }
        if (metadata->size() == 0) object.erase("metadata");
    }
    if (kind.has_status) object.erase("status");
    return object;
}

void track_update(const Kind& kind, const Value& before, Value& after, const Manager& manager) {
    // A client may have changed the entries themselves.
    std::vector<Entry> entries = read_entries(after);
    const Value old_part =
        tracked_part(kind, before.is_null() ? Value::object() : before, manager.subresource);
    const Value new_part = tracked_part(kind, after, manager.subresource);
    const FieldChanges changes = compare_fields(old_part, new_part, *kind.shape);
    for (Entry& entry : entries) {
        entry.set = subtract(entry.set, changes.removed);
        if (!is_same(entry.manager, manager)) entry.set = subtract(entry.set, changes.changed);
    }
    if (!changes.changed.empty()) {
        Entry& mine = entry_of(entries, manager);
        FieldSet grown = unite(mine.set, changes.changed);
        grown.member = false;
        if (!(grown == mine.set)) mine.manager.time = manager.time;
        mine.set = std::move(grown);
    }
    write_entries(entries, after);
}

AppliedResult apply_configuration(const Kind& kind, const Value& live, const Value& config,
                                  const Manager& manager, bool force) {
    std::vector<Entry> entries = read_entries(live);
    const Value wanted = tracked_part(kind, config, manager.subresource);
    const FieldSet set = [&] {
        FieldSet fields = fields_of(wanted, *kind.shape);
        fields.member = false;
        return fields;
    }();
    const FieldSet last = entry_of(entries, manager).set;
    entry_of(entries, manager).set = set;
    FieldSet managed;
    for (const Entry& entry : entries) managed = unite(std::move(managed), entry.set);

    AppliedResult result;
    result.object = merge_applied(live, wanted, *kind.shape);
    prune_applied(result.object, last, managed, *kind.shape);
    const Value old_part = tracked_part(kind, live, manager.subresource);
    const Value new_part = tracked_part(kind, result.object, manager.subresource);
    const FieldChanges changes = compare_fields(old_part, new_part, *kind.shape);
    std::vector<std::string> conflicts;
    for (Entry& entry : entries) {
        if (!is_same(entry.manager, manager)) {
            const FieldSet taken = intersect(entry.set, changes.changed);
            if (!taken.empty() && !force) {
                conflicts.push_back(fmt::format("conflict with \"{}\": {}", entry.manager.name,
                                                join(list_paths(taken), ", ")));
            }
            entry.set = subtract(entry.set, changes.changed);
        }
        entry.set = subtract(entry.set, changes.removed);
    }
    result.conflict = join(conflicts, "; ");
    if (!(last == set)) entry_of(entries, manager).manager.time = manager.time;
    write_entries(entries, result.object);
    return result;
}

bool same_state(const Value& a, const Value& b) { return without_times(a) == without_times(b); }

}  // namespace basalt::sim
