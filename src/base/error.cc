#include "base/error.h"

#include <cerrno>
#include <cstring>

#include <fmt/format.h>

namespace basalt {

std::string_view code_name(Code code) {
    switch (code) {
        case Code::kOk: return "Ok";
        case Code::kCancelled: return "Cancelled";
        case Code::kUnknown: return "Unknown";
        case Code::kInvalidArgument: return "InvalidArgument";
        case Code::kDeadlineExceeded: return "DeadlineExceeded";
        case Code::kNotFound: return "NotFound";
        case Code::kAlreadyExists: return "AlreadyExists";
        case Code::kPermissionDenied: return "PermissionDenied";
        case Code::kResourceExhausted: return "ResourceExhausted";
        case Code::kFailedPrecondition: return "FailedPrecondition";
        case Code::kAborted: return "Aborted";
        case Code::kOutOfRange: return "OutOfRange";
        case Code::kUnimplemented: return "Unimplemented";
        case Code::kInternal: return "Internal";
        case Code::kUnavailable: return "Unavailable";
        case Code::kDataLoss: return "DataLoss";
        case Code::kUnauthenticated: return "Unauthenticated";
    }
    return "Unknown";
}

Error::Error(Code code, std::string message)
    : payload_(std::make_shared<Payload>(Payload{code, std::move(message), 0, {}, {}})) {}

bool Error::retriable() const {
    switch (code()) {
        case Code::kAborted:
        case Code::kUnavailable:
        case Code::kDeadlineExceeded:
        case Code::kResourceExhausted: return true;
        default: return false;
    }
}

Error::Payload& Error::mutable_payload() {
    if (payload_.use_count() > 1) payload_ = std::make_shared<Payload>(*payload_);
    return *payload_;
}

Error& Error::with_cause(int cause_code, std::string reason) & {
    Payload& payload = mutable_payload();
    payload.cause_code = cause_code;
    payload.reason = std::move(reason);
    return *this;
}

Error&& Error::with_cause(int cause_code, std::string reason) && {
    with_cause(cause_code, std::move(reason));
    return std::move(*this);
}

Error& Error::with_retry_after(std::chrono::milliseconds delay) & {
    mutable_payload().retry_after = delay;
    return *this;
}

Error& Error::add_context(std::string_view context) & {
    Payload& payload = mutable_payload();
    payload.message = fmt::format("{}: {}", context, payload.message);
    return *this;
}

Error&& Error::context(std::string_view context) && {
    add_context(context);
    return std::move(*this);
}

std::string Error::to_string() const { return fmt::format("{}: {}", code_name(code()), message()); }

Error invalid_argument(std::string message) { return {Code::kInvalidArgument, std::move(message)}; }
Error not_found(std::string message) { return {Code::kNotFound, std::move(message)}; }
Error already_exists(std::string message) { return {Code::kAlreadyExists, std::move(message)}; }
Error failed_precondition(std::string message) {
    return {Code::kFailedPrecondition, std::move(message)};
}
Error unavailable(std::string message) { return {Code::kUnavailable, std::move(message)}; }
Error deadline_exceeded(std::string message) {
    return {Code::kDeadlineExceeded, std::move(message)};
}
Error cancelled(std::string message) { return {Code::kCancelled, std::move(message)}; }
Error internal_error(std::string message) { return {Code::kInternal, std::move(message)}; }
Error resource_exhausted(std::string message) {
    return {Code::kResourceExhausted, std::move(message)};
}
Error unimplemented(std::string message) { return {Code::kUnimplemented, std::move(message)}; }
Error aborted(std::string message) { return {Code::kAborted, std::move(message)}; }
Error permission_denied(std::string message) {
    return {Code::kPermissionDenied, std::move(message)};
}

namespace {

Code code_of_errno(int error_number) {
    switch (error_number) {
        case ENOENT: return Code::kNotFound;
        case EEXIST: return Code::kAlreadyExists;
        case EACCES:
        case EPERM: return Code::kPermissionDenied;
        case EINVAL: return Code::kInvalidArgument;
        case ENOSPC:
        case EMFILE:
        case ENFILE:
        case ENOMEM: return Code::kResourceExhausted;
        case ETIMEDOUT: return Code::kDeadlineExceeded;
        case ECANCELED: return Code::kCancelled;
        case ECONNREFUSED:
        case ECONNRESET:
        case EHOSTUNREACH:
        case ENETUNREACH:
        case EPIPE: return Code::kUnavailable;
        default: return Code::kUnknown;
    }
}

}  // namespace

Error errno_error(int error_number, std::string_view what) {
    char buffer[128];
    const char* text = strerror_r(error_number, buffer, sizeof buffer);
    return Error(code_of_errno(error_number), fmt::format("{}: {}", what, text))
        .with_cause(error_number);
}

}  // namespace basalt
