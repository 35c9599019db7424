#include "controlplane/webhooks.h"

#include <fmt/format.h>

#include "base/log.h"
#include "controlplane/cache_options.h"
#include "controlplane/metrics.h"
#include "controlplane/names.h"
#include "controlplane/objects.h"
#include "controlplane/resources.h"

namespace basalt::controlplane {

using controller::AdmissionRequest;
using controller::AdmissionResponse;
using data::Value;

namespace {

// The API server waits for ten seconds altogether.
constexpr Duration kDryRunTimeout = std::chrono::seconds(5);

AdmissionResponse answer(const AdmissionRequest& request, const std::vector<FieldError>& errors,
                         std::vector<std::string> warnings = {}) {
    if (errors.empty()) return controller::admit(std::move(warnings));
    std::vector<controller::FieldError> causes;
    for (const FieldError& error : errors) {
        controller::FieldError cause;
        cause.field = error.field;
        cause.message = error.message;
        causes.push_back(std::move(cause));
    }
    return controller::deny_invalid(request, std::move(causes));
}

const Value* old_of(const AdmissionRequest& request) {
    return request.old_object.is_null() ? nullptr : &request.old_object;
}

bool is_write(const AdmissionRequest& request) {
    return request.subresource.empty() &&
           (request.operation == "CREATE" || request.operation == "UPDATE");
}

bool shapes_deployment(const AdmissionRequest& request) {
    if (kube::is_deleting(request.object)) return false;
    const Value& now = request.object["spec"];
    const Value& before = request.old_object["spec"];
    return !(now["controlPlane"]["deployment"] == before["controlPlane"]["deployment"]) ||
           !(now["addons"]["konnectivity"] == before["addons"]["konnectivity"]);
}

bool shapes_node_ports(const AdmissionRequest& request) {
    if (kube::is_deleting(request.object)) return false;
    const Value& now = request.object["spec"];
    const Value& before = request.old_object["spec"];
    if (now["controlPlane"]["service"]["serviceType"].as_string() != "NodePort") return false;
    return !(now["controlPlane"]["service"] == before["controlPlane"]["service"]) ||
           !(now["networkProfile"] == before["networkProfile"]) ||
           !(now["addons"]["konnectivity"] == before["addons"]["konnectivity"]);
}

/// The causes of a refusal, without what only says it again.
std::string causes_of(const Value& status) {
    std::vector<std::string> causes;
    for (const Value& cause : status["details"]["causes"].items()) {
        causes.push_back(
            fmt::format("{}: {}", cause["field"].as_string(), cause["message"].as_string()));
    }
    return causes.empty() ? status["message"].str() : fmt::format("{}", fmt::join(causes, "; "));
}

}  // namespace

Webhooks::Webhooks(controller::Manager& manager, kube::Client& client, SettingsDefaults defaults)
    : manager_(manager),
      client_(client),
      defaults_(std::move(defaults)),
      control_planes_(manager.cache(applied_options(tenant_control_planes()))),
      data_stores_(manager.cache(applied_options(controlplane::data_stores()))),
      deployments_(manager.cache(owned_options(kube::resources::deployments()))) {}

void Webhooks::add_routes(controller::Router& router) {
    controller::add_admission_route(router, kControlPlaneWebhook, [this](AdmissionRequest request) {
        return check_control_plane(std::move(request));
    });
    controller::add_admission_route(router, kDataStoreWebhook, [this](AdmissionRequest request) {
        return check_data_store(std::move(request));
    });
    controller::add_admission_route(router, kGeneratorWebhook, [this](AdmissionRequest request) {
        return check_generator(std::move(request));
    });
}

ValidationContext Webhooks::context() const {
    ValidationContext known;
    known.defaults = defaults_;
    data_stores_.for_each([&](const data::SharedValue& object) {
        const std::string name(kube::name_of(*object));
        known.datastores[name] = KnownDataStore((*object)["spec"]["driver"].str());
    });
    control_planes_.for_each([&](const data::SharedValue& object) {
        for (StorageClaim& claim : storage_claims(*object, defaults_))
            known.claims.push_back(std::move(claim));
    });
    return known;
}

Webhooks::Answer Webhooks::check_control_plane(AdmissionRequest request) {
    HandlerTimer timer(manager_, "webhook-tenantcontrolplane");
    if (!is_write(request)) co_return controller::admit();
    // Until the caches are complete, a DataStore that is not in them may well exist.
    Result<void> synced = co_await data_stores_.wait_synced();
    if (!synced.ok()) co_return std::move(synced).error();
    synced = co_await control_planes_.wait_synced();
    if (!synced.ok()) co_return std::move(synced).error();
    std::vector<FieldError> errors =
        validate_control_plane(request.object, old_of(request), context());
    if (errors.empty() && shapes_deployment(request)) {
        std::optional<FieldError> refused = co_await try_deployment(request.object);
        if (refused) errors.push_back(*std::move(refused));
    }
    if (errors.empty() && shapes_node_ports(request))
        errors = co_await try_node_ports(request.object);
    std::vector<std::string> warnings;
    Result<Settings> settings = read_settings(request.object, defaults_);
    if (settings.ok()) {
        for (const std::string& field : settings->unsupported)
            warnings.push_back("not in force yet: " + field);
    }
    co_return answer(request, errors, std::move(warnings));
}

async::Task<std::optional<FieldError>> Webhooks::try_deployment(Value object) {
    Result<Settings> settings = read_settings(object, defaults_);
    if (!settings.ok()) co_return std::nullopt;
    // Addresses and checksums do not matter for whether Kubernetes takes it.
    Endpoint endpoint{"192.0.2.1", "192.0.2.1", settings->network.port};
    Surroundings surroundings;
    surroundings.datastore_name = settings->datastore;
    surroundings.tunnel_image = "image";
    data::SharedValue live = deployments_.get(kube::key_of(object));
    if (live != nullptr) surroundings.existing_selector = (*live)["spec"]["selector"];
    Value deployment = build_deployment(*settings, endpoint, surroundings);
    std::optional<Value> refused =
        co_await find_refusal(kube::resources::deployments(), std::move(deployment));
    if (!refused) co_return std::nullopt;
    co_return FieldError("spec.controlPlane.deployment",
                         "Kubernetes refuses the Deployment that it makes: " + causes_of(*refused) +
                             ": correct these fields");
}

async::Task<std::vector<FieldError>> Webhooks::try_node_ports(Value object) {
    std::vector<FieldError> errors;
    Result<Settings> settings = read_settings(object, defaults_);
    if (!settings.ok()) co_return errors;
    Value service = build_service(*settings);
    std::optional<Value> refused =
        co_await find_refusal(kube::resources::services(), std::move(service));
    if (!refused) co_return errors;
    for (const Value& cause : (*refused)["details"]["causes"].items()) {
        const std::string_view at = cause["field"].as_string();
        const char* field = nullptr;
        if (at == "spec.ports[0].nodePort") field = "spec.networkProfile.port";
        if (at == "spec.ports[1].nodePort" && settings->tunnel)
            field = "spec.addons.konnectivity.server.port";
        if (field == nullptr) continue;
        errors.emplace_back(field,
                            fmt::format("is a port of the nodes, too, with a Service of type "
                                        "NodePort, and Kubernetes refuses it, {}: choose "
                                        "another port",
                                        cause["message"].as_string()));
    }
    if (errors.empty()) {
        errors.emplace_back("spec.controlPlane.service",
                            "Kubernetes refuses the Service that it makes: " + causes_of(*refused) +
                                ": correct these fields");
    }
    co_return errors;
}

async::Task<std::optional<Value>> Webhooks::find_refusal(kube::Resource resource, Value intent) {
    Value status;
    kube::WriteOptions options;
    options.dry_run = true;
    options.field_manager = std::string(names::kFieldManager);
    options.timeout = kDryRunTimeout;
    options.failure = &status;
    const std::string what = kube::describe(intent);
    Result<Value> tried = co_await client_.apply(resource, std::move(intent), options);
    if (tried.ok()) co_return std::nullopt;
    if (tried.error().code() != Code::kInvalidArgument) {
        log_warn("dry run failed", {{"object", what}, {"error", tried.error()}});
        co_return std::nullopt;
    }
    if (!status.is_object()) status = Value::object();
    status.set("message", tried.error().message());
    co_return status;
}

Webhooks::Answer Webhooks::check_data_store(AdmissionRequest request) {
    HandlerTimer timer(manager_, "webhook-datastore");
    if (!is_write(request)) co_return controller::admit();
    co_return answer(request, validate_data_store(request.object, old_of(request)));
}

Webhooks::Answer Webhooks::check_generator(AdmissionRequest request) {
    HandlerTimer timer(manager_, "webhook-kubeconfiggenerator");
    if (!is_write(request)) co_return controller::admit();
    co_return answer(request, validate_kubeconfig_generator(request.object, old_of(request)));
}

}  // namespace basalt::controlplane
