#include "controlplane/kubeconfig_plan.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "base/strings.h"
#include "controller/apply.h"
#include "controller/conditions.h"
#include "controlplane/names.h"
#include "controlplane/resources.h"
#include "controlplane/status.h"
#include "data/base64.h"
#include "data/json.h"
#include "pki/certificate.h"
#include "pki/kubeconfig.h"

namespace basalt::controlplane {

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
    plan.renew_at = certificate.not_after() - wall_duration(kRenewBefore);
    // One that ends with its authority is renewed when that is.
    if (plan.renew_at <= inputs.now) {
        plan.renew_at = inputs.now + wall_duration(pki::kDay);
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

}  // namespace basalt::controlplane
