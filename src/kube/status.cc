// From the API server's Status documents to Errors.
#include <algorithm>

#include <fmt/format.h>

#include "base/strings.h"
#include "data/json.h"
#include "kube/client.h"

namespace basalt::kube {
namespace {

Code code_of_http(int status) {
    switch (status) {
        case 400:
        case 406:
        case 413:
        case 415:
        case 422: return Code::kInvalidArgument;
        case 401: return Code::kUnauthenticated;
        case 403: return Code::kPermissionDenied;
        case 404: return Code::kNotFound;
        case 405:
        case 501: return Code::kUnimplemented;
        case 409: return Code::kAborted;
        case 410: return Code::kOutOfRange;
        case 412: return Code::kFailedPrecondition;
        case 429: return Code::kResourceExhausted;
        case 408:
        case 504: return Code::kDeadlineExceeded;
        case 500: return Code::kInternal;
        case 502:
        case 503: return Code::kUnavailable;
        default: return status >= 500 ? Code::kUnavailable : Code::kUnknown;
    }
}

Code code_of_reason(std::string_view reason, int http_status) {
    if (reason == "AlreadyExists") return Code::kAlreadyExists;
    if (reason == "Expired" || reason == "Gone") return Code::kOutOfRange;
    // What the server could not do in time or not at this moment comes with 500, too.
    if (reason == "ServerTimeout" || reason == "ServiceUnavailable") return Code::kUnavailable;
    return code_of_http(http_status);
}

/// A proxy's answer may be a page of HTML: the first line tells enough.
std::string first_line(std::string_view body) {
    constexpr size_t kMaxSize = 300;
    std::string_view line = trim(body.substr(0, body.find('\n')));
    return std::string(line.substr(0, kMaxSize));
}

}  // namespace

Error error_from_status(const Value& status) {
    const int http_status = static_cast<int>(status["code"].as_int(500));
    std::string reason = status["reason"].str();
    std::string message = status["message"].str();
    if (message.empty())
        message = reason.empty() ? fmt::format("HTTP status {}", http_status) : reason;
    Error error(code_of_reason(reason, http_status), std::move(message));
    error.with_cause(http_status, std::move(reason));
    const int64_t seconds = status["details"]["retryAfterSeconds"].as_int();
    if (seconds > 0) error.with_retry_after(std::chrono::seconds(std::min<int64_t>(seconds, 3600)));
    return error;
}

Error error_from_status(int http_status, std::string_view body, std::string_view retry_after) {
    std::optional<Error> error;
    if (trim(body).starts_with("{")) {
        Result<Value> status = data::parse_json(body);
        if (status.ok() && (*status)["kind"].as_string() == "Status") {
            if (!(*status)["code"].is_int()) status->set("code", http_status);
            error = error_from_status(*status);
        }
    }
    if (!error) {
        std::string text = first_line(body);
        error = Error(code_of_http(http_status),
                      text.empty() ? fmt::format("HTTP status {}", http_status)
                                   : fmt::format("HTTP status {}: {}", http_status, text));
        error->with_cause(http_status);
    }
    // A date in Retry-After is not used by the API server.
    if (std::optional<int64_t> seconds = parse_number<int64_t>(trim(retry_after));
        seconds && *seconds >= 0) {
        error->with_retry_after(std::chrono::seconds(std::min<int64_t>(*seconds, 3600)));
    }
    return std::move(*error);
}

bool is_expired(const Error& error) {
    if (error.code() == Code::kOutOfRange) return true;
    // A server whose cache starts anew may be behind the version that we saw before.
    return error.cause_code() == 504 &&
           error.message().find("Too large resource version") != std::string::npos;
}

bool is_transient(const Error& error) {
    switch (error.code()) {
        case Code::kUnavailable:
        case Code::kResourceExhausted:
        case Code::kDeadlineExceeded:
        case Code::kInternal:
        case Code::kUnknown: return true;
        default: return false;
    }
}

}  // namespace basalt::kube
