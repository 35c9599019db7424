// Base64 (RFC 4648 section 4, what Secret.data uses). Strict: correct padding,
// no white space, no foreign characters, no stray bits in the last character.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace basalt::data {

std::string base64_encode(std::string_view bytes);
/// Errors: InvalidArgument; the message never holds the input.
Result<std::string> base64_decode(std::string_view text);
/// The same, but line breaks are left out first: for what people paste, where Go ignores them, too.
Result<std::string> base64_decode_lines(std::string_view text);

}  // namespace basalt::data
