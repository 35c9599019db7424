#include "controlplane/kubeconfig_generator.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "base/log.h"
#include "base/strings.h"
#include "controller/conditions.h"
#include "controlplane/apply_status.h"
#include "controlplane/cache_options.h"
#include "controlplane/names.h"
#include "controlplane/status.h"

namespace basalt::controlplane {

using controller::Outcome;
using data::Value;

namespace {

bool labels_changed(const kube::Change& change) {
    return !change.before || !change.after ||
           !((*change.before)["metadata"]["labels"] == (*change.after)["metadata"]["labels"]);
}

// What every generator looks at of a control plane.
bool control_plane_changed(const kube::Change& change) {
    if (labels_changed(change)) return true;
    const Value& before = *change.before;
    const Value& after = *change.after;
    return kube::generation_of(before) != kube::generation_of(after) ||
           kube::is_deleting(before) != kube::is_deleting(after) ||
           !(before["metadata"]["annotations"] == after["metadata"]["annotations"]) ||
           !(before["status"]["controlPlaneEndpoint"] == after["status"]["controlPlaneEndpoint"]);
}

// fromDefinition may name any field, those of the status, too.
bool user_changed(const Value& generator, const kube::Change& change) {
    const Result<GeneratedUser> before = generated_user(generator, *change.before);
    const Result<GeneratedUser> after = generated_user(generator, *change.after);
    if (!before.ok() || !after.ok()) return before.ok() || after.ok();
    return before->name != after->name || before->groups != after->groups;
}

kube::CacheOptions metadata_of(const kube::Resource& resource) {
    kube::CacheOptions options(resource);
    options.metadata_only = true;
    return options;
}

// A missing selector selects everything, as it does for Kamaji.
Result<kube::LabelSelector> read_selector(const Value& spec, const char* field) {
    if (spec[field].is_null()) return kube::LabelSelector();
    Result<kube::LabelSelector> parsed = kube::LabelSelector::from_value(spec[field]);
    if (!parsed.ok()) return std::move(parsed).error().context(fmt::format("spec.{}", field));
    return parsed;
}

}  // namespace

KubeconfigGeneratorController::KubeconfigGeneratorController(controller::Manager& manager,
                                                             pki::KeySource& keys,
                                                             controller::EventRecorder& events)
    : manager_(manager),
      keys_(keys),
      events_(events),
      applier_(manager.client(), std::string(names::kFieldManager)),
      generators_(manager.cache(applied_options(kubeconfig_generators()))),
      control_planes_(manager.cache(applied_options(tenant_control_planes()))),
      namespaces_(manager.cache(metadata_of(kube::resources::namespaces()))),
      own_secrets_(manager.cache(owned_options(kube::resources::secrets()))),
      generated_(manager.cache(
          applied_options(kube::resources::secrets(), std::string(kManagedByLabel)))) {
    controller::Controller::Options options;
    options.name = "kubeconfiggenerator";
    controller_ = &manager.add_controller(
        options, [this](controller::Key key) { return reconcile(std::move(key)); });
    watch_sources();
}

KubeconfigGeneratorController::~KubeconfigGeneratorController() = default;

void KubeconfigGeneratorController::watch_sources() {
    auto to_all = [this](const kube::Change&) { return all_generators(); };
    controller_->watch(generators_, controller::spec_changed);
    controller_->watch_mapped(control_planes_,
                              [this](const kube::Change& change) { return concerned(change); });
    controller_->watch_mapped(namespaces_, to_all, labels_changed);
    controller_->watch_mapped(own_secrets_, to_all, [](const kube::Change& change) {
        const std::string_view name = kube::name_of(change.object());
        return name.ends_with(names::ca.suffix) || name.ends_with(names::admin_kubeconfig.suffix);
    });
    controller_->watch_mapped(generated_, [](const kube::Change& change) {
        return std::vector<controller::Key>{
            controller::Key(std::string(kube::label_of(change.object(), kManagedByLabel)))};
    });
}

std::vector<controller::Key> KubeconfigGeneratorController::concerned(
    const kube::Change& change) const {
    if (control_plane_changed(change)) return all_generators();
    std::vector<controller::Key> keys;
    generators_.for_each([&](const data::SharedValue& generator) {
        if (user_changed(*generator, change)) keys.push_back(kube::key_of(*generator));
    });
    return keys;
}

std::vector<controller::Key> KubeconfigGeneratorController::all_generators() const {
    std::vector<controller::Key> keys;
    generators_.for_each(
        [&](const data::SharedValue& generator) { keys.push_back(kube::key_of(*generator)); });
    return keys;
}

Result<std::vector<data::SharedValue>> KubeconfigGeneratorController::select(
    const Value& generator) const {
    const Value& spec = generator["spec"];
    BASALT_ASSIGN(kube::LabelSelector of_namespace, read_selector(spec, "namespaceSelector"));
    BASALT_ASSIGN(kube::LabelSelector of_control_plane,
                  read_selector(spec, "tenantControlPlaneSelector"));
    std::vector<data::SharedValue> targets;
    control_planes_.for_each([&](const data::SharedValue& object) {
        if (kube::is_deleting(*object) || !of_control_plane.matches(*object)) return;
        if (!of_namespace.empty()) {
            data::SharedValue ns =
                namespaces_.get(kube::ObjectKey(std::string(kube::namespace_of(*object))));
            if (ns == nullptr || !of_namespace.matches(*ns)) return;
        }
        targets.push_back(object);
    });
    std::sort(targets.begin(), targets.end(),
              [](const data::SharedValue& a, const data::SharedValue& b) {
                  return kube::key_of(*a) < kube::key_of(*b);
              });
    return targets;
}

async::Task<Result<Outcome>> KubeconfigGeneratorController::reconcile(controller::Key key) {
    Pass pass;
    pass.name = key.name;
    pass.generator = generators_.get(key);
    if (pass.generator == nullptr || kube::is_deleting(*pass.generator)) {
        known_.erase(key.name);
        Result<void> removed = co_await remove_others(key.name, {});
        if (!removed.ok()) co_return std::move(removed).error();
        co_return Outcome();
    }
    if ((*pass.generator)["metadata"]["annotations"].contains(names::kPausedAnnotation))
        co_return Outcome();
    Result<void> ran = co_await run(&pass);
    if (!ran.ok() && ran.error().code() == Code::kCancelled) co_return std::move(ran).error();
    Result<void> written = co_await write_status(&pass);
    if (!ran.ok()) co_return std::move(ran).error();
    if (!written.ok()) co_return std::move(written).error();
    if (!pass.renew_at) co_return Outcome();
    const Duration wait = *pass.renew_at - manager_.loop().wall_now();
    co_return controller::requeue_after(std::max<Duration>(wait, std::chrono::minutes(1)));
}

async::Task<Result<void>> KubeconfigGeneratorController::run(Pass* pass) {
    pass->status.object = pass->generator.get();
    pass->status.now = manager_.loop().wall_now();
    Result<std::vector<data::SharedValue>> selected = select(*pass->generator);
    if (!selected.ok()) {
        // Nothing is deleted on account of a selector that cannot be read.
        pass->status.invalid = selected.error().message();
        co_return Result<void>();
    }
    pass->targets = *std::move(selected);
    pass->status.selected_count = static_cast<int64_t>(pass->targets.size());
    Result<void> retry;
    for (const data::SharedValue& target : pass->targets) {
        Result<void> done = co_await process(pass, target);
        if (done.ok()) continue;
        if (done.error().code() == Code::kCancelled) co_return std::move(done);
        // One that fails keeps none of the others waiting.
        pass->status.errors.emplace_back(kube::key_of(*target).to_string(), done.error().message());
        if (done.error().retriable()) retry = std::move(done);
    }
    std::erase_if(known_[pass->name], [&](const auto& entry) {
        return std::none_of(
            pass->targets.begin(), pass->targets.end(),
            [&](const data::SharedValue& target) { return kube::key_of(*target) == entry.first; });
    });
    Result<void> removed = co_await remove_others(pass->name, pass->targets);
    if (!removed.ok()) co_return std::move(removed);
    co_return std::move(retry);
}

// From the cache, or, where our label is not on it, from the server: what others made has to be
// seen, too.
async::Task<Result<data::SharedValue>> KubeconfigGeneratorController::find_existing(
    kube::ObjectKey key) {
    data::SharedValue cached = generated_.get(key);
    if (cached != nullptr) co_return cached;
    Result<Value> found = co_await manager_.client().get(kube::resources::secrets(), key);
    if (found.ok()) co_return data::SharedValue(std::make_shared<const Value>(*std::move(found)));
    if (found.error().code() == Code::kNotFound) co_return data::SharedValue();
    co_return std::move(found).error();
}

async::Task<Result<void>> KubeconfigGeneratorController::process(Pass* pass,
                                                                 data::SharedValue control_plane) {
    const kube::ObjectKey plane = kube::key_of(*control_plane);
    const kube::ObjectKey key(plane.ns, fmt::format("{}-{}", plane.name, pass->name));
    KubeconfigInputs inputs;
    inputs.generator = pass->generator.get();
    inputs.control_plane = control_plane.get();
    inputs.now = pass->status.now;
    inputs.ca_secret = own_secrets_.get(kube::ObjectKey(plane.ns, names::ca(plane.name)));
    inputs.admin_secret =
        own_secrets_.get(kube::ObjectKey(plane.ns, names::admin_kubeconfig(plane.name)));
    Result<GeneratedUser> user = generated_user(*pass->generator, *control_plane);
    if (!user.ok()) co_return std::move(user).error();
    inputs.user = *std::move(user);
    Result<data::SharedValue> existing = co_await find_existing(key);
    if (!existing.ok()) co_return std::move(existing).error();
    inputs.existing = *std::move(existing);
    if (inputs.existing != nullptr && !is_generated_by(*inputs.existing, pass->name, plane.name) &&
        !is_surely_ours(*inputs.existing, *control_plane)) {
        co_return failed_precondition(
            fmt::format("Secret {} exists and is not of this generator: rename the generator, or "
                        "remove the Secret",
                        key.name));
    }
    auto version_of = [](const data::SharedValue& object) {
        return object == nullptr ? std::string("-")
                                 : std::string(kube::resource_version_of(*object));
    };
    std::string fingerprint = fmt::format(
        "{}|{}|{}|{}|{}|{}|{}", inputs.user.name, join(inputs.user.groups, ","),
        kube::generation_of(*pass->generator), kube::uid_of(*control_plane),
        version_of(inputs.ca_secret), version_of(inputs.admin_secret), version_of(inputs.existing));
    Known& known = known_[pass->name][plane];
    if (known.fingerprint != fingerprint || known.renew_at <= inputs.now) {
        Result<KubeconfigPlan> plan = plan_kubeconfig(inputs, keys_);
        if (!plan.ok()) co_return std::move(plan).error();
        kube::WriteOptions options;
        Result<controller::Applied> applied = co_await applier_.apply(
            kube::resources::secrets(), plan->secret, inputs.existing, options);
        if (!applied.ok()) co_return std::move(applied).error().context("apply Secret " + key.name);
        if (applied->written) generated_.observe_write(*applied->object);
        if (!plan->change.empty()) {
            log_info("kubeconfig issued", {{"secret", key.to_string()}, {"why", plan->change}});
        }
        // Written: the next pass sees another version of the Secret and looks once more.
        known.fingerprint = applied->written ? std::string() : std::move(fingerprint);
        known.renew_at = plan->renew_at;
    }
    if (!pass->renew_at || known.renew_at < *pass->renew_at) pass->renew_at = known.renew_at;
    co_return Result<void>();
}

async::Task<Result<void>> KubeconfigGeneratorController::remove_others(
    std::string generator, std::vector<data::SharedValue> targets) {
    std::set<kube::ObjectKey> wanted;
    for (const data::SharedValue& target : targets) {
        const kube::ObjectKey plane = kube::key_of(*target);
        wanted.insert(kube::ObjectKey(plane.ns, fmt::format("{}-{}", plane.name, generator)));
    }
    std::vector<data::SharedValue> superfluous;
    generated_.for_each([&](const data::SharedValue& secret) {
        const std::string_view plane = kube::label_of(*secret, kManagedForLabel);
        if (!is_generated_by(*secret, generator, plane)) return;
        // A label alone is no reason to delete what has another name.
        if (kube::name_of(*secret) != fmt::format("{}-{}", plane, generator)) return;
        if (!wanted.contains(kube::key_of(*secret))) superfluous.push_back(secret);
    });
    for (const data::SharedValue& secret : superfluous) {
        Result<bool> removed = co_await applier_.remove(kube::resources::secrets(), secret);
        if (!removed.ok()) co_return std::move(removed).error();
        if (*removed)
            log_info("kubeconfig removed", {{"secret", kube::key_of(*secret).to_string()}});
    }
    co_return Result<void>();
}

async::Task<Result<void>> KubeconfigGeneratorController::write_status(Pass* pass) {
    Value status = build_generator_status(pass->status);
    const Value& before = controller::find_condition((*pass->generator)["status"], kReady);
    const Value& after = controller::find_condition(status, kReady);
    if (after["status"].as_string() == controller::kFalse &&
        !(before["message"] == after["message"])) {
        events_.record(*pass->generator, controller::Severity::kWarning,
                       after["reason"].as_string(), after["message"].as_string());
    }
    Result<data::SharedValue> applied =
        co_await apply_status(applier_, generators_, pass->generator, std::move(status));
    if (!applied.ok()) co_return std::move(applied).error();
    co_return Result<void>();
}

}  // namespace basalt::controlplane
