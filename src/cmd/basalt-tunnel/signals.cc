#include "cmd/basalt-tunnel/signals.h"

#include <csignal>

#include "base/log.h"

namespace basalt::cmd {

void run_until_asked(async::RealLoop& loop, std::function<async::Task<void>()> finish) {
    async::TaskGroup ending(loop);
    int signals_count = 0;
    const auto on_signal = [&] {
        ++signals_count;
        if (signals_count == 1) {
            log_info("asked to stop");
            ending.spawn(finish());
        } else {
            ending.cancel();
        }
    };
    loop.on_signal(SIGTERM, on_signal);
    loop.on_signal(SIGINT, on_signal);
    loop.run();
}

}  // namespace basalt::cmd
