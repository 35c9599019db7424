// The loop of one process in the world: the world's, unless the process is frozen.
//
// A frozen process (stopped, or on a machine that stands still) runs nothing: what becomes ready
// waits for the thaw, and then comes at once and in any order, after all deadlines. What it sent
// before is on its way nevertheless: connections (connection.h) and the model of etcd use the
// world's loop. One loop.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "async/loop.h"

namespace basalt::sim {

class ProcessLoop final : public async::Loop {
 public:
    /// `world` must outlive everything that runs here.
    explicit ProcessLoop(async::Loop& world) : world_(world) {}

    void freeze() { state_->frozen = true; }
    void thaw();
    bool frozen() const { return state_->frozen; }

    TimePoint now() const override { return world_.now(); }
    WallTime wall_now() const override { return world_.wall_now(); }
    void post(async::Callback callback) override;
    TimerId call_at(TimePoint when, async::Callback callback) override;
    void cancel_timer(TimerId id) override;
    void offload(async::Callback work, async::Callback done) override;
    uint64_t random() override { return world_.random(); }

 private:
    struct State {
        bool frozen = false;
        std::vector<async::Callback> held;
        std::map<TimerId, async::Callback> due;  ///< Timers that are over, in a frozen process.
    };
    /// `callback` when its turn comes, now or at the thaw.
    static async::Callback gated(const std::shared_ptr<State>& state, async::Callback callback);

    async::Loop& world_;
    // Callbacks that outlive the process find it here.
    std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace basalt::sim
