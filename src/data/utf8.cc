#include "data/utf8.h"

namespace basalt::data {

size_t utf8_length(std::string_view text) noexcept {
    const auto at = [&](size_t i) {
        return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u;
    };
    const auto continues = [&](size_t i) { return (at(i) & 0xc0) == 0x80; };
    if (text.empty()) return 0;
    const unsigned lead = at(0);
    if (lead < 0x80) return 1;
    if (lead < 0xc2 || lead > 0xf4 || !continues(1)) return 0;
    if (lead < 0xe0) return 2;
    if (lead < 0xf0) {
        if ((lead == 0xe0 && at(1) < 0xa0) || (lead == 0xed && at(1) > 0x9f)) return 0;
        return continues(2) ? 3 : 0;
    }
    if ((lead == 0xf0 && at(1) < 0x90) || (lead == 0xf4 && at(1) > 0x8f)) return 0;
    return continues(2) && continues(3) ? 4 : 0;
}

bool is_valid_utf8(std::string_view text) noexcept {
    while (!text.empty()) {
        const size_t length = utf8_length(text);
        if (length == 0) return false;
        text.remove_prefix(length);
    }
    return true;
}

std::string clip_utf8(std::string_view text, size_t size_max) {
    static constexpr std::string_view kEllipsis = "\u2026";
    if (text.size() <= size_max) return std::string(text);
    size_t end = size_max < kEllipsis.size() ? 0 : size_max - kEllipsis.size();
    // Not inside of a sequence.
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
    std::string clipped(text.substr(0, end));
    if (size_max >= kEllipsis.size()) clipped += kEllipsis;
    return clipped;
}

}  // namespace basalt::data
