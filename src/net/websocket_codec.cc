#include "net/websocket_codec.h"

#include <openssl/evp.h>

#include <array>

#include "data/base64.h"

namespace basalt::net::internal {
namespace {

uint64_t big_endian(std::string_view bytes) {
    uint64_t value = 0;
    for (char c : bytes) value = value << 8 | static_cast<unsigned char>(c);
    return value;
}

void apply_mask(std::string& payload, std::string_view mask) {
    for (size_t i = 0; i < payload.size(); ++i) {
        payload[i] = static_cast<char>(static_cast<unsigned char>(payload[i]) ^
                                       static_cast<unsigned char>(mask[i % 4]));
    }
}

bool is_known(uint8_t opcode) { return opcode <= 2 || (opcode >= 8 && opcode <= 10); }

}  // namespace

std::string encode_frame(const WebSocketFrame& frame, std::optional<uint32_t> mask) {
    std::string bytes;
    bytes.reserve(frame.payload.size() + 14);
    bytes += static_cast<char>((frame.final ? 0x80 : 0) | static_cast<int>(frame.opcode));
    const size_t size = frame.payload.size();
    const int mask_bit = mask ? 0x80 : 0;
    int length_bytes = 0;
    if (size < 126) {
        bytes += static_cast<char>(mask_bit | static_cast<int>(size));
    } else {
        length_bytes = size <= 0xffff ? 2 : 8;
        bytes += static_cast<char>(mask_bit | (length_bytes == 2 ? 126 : 127));
    }
    for (int i = length_bytes - 1; i >= 0; --i)
        bytes += static_cast<char>(static_cast<uint64_t>(size) >> (8 * i) & 0xff);
    if (!mask) return bytes + frame.payload;
    std::string key;
    for (int shift = 24; shift >= 0; shift -= 8) key += static_cast<char>(*mask >> shift & 0xff);
    std::string payload = frame.payload;
    apply_mask(payload, key);
    return bytes + key + payload;
}

void WebSocketDecoder::feed(std::string_view bytes) {
    if (offset_ > buffer_.size() / 2) {
        buffer_.erase(0, offset_);
        offset_ = 0;
    }
    buffer_ += bytes;
}

Result<std::optional<WebSocketFrame>> WebSocketDecoder::next() {
    std::string_view rest = std::string_view(buffer_).substr(offset_);
    if (rest.size() < 2) return std::optional<WebSocketFrame>();
    const auto first = static_cast<uint8_t>(rest[0]);
    const auto second = static_cast<uint8_t>(rest[1]);
    const auto opcode = static_cast<uint8_t>(first & 0x0f);
    const bool final = (first & 0x80) != 0;
    const bool masked = (second & 0x80) != 0;
    const bool is_control = opcode >= 8;
    uint64_t size = second & 0x7f;
    if ((first & 0x70) != 0) return invalid_argument("WebSocket: reserved bits are set");
    if (!is_known(opcode)) return invalid_argument("WebSocket: unknown opcode");
    if (masked != expect_masked_) return invalid_argument("WebSocket: wrong masking");
    if (is_control && (!final || size > 125))
        return invalid_argument("WebSocket: malformed control frame");
    size_t header_size = 2;
    if (size >= 126) {
        size_t length_size = size == 126 ? 2 : 8;
        if (rest.size() < header_size + length_size) return std::optional<WebSocketFrame>();
        size = big_endian(rest.substr(header_size, length_size));
        header_size += length_size;
    }
    if (size > max_payload_size_) return resource_exhausted("WebSocket: the frame is too large");
    if (masked) header_size += 4;
    if (rest.size() < header_size || rest.size() - header_size < size)
        return std::optional<WebSocketFrame>();
    WebSocketFrame frame;
    frame.opcode = static_cast<WebSocketOpcode>(opcode);
    frame.final = final;
    frame.payload = std::string(rest.substr(header_size, size));
    if (masked) apply_mask(frame.payload, rest.substr(header_size - 4, 4));
    offset_ += header_size + size;
    return std::optional<WebSocketFrame>(std::move(frame));
}

std::string websocket_accept_key(std::string_view client_key) {
    std::string text = std::string(client_key) + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned size = 0;
    EVP_Digest(text.data(), text.size(), digest.data(), &size, EVP_sha1(), nullptr);
    return data::base64_encode(
        std::string_view(reinterpret_cast<const char*>(digest.data()), size));
}

}  // namespace basalt::net::internal
