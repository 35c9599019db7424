// The Loop of a running process: Asio's event loop on one thread, the system's clocks, a small
// worker pool.
#pragma once

#include <memory>

#include "async/loop.h"

namespace basalt::async {

class RealLoop final : public Loop {
 public:
    /// `workers_count` threads serve offload(); they start with the first use.
    explicit RealLoop(size_t workers_count = 1);
    ~RealLoop() override;

    /// Runs until stop() or, after keep_running(false), until no callback, timer, offloaded work or
    /// socket operation is left; signal callbacks count as work. May be called again. A stop() that
    /// comes first makes the next run() return at once.
    void run();
    /// Makes run() return after the callback in progress. Safe from any thread.
    void stop();
    /// Whether run() stays when idle. Default true.
    void keep_running(bool keep);
    /// Calls `callback` on this loop at every delivery of `signal_number` (SIGTERM, SIGINT, SIGHUP,
    /// SIGCHLD).
    void on_signal(int signal_number, Callback callback);

    TimePoint now() const override;
    WallTime wall_now() const override;
    void post(Callback callback) override;
    TimerId call_at(TimePoint when, Callback callback) override;
    void cancel_timer(TimerId id) override;
    void offload(Callback work, Callback done) override;
    uint64_t random() override;

    /// The boost::asio::io_context, for net/ only.
    void* native();

 private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace basalt::async
