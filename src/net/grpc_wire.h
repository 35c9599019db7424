// The parts of gRPC's protocol that are plain values: frames, time-outs, status, metadata. No I/O.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "net/grpc.h"

namespace basalt::net::internal {

/// Five bytes of prefix, then the message.
std::string grpc_frame(std::string_view message);

/// Cuts a body into messages.
class GrpcDecoder {
 public:
    explicit GrpcDecoder(size_t max_message_size) : max_message_size_(max_message_size) {}
    void feed(std::string_view bytes);
    /// The next whole message, or nothing yet. ResourceExhausted for one above the limit, Internal
    /// for a compressed one: the stream cannot be read on.
    Result<std::optional<std::string>> next();
    /// Bytes of an unfinished message.
    bool empty() const { return offset_ == buffer_.size(); }

 private:
    size_t max_message_size_;
    std::string buffer_;
    size_t offset_ = 0;
};

/// "250m": at most eight digits, rounded up.
std::string format_grpc_timeout(Duration timeout);
std::optional<Duration> parse_grpc_timeout(std::string_view text);

/// grpc-message: printable ASCII stays, the rest as %XX of UTF-8.
std::string encode_grpc_message(std::string_view text);
std::string decode_grpc_message(std::string_view text);

/// Ours to the wire: "-bin" values as base64 without padding. InvalidArgument for reserved or
/// illegal names.
Result<Headers> encode_metadata(const GrpcMetadata& metadata);
/// From the wire: without what belongs to HTTP and gRPC itself; "-bin" values as bytes.
GrpcMetadata decode_metadata(const Headers& headers);

/// The status that ended a call. OK gives an empty result; without grpc-status Unknown.
Result<void> status_from(const Headers& trailers);
Headers status_trailers(const Result<void>& status);
/// For a response that is not gRPC's, by its HTTP status.
Error error_of_http_status(int status);
/// Errors of the stream, as gRPC maps HTTP/2's codes.
Error error_of_transport(Error error);

}  // namespace basalt::net::internal
