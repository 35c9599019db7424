// Objects written as YAML text with ${placeholders}.
//
// The text is parsed first and the values put into its strings afterwards: what a tenant wrote
// cannot change the structure. A scalar that is nothing but one placeholder takes the value's own
// type ("${port}" becomes a number). Templates are compile-time text: one that does not parse, or
// names an unknown placeholder, asserts.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "data/value.h"

namespace basalt::controlplane {

using Placeholders = std::map<std::string, data::Value, std::less<>>;

/// All documents of `yaml`, filled in.
std::vector<data::Value> instantiate(std::string_view yaml, const Placeholders& values);

}  // namespace basalt::controlplane
