// Independent steps at the same time, one thread each: they wait for other programs, not for the
// processor.
#pragma once

#include <functional>
#include <future>
#include <vector>

#include "base/result.h"

namespace basalt::local {

/// Runs all to their end; the first error in the order of `steps`, if any.
inline Result<void> run_parallel(const std::vector<std::function<Result<void>()>>& steps) {
    std::vector<std::future<Result<void>>> running;
    running.reserve(steps.size());
    for (const auto& step : steps) running.push_back(std::async(std::launch::async, step));
    Result<void> first;
    for (auto& each : running) {
        Result<void> result = each.get();
        if (first.ok() && !result.ok()) first = std::move(result);
    }
    return first;
}

}  // namespace basalt::local
