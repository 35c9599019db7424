// 64-bit hashes of documents and strings, the same in every process and on every machine, for
// change detection and names. Not for adversaries: whoever chooses the content can make two
// documents collide.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "data/value.h"

namespace basalt::data {

inline constexpr uint64_t kHashSeed = 0xcbf29ce484222325;  // the offset basis of FNV-1a

/// FNV-1a (http://www.isthe.com/chongo/tech/comp/fnv/); give the result of an earlier call as seed
/// to go on.
uint64_t fnv1a(std::string_view bytes, uint64_t seed = kHashSeed) noexcept;

/// Of the document's content: the order of members does not matter, equal Values (also 1 and 1.0)
/// agree.
uint64_t hash(const Value& value) noexcept;

/// 16 lower-case hex digits.
std::string hash_hex(uint64_t hash);

}  // namespace basalt::data
