// YAML to and from Value, with the semantics of kubectl and the API machinery (sigs.k8s.io/yaml).
//
// Reading: YAML 1.1 scalars — y/yes/on/true and n/no/off/false are booleans (lower case,
// capitalised or upper case), 0x, 0o, 0b and leading-0 octal integers, floats, ~ and null;
// timestamps stay strings; .inf and .nan, which JSON lacks, are errors. Quoted scalars are strings
// always. Keys of mappings become strings: beware that the key y reads as "true". Anchors, aliases
// and merge keys (<<) are resolved, their expansion is limited; duplicate keys are errors. Depth
// and size are limited as for JSON.
//
// Writing: block style, members in their order; strings that would read as something else are
// quoted, strings of several lines become literal blocks. What to_yaml() writes, parse_yaml() reads
// back equal. Pure functions, any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "data/json.h"
#include "data/value.h"

namespace basalt::data {

/// Exactly one document (an empty text is a null Value); more are InvalidArgument.
Result<Value> parse_yaml(std::string_view text, const ParseOptions& options = {});
/// All documents of a stream; those without content (only comments, or nothing between "---") are
/// left out.
Result<std::vector<Value>> parse_yaml_documents(std::string_view text,
                                                const ParseOptions& options = {});

/// Ends with a newline.
std::string to_yaml(const Value& value);
/// Documents with "---" between them.
std::string to_yaml_documents(const std::vector<Value>& documents);

}  // namespace basalt::data
