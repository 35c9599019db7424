// Conditions (metav1.Condition) in an object's status. Pure functions.
#pragma once

#include <string>
#include <string_view>

#include "base/time.h"
#include "data/value.h"

namespace basalt::controller {

inline constexpr std::string_view kTrue = "True";
inline constexpr std::string_view kFalse = "False";
inline constexpr std::string_view kUnknown = "Unknown";

struct Condition {
    Condition() = default;
    Condition(std::string_view type_name, std::string_view status_value,
              std::string_view reason_text, std::string_view message_text = {},
              int64_t generation = 0)
        : type(type_name),
          status(status_value),
          reason(reason_text),
          message(message_text),
          observed_generation(generation) {}

    std::string type;
    std::string status = "Unknown";
    std::string reason;  ///< CamelCase, never empty on the wire.
    std::string message;
    int64_t observed_generation = 0;
};

/// The condition, or a null Value.
const data::Value& find_condition(const data::Value& status, std::string_view type);
bool is_condition_true(const data::Value& status, std::string_view type);

/// Puts the condition into `status.conditions`. lastTransitionTime moves only when `status` of the
/// condition does. Messages are cut at 32 KiB, the API's limit. True when anything changed.
bool set_condition(data::Value& status, const Condition& condition, WallTime now);
/// True when there was one.
bool remove_condition(data::Value& status, std::string_view type);

}  // namespace basalt::controller
