// metadata.managedFields of the model API server: who owns what after a write.
#pragma once

#include <optional>
#include <string>

#include "tests/sim/fields.h"

namespace basalt::sim {

struct Manager {
    std::string name;
    bool is_apply = false;
    std::string subresource;
    std::string api_version;
    std::string time;
};

/// `object` without what is not a field, as seen by a write to `subresource` of `kind`.
Value tracked_part(const Kind& kind, Value object, const std::string& subresource);

/// After a create or update: `after` gets its managedFields, from those of `before` (null:
/// created).
void track_update(const Kind& kind, const Value& before, Value& after, const Manager& manager);

struct AppliedResult {
    Value object;          ///< Merged, with managedFields; defaults are still to be filled in.
    std::string conflict;  ///< Fields of other managers, when not forced.
};
AppliedResult apply_configuration(const Kind& kind, const Value& live, const Value& config,
                                  const Manager& manager, bool force);

/// Equal but for the times in managedFields.
bool same_state(const Value& a, const Value& b);

}  // namespace basalt::sim
