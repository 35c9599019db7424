#include "data/base64.h"

#include <array>
#include <cstdint>

namespace basalt::data {
namespace {

constexpr char kAlphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr uint8_t kBad = 0xff;

constexpr std::array<uint8_t, 256> reverse(const char* alphabet) {
    std::array<uint8_t, 256> table{};
    for (auto& entry : table) entry = kBad;
    for (uint8_t i = 0; i < 64; ++i) table[static_cast<unsigned char>(alphabet[i])] = i;
    return table;
}

constexpr auto kReverse = reverse(kAlphabet);

}  // namespace

std::string base64_encode(std::string_view bytes) {
    std::string text;
    text.reserve((bytes.size() + 2) / 3 * 4);
    for (size_t i = 0; i < bytes.size(); i += 3) {
        uint32_t group = 0;
        const size_t count = bytes.size() - i < 3 ? bytes.size() - i : 3;
        for (size_t j = 0; j < 3; ++j) {
            group = group << 8 | (j < count ? static_cast<unsigned char>(bytes[i + j]) : 0u);
        }
        for (size_t j = 0; j <= count; ++j) text += kAlphabet[group >> (18 - 6 * j) & 63];
        text.append(3 - count, '=');
    }
    return text;
}

Result<std::string> base64_decode(std::string_view text) {
    if (text.size() % 4 != 0) return invalid_argument("base64: wrong length");
    for (int i = 0; i < 2 && !text.empty() && text.back() == '='; ++i) text.remove_suffix(1);
    std::string bytes;
    bytes.reserve(text.size() / 4 * 3 + 2);
    uint32_t bits = 0;
    unsigned count = 0;
    for (const char c : text) {
        const uint8_t digit = kReverse[static_cast<unsigned char>(c)];
        if (digit == kBad) return invalid_argument("base64: wrong character");
        bits = bits << 6 | digit;
        count += 6;
        if (count >= 8) {
            count -= 8;
            bytes += static_cast<char>(bits >> count & 0xff);
        }
    }
    if ((bits & ((1u << count) - 1)) != 0) return invalid_argument("base64: stray bits at the end");
    return bytes;
}

Result<std::string> base64_decode_lines(std::string_view text) {
    if (text.find_first_of("\r\n") == std::string_view::npos) return base64_decode(text);
    std::string one_line(text);
    std::erase_if(one_line, [](char c) { return c == '\r' || c == '\n'; });
    return base64_decode(one_line);
}

}  // namespace basalt::data
