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

/// The causes of a refused Deployment, without what only says it again.
std::string refusal(const Error& error, const Value& status) {
    std::vector<std::string> causes;
    for (const Value& cause : status["details"]["causes"].items()) {
        causes.push_back(
            fmt::format("{}: {}", cause["field"].as_string(), cause["message"].as_string()));
    }
    return causes.empty() ? error.message() : fmt::format("{}", fmt::join(causes, "; "));
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
    Value status;
    kube::WriteOptions options;
    options.dry_run = true;
    options.field_manager = std::string(names::kFieldManager);
    options.timeout = kDryRunTimeout;
    options.failure = &status;
    Result<Value> tried =
        co_await client_.apply(kube::resources::deployments(), std::move(deployment), options);
    if (tried.ok()) co_return std::nullopt;
    if (tried.error().code() != Code::kInvalidArgument) {
        log_warn("dry run of a deployment failed",
                 {{"control_plane", kube::key_of(object).to_string()}, {"error", tried.error()}});
        co_return std::nullopt;
    }
    co_return FieldError("spec.controlPlane.deployment",
                         "Kubernetes refuses the Deployment that it makes: " +
                             refusal(tried.error(), status) + ": correct these fields");
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
