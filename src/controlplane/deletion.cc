// The end of a control plane: its Pods first, so that nothing writes any more, then what it kept in
// its DataStore, then the finalizers; the rest goes by ownership. A DataStore that is gone or
// silent delays this, for a bounded time, and never prevents it.
#include <fmt/format.h>

#include "base/log.h"
#include "base/strings.h"
#include "controller/finalizers.h"
#include "controlplane/control_plane_controller.h"
#include "controlplane/datastore_plan.h"
#include "controlplane/names.h"
#include "controlplane/pass.h"

namespace basalt::controlplane {

using controller::Outcome;
using data::Value;

namespace {

constexpr Duration kRetry = std::chrono::seconds(5);

// Whose owner is taken away, as when the control plane is deleted with its dependents orphaned, is
// known by our labels: its Pods must not write to what is removed.
bool is_workload_of(const Value& deployment, const Value& control_plane) {
    if (kube::is_owned_by(deployment, kube::uid_of(control_plane))) return true;
    return !kube::controller_of(deployment) &&
           kube::label_of(deployment, names::kProjectLabel) == names::kProject &&
           kube::label_of(deployment, names::kNameLabel) == kube::name_of(control_plane);
}

}  // namespace

async::Task<Result<Outcome>> ControlPlaneController::finalize(Pass* pass) {
    const data::SharedValue held = pass->object;
    const Value& object = *held;
    const controller::Key key = kube::key_of(object);
    free_slot(key.to_string());
    co_await drop_session(key.to_string());
    if (!kube::has_finalizer(object, names::kFinalizer) &&
        !kube::has_finalizer(object, names::kSootFinalizer)) {
        co_return Outcome();
    }
    Result<bool> stopped = co_await remove_workload(pass);
    if (!stopped.ok()) co_return std::move(stopped).error();
    // Watches go on from here; nobody tells of a Deployment without our label.
    if (!*stopped) co_return controller::requeue_after(kRetry);
    Result<bool> cleaned = co_await remove_storage(pass);
    if (!cleaned.ok()) co_return std::move(cleaned).error();
    if (!*cleaned) co_return controller::requeue_after(kRetry);

    kube::ObjectKey config(key.ns, names::datastore_config(key.name));
    Result<data::SharedValue> secret =
        co_await find_owned(kube::resources::secrets(), std::move(config));
    if (!secret.ok()) co_return std::move(secret).error();
    if (*secret != nullptr) {
        Result<Value> freed = co_await controller::drop_finalizer(
            manager_.client(), kube::resources::secrets(), **secret,
            std::string(names::kDataStoreSecretFinalizer));
        if (!freed.ok()) co_return std::move(freed).error();
    }
    storage_done_.erase(std::string(kube::uid_of(object)));
    certificates_done_.erase(std::string(kube::uid_of(object)));
    Value current = object;
    for (std::string_view finalizer : {names::kSootFinalizer, names::kFinalizer}) {
        Result<Value> freed = co_await controller::drop_finalizer(
            manager_.client(), tenant_control_planes(), current, std::string(finalizer));
        if (!freed.ok()) co_return std::move(freed).error();
        if (freed->is_null()) break;
        current = *std::move(freed);
    }
    log_info("control plane removed", {{"control_plane", key.to_string()}});
    co_return Outcome();
}

async::Task<Result<bool>> ControlPlaneController::remove_workload(Pass* pass) {
    const controller::Key key = kube::key_of(*pass->object);
    Result<data::SharedValue> found = co_await find_owned(kube::resources::deployments(), key);
    if (!found.ok()) co_return std::move(found).error();
    data::SharedValue deployment = *found;
    if (deployment != nullptr && is_workload_of(*deployment, *pass->object)) {
        kube::DeleteOptions options;
        options.propagation = kube::Propagation::kForeground;
        Result<bool> removed =
            co_await applier_.remove(kube::resources::deployments(), deployment, options);
        if (!removed.ok()) co_return std::move(removed);
        co_return false;
    }
    bool pods_left = false;
    for (const data::SharedValue& pod : pods_.list(
             key.ns, kube::LabelSelector::equals(std::string(names::kNameLabel), key.name))) {
        pods_left |= !kube::label_of(*pod, "pod-template-hash").empty();
    }
    co_return !pods_left;
}

// False once patience is over. It counts from the first attempt that failed, which the condition
// keeps: a DataStore that was away before, Pods that were slow to go and a restart of this process
// do not use it up.
async::Task<Result<bool>> ControlPlaneController::wait_for_datastores(
    Pass* pass, Duration patience, std::vector<std::string> left) {
    const Value& object = *pass->object;
    const WallTime now = manager_.loop().wall_now();
    Value status = object["status"];
    if (!status.is_object()) status = Value::object();
    controller::Condition condition(
        kDataRemoved, controller::kFalse, "DataStoreUnavailable",
        fmt::format("Its data cannot be removed yet from DataStore {}", join(left, ", ")),
        kube::generation_of(object));
    controller::set_condition(status, condition, now);
    Result<WallTime> since = parse_rfc3339(
        controller::find_condition(status, kDataRemoved)["lastTransitionTime"].as_string());
    if (since.ok() && now - *since >= patience) co_return false;
    Result<void> applied = co_await put_status(pass, std::move(status));
    if (!applied.ok()) co_return std::move(applied).error();
    co_return true;
}

async::Task<Result<bool>> ControlPlaneController::remove_storage(Pass* pass) {
    const data::SharedValue held = pass->object;
    const Value& object = *held;
    const Value& storage = object["status"]["storage"];
    std::string schema = storage["setup"]["schema"].str();
    std::string user = storage["setup"]["user"].str();
    if (schema.empty() && pass->readable) {
        // Set up, but the status was not written before the process ended.
        schema = pass->settings.schema;
        user = pass->settings.user;
    }
    if (schema.empty()) co_return true;
    // Its DataStores are on record before anything is there: what is not was never set up. It is
    // looked for all the same, but a DataStore that is known to be unusable is not waited for.
    kube::ObjectKey config(std::string(kube::namespace_of(object)),
                           names::datastore_config(kube::name_of(object)));
    Result<data::SharedValue> credential =
        co_await find_owned(kube::resources::secrets(), std::move(config));
    if (!credential.ok()) co_return std::move(credential).error();
    const bool untouched =
        storage["dataStoreName"].empty() && storage["setup"].empty() && *credential == nullptr;
    std::vector<std::string> left;
    std::string why;
    bool any_unseen = false;
    const std::vector<std::string> stores = used_datastores(object, options_.defaults);
    for (const std::string& name : stores) {
        Result<void> removed = co_await remove_storage_from(name, user, schema);
        if (removed.ok()) continue;
        if (removed.error().code() == Code::kCancelled) co_return std::move(removed).error();
        const bool unseen = is_unseen(name);
        if (untouched && !unseen) continue;
        any_unseen |= unseen;
        why += fmt::format("{}{}: {}", left.empty() ? "" : "; ", name, removed.error().message());
        left.push_back(name);
    }
    if (left.empty()) co_return true;
    // What was not looked at yet, as after a start of this process, says nothing; but this ends.
    const Duration patience = options_.deletion_patience * (any_unseen ? 2 : 1);
    Result<bool> waits = co_await wait_for_datastores(pass, patience, left);
    if (!waits.ok()) co_return std::move(waits).error();
    if (*waits) {
        events_.record(object, controller::Severity::kWarning, "DataStoreUnavailable",
                       fmt::format("Waiting to remove its data from DataStore {}", why));
        co_return false;
    }
    Value regarding_namespace = kube::make_object(
        kube::resources::namespaces(), kube::ObjectKey(std::string(kube::namespace_of(object))));
    std::string note = fmt::format(
        "Control plane {} was removed without its data in DataStore {}. Remove keys under /{}/, "
        "the user {} and the role {} there by hand",
        kube::key_of(object).to_string(), why, schema, user, schema);
    events_.record(regarding_namespace, controller::Severity::kWarning, "DataLeftBehind", note);
    for (const std::string& name : left) {
        events_.record(kube::make_object(data_stores(), kube::ObjectKey(name)),
                       controller::Severity::kWarning, "DataLeftBehind", note);
    }
    co_return true;
}

}  // namespace basalt::controlplane
