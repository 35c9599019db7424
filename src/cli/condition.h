// Conditions (metav1.Condition) of an object, for people. Pure.
#pragma once

#include <string>
#include <string_view>

#include "data/value.h"

namespace basalt::cli {

/// Of the object's status; null when there is none of that type. Valid as long as the object.
inline const data::Value& condition(const data::Value& object, std::string_view type) {
    static constinit const data::Value kNone;
    for (const data::Value& item : object["status"]["conditions"].items()) {
        if (item["type"].as_string() == type) return item;
    }
    return kNone;
}

/// "Reason: message", of a condition or of a container's waiting state.
inline std::string reason_and_message(const data::Value& item) {
    std::string text = item["reason"].str();
    if (!item["message"].empty()) text += ": " + item["message"].str();
    return text;
}

}  // namespace basalt::cli
