#include "data/patch.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/limits.h"
#include "data/pointer.h"

namespace basalt::data {
namespace {

/// Levels of containers in `value`; adds the bytes it looks at to `cost`.
size_t depth_of(const Value& value, size_t& cost) {
    cost += sizeof(Value);
    size_t below = 0;
    for (const Value& item : value.items()) below = std::max(below, depth_of(item, cost));
    for (const Member& member : value.members())
        below = std::max(below, depth_of(member.value, cost));
    return below + (value.is_array() || value.is_object() ? 1 : 0);
}

class Patcher {
 public:
    explicit Patcher(Value document) : document_(std::move(document)) {}

    Result<void> apply(const Value& operation) {
        if (!operation.is_object()) return invalid_argument("an operation is not an object");
        if (!operation["op"].is_string()) return invalid_argument("\"op\" is missing");
        if (!operation["path"].is_string()) return invalid_argument("\"path\" is missing");
        const std::string_view op = operation["op"].as_string();
        BASALT_ASSIGN(const Pointer path, Pointer::parse(operation["path"].as_string()));
        if (op == "remove") return remove(path).ok() ? Result<void>() : missing(path);
        if (op == "move" || op == "copy") {
            if (!operation["from"].is_string()) return invalid_argument("\"from\" is missing");
            BASALT_ASSIGN(const Pointer from, Pointer::parse(operation["from"].as_string()));
            return op == "move" ? move(from, path) : copy(from, path);
        }
        if (op != "add" && op != "replace" && op != "test") {
            return invalid_argument(fmt::format("unknown op \"{}\"", op));
        }
        const Value* value = operation.find("value");
        if (value == nullptr) return invalid_argument("\"value\" is missing");
        if (op == "test") return test(path, *value);
        if (op == "replace" && path.find(std::as_const(document_)) == nullptr) return missing(path);
        size_t cost = 0;
        BASALT_TRY(check_depth(path, *value, cost));
        return op == "add" ? add(path, *value) : replace(path, *value);
    }

    Value take() { return std::move(document_); }

 private:
    static Error missing(const Pointer& path) {
        return failed_precondition(fmt::format("nothing at \"{}\"", path.to_string()));
    }

    /// Patches could otherwise nest without bound, and much of our code recurses.
    static Result<void> check_depth(const Pointer& path, const Value& value, size_t& cost) {
        if (path.segments().size() + depth_of(value, cost) <= limits::kMaxDocumentDepth) return {};
        return resource_exhausted(
            fmt::format("the result would nest over {} levels", limits::kMaxDocumentDepth));
    }

    Result<void> charge(size_t bytes) {
        moved_bytes_ += bytes;
        if (moved_bytes_ <= limits::kMaxPatchCopiedBytes) return {};
        return resource_exhausted(
            fmt::format("copies are over the limit of {} bytes", limits::kMaxPatchCopiedBytes));
    }

    Result<Value> remove(const Pointer& path) {
        Value* value = path.find(document_);
        if (value == nullptr) return missing(path);
        Value taken = std::move(*value);
        const Result<void> removed = pointer_remove(document_, path.to_string());
        BASALT_ASSERT(removed.ok());
        return taken;
    }

    Result<void> add(const Pointer& path, Value value) {
        if (path.is_root()) {
            document_ = std::move(value);
            return {};
        }
        std::vector<std::string> segments = path.segments();
        const std::string last = std::move(segments.back());
        segments.pop_back();
        Value* parent = Pointer(std::move(segments)).find(document_);
        if (parent == nullptr) return missing(path);
        if (parent->is_object()) {
            parent->set(last, std::move(value));
            return {};
        }
        if (!parent->is_array()) return missing(path);
        BASALT_ASSIGN(const size_t index, parse_index(last, parent->size()));
        if (index > parent->size()) return missing(path);
        Array& items = parent->mutable_items();
        items.insert(items.begin() + static_cast<std::ptrdiff_t>(index), std::move(value));
        return {};
    }

    Result<void> replace(const Pointer& path, Value value) {
        *path.find(document_) = std::move(value);
        return {};
    }

    Result<void> move(const Pointer& from, const Pointer& path) {
        if (from.is_above(path)) return invalid_argument("a value cannot move into itself");
        const Value* source = from.find(std::as_const(document_));
        if (source == nullptr) return missing(from);
        if (from == path) return {};
        size_t cost = 0;
        BASALT_TRY(check_depth(path, *source, cost));
        BASALT_TRY(charge(cost));
        BASALT_ASSIGN(Value value, remove(from));
        return add(path, std::move(value));
    }

    Result<void> copy(const Pointer& from, const Pointer& path) {
        const Value* source = from.find(std::as_const(document_));
        if (source == nullptr) return missing(from);
        BASALT_TRY(charge(sizeof(Value) + source->heap_size()));
        size_t cost = 0;
        BASALT_TRY(check_depth(path, *source, cost));
        return add(path, *source);
    }

    Result<void> test(const Pointer& path, const Value& expected) const {
        const Value* value = path.find(document_);
        if (value == nullptr) return missing(path);
        if (*value == expected) return {};
        return failed_precondition(fmt::format("test of \"{}\" failed", path.to_string()));
    }

    Value document_;
    size_t moved_bytes_ = 0;
};

class Differ {
 public:
    void diff(const std::string& path, const Value& from, const Value& to) {
        if (from.is_object() && to.is_object()) {
            diff_members(path, from, to);
        } else if (from.is_array() && to.is_array()) {
            diff_items(path, from.items(), to.items());
        } else if (!(from == to)) {
            emit("replace", path, &to);
        }
    }
    Value take() { return Value(std::move(operations_)); }

 private:
    void emit(std::string_view op, std::string_view path, const Value* value) {
        Value operation = Value::object({{"op", op}, {"path", path}});
        if (value != nullptr) operation.set("value", *value);
        operations_.push_back(std::move(operation));
    }

    static std::string below(const std::string& path, std::string_view key) {
        return path + '/' + escape_pointer_segment(key);
    }

    void diff_members(const std::string& path, const Value& from, const Value& to) {
        for (const Member& member : from.members()) {
            if (!to.contains(member.key())) emit("remove", below(path, member.key()), nullptr);
        }
        for (const Member& member : to.members()) {
            const Value* old = from.find(member.key());
            if (old != nullptr) {
                diff(below(path, member.key()), *old, member.value);
            } else {
                emit("add", below(path, member.key()), &member.value);
            }
        }
    }

    /// What both ends have in common stays; the middle changes item by item.
    void diff_items(const std::string& path, const Array& from, const Array& to) {
        const size_t shorter = std::min(from.size(), to.size());
        size_t head = 0;
        while (head < shorter && from[head] == to[head]) ++head;
        size_t tail = 0;
        while (tail < shorter - head && from[from.size() - 1 - tail] == to[to.size() - 1 - tail])
            ++tail;
        const size_t common_end = shorter - tail;
        for (size_t i = head; i < common_end; ++i)
            diff(fmt::format("{}/{}", path, i), from[i], to[i]);
        for (size_t i = from.size() - tail; i > common_end; --i) {
            emit("remove", fmt::format("{}/{}", path, i - 1), nullptr);
        }
        for (size_t i = common_end; i < to.size() - tail; ++i)
            emit("add", fmt::format("{}/{}", path, i), &to[i]);
    }

    Array operations_;
};

void merge_into(Value& target, const Value& patch) {
    if (!patch.is_object()) {
        target = patch;
        return;
    }
    if (!target.is_object()) target = Value::object();
    for (const Member& member : patch.members()) {
        if (member.value.is_null()) {
            target.erase(member.key());
        } else {
            merge_into(target.at(member.key()), member.value);
        }
    }
}

}  // namespace

Result<Value> apply_json_patch(Value document, const Value& operations) {
    if (!operations.is_array()) return invalid_argument("JSON patch: not an array of operations");
    if (operations.size() > limits::kMaxPatchOperations) {
        return resource_exhausted(
            fmt::format("JSON patch: over {} operations", limits::kMaxPatchOperations));
    }
    Patcher patcher(std::move(document));
    size_t index = 0;
    for (const Value& operation : operations.items()) {
        Result<void> applied = patcher.apply(operation);
        if (!applied.ok())
            return std::move(applied).error().context(
                fmt::format("JSON patch: operation {}", index));
        ++index;
    }
    return patcher.take();
}

Value apply_merge_patch(Value document, const Value& patch) {
    merge_into(document, patch);
    return document;
}

Value diff_to_json_patch(const Value& from, const Value& to) {
    Differ differ;
    differ.diff("", from, to);
    return differ.take();
}

Value merge_diff(const Value& from, const Value& to) {
    if (!to.is_object()) return to;
    Value patch = Value::object();
    for (const Member& member : from.members()) {
        if (member.value.is_null()) continue;
        const Value* kept = to.find(member.key());
        if (kept == nullptr || kept->is_null()) patch.set(member.key(), Value());
    }
    for (const Member& member : to.members()) {
        if (member.value.is_null()) continue;
        const Value* old = from.find(member.key());
        if (old != nullptr && *old == member.value) continue;
        const bool merges = old != nullptr && old->is_object() && member.value.is_object();
        patch.set(member.key(), merges ? merge_diff(*old, member.value) : member.value);
    }
    return patch;
}

}  // namespace basalt::data
