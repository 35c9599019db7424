#include "controlplane/control_plane_controller.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/log.h"
#include "controller/finalizers.h"
#include "controlplane/apply_status.h"
#include "controlplane/cache_options.h"
#include "controlplane/datastore_plan.h"
#include "controlplane/diagnosis.h"
#include "controlplane/metrics.h"
#include "controlplane/names.h"
#include "controlplane/pass.h"
#include "data/hash.h"

namespace basalt::controlplane {

using controller::Outcome;
using data::Value;

namespace {

// How soon a step that no watch ends is tried again: endpoints of a Service and leadership in the
// tenant.
constexpr Duration kSoon = std::chrono::milliseconds(200);
// The longer it has lasted, the less a moment more matters: a tenth of it, up to this.
constexpr Duration kSoonAtMost = std::chrono::seconds(10);

// For a control plane whose Pods serve and whose cluster is not in place yet: when to look again.
// Its status says since when both are so; the first pass in which they are has nothing to go by.
Duration look_again(const Value& status, WallTime now) {
    const Value& pods = controller::find_condition(status, kPodsReady);
    const Value& cluster = controller::find_condition(status, kClusterReady);
    if (pods["status"].as_string() != controller::kTrue ||
        cluster["status"].as_string() == controller::kTrue)
        return kSoon;
    WallTime::duration waited = WallTime::duration::max();
    for (const Value* condition : {&pods, &cluster}) {
        Result<WallTime> since = parse_rfc3339((*condition)["lastTransitionTime"].as_string());
        if (!since.ok()) return kSoon;
        waited = std::min(waited, now - *since);
    }
    return std::clamp(waited / 10, wall_duration(kSoon), wall_duration(kSoonAtMost));
}

// Of Pods only what they say of themselves: the rest is the Deployment's template again.
kube::CacheOptions pod_options() {
    kube::CacheOptions options(kube::resources::pods());
    options.label_selector = owned_selector();
    options.variant = "status";
    options.transform = [](Value& pod) { pod.erase("spec"); };
    return options;
}

// Of nodes only the number of cores is of interest, and it hardly ever changes.
kube::CacheOptions node_options() {
    kube::CacheOptions options(kube::resources::nodes());
    options.variant = "allocatable";
    options.transform = [](Value& node) {
        Value cpu = node["status"]["allocatable"]["cpu"];
        Value kept = Value::object({{"metadata", node["metadata"]}});
        kept.at("status").at("allocatable").set("cpu", std::move(cpu));
        node = std::move(kept);
    };
    return options;
}

const std::vector<kube::Resource>& owned_resources() {
    static const std::vector<kube::Resource> resources = {kube::resources::secrets(),
                                                          kube::resources::config_maps(),
                                                          kube::resources::services(),
                                                          kube::resources::deployments(),
                                                          kube::resources::pod_disruption_budgets(),
                                                          kube::resources::network_policies()};
    return resources;
}

// Of the only Pod there is, while it starts and its API server's container runs; "" otherwise.
std::string address_of_starting(const std::vector<data::SharedValue>& pods) {
    if (pods.size() != 1) return {};
    const Value& pod = *pods.front();
    if (kube::is_deleting(pod)) return {};
    for (const Value& status : pod["status"]["containerStatuses"].items()) {
        if (status["name"].as_string() == "kube-apiserver" && !status["state"]["running"].empty())
            return pod["status"]["podIP"].str();
    }
    return {};
}

bool has_container(const Value& deployment, std::string_view name) {
    for (const Value& container : deployment["spec"]["template"]["spec"]["containers"].items()) {
        if (container["name"].as_string() == name) return true;
    }
    return false;
}

controller::Key key_by_label(const Value& object) {
    return controller::Key(std::string(kube::namespace_of(object)),
                           std::string(kube::label_of(object, names::kNameLabel)));
}

}  // namespace

ControlPlaneController::ControlPlaneController(controller::Manager& manager,
                                               DataStoreRegistry& datastores, pki::KeySource& keys,
                                               controller::EventRecorder& events,
                                               TenantConnector connector,
                                               ControlPlaneOptions options)
    : manager_(manager),
      datastores_(datastores),
      keys_(keys),
      events_(events),
      connector_(std::move(connector)),
      options_(std::move(options)),
      applier_(manager.client(), std::string(names::kFieldManager)),
      control_planes_(manager.cache(applied_options(tenant_control_planes()))),
      data_stores_(manager.cache(applied_options(data_stores()))),
      pods_(manager.cache(pod_options())),
      nodes_(manager.cache(node_options())) {
    controller::Controller::Options controller_options;
    controller_options.name = "tenantcontrolplane";
    controller_options.workers_count = options_.workers_count;
    controller_ = &manager.add_controller(
        controller_options, [this](controller::Key key) { return reconcile(std::move(key)); });
    // Not what we write into the status ourselves: a pass that fails would begin anew at once.
    controller_->watch(control_planes_, controller::spec_changed);
    auto by_label = [](const kube::Change& change) {
        return std::vector<controller::Key>{key_by_label(change.object())};
    };
    for (const kube::Resource& resource : owned_resources()) {
        kube::Cache& cache = manager.cache(owned_options(resource));
        owned_[resource.kind] = &cache;
        controller_->watch_mapped(cache, by_label);
    }
    controller_->watch_mapped(pods_, by_label);
    nodes_.add_handler([this](const kube::Change&) { count_cores(); });
    // Who waits for a look at it does so in vain; all else is told by datastore_changed().
    data_stores_.add_handler([this](const kube::Change& change) {
        if (!change.after) datastore_changed(std::string(kube::name_of(change.object())));
    });
    // Sessions write on their own, too: they must have ended before another process may lead.
    manager.add_farewell([this] { return stop(); });
}

ControlPlaneController::~ControlPlaneController() = default;

void ControlPlaneController::datastore_changed(const std::string& name) {
    control_planes_.for_each([&](const data::SharedValue& object) {
        const std::vector<std::string> used = used_datastores(*object, options_.defaults);
        const bool concerned = std::find(used.begin(), used.end(), name) != used.end() ||
                               (*object)["spec"]["dataStore"].as_string() == name;
        if (concerned) controller_->enqueue(kube::key_of(*object));
    });
}

async::Task<void> ControlPlaneController::stop() {
    while (!sessions_.empty()) {
        std::string key = sessions_.begin()->first;
        co_await drop_session(std::move(key));
    }
}

async::Task<void> ControlPlaneController::drop_session(std::string key) {
    auto found = sessions_.find(key);
    if (found == sessions_.end()) co_return;
    std::shared_ptr<TenantSession> session = found->second;
    sessions_.erase(found);
    co_await session->stop();
}

async::Task<Result<Outcome>> ControlPlaneController::reconcile(controller::Key key) {
    data::SharedValue object = control_planes_.get(key);
    if (object == nullptr) {
        free_slot(key.to_string());
        co_await drop_session(key.to_string());
        co_return Outcome();
    }
    Pass pass;
    pass.object = object;
    Result<Settings> settings = read_settings(*object, options_.defaults);
    pass.readable = settings.ok();
    if (settings.ok()) {
        pass.settings = *std::move(settings);
        if (pass.settings.paused) co_return Outcome();
    } else if (!kube::is_deleting(*object)) {
        pass.stop(kDataStoreReady, "InvalidSpec", settings.error().message());
        Result<void> written = co_await write_status(&pass);
        if (!written.ok()) co_return std::move(written).error();
        co_return Outcome();
    }
    Result<Outcome> outcome = co_await run(&pass);
    co_return std::move(outcome);
}

async::Task<Result<Outcome>> ControlPlaneController::run(Pass* pass) {
    if (kube::is_deleting(*pass->object)) {
        Result<Outcome> finalized = co_await finalize(pass);
        co_return std::move(finalized);
    }
    Result<Value> guarded = co_await controller::ensure_finalizer(
        manager_.client(), tenant_control_planes(), *pass->object, std::string(names::kFinalizer));
    if (!guarded.ok()) co_return std::move(guarded).error();

    // As they are, whichever step has to wait.
    const kube::ObjectKey key = kube::key_of(*pass->object);
    pass->deployment = owned_.at("Deployment")->get(key);
    pass->service = owned_.at("Service")->get(key);
    note_rotations(pass);
    Result<bool> went = co_await run_steps(pass);
    if (pass->knows_nothing) co_return Outcome();
    Result<void> written = co_await write_status(pass);
    if (!went.ok()) co_return std::move(went).error();
    if (!written.ok()) co_return std::move(written).error();
    if (pass->again) co_return controller::requeue_after(*pass->again);
    co_return Outcome();
}

ControlPlaneController::Step ControlPlaneController::run_steps(Pass* pass) {
    using Method = Step (ControlPlaneController::*)(Pass*);
    static constexpr Method kMethods[] = {
        &ControlPlaneController::check_datastore, &ControlPlaneController::ensure_endpoint,
        &ControlPlaneController::ensure_certificates, &ControlPlaneController::ensure_pods,
        &ControlPlaneController::ensure_cluster};
    static_assert(std::size(kMethods) == std::size(kSteps));
    for (size_t i = 0; i < std::size(kSteps); ++i) {
        const StepName& step = kSteps[i];
        const Method method = kMethods[i];
        HandlerTimer timer(manager_, step.handler);
        Result<bool> go_on = co_await (this->*method)(pass);
        if (!go_on.ok()) pass->fail(step.condition, go_on.error());
        if (!go_on.ok() || !*go_on) co_return std::move(go_on);
    }
    co_return true;
}

ControlPlaneController::Step ControlPlaneController::ensure_endpoint(Pass* pass) {
    Value intent = build_service(pass->settings);
    Result<void> applied = co_await apply_one(pass, std::move(intent));
    if (!applied.ok()) co_return std::move(applied).error();
    Result<std::optional<Endpoint>> endpoint = find_endpoint(pass->settings, *pass->service);
    if (!endpoint.ok()) {
        co_return pass->stop(kEndpointReady, "AddressMissing", endpoint.error().message());
    }
    if (!endpoint->has_value()) {
        co_return pass->stop(
            kEndpointReady, "WaitingForAddress",
            fmt::format("Service {} has no address yet: is there a load balancer in the "
                        "management cluster?",
                        pass->settings.name));
    }
    pass->endpoint = **endpoint;
    pass->progress.done(kEndpointReady, "Assigned", pass->endpoint->host_port());
    co_return true;
}

// What is not in the cache may also be without our label: a CA that somebody brought along, a
// Deployment whose labels somebody removed. Null when there is none.
async::Task<Result<data::SharedValue>> ControlPlaneController::find_owned(kube::Resource resource,
                                                                          kube::ObjectKey key) {
    data::SharedValue cached = owned_.at(resource.kind)->get(key);
    if (cached != nullptr) co_return cached;
    kube::GetOptions options;
    Result<Value> found = co_await manager_.client().get(resource, key, options);
    if (found.ok()) co_return std::make_shared<const Value>(*std::move(found));
    if (found.error().code() != Code::kNotFound) co_return std::move(found).error();
    co_return data::SharedValue();
}

Surroundings ControlPlaneController::surroundings_of(const Pass& pass) const {
    const std::string& name = pass.settings.name;
    auto checksum_of = [&](const std::string& secret) {
        auto found = pass.checksums.find(secret);
        return found == pass.checksums.end() ? std::string() : found->second;
    };
    Surroundings out;
    out.etcd_endpoints = pass.datastore->endpoints;
    out.override_endpoints = pass.override_endpoints;
    out.datastore_name = pass.settings.datastore;
    for (const names::SecretName& secret : names::kSecrets) {
        if (!secret.pod_label.empty())
            out.secret_checksums[std::string(secret.pod_label)] = checksum_of(secret(name));
    }
    out.datastore_config_checksum = checksum_of(names::datastore_config(name));
    out.datastore_certificate_checksum = checksum_of(names::datastore_certificate(name));
    if (pass.settings.tunnel)
        out.tunnel_kubeconfig_checksum = checksum_of(names::tunnel_kubeconfig(name));
    out.tunnel_image = options_.image;
    out.protected_ranges = options_.protected_ranges;
    out.dns_addresses = options_.dns_addresses;
    if (pass.deployment) out.existing_selector = (*pass.deployment)["spec"]["selector"];
    return out;
}

std::vector<Value> ControlPlaneController::plan_pods(Pass* pass, const Surroundings& surroundings,
                                                     Value workload) const {
    const Settings& settings = pass->settings;
    std::vector<Value> intents = {
        build_kubeadm_config(settings, *pass->endpoint), build_egress_selector(settings),
        build_network_policy(settings, surroundings), std::move(workload)};
    Value budget = build_disruption_budget(settings);
    if (!budget.is_null()) intents.push_back(std::move(budget));
    for (const Value& intent : intents) {
        if (intent["kind"].as_string() != "ConfigMap") continue;
        pass->checksums[std::string(kube::name_of(intent))] =
            intent["metadata"]["annotations"][names::kChecksumAnnotation].str();
    }
    return intents;
}

ControlPlaneController::Step ControlPlaneController::ensure_pods(Pass* pass) {
    const Settings& settings = pass->settings;
    kube::ObjectKey key(settings.namespace_name, settings.name);
    pass->deployment = owned_.at("Deployment")->get(key);
    const Surroundings surroundings = surroundings_of(*pass);
    Value workload = build_deployment(settings, *pass->endpoint, surroundings);
    if (!may_start(pass, workload)) co_return false;
    std::vector<Value> intents = plan_pods(pass, surroundings, std::move(workload));
    // What the Deployment still shows, before it is changed.
    const data::SharedValue before = pass->deployment;
    const bool had_budget = before != nullptr && (*before)["spec"]["replicas"].as_int(1) > 1;
    const bool had_tunnel = before != nullptr && has_container(*before, "konnectivity-server");
    Result<void> removed = co_await remove_budget(pass, had_budget);
    if (!removed.ok()) co_return std::move(removed).error();
    Result<void> applied = co_await apply_all(pass, std::move(intents));
    if (!applied.ok()) co_return std::move(applied).error();
    removed = co_await remove_tunnel_secrets(pass, had_tunnel);
    if (!removed.ok()) co_return std::move(removed).error();
    Result<bool> serving = co_await judge_pods(pass);
    co_return std::move(serving);
}

async::Task<Result<void>> ControlPlaneController::remove_budget(Pass* pass, bool was_wanted) {
    if (pass->settings.deployment.replicas >= 2) co_return Result<void>();
    Result<void> removed = co_await remove_unwanted(pass, kube::resources::pod_disruption_budgets(),
                                                    pass->settings.name, was_wanted);
    co_return std::move(removed);
}

async::Task<Result<void>> ControlPlaneController::remove_tunnel_secrets(Pass* pass,
                                                                        bool was_wanted) {
    if (pass->settings.tunnel) co_return Result<void>();
    static constexpr names::SecretName kTunnelSecrets[] = {names::tunnel_certificate,
                                                           names::tunnel_kubeconfig};
    for (const names::SecretName& known : kTunnelSecrets) {
        std::string secret = known(pass->settings.name);
        Result<void> removed = co_await remove_unwanted(pass, kube::resources::secrets(),
                                                        std::move(secret), was_wanted);
        if (!removed.ok()) co_return std::move(removed);
    }
    co_return Result<void>();
}

ControlPlaneController::Step ControlPlaneController::judge_pods(Pass* pass) {
    const Settings& settings = pass->settings;
    if (settings.asleep()) {
        free_slot(settings.key());
        co_await drop_session(settings.key());
        pass->progress.done(kPodsReady, "Sleeping");
        co_return false;
    }
    if (!rollout_finished(*pass->deployment)) {
        doubt_storage(*pass, unavailable("the API server is not ready"));
        std::vector<data::SharedValue> pods =
            pods_.list(settings.namespace_name,
                       kube::LabelSelector::equals(std::string(names::kNameLabel), settings.name));
        co_await prepare_cluster(pass, pods);
        Diagnosis diagnosis = diagnose_pods(*pass->deployment, pods);
        co_return pass->stop(kPodsReady, diagnosis.reason, diagnosis.message);
    }
    pass->progress.done(kPodsReady, "Serving");
    Result<void> cleaned = co_await clean_former_datastores(pass);
    if (!cleaned.ok()) co_return std::move(cleaned).error();
    co_return true;
}

// An object that an earlier spec asked for and this one does not. Where it surely was wanted before
// this pass it is looked for even without our label, by which caches know it.
async::Task<Result<void>> ControlPlaneController::remove_unwanted(Pass* pass,
                                                                  kube::Resource resource,
                                                                  std::string name,
                                                                  bool was_wanted) {
    const Settings& settings = pass->settings;
    kube::ObjectKey key(settings.namespace_name, std::move(name));
    data::SharedValue live = owned_.at(resource.kind)->get(key);
    if (live == nullptr && was_wanted) {
        Result<data::SharedValue> found = co_await find_owned(resource, std::move(key));
        if (!found.ok()) co_return std::move(found).error();
        live = *found;
    }
    if (live == nullptr || !kube::is_owned_by(*live, settings.uid)) co_return Result<void>();
    kube::DeleteOptions options;
    Result<bool> removed = co_await applier_.remove(resource, live, options);
    if (!removed.ok()) co_return std::move(removed).error();
    co_return Result<void>();
}

async::Task<Result<std::shared_ptr<TenantSession>>> ControlPlaneController::session_of(
    Pass* pass, std::string host) {
    const Settings& settings = pass->settings;
    const std::string key = settings.key();
    const std::string admin = names::admin_kubeconfig(settings.name);
    Endpoint inside{host, host, settings.network.port};
    TenantSession::Identity identity{"https://" + inside.host_port(), pass->checksums.at(admin)};
    auto found = sessions_.find(key);
    if (found != sessions_.end() && found->second->identity() == identity) co_return found->second;
    std::string server_name = fmt::format("{}.{}.svc", settings.name, settings.namespace_name);
    Result<std::shared_ptr<net::HttpTransport>> transport =
        connector_(identity.server, server_name, pass->key_material(admin));
    if (found != sessions_.end()) {
        std::shared_ptr<TenantSession> session = found->second;
        const bool same_tenant = session->identity().credentials == identity.credentials;
        if (transport.ok() && same_tenant && session->is_preparing()) {
            session->reroute(*std::move(transport), identity.server);
            co_return session;
        }
        co_await drop_session(key);
    }
    if (!transport.ok()) co_return std::move(transport).error();
    controller::Key tcp_key(settings.namespace_name, settings.name);
    auto session = std::make_shared<TenantSession>(
        manager_.loop(), *std::move(transport), std::move(identity),
        [this, tcp_key](Duration delay) {
            controller_->enqueue_after(tcp_key, delay, controller::Priority::kNormal);
        });
    session->client().set_write_guard([this] { return manager_.check_leading(); });
    sessions_[key] = session;
    co_return session;
}

Result<std::vector<Value>> ControlPlaneController::tenant_objects_of(const Pass& pass) const {
    TenantInputs inputs;
    inputs.ca_certificate_pem = pass.key_material(names::ca(pass.settings.name)).at("ca.crt");
    inputs.endpoint = *pass.endpoint;
    inputs.tunnel_image = options_.image;
    return build_tenant_objects(pass.settings, inputs);
}

// The first API server of a start answers a second before its Pod is Ready and the Service leads to
// it. What belongs into the tenant's cluster is written meanwhile, by the Pod's own address.
// Nothing depends on it: what does not succeed here is done by ensure_cluster().
async::Task<void> ControlPlaneController::prepare_cluster(Pass* pass,
                                                          std::vector<data::SharedValue> pods) {
    if (!slots_.holds(pass->settings.key())) co_return;
    std::string address = address_of_starting(pods);
    if (address.empty()) co_return;
    Result<std::vector<Value>> objects = tenant_objects_of(*pass);
    if (!objects.ok()) co_return;
    Result<std::shared_ptr<TenantSession>> session = co_await session_of(pass, address);
    if (!session.ok()) co_return;
    if ((*session)->is_preparing()) (*session)->work_ahead(*std::move(objects));
}

ControlPlaneController::Step ControlPlaneController::ensure_cluster(Pass* pass) {
    Result<std::vector<Value>> objects = tenant_objects_of(*pass);
    if (!objects.ok())
        co_return pass->stop(kClusterReady, "InvalidSpec", objects.error().message());
    uint64_t content = data::hash(Value(data::Array(*objects)));

    std::string host = (*pass->service)["spec"]["clusterIP"].str();
    Result<std::shared_ptr<TenantSession>> session = co_await session_of(pass, std::move(host));
    if (!session.ok()) co_return std::move(session).error();
    std::shared_ptr<TenantSession> tenant = *session;
    const Value& status = (*pass->object)["status"];
    const bool was_ready = controller::is_condition_true(status, kClusterReady);
    Result<TenantSession::State> state = co_await tenant->ensure(*std::move(objects), !was_ready);
    const Duration soon = look_again(status, manager_.loop().wall_now());
    if (!state.ok()) {
        const Error& error = state.error();
        doubt_storage(*pass, error);
        if (error.retriable() || error.code() == Code::kNotFound) {
            // Right after a start: the Service's rules, or the tenant's own namespaces, are not
            // there yet.
            pass->again = soon;
            co_return pass->stop(kClusterReady, "WaitingForCluster", error.message());
        }
        if (error.reason() != TenantSession::kTooManyObjects) co_return std::move(state).error();
        pass->again = soon;
        co_return pass->stop(kClusterReady, error.reason(), error.message());
    }
    if (*state == TenantSession::State::kUnsigned) {
        pass->again = soon;
        co_return pass->stop(kClusterReady, "WaitingForControllerManager",
                             "The controller manager does not yet sign tokens for joining nodes");
    }
    if (*state == TenantSession::State::kUnderWay && !was_ready) {
        co_return pass->stop(kClusterReady, "WaitingForCluster",
                             "The tenant's API server takes long to answer");
    }
    // What was true stays so until the outcome of work that takes long is known.
    if (*state == TenantSession::State::kInPlace) pass->tenant_checksum = data::hash_hex(content);
    pass->progress.done(kClusterReady, "InPlace");
    free_slot(pass->settings.key());
    co_return true;
}

kube::Cache& ControlPlaneController::cache_of(const Value& intent) {
    return *owned_.at(intent["kind"].str());
}

async::Task<Result<void>> ControlPlaneController::apply_one(Pass* pass, Value intent) {
    kube::Cache& cache = cache_of(intent);
    const kube::Resource resource = cache.options().resource;
    std::string what = kube::describe(intent);
    data::SharedValue live = cache.get(kube::key_of(intent));
    Result<void> adopted = co_await adopt(resource, live);
    if (!adopted.ok()) co_return std::move(adopted).error().context("adopt " + what);
    kube::WriteOptions options;
    Result<controller::Applied> applied = co_await applier_.apply(resource, intent, live, options);
    if (!applied.ok()) co_return std::move(applied).error().context("apply " + what);
    if (applied->written) cache.observe_write(*applied->object);
    if (resource.kind == "Service") pass->service = applied->object;
    if (resource.kind == "Deployment") pass->deployment = applied->object;
    co_return Result<void>();
}

// Objects that another program made under our names: its entries in managedFields become ours, so
// that fields that we do not want, now or later, go away. Once an object: then we are among its
// managers.
async::Task<Result<void>> ControlPlaneController::adopt(kube::Resource resource,
                                                        data::SharedValue live) {
    static const std::vector<std::string> kPredecessors = {"kamaji", "manager"};
    if (live == nullptr || !controller::owned_fields(*live, names::kFieldManager, "").is_null()) {
        co_return Result<void>();
    }
    kube::GetOptions get_options;
    kube::ObjectKey key = kube::key_of(*live);
    // The cache keeps our entries only.
    Result<Value> complete = co_await manager_.client().get(resource, key, get_options);
    if (!complete.ok()) {
        if (complete.error().code() == Code::kNotFound) co_return Result<void>();
        co_return std::move(complete).error();
    }
    Value operations =
        controller::take_over_managers(*complete, kPredecessors, names::kFieldManager);
    if (operations.empty()) co_return Result<void>();
    kube::WriteOptions options;
    Result<Value> patched =
        co_await manager_.client().json_patch(resource, key, operations, options);
    if (!patched.ok()) co_return std::move(patched).error();
    log_info("adopted", {{"object", kube::describe(*live)}});
    co_return Result<void>();
}

async::Task<Result<void>> ControlPlaneController::apply_all(Pass* pass,
                                                            std::vector<Value> intents) {
    std::vector<async::Task<Result<void>>> writes;
    for (Value& intent : intents) writes.push_back(apply_one(pass, std::move(intent)));
    Result<void> done = co_await async::join_all(manager_.loop(), std::move(writes));
    co_return std::move(done);
}

void ControlPlaneController::report(const Pass& pass) {
    const controller::Condition* failure = pass.progress.first_failure();
    const Value& before = controller::find_condition((*pass.object)["status"], kReady);
    if (failure == nullptr) {
        if (pass.progress.all_done() && before["status"].as_string() != controller::kTrue) {
            events_.record(*pass.object, controller::Severity::kNormal, "Ready", "Nodes can join");
        }
        return;
    }
    if (before["reason"].as_string() == failure->reason &&
        before["message"].as_string() == failure->message)
        return;
    bool waiting = failure->reason.starts_with("Waiting") || failure->reason == "Starting";
    events_.record(*pass.object,
                   waiting ? controller::Severity::kNormal : controller::Severity::kWarning,
                   failure->reason, failure->message);
}

async::Task<Result<void>> ControlPlaneController::write_status(Pass* pass) {
    StatusInputs inputs;
    inputs.previous = pass->object.get();
    inputs.settings = pass->readable ? &pass->settings : nullptr;
    inputs.progress = pass->progress;
    inputs.endpoint = pass->endpoint;
    if (pass->service) inputs.service = *pass->service;
    if (pass->deployment) inputs.deployment = *pass->deployment;
    if (pass->datastore) inputs.datastore_driver = pass->datastore->driver;
    inputs.checksums = pass->checksums;
    inputs.tenant_objects_checksum = pass->tenant_checksum;
    inputs.former_datastores = pass->former_datastores;
    inputs.write_limits = pass->write_limits;
    inputs.now = manager_.loop().wall_now();
    Value status = build_status(inputs);
    report(*pass);
    Result<void> applied = co_await put_status(pass, std::move(status));
    co_return applied;
}

async::Task<Result<void>> ControlPlaneController::put_status(Pass* pass, Value status) {
    Result<data::SharedValue> applied =
        co_await apply_status(applier_, control_planes_, pass->object, std::move(status));
    if (!applied.ok()) co_return std::move(applied).error();
    pass->object = *applied;
    co_return Result<void>();
}

}  // namespace basalt::controlplane
