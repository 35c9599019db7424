// Admission and conversion webhooks (admission.k8s.io/v1, apiextensions.k8s.io/v1).
//
// A route takes an AdmissionReview or ConversionReview from the API server, calls a function of
// ours and answers in the protocol's form. Mutation is a value: the function returns the object as
// it should be and the patch is the difference. What is malformed gets 400; an Error of a function
// that is not about the object (Unavailable, Internal …) becomes HTTP 500, so that the webhook's
// failurePolicy decides.
//
// One loop.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "controller/http_endpoint.h"

namespace basalt::controller {

struct AdmissionRequest {
    AdmissionRequest() = default;
    std::string uid;
    std::string operation;  ///< CREATE, UPDATE, DELETE, CONNECT
    kube::Gvk kind;
    std::string resource;  ///< Plural.
    std::string subresource;
    std::string ns;
    std::string name;
    kube::Value object;      ///< Null for DELETE.
    kube::Value old_object;  ///< Null for CREATE.
    kube::Value user_info;
    bool dry_run = false;
};

struct FieldError {
    std::string field;                       ///< "spec.controlPlane.replicas"
    std::string message;                     ///< What is wrong and what would be right.
    std::string type = "FieldValueInvalid";  ///< A metav1.CauseType.
};

struct AdmissionResponse {
    AdmissionResponse() = default;
    bool allowed = true;
    /// With allowed: the object as it should be.
    std::optional<kube::Value> changed;
    std::vector<std::string> warnings;
    // Without allowed:
    int code = 403;
    std::string reason = "Forbidden";
    std::string message;
    std::vector<FieldError> causes;
};

AdmissionResponse admit(std::vector<std::string> warnings = {});
AdmissionResponse admit_as(kube::Value object);
AdmissionResponse deny(std::string message);
/// 422 Invalid with one cause a field, worded as the API server words them.
AdmissionResponse deny_invalid(const AdmissionRequest& request, std::vector<FieldError> errors);

using AdmissionFn = std::function<async::Task<Result<AdmissionResponse>>(AdmissionRequest request)>;
void add_admission_route(Router& router, std::string path, AdmissionFn fn);

/// Converts one object to `api_version`. Pure.
using ConversionFn =
    std::function<Result<kube::Value>(const kube::Value& object, const std::string& api_version)>;
void add_conversion_route(Router& router, std::string path, ConversionFn fn);

/// Counts and times the routes that there are now, under controller-runtime's names:
/// controller_runtime_webhook_{requests_total,requests_in_flight,latency_seconds}. `loop` and
/// `metrics` outlive the router's requests.
void measure_webhooks(Router& router, async::Loop& loop, Metrics& metrics);

}  // namespace basalt::controller
