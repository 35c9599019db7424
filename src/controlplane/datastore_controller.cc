#include "controlplane/datastore_controller.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/log.h"
#include "base/strings.h"
#include "controller/finalizers.h"
#include "controlplane/apply_status.h"
#include "controlplane/cache_options.h"
#include "controlplane/names.h"
#include "controlplane/resources.h"
#include "net/tls.h"

namespace basalt::controlplane {

using controller::Outcome;
using data::Value;

namespace {

// Only the content is read; an applied Secret has it a second time in an annotation.
void keep_content(Value& secret) {
    Value& meta = secret.at("metadata");
    for (const char* field : {"annotations", "labels", "ownerReferences"}) meta.erase(field);
}

bool concerns_servers(const Error& error) {
    switch (error.code()) {
        case Code::kUnavailable:
        case Code::kDeadlineExceeded:
        case Code::kResourceExhausted:
        case Code::kUnauthenticated:
        case Code::kPermissionDenied:
        case Code::kDataLoss:
        case Code::kUnknown: return true;
        default: return false;
    }
}

int64_t size_in_use(const etcd::Health& health) {
    int64_t size = 0;
    for (const etcd::EndpointHealth& endpoint : health.endpoints)
        size = std::max(size, endpoint.status.db_size_in_use);
    return size;
}

Result<std::shared_ptr<etcd::Client>> connect_etcd(async::Loop& loop,
                                                   const DataStoreMaterial& material) {
    net::TlsConfig tls;
    tls.ca_pem = material.ca_pem;
    tls.cert_pem = material.client_certificate_pem;
    tls.key_pem = material.client_key_pem;
    tls.alpn = {"h2"};
    etcd::ClientOptions options;
    options.endpoints = material.endpoints;
    BASALT_ASSIGN(options.tls, net::make_tls_client(std::move(tls)));
    BASALT_ASSIGN(std::unique_ptr<etcd::Client> client,
                  etcd::make_client(loop, std::move(options)));
    return std::shared_ptr<etcd::Client>(std::move(client));
}

}  // namespace

EtcdConnector etcd_connector(async::Loop& loop) {
    return [&loop](const DataStoreMaterial& material) { return connect_etcd(loop, material); };
}

DataStoreController::SecretWatch::SecretWatch(kube::Client& client, async::Loop& loop,
                                              kube::CacheOptions options)
    : cache(client, std::move(options)), group(loop) {}

DataStoreController::DataStoreController(controller::Manager& manager, DataStoreRegistry& registry,
                                         controller::EventRecorder& events, EtcdConnector connector,
                                         DataStoreOptions options, OnChange on_change)
    : manager_(manager),
      registry_(registry),
      events_(events),
      connector_(std::move(connector)),
      options_(std::move(options)),
      on_change_(std::move(on_change)),
      applier_(manager.client(), std::string(names::kFieldManager)),
      data_stores_(manager.cache(applied_options(data_stores()))),
      control_planes_(manager.cache(applied_options(tenant_control_planes()))) {
    controller::Controller::Options controller_options;
    controller_options.name = "datastore";
    controller_options.workers_count = options_.workers_count;
    controller_ = &manager.add_controller(
        controller_options, [this](controller::Key key) { return reconcile(std::move(key)); });
    registry_.on_failure = [this](const std::string& name, const Error& error) {
        report_failure(name, error);
    };
    controller_->watch(data_stores_, controller::spec_changed);
    controller_->watch_mapped(control_planes_,
                              [this](const kube::Change& change) { return concerned(change); });
}

DataStoreController::~DataStoreController() { registry_.on_failure = nullptr; }

// Only a control plane that comes, goes or moves changes who uses a DataStore: its other changes
// wake nobody.
std::vector<controller::Key> DataStoreController::concerned(const kube::Change& change) const {
    std::vector<std::string> before;
    std::vector<std::string> after;
    if (change.before) before = used_datastores(*change.before, options_.defaults);
    if (change.after) after = used_datastores(*change.after, options_.defaults);
    if (before == after) return {};
    std::vector<controller::Key> keys;
    for (const std::vector<std::string>* list : {&before, &after}) {
        for (const std::string& name : *list) keys.emplace_back(name);
    }
    return keys;
}

std::vector<std::string> DataStoreController::users_of(const std::string& name) const {
    std::vector<std::string> users;
    control_planes_.for_each([&](const data::SharedValue& object) {
        const std::vector<std::string> used = used_datastores(*object, options_.defaults);
        if (std::find(used.begin(), used.end(), name) != used.end())
            users.push_back(kube::key_of(*object).to_string());
    });
    std::sort(users.begin(), users.end());
    return users;
}

void DataStoreController::report_failure(const std::string& name, const Error& error) {
    auto found = states_.find(name);
    if (found == states_.end() || !concerns_servers(error)) return;
    State& state = found->second;
    if (state.suspected) return;
    state.suspected = true;
    const Duration since = manager_.loop().now() - state.checked_at;
    controller_->enqueue_after(controller::Key(name),
                               std::max(Duration(0), kSuspicionInterval - since));
}

async::Task<void> DataStoreController::stop() {
    while (!secrets_.empty()) {
        std::unique_ptr<SecretWatch> watch = std::move(secrets_.begin()->second);
        secrets_.erase(secrets_.begin());
        watch->group.cancel();
        co_await watch->group.join();
    }
}

async::Task<Result<Outcome>> DataStoreController::reconcile(controller::Key key) {
    const std::string name = key.name;
    data::SharedValue object = data_stores_.get(key);
    if (object == nullptr) {
        co_await forget(name);
        co_return Outcome();
    }
    std::vector<std::string> used_by = users_of(name);
    if (kube::is_deleting(*object) && used_by.empty()) {
        co_await forget(name);
        Result<Value> freed = co_await controller::drop_finalizer(
            manager_.client(), data_stores(), *object, std::string(names::kDataStoreFinalizer));
        if (!freed.ok()) co_return std::move(freed).error();
        co_return Outcome();
    }
    if (!kube::is_deleting(*object)) {
        Result<Value> guarded = co_await controller::ensure_finalizer(
            manager_.client(), data_stores(), *object, std::string(names::kDataStoreFinalizer));
        if (!guarded.ok()) co_return std::move(guarded).error();
    }
    Result<Outcome> outcome = co_await serve(name, object, std::move(used_by));
    co_return std::move(outcome);
}

async::Task<Result<Outcome>> DataStoreController::serve(std::string name, data::SharedValue object,
                                                        std::vector<std::string> used_by) {
    State* state = &states_[name];
    std::vector<kube::ObjectKey> wanted = referenced_secrets(*object);
    Result<void> watched = co_await watch_secrets(name, state, std::move(wanted));
    if (watched.ok()) {
        Result<void> resolved = co_await resolve(state, object);
        if (!resolved.ok()) co_return std::move(resolved).error();
    } else if (watched.error().code() == Code::kCancelled) {
        co_return std::move(watched).error();
    } else {
        state->verdict = judge_unresolved(watched.error());
        state->check_due = TimePoint();
    }
    schedule(*state);
    report(*state, *object, used_by);
    publish(name, *state);
    Result<void> written = co_await write_status(state, object, used_by);
    if (!written.ok()) co_return std::move(written).error();
    const Duration wait = state->check_due - manager_.loop().now();
    co_return controller::requeue_after(std::max(wait, options_.backoff_min));
}

// ---- Secrets
// ----------------------------------------------------------------------------------------------------

data::SharedValue DataStoreController::find_secret(const kube::ObjectKey& key) const {
    auto found = secrets_.find(key);
    return found == secrets_.end() ? nullptr : found->second->cache.get(key);
}

async::Task<Result<void>> DataStoreController::watch_secrets(std::string name, State* state,
                                                             std::vector<kube::ObjectKey> wanted) {
    std::vector<kube::ObjectKey> former = std::move(state->secrets);
    state->secrets = wanted;
    for (const kube::ObjectKey& key : former) {
        if (std::find(wanted.begin(), wanted.end(), key) == wanted.end())
            co_await release_secret(key, name);
    }
    for (const kube::ObjectKey& key : wanted) {
        std::unique_ptr<SecretWatch>& watch = secrets_[key];
        if (watch == nullptr) {
            kube::CacheOptions options(kube::resources::secrets(), key.ns);
            options.field_selector = "metadata.name=" + key.name;
            options.transform = keep_content;
            watch = std::make_unique<SecretWatch>(manager_.client(), manager_.loop(),
                                                  std::move(options));
            std::set<std::string>* users = &watch->users;
            watch->cache.add_handler([this, users](const kube::Change&) {
                for (const std::string& user : *users) controller_->enqueue(controller::Key(user));
            });
            watch->cache.start(watch->group);
        }
        watch->users.insert(name);
    }
    for (const kube::ObjectKey& key : wanted) {
        Result<void> synced = co_await wait_for_secret(key);
        if (!synced.ok()) co_return std::move(synced);
    }
    co_return Result<void>();
}

async::Task<Result<void>> DataStoreController::wait_for_secret(kube::ObjectKey key) {
    auto found = secrets_.find(key);
    if (found == secrets_.end()) co_return cancelled();
    kube::Cache* cache = &found->second->cache;
    if (cache->has_synced()) co_return Result<void>();
    Result<void> synced = co_await async::with_timeout(manager_.loop(), options_.secret_timeout,
                                                       cache->wait_synced());
    if (synced.ok() || synced.error().code() == Code::kCancelled) co_return std::move(synced);
    const std::string& why = cache->stats().last_error;
    co_return Error(Code::kUnavailable,
                    fmt::format("Secret {} cannot be read: {}", key.to_string(),
                                why.empty() ? "the API server does not answer" : why))
        .with_cause(0, "SecretUnreadable");
}

async::Task<void> DataStoreController::release_secret(kube::ObjectKey key, std::string name) {
    auto found = secrets_.find(key);
    if (found == secrets_.end()) co_return;
    found->second->users.erase(name);
    if (!found->second->users.empty()) co_return;
    std::unique_ptr<SecretWatch> watch = std::move(found->second);
    secrets_.erase(found);
    watch->group.cancel();
    co_await watch->group.join();
}

async::Task<void> DataStoreController::forget(std::string name) {
    if (registry_.find(name) != nullptr) {
        registry_.erase(name);
        log_info("datastore forgotten", {{"datastore", name}});
        on_change_(name);
    }
    auto found = states_.find(name);
    if (found == states_.end()) co_return;
    std::vector<kube::ObjectKey> keys = std::move(found->second.secrets);
    states_.erase(found);
    for (const kube::ObjectKey& key : keys) co_await release_secret(key, name);
}

// ---- the servers
// ------------------------------------------------------------------------------------------------

async::Task<Result<void>> DataStoreController::resolve(State* state, data::SharedValue object) {
    async::Loop& loop = manager_.loop();
    Result<DataStoreMaterial> material = resolve_datastore(
        *object, [this](const kube::ObjectKey& key) { return find_secret(key); }, loop.wall_now());
    Result<std::shared_ptr<etcd::Client>> client = std::shared_ptr<etcd::Client>();
    const bool fresh =
        material.ok() && (state->view == nullptr || state->identity != material->identity);
    if (fresh) client = connector_(*material);
    if (!material.ok() || !client.ok()) {
        const Error& error = material.ok() ? client.error() : material.error();
        state->verdict = judge_unresolved(error);
        state->view = nullptr;
        state->identity.clear();
        state->backoff = Duration(0);
        state->check_due = TimePoint();
        co_return Result<void>();
    }
    if (fresh) {
        auto view = std::make_shared<DataStoreView>();
        view->name = std::string(kube::name_of(*object));
        view->driver = "etcd";
        view->endpoints = material->endpoints;
        view->ca_pem = material->ca_pem;
        view->ca_key_pem = material->ca_key_pem;
        (*client)->set_write_guard([this] { return manager_.check_leading(); });
        view->client = *client;
        state->view = std::move(view);
        state->identity = material->identity;
        state->check_due = TimePoint();
    }
    const bool known = state->verdict.resolved && !state->suspected;
    if (known && loop.now() < state->check_due) co_return Result<void>();
    Result<void> checked = co_await check(state, material->notice, object);
    co_return std::move(checked);
}

async::Task<Result<void>> DataStoreController::check(State* state, std::string notice,
                                                     data::SharedValue object) {
    async::Loop& loop = manager_.loop();
    std::shared_ptr<etcd::Client> client = state->view->client;
    state->suspected = false;
    Result<etcd::Health> health = co_await async::with_timeout(loop, options_.check_timeout,
                                                               etcd::check_health(loop, *client));
    state->checked_at = loop.now();
    if (!health.ok() && health.error().code() == Code::kCancelled)
        co_return std::move(health).error();
    if (health.ok() && health->no_space) {
        Result<bool> relieved = co_await relieve(state, *health, object);
        if (!relieved.ok()) co_return std::move(relieved).error();
        if (*relieved) {
            health = co_await async::with_timeout(loop, options_.check_timeout,
                                                  etcd::check_health(loop, *client));
            if (!health.ok() && health.error().code() == Code::kCancelled)
                co_return std::move(health).error();
        }
    }
    state->verdict = judge_health(health, notice);
    state->check_due = TimePoint();
    co_return Result<void>();
}

// True when the alarm was cleared. Not being able to is no failure of the pass: the verdict says
// NoSpace.
async::Task<Result<bool>> DataStoreController::relieve(State* state, etcd::Health health,
                                                       data::SharedValue object) {
    async::Loop& loop = manager_.loop();
    const int64_t in_use = size_in_use(health);
    // Somebody deleted things: the time to try is now.
    const bool shrunk = in_use < state->relief_size_in_use - state->relief_size_in_use / 20;
    if (!shrunk && loop.now() < state->relief_due) co_return false;
    // What was freed lasted for a while: this is another alarm. One that comes back at once is the
    // same: then it is full, and says so, instead of pausing the servers at every look.
    if (state->relieved && loop.now() - state->relief_due > state->relief_backoff)
        state->relief_backoff = Duration(0);
    std::shared_ptr<etcd::Client> client = state->view->client;
    Result<etcd::SpaceRelief> relief = co_await etcd::relieve_space(*client);
    if (!relief.ok() && relief.error().code() == Code::kCancelled)
        co_return std::move(relief).error();
    const bool cleared = relief.ok() && relief->alarm_cleared;
    log_info("datastore has no space left",
             {{"datastore", kube::name_of(*object)},
              {"alarm_cleared", cleared},
              {"error", relief.ok() ? std::string() : relief.error().to_string()}});
    state->relieved = cleared;
    state->relief_backoff = state->relief_backoff == Duration(0)
                                ? options_.relief_backoff_min
                                : std::min(2 * state->relief_backoff, options_.relief_backoff_max);
    state->relief_due = loop.now() + state->relief_backoff;
    state->relief_size_in_use = in_use;
    if (cleared) {
        events_.record(
            *object, controller::Severity::kNormal, "SpaceFreed",
            fmt::format("The largest member takes {} of {} now; the alarm NOSPACE is cleared",
                        format_size(relief->db_size), format_size(relief->db_quota)));
    }
    co_return cleared;
}

// Sets check_due after a pass that looked at the servers, or could not.
void DataStoreController::schedule(State& state) {
    async::Loop& loop = manager_.loop();
    if (state.check_due != TimePoint()) return;
    if (state.verdict.ready) {
        state.backoff = Duration(0);
        state.check_due = loop.now() + options_.healthy_interval;
        return;
    }
    // What is wrong in the spec or a Secret is mended by a change, which comes by watch;
    // certificates that are not valid yet become so.
    if (!state.verdict.resolved && state.verdict.reason != "SecretUnreadable") {
        state.check_due = loop.now() + options_.healthy_interval;
        return;
    }
    state.backoff = state.backoff == Duration(0)
                        ? options_.backoff_min
                        : std::min(2 * state.backoff, options_.backoff_max);
    // Up to a fifth more, so that several do not beat in time.
    const int64_t jitter =
        static_cast<int64_t>(loop.random() % 1000) * (state.backoff.count() / 5000);
    state.check_due = loop.now() + state.backoff + Duration(jitter);
}

// ---- what others see
// --------------------------------------------------------------------------------------------

void DataStoreController::publish(const std::string& name, const State& state) {
    const DataStoreRegistry::Entry* before = registry_.find(name);
    DataStoreRegistry::Entry entry;
    entry.view = state.view;
    entry.ready = state.verdict.ready;
    entry.reason = state.verdict.reason;
    entry.message = state.verdict.message;
    const bool same = before != nullptr && before->view == entry.view &&
                      before->ready == entry.ready &&
                      (entry.ready || before->reason == entry.reason);
    registry_.set(name, std::move(entry));
    if (!same) on_change_(name);
}

void DataStoreController::report(const State& state, const Value& object,
                                 const std::vector<std::string>& used_by) {
    const Value& before = controller::find_condition(object["status"], "Ready");
    const Verdict& verdict = state.verdict;
    const bool was_ready = before["status"].as_string() == controller::kTrue;
    if (verdict.ready && !was_ready) {
        events_.record(object, controller::Severity::kNormal, "Ready", verdict.message);
    }
    if (!verdict.ready && (was_ready || before["reason"].as_string() != verdict.reason)) {
        events_.record(object, controller::Severity::kWarning, verdict.reason, verdict.message);
        log_warn("datastore is not ready", {{"datastore", kube::name_of(object)},
                                            {"reason", verdict.reason},
                                            {"message", verdict.message}});
    }
    if (verdict.insecure && !controller::is_condition_true(object["status"], kInsecure)) {
        events_.record(object, controller::Severity::kWarning, "Insecure",
                       verdict.insecure_message);
    }
    auto found = states_.find(std::string(kube::name_of(object)));
    if (found != states_.end()) note_deletion(found->second, object, used_by);
}

void DataStoreController::note_deletion(State& state, const Value& object,
                                        const std::vector<std::string>& used_by) {
    if (!kube::is_deleting(object)) return;
    std::string note =
        fmt::format("Not deleted while control planes keep state in it: {}", join(used_by, ", "));
    if (note == state.deletion_note) return;
    events_.record(object, controller::Severity::kWarning, "DataStoreStillUsed", note, "Delete");
    state.deletion_note = std::move(note);
}

async::Task<Result<void>> DataStoreController::write_status(const State* state,
                                                            data::SharedValue object,
                                                            std::vector<std::string> used_by) {
    DataStoreStatusInputs inputs;
    inputs.object = object.get();
    inputs.verdict = state->verdict;
    inputs.used_by = std::move(used_by);
    inputs.now = manager_.loop().wall_now();
    Value status = build_datastore_status(inputs);
    Result<data::SharedValue> applied =
        co_await apply_status(applier_, data_stores_, object, std::move(status));
    if (!applied.ok()) co_return std::move(applied).error();
    co_return Result<void>();
}

}  // namespace basalt::controlplane
