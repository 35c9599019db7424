// What the model API server knows about the structure of kinds: which lists are maps or sets, which
// values are owned as a whole, what has a default, what is pruned.
//
// Built-in kinds come from a table in shape.cc (facts of the Kubernetes API, no more of it than
// control planes touch: unknown fields are open maps, unknown lists atomic); custom resources come
// from their CRDs in deploy/crds.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "data/value.h"
#include "kube/object.h"

namespace basalt::sim {

using data::Value;

struct Shape {
    enum class Kind { kOpen, kAtomic, kListMap, kListSet };
    Kind kind = Kind::kOpen;
    std::vector<std::string> keys;  ///< Of a list map.
    const Shape* item = nullptr;    ///< Of a list; null: open.
    std::map<std::string, const Shape*> fields;
    const Shape* rest = nullptr;  ///< Of members that `fields` does not name; null: open.
    bool closed = false;          ///< Members without a shape are pruned.
    Value default_value;          ///< Null: none.

    /// Never null.
    const Shape& field(std::string_view name) const;
    const Shape& items() const;
};

const Shape& open_shape();

/// One kind that a server serves.
struct Kind {
    kube::Resource resource;
    const Shape* shape = nullptr;
    bool has_status = false;  ///< A status subresource.
    bool has_generation = false;
    Value scale;  ///< Paths of the scale subresource, or null.
    bool custom = false;
};

/// Built-in kinds; shapes live as long as the program.
const std::vector<Kind>& built_in_kinds();
/// The kinds of deploy/crds.
const std::vector<Kind>& custom_kinds();

/// Fills in what is missing, by shape and by the rules of the kind that depend on other fields.
void apply_defaults(const Kind& kind, Value& object);
/// The path of the first member that the shape does not know; "" when there is none.
std::string undeclared_field(const Shape& shape, const Value& value);
/// Drops members that the shape does not know.
void prune_unknown(const Shape& shape, Value& value);

}  // namespace basalt::sim
