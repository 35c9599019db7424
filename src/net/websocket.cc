#include "net/websocket.h"

#include <algorithm>

#include "async/wait.h"
#include "base/strings.h"
#include "data/base64.h"
#include "net/websocket_codec.h"

namespace basalt::net {

using async::Task;

namespace internal {
namespace {

constexpr size_t kReadSize = 64 * 1024;
constexpr size_t kMaxCloseReason = 123;  // A control frame holds 125 bytes, two of them the code.
constexpr uint16_t kNoCloseCode = 1005;

/// Shared by the socket and the operations in flight on it.
struct WebSocketState {
    WebSocketState(async::Loop& loop_in, std::unique_ptr<Stream> stream_in, bool is_server_in,
                   std::string protocol_in)
        : loop(loop_in),
          stream(std::move(stream_in)),
          is_server(is_server_in),
          protocol(std::move(protocol_in)),
          decoder(is_server_in, kMaxWebSocketMessageSize) {}
    async::Loop& loop;
    std::unique_ptr<Stream> stream;
    bool is_server;
    std::string protocol;
    WebSocketDecoder decoder;
    async::Semaphore sending{1};
    std::optional<WebSocketMessage> partial;  ///< Fragments so far.
    bool close_sent = false;
    uint16_t close_code = 0;
    std::string close_reason;
};
using StatePtr = std::shared_ptr<WebSocketState>;

Task<Result<void>> send_frame(StatePtr state, WebSocketFrame frame) {
    Result<void> acquired = co_await state->sending.acquire();
    if (!acquired.ok()) co_return std::move(acquired);
    Result<void> written;
    if (state->close_sent) {
        written = unavailable("WebSocket: closed");
    } else {
        if (frame.opcode == WebSocketOpcode::kClose) state->close_sent = true;
        std::optional<uint32_t> mask;
        if (!state->is_server) mask = static_cast<uint32_t>(state->loop.random());
        Result<void> sent = co_await state->stream->write(encode_frame(frame, mask));
        written = std::move(sent);
    }
    state->sending.release();
    co_return std::move(written);
}

WebSocketFrame close_frame(uint16_t code, std::string_view reason) {
    WebSocketFrame frame;
    frame.opcode = WebSocketOpcode::kClose;
    if (code != kNoCloseCode) {
        frame.payload += static_cast<char>(code >> 8);
        frame.payload += static_cast<char>(code & 0xff);
        frame.payload += reason.substr(0, kMaxCloseReason);
    }
    return frame;
}

void take_close(WebSocketState& state, const std::string& payload) {
    state.close_code = kNoCloseCode;
    if (payload.size() < 2) return;
    state.close_code = static_cast<uint16_t>(static_cast<unsigned char>(payload[0]) << 8 |
                                             static_cast<unsigned char>(payload[1]));
    state.close_reason = payload.substr(2);
}

/// Joins fragments; gives a message when it is whole.
Result<std::optional<WebSocketMessage>> take_data(WebSocketState& state, WebSocketFrame frame) {
    const bool starts = frame.opcode != WebSocketOpcode::kContinuation;
    if (starts == state.partial.has_value())
        return invalid_argument("WebSocket: fragments out of order");
    if (starts) {
        state.partial.emplace();
        state.partial->is_text = frame.opcode == WebSocketOpcode::kText;
    }
    if (state.partial->data.size() + frame.payload.size() > kMaxWebSocketMessageSize) {
        return resource_exhausted("WebSocket: the message is too large");
    }
    state.partial->data += frame.payload;
    if (!frame.final) return std::optional<WebSocketMessage>();
    return std::exchange(state.partial, std::nullopt);
}

Task<Result<std::optional<WebSocketMessage>>> fail(StatePtr state, Error error) {
    const bool is_large = error.code() == Code::kResourceExhausted;
    Result<void> told =
        co_await send_frame(state, close_frame(is_large ? 1009 : 1002, error.message()));
    static_cast<void>(told);
    state->stream->close();
    co_return std::move(error);
}

Task<Result<std::optional<WebSocketMessage>>> read_message(StatePtr state) {
    for (;;) {
        if (state->close_code != 0) co_return std::optional<WebSocketMessage>();
        Result<std::optional<WebSocketFrame>> frame = state->decoder.next();
        if (!frame.ok()) {
            Result<std::optional<WebSocketMessage>> failed =
                co_await fail(state, std::move(frame).error());
            co_return std::move(failed);
        }
        if (!frame->has_value()) {
            Result<std::string> data = co_await state->stream->read(kReadSize);
            if (!data.ok()) co_return std::move(data).error();
            if (data->empty())
                co_return unavailable("WebSocket: the connection ended without a close frame");
            state->decoder.feed(*data);
            continue;
        }
        if ((*frame)->opcode == WebSocketOpcode::kPong) continue;
        if ((*frame)->opcode == WebSocketOpcode::kPing) {
            (*frame)->opcode = WebSocketOpcode::kPong;
            Result<void> sent = co_await send_frame(state, std::move(**frame));
            if (!sent.ok() && !state->close_sent) co_return std::move(sent).error();
            continue;
        }
        if ((*frame)->opcode == WebSocketOpcode::kClose) {
            take_close(*state, (*frame)->payload);
            Result<void> echoed = co_await send_frame(state, close_frame(state->close_code, {}));
            static_cast<void>(echoed);
            continue;
        }
        Result<std::optional<WebSocketMessage>> message = take_data(*state, std::move(**frame));
        if (!message.ok()) {
            Result<std::optional<WebSocketMessage>> failed =
                co_await fail(state, std::move(message).error());
            co_return std::move(failed);
        }
        if (message->has_value()) co_return std::move(message);
    }
}

class WebSocketImpl final : public WebSocket {
 public:
    explicit WebSocketImpl(StatePtr state) : state_(std::move(state)) {}
    ~WebSocketImpl() override { state_->stream->close(); }
    Task<Result<std::optional<WebSocketMessage>>> read() override { return read_message(state_); }
    Task<Result<void>> write(WebSocketMessage message) override {
        WebSocketFrame frame;
        frame.opcode = message.is_text ? WebSocketOpcode::kText : WebSocketOpcode::kBinary;
        frame.payload = std::move(message.data);
        return send_frame(state_, std::move(frame));
    }
    Task<Result<void>> ping() override {
        WebSocketFrame frame;
        frame.opcode = WebSocketOpcode::kPing;
        return send_frame(state_, std::move(frame));
    }
    Task<Result<void>> close(uint16_t code, std::string reason) override {
        return send_frame(state_, close_frame(code, reason));
    }
    uint16_t close_code() const override { return state_->close_code; }
    const std::string& close_reason() const override { return state_->close_reason; }
    const std::string& protocol() const override { return state_->protocol; }

 private:
    StatePtr state_;
};

std::unique_ptr<WebSocket> make_socket(async::Loop& loop, std::unique_ptr<Stream> stream,
                                       bool is_server, std::string protocol) {
    return std::make_unique<WebSocketImpl>(
        std::make_shared<WebSocketState>(loop, std::move(stream), is_server, std::move(protocol)));
}

Code code_of_status(int status) {
    switch (status) {
        case 400: return Code::kInvalidArgument;
        case 401: return Code::kUnauthenticated;
        case 403: return Code::kPermissionDenied;
        case 404: return Code::kNotFound;
        case 409: return Code::kAborted;
        case 429: return Code::kResourceExhausted;
        case 502:
        case 503:
        case 504: return Code::kUnavailable;
        default: return Code::kFailedPrecondition;
    }
}

std::string random_key(async::Loop& loop) {
    std::string bytes;
    for (int i = 0; i < 2; ++i) {
        uint64_t word = loop.random();
        bytes.append(reinterpret_cast<const char*>(&word), sizeof(word));
    }
    return data::base64_encode(bytes);
}

bool has_word(std::string_view list, std::string_view word) {
    for (std::string_view part : split(list, ',')) {
        if (equal_ignore_case(trim(part), word)) return true;
    }
    return false;
}

/// Keeps the caller's coroutine function alive next to the socket it serves.
Task<void> serve_socket(std::function<Task<void>(std::unique_ptr<WebSocket>)> serve,
                        std::unique_ptr<WebSocket> socket) {
    co_await serve(std::move(socket));
}

}  // namespace
}  // namespace internal

Task<Result<std::unique_ptr<WebSocket>>> websocket_connect(async::Loop& loop,
                                                           std::shared_ptr<HttpClient> client,
                                                           HttpRequest request,
                                                           std::vector<std::string> protocols) {
    std::string key = internal::random_key(loop);
    request.headers.set("connection", "Upgrade");
    request.headers.set("upgrade", "websocket");
    request.headers.set("sec-websocket-version", "13");
    request.headers.set("sec-websocket-key", key);
    if (!protocols.empty()) request.headers.set("sec-websocket-protocol", join(protocols, ", "));
    Result<HttpClient::Upgraded> upgraded = co_await client->upgrade(std::move(request));
    if (!upgraded.ok()) co_return std::move(upgraded).error();
    if (!upgraded->stream) {
        std::string text =
            "the server refused the WebSocket: HTTP " + std::to_string(upgraded->status);
        if (!upgraded->body.empty()) text += ": " + upgraded->body.substr(0, 512);
        co_return Error(internal::code_of_status(upgraded->status), std::move(text))
            .with_cause(upgraded->status);
    }
    const Headers& headers = upgraded->headers;
    if (headers.get("sec-websocket-accept") != internal::websocket_accept_key(key)) {
        co_return unavailable("the server's WebSocket handshake is wrong");
    }
    std::string protocol(headers.get("sec-websocket-protocol"));
    const bool was_offered =
        std::find(protocols.begin(), protocols.end(), protocol) != protocols.end();
    if (!was_offered && !(protocol.empty() && protocols.empty())) {
        co_return failed_precondition(
            "the server speaks none of the WebSocket protocols that were offered");
    }
    co_return internal::make_socket(loop, std::move(upgraded->stream), false, std::move(protocol));
}

Result<HttpServerResponse> websocket_accept(
    async::Loop& loop, const ServerRequest& request, const std::vector<std::string>& protocols,
    std::function<Task<void>(std::unique_ptr<WebSocket>)> serve) {
    std::string_view key = request.headers.get("sec-websocket-key");
    if (request.method != "GET" ||
        !internal::has_word(request.headers.get("upgrade"), "websocket") ||
        !internal::has_word(request.headers.get("connection"), "upgrade") ||
        request.headers.get("sec-websocket-version") != "13" || key.size() != 24) {
        return invalid_argument("not a WebSocket handshake");
    }
    std::string chosen;
    for (const std::string& protocol : protocols) {
        if (!chosen.empty()) break;
        for (const auto& [name, value] : request.headers.fields()) {
            if (name == "sec-websocket-protocol" && internal::has_word(value, protocol))
                chosen = protocol;
        }
    }
    if (!protocols.empty() && chosen.empty())
        return invalid_argument("no WebSocket protocol in common");
    HttpServerResponse response;
    response.status = 101;
    response.headers = Headers{{"connection", "Upgrade"}, {"upgrade", "websocket"}};
    response.headers.add("sec-websocket-accept", internal::websocket_accept_key(key));
    if (!chosen.empty()) response.headers.add("sec-websocket-protocol", chosen);
    response.takeover = [&loop, chosen, serve = std::move(serve)](std::unique_ptr<Stream> stream) {
        return internal::serve_socket(serve,
                                      internal::make_socket(loop, std::move(stream), true, chosen));
    };
    return response;
}

}  // namespace basalt::net
