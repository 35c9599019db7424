// WebSocket (RFC 6455) over HTTP/1.1, both sides: exec, attach and consoles.
//
// Without extensions. Pings are answered inside read(), so a socket has to be read to stay alive.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "net/http_client.h"
#include "net/http_server.h"

namespace basalt::net {

/// One message, fragments joined. Kubernetes' streams send at most 32 KiB at once.
inline constexpr size_t kMaxWebSocketMessageSize = 1024 * 1024;

struct WebSocketMessage {
    std::string data;
    bool is_text = false;
};

/// One read and one write at a time; they may overlap. Dropping it closes the connection.
class WebSocket {
 public:
    virtual ~WebSocket() = default;
    /// The next message; nullopt after the peer's close (see close_code()). Unavailable when the
    /// connection broke.
    virtual async::Task<Result<std::optional<WebSocketMessage>>> read() = 0;
    virtual async::Task<Result<void>> write(WebSocketMessage message) = 0;
    virtual async::Task<Result<void>> ping() = 0;
    /// Starts the closing handshake; read() on until it gives nullopt. 1000: normal.
    virtual async::Task<Result<void>> close(uint16_t code, std::string reason) = 0;
    /// The peer's code and text; 1005 when it gave none, 0 before.
    virtual uint16_t close_code() const = 0;
    virtual const std::string& close_reason() const = 0;
    /// The subprotocol that was agreed on, or "".
    virtual const std::string& protocol() const = 0;
};

/// `request` without the handshake's own headers. An answer other than 101 is an Error by its
/// status, with that as cause_code() and the start of its body in the message.
async::Task<Result<std::unique_ptr<WebSocket>>> websocket_connect(
    async::Loop& loop, std::shared_ptr<HttpClient> client, HttpRequest request,
    std::vector<std::string> protocols);

/// The response of an HttpHandler that accepts the upgrade; `serve` then owns the socket. The first
/// of `protocols` that the client offers is taken; InvalidArgument when it is no WebSocket
/// handshake or, with protocols given, none fits.
Result<HttpServerResponse> websocket_accept(
    async::Loop& loop, const ServerRequest& request, const std::vector<std::string>& protocols,
    std::function<async::Task<void>(std::unique_ptr<WebSocket>)> serve);

}  // namespace basalt::net
