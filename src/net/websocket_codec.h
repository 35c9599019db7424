// WebSocket frames as values, without I/O.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace basalt::net::internal {

enum class WebSocketOpcode : uint8_t {
    kContinuation = 0,
    kText = 1,
    kBinary = 2,
    kClose = 8,
    kPing = 9,
    kPong = 10
};

struct WebSocketFrame {
    WebSocketOpcode opcode = WebSocketOpcode::kBinary;
    bool final = true;
    std::string payload;
};

/// With `mask` (clients) the payload is masked by it.
std::string encode_frame(const WebSocketFrame& frame, std::optional<uint32_t> mask);

class WebSocketDecoder {
 public:
    /// `expect_masked`: what the peer sends must (server) or must not (client) be masked.
    WebSocketDecoder(bool expect_masked, size_t max_payload_size)
        : expect_masked_(expect_masked), max_payload_size_(max_payload_size) {}
    void feed(std::string_view bytes);
    /// The next whole frame, or nothing yet. InvalidArgument: a protocol error; ResourceExhausted:
    /// too large.
    Result<std::optional<WebSocketFrame>> next();

 private:
    bool expect_masked_;
    size_t max_payload_size_;
    std::string buffer_;
    size_t offset_ = 0;
};

/// The server's proof that it read the client's key (RFC 6455 section 4.2.2).
std::string websocket_accept_key(std::string_view client_key);

}  // namespace basalt::net::internal
