// What a control plane keeps in its DataStores: user, role and exact key range in each of them.
#include <algorithm>

#include <fmt/format.h>

#include "base/log.h"
#include "controlplane/names.h"
#include "controlplane/pass.h"
#include "controlplane/write_permissions.h"
#include "etcd/tenancy.h"

namespace basalt::controlplane {

using data::Value;

namespace {

// Nothing tells when another control plane gives up what this one waits for.
constexpr Duration kRetryClaim = std::chrono::seconds(10);
constexpr Duration kRetryCleaning = std::chrono::seconds(30);

bool is_set_up(const Value& object) {
    return !object["status"]["storage"]["setup"]["schema"].empty();
}

// Who was there first keeps what both want.
bool comes_before(const Value& a, const Value& b) {
    if (is_set_up(a) != is_set_up(b)) return is_set_up(a);
    const Value& at = a["metadata"]["creationTimestamp"];
    const Value& bt = b["metadata"]["creationTimestamp"];
    if (at.as_string() != bt.as_string()) return at.as_string() < bt.as_string();
    return kube::uid_of(a) < kube::uid_of(b);
}

}  // namespace

ControlPlaneController::Step ControlPlaneController::check_datastore(Pass* pass) {
    const Settings& settings = pass->settings;
    pass->former_datastores = settings.former_datastores;
    for (const std::string& name : settings.used_datastores()) {
        const bool main = name == settings.datastore;
        const DataStoreRegistry::Entry* entry = datastores_.find(name);
        if (entry == nullptr && is_unseen(name)) {
            // At a start of this process. What the status says stays until more is known.
            pass->knows_nothing =
                controller::find_condition((*pass->object)["status"], kReady).is_object();
            co_return pass->stop(kDataStoreReady, "WaitingForDataStore",
                                 fmt::format("DataStore {} is being looked at", name));
        }
        if (entry == nullptr) {
            co_return pass->stop(
                kDataStoreReady, "DataStoreNotFound",
                fmt::format("spec.{}: there is no DataStore \"{}\", create it or name another one",
                            main ? "dataStore" : "dataStoreOverrides", name));
        }
        if (!entry->ready) {
            co_return pass->stop(kDataStoreReady, entry->reason,
                                 fmt::format("DataStore {}: {}", name, entry->message));
        }
        if (main) pass->datastore = entry->view;
        pass->stores.push_back({name, entry->view, entry->epoch});
        for (const auto& [resource, store] : settings.datastore_overrides) {
            if (store == name) pass->override_endpoints[resource] = entry->view->endpoints;
        }
    }
    if (storage_done_[settings.uid] != storage_stamp(*pass)) {
        std::vector<StorageClaim> claims;
        if (const StorageClaim* other = find_claimant(*pass, &claims)) {
            pass->again = kRetryClaim;
            co_return pass->stop(
                kDataStoreReady, "StorageInUse",
                fmt::format("Schema \"{}\" or user \"{}\" in DataStore {} belongs to control plane "
                            "{}: choose another spec.dataStoreSchema and spec.dataStoreUsername",
                            settings.schema, settings.user, other->datastore, other->owner));
        }
    }
    pass->progress.done(kDataStoreReady, "Ready");
    co_return true;
}

bool ControlPlaneController::is_unseen(const std::string& datastore) const {
    if (datastores_.find(datastore) != nullptr) return false;
    return !data_stores_.has_synced() || data_stores_.get(kube::ObjectKey(datastore)) != nullptr;
}

// A control plane that has, or that comes first to, the same keys or the same user somewhere.
const StorageClaim* ControlPlaneController::find_claimant(const Pass& pass,
                                                          std::vector<StorageClaim>* claims) const {
    control_planes_.for_each([&](const data::SharedValue& other) {
        if (kube::uid_of(*other) == pass.settings.uid || !comes_before(*other, *pass.object))
            return;
        for (StorageClaim& claim : storage_claims(*other, options_.defaults))
            claims->push_back(std::move(claim));
    });
    for (const StorageClaim& own : storage_claims(*pass.object, options_.defaults)) {
        if (const StorageClaim* other = find_conflict(own, *claims)) return other;
    }
    return nullptr;
}

std::string ControlPlaneController::storage_stamp(const Pass& pass) const {
    const Settings& settings = pass.settings;
    const WritePermissions& blocked = settings.write_permissions;
    std::string stamp =
        fmt::format("{}|{}|{}{}{}", settings.schema, settings.user, blocked.block_creation,
                    blocked.block_update, blocked.block_deletion);
    for (const Pass::Store& store : pass.stores)
        stamp += fmt::format("|{}#{}", store.name, store.epoch);
    return stamp;
}

// On record before anything is there: whatever happens then, and whatever the spec says next, it is
// found and removed one day.
async::Task<Result<void>> ControlPlaneController::record_datastores(Pass* pass) {
    const Settings& settings = pass->settings;
    Value overrides = recorded_overrides(settings, pass->former_datastores);
    const Value& recorded = (*pass->object)["status"]["storage"];
    if (recorded["dataStoreName"].as_string() == settings.datastore &&
        recorded["overrides"] == overrides)
        co_return Result<void>();
    Value status = (*pass->object)["status"];
    if (!status.is_object()) status = Value::object();
    Value& storage = status.at("storage");
    storage.set("dataStoreName", settings.datastore);
    storage.set("overrides", std::move(overrides));
    Result<void> applied = co_await put_status(pass, std::move(status));
    co_return applied;
}

async::Task<Result<void>> ControlPlaneController::ensure_storage(Pass* pass) {
    const Settings& settings = pass->settings;
    const std::string wanted = storage_stamp(*pass);
    if (storage_done_[settings.uid] != wanted) {
        bool changed_any = false;
        for (size_t i = 0; i < pass->stores.size(); ++i) {
            Result<bool> changed = co_await ensure_tenant(pass, i);
            if (!changed.ok()) co_return std::move(changed).error();
            changed_any |= *changed;
        }
        const bool unsealed = changed_any && is_set_up(*pass->object);
        Result<void> limited = co_await limit_writes(pass, unsealed);
        if (!limited.ok()) co_return std::move(limited).error().context("limit writes");
        Result<void> opened = co_await remove_kamaji_limits(pass);
        if (!opened.ok()) co_return std::move(opened).error().context("remove Kamaji's limits");
        storage_done_[settings.uid] = wanted;
    }
    pass->write_limits = describe_limits(settings.write_permissions);
    co_return Result<void>();
}

std::shared_ptr<const DataStoreView> ControlPlaneController::store_of(const Pass& pass,
                                                                      const std::string& resource) {
    auto other = pass.settings.datastore_overrides.find(resource);
    for (const Pass::Store& store : pass.stores) {
        if (other != pass.settings.datastore_overrides.end() && store.name == other->second)
            return store.view;
    }
    return pass.datastore;
}

// Taken over from Kamaji, and not in place since: nothing could be written into the tenant's
// cluster, nor by anybody there. In etcd, as our own limits: these may keep the tenant's API server
// from deleting, and it works while the control plane sleeps. After limit_writes(), so that writes
// are not open in between.
async::Task<Result<void>> ControlPlaneController::remove_kamaji_limits(Pass* pass) {
    const Value& plane = *pass->object;
    const bool in_place = controller::is_condition_true(plane["status"], kClusterReady);
    const bool taken_over =
        kube::has_finalizer(plane, names::kSootFinalizer) || (is_set_up(plane) && !in_place);
    if (!taken_over) co_return Result<void>();
    std::vector<StoredLimit> limits = kamaji_limits(pass->settings);
    for (StoredLimit& limit : limits) {
        std::shared_ptr<const DataStoreView> view = store_of(*pass, limit.resource);
        etcd::KeyRange one{limit.key, {}};
        Result<etcd::RangeResult> present = co_await view->client->range(one, 1, false);
        if (!present.ok()) co_return refused_by(*view, std::move(present).error());
        if (present->items.empty()) continue;
        Result<int64_t> removed = co_await view->client->delete_range(std::move(one));
        if (!removed.ok()) co_return refused_by(*view, std::move(removed).error());
        log_info("removed a limit of Kamaji's",
                 {{"control_plane", pass->settings.key()}, {"key", limit.key}});
    }
    co_return Result<void>();
}

// After ensure_tenant(): what is limited is sealed already, so that nobody but us writes these
// keys.
async::Task<Result<void>> ControlPlaneController::limit_writes(Pass* pass, bool unsealed) {
    const Settings& settings = pass->settings;
    const bool was_limited =
        controller::find_condition((*pass->object)["status"], kWriteLimited).is_object();
    const bool limited = settings.write_permissions.any();
    if (!limited && !was_limited && !unsealed) co_return Result<void>();
    std::vector<StoredLimit> objects = stored_limits(settings, *pass->object);
    for (StoredLimit& object : objects) {
        std::shared_ptr<const DataStoreView> view = store_of(*pass, object.resource);
        etcd::KeyRange one{object.key, {}};
        Result<etcd::RangeResult> present = co_await view->client->range(one, 1, false);
        if (!present.ok()) co_return refused_by(*view, std::move(present).error());
        const bool there = !present->items.empty();
        if (!limited && there) {
            Result<int64_t> removed = co_await view->client->delete_range(std::move(one));
            if (!removed.ok()) co_return refused_by(*view, std::move(removed).error());
        } else if (limited && (!there || present->items.front().value != object.value)) {
            Result<void> put =
                co_await view->client->put(std::move(object.key), std::move(object.value));
            if (!put.ok()) co_return refused_by(*view, std::move(put).error());
        }
    }
    co_return Result<void>();
}

async::Task<Result<bool>> ControlPlaneController::ensure_tenant(Pass* pass, size_t store) {
    const Settings& settings = pass->settings;
    Result<etcd::Tenant> tenant = etcd_tenant(settings.user, settings.schema);
    if (!tenant.ok()) co_return std::move(tenant).error();
    tenant->sealed = sealed_ranges(settings);
    // Held here: the view, and the connection with it, may be replaced meanwhile.
    std::shared_ptr<const DataStoreView> view = pass->stores[store].view;
    Result<bool> ensured = co_await etcd::ensure_tenant(*view->client, *std::move(tenant));
    if (!ensured.ok()) co_return refused_by(*view, std::move(ensured).error());
    co_return *ensured;
}

// The DataStore is looked at at once, and not only when its time comes.
Error ControlPlaneController::refused_by(const DataStoreView& view, Error error) const {
    datastores_.report_failure(view.name, error);
    return std::move(error).context("set up DataStore " + view.name);
}

// What worked before does not work now: perhaps somebody, or a restored backup, took away in etcd
// what was seen there. The next pass looks again, once for each time that it ended. At a start much
// does not work yet: then only what etcd itself said counts.
void ControlPlaneController::doubt_storage(const Pass& pass, const Error& why) {
    // The API server passes it on with a code of its own.
    const bool of_etcd = why.message().find("etcdserver: ") != std::string::npos;
    const bool was_ready = controller::is_condition_true((*pass.object)["status"], kReady);
    if (!of_etcd && !was_ready) return;
    if (was_ready) {
        storage_done_[pass.settings.uid].clear();
        controller_->enqueue(kube::key_of(*pass.object));
    }
    const Error error = of_etcd ? unavailable(why.message()) : why;
    for (const Pass::Store& store : pass.stores) datastores_.report_failure(store.name, error);
}

// All Pods use the present DataStores by now.
async::Task<Result<void>> ControlPlaneController::clean_former_datastores(Pass* pass) {
    std::vector<std::string> left;
    for (const std::string& name : pass->settings.former_datastores) {
        Result<void> removed =
            co_await remove_storage_from(name, pass->settings.user, pass->settings.schema);
        if (removed.ok()) continue;
        if (removed.error().code() == Code::kCancelled) co_return std::move(removed);
        // Deleted, with all that it held.
        if (datastores_.find(name) == nullptr && !is_unseen(name)) continue;
        log_warn("a former datastore cannot be cleaned",
                 {{"control_plane", pass->settings.key()}, {"error", removed.error()}});
        left.push_back(name);
        pass->again = kRetryCleaning;
    }
    pass->former_datastores = std::move(left);
    co_return Result<void>();
}

async::Task<Result<void>> ControlPlaneController::remove_storage_from(std::string datastore,
                                                                      std::string user,
                                                                      std::string schema) {
    const DataStoreRegistry::Entry* entry = datastores_.find(datastore);
    if (entry == nullptr) {
        co_return unavailable(is_unseen(datastore) ? "it is being looked at"
                                                   : "there is no such DataStore");
    }
    if (entry->view == nullptr || entry->view->client == nullptr)
        co_return unavailable(entry->message);
    Result<etcd::Tenant> tenant = etcd_tenant(user, schema);
    if (!tenant.ok()) co_return Result<void>();  // It was never set up under such a name.
    std::shared_ptr<etcd::Client> client = entry->view->client;
    Result<int64_t> removed = co_await etcd::remove_tenant(*client, *std::move(tenant));
    if (removed.ok()) co_return Result<void>();
    datastores_.report_failure(datastore, removed.error());
    co_return std::move(removed).error();
}

}  // namespace basalt::controlplane
