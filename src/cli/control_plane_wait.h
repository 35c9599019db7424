// Waits until a control plane is as a command has asked for it, saying meanwhile what is missing.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "kube/client.h"

namespace basalt::cli {

struct ControlPlaneGoal {
    /// Ready, unless it shall sleep.
    bool asleep = false;
    std::string version;  ///< "" is any.
};

/// A line for people; nullopt when nothing is missing. Pure.
std::optional<std::string> what_is_missing(const data::Value& control_plane,
                                           const ControlPlaneGoal& goal);

/// Until nothing is missing; `on_missing` hears each new line. By watch, so that it costs the
/// server one request. NotFound when the control plane goes. On the client's loop, which must be
/// the caller's; cancellable.
async::Task<Result<void>> wait_for_control_plane(
    kube::Client& client, kube::Resource control_planes, kube::ObjectKey key, ControlPlaneGoal goal,
    std::function<void(const std::string& missing)> on_missing);

}  // namespace basalt::cli
