// DEFLATE (RFC 1951) of whole texts, for keeping them in memory (Beast's port of zlib).
//
// Tuned for speed: the fastest level. Only for bytes of our own making: what comes from outside
// would need a limit on how much it may grow. Pure functions, any thread.
#pragma once

#include <string>
#include <string_view>

namespace basalt::net {

std::string deflate(std::string_view text);
/// Of what deflate() made from `size` bytes. Anything else is a programmer's error.
std::string inflate(std::string_view packed, size_t size);

}  // namespace basalt::net
