// One seeded run: misfortune for a while, then peace, then checks.
//
// Checks, by name: "converges" (every control plane that is not put to sleep becomes Ready in
// time), "asleep" (one that is looks like it), "equals" (the state is what one undisturbed pass
// makes, normalise.h), "idle" (nobody asks for a change when nothing changes), "invariants" (of
// leadership, keys and data, seen during the run, world.h), "leaks" (after deletion the cluster is
// as it was before), "bugs" (no survivable impossibility was counted).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace basalt::sim {

struct RunOptions {
    uint64_t seed = 1;
    int minutes = 20;        ///< Of misfortune, virtual.
    double fault_scale = 1;  ///< Of the connections' faults.
    bool verbose = false;
};

struct RunResult {
    bool ok = true;
    std::string check;  ///< That failed.
    std::vector<std::string> details;
    std::vector<std::string> script;  ///< What happened.
    uint64_t writes = 0;              ///< Of controllers.
    uint64_t trace = 0;               ///< A hash of every write of anybody, with its time.
    size_t control_planes = 0;        ///< Compared at the end.
    /// For people.
    std::string to_string(const RunOptions& options) const;
};

RunResult run_seed(const RunOptions& options);

}  // namespace basalt::sim
