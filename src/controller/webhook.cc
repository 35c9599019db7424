#include "controller/webhook.h"

#include <fmt/format.h>

#include "base/log.h"
#include "base/strings.h"
#include "data/base64.h"
#include "data/json.h"
#include "data/patch.h"

namespace basalt::controller {

using kube::Value;

AdmissionResponse admit(std::vector<std::string> warnings) {
    AdmissionResponse response;
    response.warnings = std::move(warnings);
    return response;
}

AdmissionResponse admit_as(Value object) {
    AdmissionResponse response;
    response.changed = std::move(object);
    return response;
}

AdmissionResponse deny(std::string message) {
    AdmissionResponse response;
    response.allowed = false;
    response.message = std::move(message);
    return response;
}

AdmissionResponse deny_invalid(const AdmissionRequest& request, std::vector<FieldError> errors) {
    std::vector<std::string> texts;
    for (const FieldError& error : errors)
        texts.push_back(fmt::format("{}: {}", error.field, error.message));
    const std::string list = texts.size() == 1 ? texts[0] : fmt::format("[{}]", join(texts, ", "));
    const std::string kind = request.kind.group.empty()
                                 ? request.kind.kind
                                 : fmt::format("{}.{}", request.kind.kind, request.kind.group);
    AdmissionResponse response =
        deny(fmt::format("{} \"{}\" is invalid: {}", kind, request.name, list));
    response.code = 422;
    response.reason = "Invalid";
    response.causes = std::move(errors);
    return response;
}

namespace {

/// The request of a review document, or why it is none.
Result<Value> parse_review(const net::ServerRequest& request, std::string_view kind,
                           std::string_view api_version) {
    if (request.method != "POST") return invalid_argument("only POST");
    BASALT_ASSIGN(Value review, data::parse_json(request.body));
    if (review["kind"].as_string() != kind || review["apiVersion"].as_string() != api_version ||
        !review["request"].is_object() || review["request"]["uid"].as_string().empty()) {
        return invalid_argument(fmt::format("no {} of {}", kind, api_version));
    }
    return std::move(*review.find("request"));
}

net::HttpServerResponse review_response(std::string_view kind, std::string_view api_version,
                                        Value response) {
    Value review = Value::object({{"apiVersion", api_version}, {"kind", kind}});
    review.set("response", std::move(response));
    return json_response(200, review);
}

constexpr std::string_view kAdmissionVersion = "admission.k8s.io/v1";
constexpr std::string_view kConversionVersion = "apiextensions.k8s.io/v1";

AdmissionRequest parse_admission_request(Value document) {
    AdmissionRequest request;
    request.uid = document["uid"].str();
    request.operation = document["operation"].str();
    request.kind = kube::Gvk(document["kind"]["group"].str(), document["kind"]["version"].str(),
                             document["kind"]["kind"].str());
    request.resource = document["resource"]["resource"].str();
    request.subresource = document["subResource"].str();
    request.ns = document["namespace"].str();
    request.name = document["name"].str();
    request.dry_run = document["dryRun"].as_bool();
    for (const auto& [name, into] : {std::pair<const char*, Value*>{"object", &request.object},
                                     {"oldObject", &request.old_object},
                                     {"userInfo", &request.user_info}}) {
        if (Value* part = document.find(name)) *into = std::move(*part);
    }
    if (request.name.empty()) request.name = kube::name_of(request.object);
    return request;
}

Value denial_status(const AdmissionResponse& response) {
    Value status = Value::object({{"code", response.code}, {"reason", response.reason}});
    status.set("message", response.message);
    if (!response.causes.empty()) {
        Value causes = Value::array();
        for (const FieldError& cause : response.causes) {
            causes.push_back(Value::object(
                {{"reason", cause.type}, {"message", cause.message}, {"field", cause.field}}));
        }
        status.at("details").set("causes", std::move(causes));
    }
    return status;
}

Value admission_answer(const std::string& uid, const Value& original,
                       const AdmissionResponse& response) {
    Value answer = Value::object({{"uid", uid}, {"allowed", response.allowed}});
    if (!response.allowed) answer.set("status", denial_status(response));
    if (response.allowed && response.changed) {
        const Value patch = data::diff_to_json_patch(original, *response.changed);
        if (!patch.empty()) {
            answer.set("patchType", "JSONPatch");
            answer.set("patch", data::base64_encode(data::to_json(patch)));
        }
    }
    if (!response.warnings.empty()) answer.set("warnings", Value::from(response.warnings));
    return answer;
}

/// An error that blames the object is a denial; others are for the failurePolicy.
std::optional<AdmissionResponse> denial_of(const Error& error) {
    AdmissionResponse response = deny(error.message());
    switch (error.code()) {
        case Code::kInvalidArgument:
            response.code = 422;
            response.reason = "Invalid";
            return response;
        case Code::kFailedPrecondition:
        case Code::kPermissionDenied: return response;
        default: return std::nullopt;
    }
}

async::Task<Result<net::HttpServerResponse>> serve_admission(const AdmissionFn* fn,
                                                             net::ServerRequest request) {
    Result<Value> document = parse_review(request, "AdmissionReview", kAdmissionVersion);
    if (!document.ok()) co_return std::move(document).error();
    request.body = std::string();
    AdmissionRequest admission = parse_admission_request(std::move(*document));
    const std::string uid = admission.uid;
    const Value original = admission.object;
    async::Task<Result<AdmissionResponse>> task = (*fn)(std::move(admission));
    Result<AdmissionResponse> response = co_await task;
    if (!response.ok()) {
        std::optional<AdmissionResponse> denial = denial_of(response.error());
        if (!denial) {
            log_error("admission failed", {{"error", response.error()}});
            co_return text_response(500, response.error().message());
        }
        response = std::move(*denial);
    }
    co_return review_response("AdmissionReview", kAdmissionVersion,
                              admission_answer(uid, original, *response));
}

async::Task<Result<net::HttpServerResponse>> serve_conversion(const ConversionFn* fn,
                                                              net::ServerRequest request) {
    Result<Value> document = parse_review(request, "ConversionReview", kConversionVersion);
    if (!document.ok()) co_return std::move(document).error();
    const std::string version = (*document)["desiredAPIVersion"].str();
    Value converted = Value::array();
    std::optional<Error> failure;
    for (const Value& object : (*document)["objects"].items()) {
        if (object["apiVersion"].as_string() == version) {
            converted.push_back(object);
            continue;
        }
        Result<Value> one = (*fn)(object, version);
        if (!one.ok()) {
            failure = std::move(one).error().context(kube::describe(object));
            break;
        }
        one->set("apiVersion", version);
        converted.push_back(std::move(*one));
    }
    Value answer = Value::object({{"uid", (*document)["uid"]}});
    if (failure) {
        answer.at("result").set("status", "Failed").set("message", failure->message());
    } else {
        answer.set("convertedObjects", std::move(converted));
        answer.at("result").set("status", "Success");
    }
    co_return review_response("ConversionReview", kConversionVersion, std::move(answer));
}

struct WebhookInstruments {
    Metrics* metrics;
    async::Loop* loop;
    std::string path;
    Gauge* in_flight;
    Histogram* latency;
};

async::Task<Result<net::HttpServerResponse>> serve_measured(
    std::shared_ptr<const WebhookInstruments> to, std::shared_ptr<const RouteFn> route,
    net::ServerRequest request) {
    const TimePoint began = to->loop->now();
    to->in_flight->add(1);
    async::Task<Result<net::HttpServerResponse>> task = (*route)(std::move(request));
    Result<net::HttpServerResponse> response = co_await task;
    to->in_flight->add(-1);
    to->latency->observe(std::chrono::duration<double>(to->loop->now() - began).count());
    const int status =
        response.ok() ? response->status : net::http_status_of(response.error().code());
    to->metrics
        ->counter("controller_runtime_webhook_requests_total", "Webhook requests by status.",
                  {{"webhook", to->path}, {"code", std::to_string(status)}})
        .add();
    co_return std::move(response);
}

}  // namespace

void measure_webhooks(Router& router, async::Loop& loop, Metrics& metrics) {
    router.wrap([&](const std::string& path, RouteFn route) -> RouteFn {
        const Labels labels = {{"webhook", path}};
        auto to = std::make_shared<const WebhookInstruments>(
            WebhookInstruments{&metrics, &loop, path,
                               &metrics.gauge("controller_runtime_webhook_requests_in_flight",
                                              "Webhook requests being answered now.", labels),
                               &metrics.histogram("controller_runtime_webhook_latency_seconds",
                                                  "Seconds until a webhook has answered.",
                                                  reconcile_time_bounds(), labels)});
        auto inner = std::make_shared<const RouteFn>(std::move(route));
        return [to, inner](net::ServerRequest request) {
            return serve_measured(to, inner, std::move(request));
        };
    });
}

void add_admission_route(Router& router, std::string path, AdmissionFn fn) {
    auto shared = std::make_shared<const AdmissionFn>(std::move(fn));
    router.add(std::move(path), [shared](net::ServerRequest request) {
        return serve_admission(shared.get(), std::move(request));
    });
}

void add_conversion_route(Router& router, std::string path, ConversionFn fn) {
    auto shared = std::make_shared<const ConversionFn>(std::move(fn));
    router.add(std::move(path), [shared](net::ServerRequest request) {
        return serve_conversion(shared.get(), std::move(request));
    });
}

}  // namespace basalt::controller
