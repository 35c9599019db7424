// UTF-8 (RFC 3629): no overlong forms, no surrogates, nothing above U+10FFFF.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace basalt::data {

/// Bytes of the valid sequence at the front of `text`; 0 when it is empty or starts with none.
size_t utf8_length(std::string_view text) noexcept;
bool is_valid_utf8(std::string_view text) noexcept;
/// `text`, or as much of its front as fits into `size_max` bytes with "…" after it.
std::string clip_utf8(std::string_view text, size_t size_max);

}  // namespace basalt::data
