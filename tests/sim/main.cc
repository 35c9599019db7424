// basalt-sim: runs seeds of the simulator, and replays one.
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>

#include <fmt/format.h>

#include "base/log.h"
#include "tests/sim/run.h"

namespace {

constexpr const char* kUsage =
    "usage: basalt-sim [--seed N] [--seeds COUNT] [--minutes M] [--faults SCALE] [--verbose]\n"
    "Runs COUNT seeds from N on (without --seed: a random one). --verbose prints every write.\n";

}  // namespace

int main(int argc, char** argv) {
    using namespace basalt;
    sim::RunOptions options;
    options.seed = std::random_device()() % 1'000'000;
    uint64_t seeds = 1;
    for (int i = 1; i < argc; ++i) {
        const std::string flag = argv[i];
        if (flag == "--verbose") {
            options.verbose = true;
            continue;
        }
        const char* value = i + 1 < argc ? argv[++i] : nullptr;
        if (value != nullptr && flag == "--seed") {
            options.seed = std::strtoull(value, nullptr, 10);
        } else if (value != nullptr && flag == "--seeds") {
            seeds = std::strtoull(value, nullptr, 10);
        } else if (value != nullptr && flag == "--minutes") {
            options.minutes = std::atoi(value);
        } else if (value != nullptr && flag == "--faults") {
            options.fault_scale = std::atof(value);
        } else {
            fmt::print(stderr, "{}", kUsage);
            return 2;
        }
    }
    LogOptions log;
    log.level = options.verbose ? LogLevel::kDebug : LogLevel::kError;
    configure_log(log);
    int failed = 0;
    for (uint64_t i = 0; i < seeds; ++i) {
        const sim::RunResult result = sim::run_seed(options);
        fmt::print("{}\n", result.to_string(options));
        std::fflush(stdout);
        failed += result.ok ? 0 : 1;
        ++options.seed;
    }
    if (seeds > 1) fmt::print("{} of {} seeds failed\n", failed, seeds);
    return failed == 0 ? 0 : 1;
}
