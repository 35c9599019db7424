// Errors as values.
//
// One convention for the whole product: a function that can fail returns Result<T> (result.h); the
// Error in it carries a canonical code (who has to act), a message, the context each layer added,
// and, when the cause was a foreign protocol, that protocol's own code. Callers decide by the code:
// retry at once (Aborted), back off (Unavailable, DeadlineExceeded, ResourceExhausted), or tell the
// user (all others); a controller retries all of them with growing delays, but those that are made
// with terminal() (controller/controller.h). The codes are the sixteen canonical ones of gRPC
// (https://grpc.io/docs/guides/status-codes/).
//
// Cost: a success carries one null pointer; a failure is one allocation.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace basalt {

enum class Code {
    kOk = 0,
    kCancelled = 1,  ///< The caller gave up; not a fault.
    kUnknown = 2,
    kInvalidArgument = 3,  ///< Input is wrong whatever the state: tell the user.
    kDeadlineExceeded = 4,
    kNotFound = 5,
    kAlreadyExists = 6,
    kPermissionDenied = 7,
    kResourceExhausted = 8,   ///< Quota, full disk, rate limit: back off.
    kFailedPrecondition = 9,  ///< The state has to change first; a retry alone does not help.
    kAborted = 10,            ///< Conflict with another writer: read again and retry at once.
    kOutOfRange = 11,
    kUnimplemented = 12,
    kInternal = 13,     ///< A broken invariant, ours or the peer's.
    kUnavailable = 14,  ///< The peer is not there now: back off and retry.
    kDataLoss = 15,
    kUnauthenticated = 16,
};

/// "NotFound", "Unavailable", …
std::string_view code_name(Code code);

/// A failure. Movable and copyable (copies share the payload, which is immutable once shared).
class [[nodiscard]] Error {
 public:
    Error(Code code, std::string message);

    Code code() const { return payload_->code; }
    const std::string& message() const { return payload_->message; }

    /// Protocol-level cause: HTTP status, errno or gRPC code; 0 when there is none.
    int cause_code() const { return payload_->cause_code; }
    /// Machine-readable cause, for instance the `reason` of a Kubernetes Status ("Conflict",
    /// "Invalid").
    const std::string& reason() const { return payload_->reason; }
    /// How long the peer asked to wait before the next try.
    std::optional<std::chrono::milliseconds> retry_after() const { return payload_->retry_after; }

    /// True when a later retry of the same operation may succeed without anyone acting.
    bool retriable() const;

    Error& with_cause(int cause_code, std::string reason = {}) &;
    Error&& with_cause(int cause_code, std::string reason = {}) &&;
    Error& with_retry_after(std::chrono::milliseconds delay) &;

    /// Puts what was being attempted in front of the message: "create Deployment a/b: connection
    /// refused".
    Error& add_context(std::string_view context) &;
    Error&& context(std::string_view context) &&;

    /// "Unavailable: create Deployment a/b: connection refused"
    std::string to_string() const;

 private:
    struct Payload {
        Code code;
        std::string message;
        int cause_code = 0;
        std::string reason;
        std::optional<std::chrono::milliseconds> retry_after;
    };
    Payload& mutable_payload();
    std::shared_ptr<Payload> payload_;
};

Error invalid_argument(std::string message);
Error not_found(std::string message);
Error already_exists(std::string message);
Error failed_precondition(std::string message);
Error unavailable(std::string message);
Error deadline_exceeded(std::string message);
Error cancelled(std::string message = "cancelled");
Error internal_error(std::string message);
Error resource_exhausted(std::string message);
Error unimplemented(std::string message);
Error aborted(std::string message);
Error permission_denied(std::string message);
/// From errno; maps ENOENT, EACCES, EEXIST, ECONNREFUSED, ETIMEDOUT, ENOSPC … to canonical codes.
Error errno_error(int error_number, std::string_view what);

}  // namespace basalt
