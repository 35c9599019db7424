// One seeded run: misfortune for a while, then peace, then checks.
//
// Checks, by name: "converges" (every control plane becomes Ready in time), "equals" (the state is
// what one undisturbed pass makes, normalise.h), "idle" (no write when nothing changes), "leaders"
// and "keys" (invariants seen during the run, world.h), "leaks" (after deletion nothing is left),
// "bugs" (no survivable impossibility was counted).
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
