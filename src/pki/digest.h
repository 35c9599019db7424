// Digests of bytes. Pure functions, any thread.
#pragma once

#include <string>
#include <string_view>

namespace basalt::pki {

/// Lower-case hex. For change detection where a format asks for it (the annotation
/// kamaji.clastix.io/checksum), never where somebody could profit from a collision.
std::string md5_hex(std::string_view bytes);

std::string sha256(std::string_view bytes);      ///< 32 raw bytes.
std::string sha256_hex(std::string_view bytes);  ///< 64 lower-case hex digits.

/// Lower-case hex of any bytes.
std::string to_hex(std::string_view bytes);

}  // namespace basalt::pki
