// What `basalt describe tcp` shows: the root cause first, then a tree from the control plane down
// to its Pods. Pure.
#pragma once

#include <string>
#include <vector>

#include "base/time.h"
#include "cli/tree.h"
#include "data/value.h"

namespace basalt::cli {

struct ControlPlaneWorld {
    data::Value control_plane;
    data::Value datastore;  ///< Null when there is none.
    std::vector<data::Value> pods, secrets;
    data::Value service, deployment;
    WallTime now;
};

struct ControlPlaneReport {
    std::string headline;  ///< One line: Ready, or why not.
    bool ready = false;
    Tree tree;
};

/// The one that was chosen, or before that the one that is asked for; empty when neither is.
std::string datastore_name(const data::Value& control_plane);

ControlPlaneReport describe_control_plane(const ControlPlaneWorld& world);

}  // namespace basalt::cli
