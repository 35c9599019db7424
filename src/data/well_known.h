// Strings of over 14 bytes that nearly every Kubernetes object repeats: field names, label keys,
// common constants. Value shares them from here in place of a heap block each.
#pragma once

#include <string_view>

namespace basalt::data {

/// The entry equal to `text`, with static lifetime, or null. Any thread.
const std::string_view* find_well_known(std::string_view text) noexcept;

}  // namespace basalt::data
