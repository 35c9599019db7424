// Patches of documents: JSON Patch (RFC 6902, application/json-patch+json) and JSON Merge Patch
// (RFC 7386, application/merge-patch+json). Applying gives a new document or an error, never half a
// patch. Pure functions, any thread.
#pragma once

#include "base/result.h"
#include "data/value.h"

namespace basalt::data {

/// Applies an array of operations: add, remove, replace, move, copy, test.
/// Errors: InvalidArgument for a malformed patch; FailedPrecondition when a path does not exist or
/// a test fails; ResourceExhausted above the limits of base/limits.h (number of operations, copied
/// values).
Result<Value> apply_json_patch(Value document, const Value& operations);

/// Null removes a member, objects merge, all else replaces.
Value apply_merge_patch(Value document, const Value& patch);

/// The operations that make `from` into `to`, as an array for apply_json_patch(): what a mutating
/// webhook answers. Objects member by member; arrays item by item, at the end added or removed.
/// Empty when equal.
Value diff_to_json_patch(const Value& from, const Value& to);

/// The merge patch that makes `from` into `to`: {} for equal objects. Arrays are replaced whole. A
/// merge patch cannot set a member to null: null members of `to` count as absent.
Value merge_diff(const Value& from, const Value& to);

}  // namespace basalt::data
