// Any bytes as gRPC frames, WebSocket frames, time-outs, status texts and metadata.
#include <cstdlib>

#include "net/grpc_wire.h"
#include "net/websocket_codec.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace basalt::net;
    using namespace basalt::net::internal;
    if (size < 1) return 0;
    size_t step = data[0] % 32 + size_t{1};
    std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
    GrpcDecoder decoder(1000);
    WebSocketDecoder frames((data[0] & 0x80) != 0, 1000);
    bool grpc_ok = true, frames_ok = true;
    for (size_t i = 0; i < bytes.size(); i += step) {
        decoder.feed(bytes.substr(i, step));
        frames.feed(bytes.substr(i, step));
        while (grpc_ok) {
            auto message = decoder.next();
            grpc_ok = message.ok() && message->has_value();
            if (grpc_ok && (*message)->size() > 1000) std::abort();
        }
        grpc_ok = true;
        while (frames_ok) {
            auto frame = frames.next();
            frames_ok = frame.ok() && frame->has_value();
        }
        frames_ok = true;
    }
    auto timeout = parse_grpc_timeout(bytes);
    if (timeout && *timeout > basalt::Duration::zero() &&
        !parse_grpc_timeout(format_grpc_timeout(*timeout)))
        std::abort();
    if (decode_grpc_message(encode_grpc_message(bytes)) != bytes) std::abort();
    std::string value(bytes);
    Headers wire{{"x-bin", value}, {"grpc-status", value}, {"grpc-message", value}};
    decode_metadata(wire);
    auto status = status_from(wire);
    status_trailers(status);
    auto encoded = encode_metadata(Headers{{"y-bin", value}});
    if (encoded.ok() && decode_metadata(*encoded).get("y-bin") != value) std::abort();
    return 0;
}
