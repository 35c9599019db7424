// What a plain (unquoted) YAML scalar means: shared by reader and writer, so that what one writes
// plain the other reads as a string.
#pragma once

#include <string>
#include <string_view>

#include "data/value.h"

namespace basalt::data {

/// Null, boolean, integer, double (may be infinite or NaN) or the text itself.
Value resolve_plain_scalar(std::string_view text);

/// As a key of a mapping: Go prints doubles of keys in single precision, and so does this. Not for
/// containers.
std::string scalar_to_key(const Value& value);

}  // namespace basalt::data
