#include "controller/finalizers.h"

#include <fmt/format.h>

namespace basalt::controller {

using kube::Value;

namespace {

/// The whole list with the version it was read at: another writer's change makes a conflict, not a
/// loss.
Value finalizers_patch(const Value& object) {
    Value metadata = Value::object({{"resourceVersion", object["metadata"]["resourceVersion"]}});
    const Value& finalizers = object["metadata"]["finalizers"];
    metadata.set("finalizers", finalizers.empty() ? Value() : finalizers);
    return Value::object({{"metadata", std::move(metadata)}});
}

async::Task<Result<Value>> patch_finalizers(kube::Client& client, kube::Resource resource,
                                            Value object, bool may_be_gone) {
    const kube::ObjectKey key = kube::key_of(object);
    const Value patch = finalizers_patch(object);
    Result<Value> patched = co_await client.merge_patch(resource, key, patch);
    if (!patched.ok() && may_be_gone && patched.error().code() == Code::kNotFound)
        co_return Value();
    co_return std::move(patched);
}

async::Task<Result<Value>> ready(Result<Value> value) { co_return std::move(value); }

}  // namespace

async::Task<Result<Value>> ensure_finalizer(kube::Client& client, const kube::Resource& resource,
                                            const Value& object, const std::string& name) {
    if (kube::has_finalizer(object, name)) return ready(object);
    if (kube::is_deleting(object)) {
        return ready(
            failed_precondition(fmt::format("{} is being deleted", kube::describe(object))));
    }
    Value changed = object;
    kube::insert_finalizer(changed, name);
    return patch_finalizers(client, resource, std::move(changed), false);
}

async::Task<Result<Value>> drop_finalizer(kube::Client& client, const kube::Resource& resource,
                                          const Value& object, const std::string& name) {
    if (!kube::has_finalizer(object, name)) return ready(object);
    Value changed = object;
    kube::erase_finalizer(changed, name);
    return patch_finalizers(client, resource, std::move(changed), true);
}

}  // namespace basalt::controller
