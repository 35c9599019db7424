#include "controlplane/kubeconfig_generator.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "base/log.h"
#include "base/strings.h"
#include "controller/conditions.h"
#include "controlplane/cache_options.h"
#include "controlplane/names.h"
#include "controlplane/status.h"
#include "data/base64.h"
#include "data/json.h"
#include "pki/certificate.h"
#include "pki/kubeconfig.h"

namespace basalt::controlplane {

using controller::Outcome;
using data::Value;

namespace {

// RFC 5280: ub-common-name and ub-organization-name are 64, which OpenSSL and Go enforce for new
// names.
constexpr size_t kMaxNameSize = 64;
constexpr size_t kMaxPathSegments = 64;
constexpr int kMaxStatusErrors = 100;

/// The value at a path; members with dots in their names count as well.
const Value* find_path(const Value& from, const std::vector<std::string_view>& segments,
                       size_t start) {
    if (start == segments.size()) return &from;
    std::string name;
    for (size_t end = start; end < segments.size(); ++end) {
        if (end > start) name += '.';
        name += segments[end];
        const Value* member = from.find(name);
        if (member == nullptr) continue;
        const Value* found = find_path(*member, segments, end + 1);
        if (found != nullptr) return found;
    }
    return nullptr;
}

std::string secret_bytes(const data::SharedValue& secret, std::string_view key) {
    if (secret == nullptr) return "";
    Result<std::string> decoded = data::base64_decode((*secret)["data"][key].as_string());
    return decoded.ok() ? *std::move(decoded) : "";
}

Result<pki::Kubeconfig> read_template(const KubeconfigInputs& inputs) {
    const std::string name = names::admin_kubeconfig(kube::name_of(*inputs.control_plane));
    std::string key = (*inputs.generator)["spec"]["controlPlaneEndpointFrom"].str();
    if (key.empty()) key = "admin.svc";
    if (inputs.admin_secret == nullptr) {
        return failed_precondition(
            fmt::format("Secret {} does not exist yet: the control plane makes it", name));
    }
    const std::string text = secret_bytes(inputs.admin_secret, key);
    if (text.empty()) {
        return failed_precondition(
            fmt::format("spec.controlPlaneEndpointFrom: Secret {} has no key {}: name one that it "
                        "has, for instance "
                        "admin.conf",
                        name, key));
    }
    Result<pki::Kubeconfig> parsed = pki::parse_kubeconfig(text);
    if (!parsed.ok())
        return std::move(parsed).error().context(fmt::format("Secret {}, key {}", name, key));
    return parsed;
}

Result<pki::CertificateAuthority> read_authority(const KubeconfigInputs& inputs) {
    const std::string name = names::ca(kube::name_of(*inputs.control_plane));
    if (inputs.ca_secret == nullptr) {
        return failed_precondition(
            fmt::format("Secret {} does not exist yet: the control plane makes it", name));
    }
    Result<pki::CertificateAuthority> authority = pki::CertificateAuthority::parse(
        secret_bytes(inputs.ca_secret, "ca.crt"), Secret(secret_bytes(inputs.ca_secret, "ca.key")));
    if (!authority.ok()) return std::move(authority).error().context("Secret " + name);
    return authority;
}

const Value* rotate_annotation(const data::SharedValue& secret) {
    if (secret == nullptr) return nullptr;
    return (*secret)["metadata"]["annotations"].find(names::kRotateAnnotation);
}

/// Why the certificate in the Secret cannot stay; "" when it can.
std::string reason_to_issue(const KubeconfigInputs& inputs, const pki::CertificateSpec& spec,
                            const pki::CertificateAuthority& authority, pki::Kubeconfig& present) {
    if (inputs.existing == nullptr) return "missing";
    const Value* asked = rotate_annotation(inputs.existing);
    if (asked != nullptr && asked->as_string().empty()) return "asked for";
    Result<pki::Kubeconfig> parsed =
        pki::parse_kubeconfig(secret_bytes(inputs.existing, kGeneratedKey));
    if (!parsed.ok()) return "the kubeconfig is broken: " + parsed.error().message();
    present = *std::move(parsed);
    Result<pki::KeyPair> pair =
        pki::parse_key_pair(present.client_certificate_pem, present.client_key_pem);
    if (!pair.ok()) return pair.error().message();
    std::vector<std::string> groups = pair->certificate.organizations();
    std::sort(groups.begin(), groups.end());
    // One group too many is a permission too many.
    if (groups != spec.organizations) return "other groups";
    return pki::renewal_reason(pair->certificate, pair->key, spec, authority.certificate(),
                               inputs.now, kRenewBefore)
        .value_or("");
}

Value secret_meta(const KubeconfigInputs& inputs, bool issued) {
    const Value& plane = *inputs.control_plane;
    const std::string_view generator = kube::name_of(*inputs.generator);
    Value meta = Value::object(
        {{"name", fmt::format("{}-{}", kube::name_of(plane), generator)},
         {"namespace", kube::namespace_of(plane)},
         {"labels", Value::object({{kManagedByLabel, generator},
                                   {kManagedForLabel, kube::name_of(plane)},
                                   {names::kCertificateLifecycleLabel, "kubeconfig"}})},
         {"ownerReferences", Value::array({Value::object({{"apiVersion", kApiVersion},
                                                          {"kind", "TenantControlPlane"},
                                                          {"name", kube::name_of(plane)},
                                                          {"uid", kube::uid_of(plane)},
                                                          {"controller", true},
                                                          {"blockOwnerDeletion", true}})})}});
    const Value* asked = rotate_annotation(inputs.existing);
    if (asked != nullptr) {
        // Followed: it carries the time from then on.
        const bool follow = asked->as_string().empty() && issued;
        meta.set("annotations",
                 Value::object({{names::kRotateAnnotation,
                                 follow ? Value(format_rfc3339(inputs.now)) : *asked}}));
    }
    return meta;
}

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

Result<std::string> compound_value(const Value& value, const Value& control_plane) {
    const std::string_view path = value["fromDefinition"].as_string();
    if (path.empty()) {
        if (!value["stringValue"].empty()) return value["stringValue"].str();
        return invalid_argument("stringValue or fromDefinition is needed: set one of them");
    }
    const std::vector<std::string_view> segments = split(path, '.');
    const Value* found =
        segments.size() > kMaxPathSegments ? nullptr : find_path(control_plane, segments, 0);
    if (found == nullptr || found->is_null()) {
        return invalid_argument(fmt::format(
            "fromDefinition: the control plane has no field {}: correct the path", path));
    }
    if (found->is_object() || found->is_array()) {
        return invalid_argument(
            fmt::format("fromDefinition: {} of the control plane is no text but a structure: name "
                        "a field in it",
                        path));
    }
    std::string text = found->is_string() ? found->str() : data::to_json(*found);
    if (text.empty()) {
        return invalid_argument(
            fmt::format("fromDefinition: {} of the control plane is empty", path));
    }
    return text;
}

Result<GeneratedUser> generated_user(const Value& generator, const Value& control_plane) {
    GeneratedUser user;
    const Value& spec = generator["spec"];
    Result<std::string> name = compound_value(spec["user"], control_plane);
    if (!name.ok()) return std::move(name).error().context("spec.user");
    user.name = *std::move(name);
    std::set<std::string> groups;
    size_t index = 0;
    for (const Value& item : spec["groups"].items()) {
        Result<std::string> group = compound_value(item, control_plane);
        if (!group.ok())
            return std::move(group).error().context(fmt::format("spec.groups[{}]", index));
        if (group->size() > kMaxNameSize) {
            return invalid_argument(fmt::format(
                "spec.groups[{}]: \"{}\" is longer than the {} bytes that a certificate "
                "holds: choose a shorter one",
                index, *group, kMaxNameSize));
        }
        groups.insert(*std::move(group));
        ++index;
    }
    if (user.name.size() > kMaxNameSize) {
        return invalid_argument(
            fmt::format("spec.user: \"{}\" is longer than the {} bytes that a certificate holds: "
                        "choose a shorter one",
                        user.name, kMaxNameSize));
    }
    user.groups.assign(groups.begin(), groups.end());
    return user;
}

bool is_generated_by(const Value& secret, std::string_view generator,
                     std::string_view control_plane) {
    return kube::label_of(secret, kManagedByLabel) == generator &&
           kube::label_of(secret, kManagedForLabel) == control_plane;
}

bool is_surely_ours(const Value& secret, const Value& control_plane) {
    const std::optional<kube::OwnerReference> owner = kube::controller_of(secret);
    if (!owner || owner->uid != kube::uid_of(control_plane)) return false;
    const Value owned = controller::owned_fields(secret, names::kFieldManager, {});
    return owned["f:data"].contains(fmt::format("f:{}", kGeneratedKey));
}

Result<KubeconfigPlan> plan_kubeconfig(const KubeconfigInputs& inputs, pki::KeySource& keys) {
    BASALT_ASSIGN(pki::Kubeconfig config, read_template(inputs));
    BASALT_ASSIGN(pki::CertificateAuthority authority, read_authority(inputs));
    pki::CertificateSpec spec;
    spec.common_name = inputs.user.name;
    spec.organizations = inputs.user.groups;
    spec.client = true;
    config.user = std::string(kube::name_of(*inputs.generator));
    config.token = Secret();
    config.token_file.clear();

    KubeconfigPlan plan;
    pki::Kubeconfig present;
    plan.change = reason_to_issue(inputs, spec, authority, present);
    if (plan.change.empty()) {
        config.client_certificate_pem = present.client_certificate_pem;
        config.client_key_pem = present.client_key_pem;
    } else {
        BASALT_ASSIGN(pki::KeyPair pair, authority.issue(spec, keys, inputs.now));
        config.client_certificate_pem = pair.certificate_pem();
        config.client_key_pem = pair.key_pem();
    }
    BASALT_ASSIGN(pki::Certificate certificate,
                  pki::Certificate::parse(config.client_certificate_pem));
    plan.renew_at =
        std::chrono::time_point_cast<WallTime::duration>(certificate.not_after() - kRenewBefore);
    // One that ends with its authority is renewed when that is.
    if (plan.renew_at <= inputs.now) {
        plan.renew_at = std::chrono::time_point_cast<WallTime::duration>(inputs.now + pki::kDay);
    }
    plan.secret = kube::make_object(kube::resources::secrets(), kube::ObjectKey());
    plan.secret.set("metadata", secret_meta(inputs, !plan.change.empty()));
    plan.secret.set("type", "Opaque");
    const Secret text = pki::to_yaml(config);
    plan.secret.set("data", Value::object({{kGeneratedKey, data::base64_encode(text.reveal())}}));
    return plan;
}

Value build_generator_status(const GeneratorStatusInputs& inputs) {
    const Value& object = *inputs.object;
    const int64_t generation = kube::generation_of(object);
    const int64_t available = inputs.selected_count - static_cast<int64_t>(inputs.errors.size());
    Value status = Value::object({{"observedGeneration", generation},
                                  {"resources", inputs.selected_count},
                                  {"availableResources", available}});
    Value errors = Value::array();
    for (const auto& [resource, message] : inputs.errors) {
        if (errors.size() >= kMaxStatusErrors) break;
        errors.push_back(Value::object({{"resource", resource}, {"message", message}}));
    }
    status.set("errors", std::move(errors));
    status.set("conditions", object["status"]["conditions"]);
    if (!status["conditions"].is_array()) status.set("conditions", Value::array());
    controller::Condition ready(kReady, controller::kTrue, "Available",
                                fmt::format("{} kubeconfigs are in place", available), generation);
    if (!inputs.invalid.empty()) {
        ready = controller::Condition(kReady, controller::kFalse, "InvalidSpec", inputs.invalid,
                                      generation);
    } else if (!inputs.errors.empty()) {
        ready = controller::Condition(
            kReady, controller::kFalse, "NotAllAvailable",
            fmt::format("{} of {} kubeconfigs are in place; {}: {}", available,
                        inputs.selected_count, inputs.errors.front().first,
                        inputs.errors.front().second),
            generation);
    }
    controller::set_condition(status, ready, inputs.now);
    return status;
}

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
    Value intent = kube::make_object(kubeconfig_generators(), kube::ObjectKey(pass->name));
    intent.set("status", build_generator_status(pass->status));
    const Value& before = controller::find_condition((*pass->generator)["status"], kReady);
    const Value& after = controller::find_condition(intent["status"], kReady);
    if (after["status"].as_string() == controller::kFalse &&
        !(before["message"] == after["message"])) {
        events_.record(*pass->generator, controller::Severity::kWarning,
                       after["reason"].as_string(), after["message"].as_string());
    }
    kube::WriteOptions options;
    options.subresource = "status";
    Result<controller::Applied> applied =
        co_await applier_.apply(kubeconfig_generators(), intent, pass->generator, options);
    if (!applied.ok()) {
        if (applied.error().code() == Code::kNotFound) co_return Result<void>();
        co_return std::move(applied).error().context("write the status");
    }
    if (applied->written) generators_.observe_write(*applied->object);
    co_return Result<void>();
}

}  // namespace basalt::controlplane
