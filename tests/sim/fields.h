// Sets of fields, and the merging of applied configurations: the thinking of server-side apply, for
// the model API server. As the Kubernetes documentation and FieldsV1 describe it; compared with a
// real server by agreement_test.cc. Pure functions.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tests/sim/shape.h"

namespace basalt::sim {

/// A tree of path elements: "f:name", "k:{…}", "v:…". A node that is a member is in the set.
struct FieldSet {
    bool member = false;
    std::map<std::string, FieldSet> children;

    bool empty() const { return !member && children.empty(); }
    friend bool operator==(const FieldSet&, const FieldSet&) = default;
};

/// FieldsV1 to and fro.
FieldSet parse_fields(const Value& fields_v1);
Value print_fields(const FieldSet& set);
/// "spec.containers[name=a].image" …, for messages.
std::vector<std::string> list_paths(const FieldSet& set);

/// What an applied `value` owns.
FieldSet fields_of(const Value& value, const Shape& shape);
FieldSet unite(FieldSet a, const FieldSet& b);
FieldSet subtract(const FieldSet& a, const FieldSet& b);
FieldSet intersect(const FieldSet& a, const FieldSet& b);

struct FieldChanges {
    FieldSet changed;  ///< Added or modified.
    FieldSet removed;
};
FieldChanges compare_fields(const Value& before, const Value& after, const Shape& shape);

/// `live` with what `config` says.
Value merge_applied(const Value& live, const Value& config, const Shape& shape);
/// Takes away what `last` had and nobody in `managed` has.
void prune_applied(Value& object, const FieldSet& last, const FieldSet& managed,
                   const Shape& shape);

}  // namespace basalt::sim
