// JSON pointers (RFC 6901): "/spec/containers/0/image"; "~1" stands for "/", "~0" for "~" in a
// segment. Pure functions, any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "data/value.h"

namespace basalt::data {

class Pointer {
 public:
    /// The whole document.
    Pointer() = default;
    explicit Pointer(std::vector<std::string> segments) : segments_(std::move(segments)) {}

    /// "" or "/…". Errors: InvalidArgument.
    static Result<Pointer> parse(std::string_view text);

    const std::vector<std::string>& segments() const noexcept { return segments_; }
    bool is_root() const noexcept { return segments_.empty(); }
    Pointer child(std::string_view segment) const;
    std::string to_string() const;
    /// True when `other` lies strictly below this.
    bool is_above(const Pointer& other) const noexcept;

    /// The value there, or null when there is none. Valid until `document` changes.
    const Value* find(const Value& document) const noexcept;
    Value* find(Value& document) const noexcept;

    friend bool operator==(const Pointer&, const Pointer&) = default;

 private:
    std::vector<std::string> segments_;
};

/// `segment` with "~" and "/" escaped.
std::string escape_pointer_segment(std::string_view segment);

/// The value at `pointer`. Errors: InvalidArgument for a bad pointer, NotFound.
Result<Value> pointer_get(const Value& document, std::string_view pointer);
/// Sets the member or item, the last segment "-" appends; missing objects on the way are created,
/// arrays are not. Errors: InvalidArgument for an index out of range or a scalar on the way.
Result<void> pointer_set(Value& document, std::string_view pointer, Value value);
/// Removes the member or item; the root becomes null. Errors: NotFound.
Result<void> pointer_remove(Value& document, std::string_view pointer);

/// An array index as RFC 6901 wants it: decimal, no leading zero; `size` itself when `segment` is
/// "-".
Result<size_t> parse_index(std::string_view segment, size_t size);

}  // namespace basalt::data
