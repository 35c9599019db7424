// Why Pods of a control plane are not Ready, in words: the root cause first, with the container's
// last words. Pure.
#pragma once

#include <string>
#include <vector>

#include "data/value.h"

namespace basalt::controlplane {

struct Diagnosis {
    std::string reason;  ///< CamelCase: "ImagePullBackOff", "CrashLoopBackOff", "Unschedulable",
                         ///< "Starting" …
    std::string message;
    bool is_failure = false;  ///< False while it is only a matter of time.
};

/// Of the Pods of a Deployment; those of older ReplicaSets, on their way out, count only when no
/// other explains it.
Diagnosis diagnose_pods(const data::Value& deployment, const std::vector<data::SharedValue>& pods);

}  // namespace basalt::controlplane
