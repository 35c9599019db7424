// The loop of one process in the world: the world's, unless the process is frozen or slow; and its
// own calendar.
//
// A frozen process (stopped, or on a machine that stands still) runs nothing: what becomes ready
// waits for the thaw, and then comes in any order, after all deadlines. A slow one (its memory is
// on disk, its share of the processor small) runs one thing at a time, in any order, with a pause
// before each. What either sent before is on its way nevertheless: connections (connection.h) and
// the model of etcd use the world's loop. One loop.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "async/loop.h"

namespace basalt::sim {

class ProcessLoop final : public async::Loop {
 public:
    /// `world` must outlive everything that runs here.
    explicit ProcessLoop(async::Loop& world) : state_(std::make_shared<State>(world)) {}

    using Pause = std::function<Duration()>;
    void freeze() { state_->frozen = true; }
    /// Ends a standstill, too.
    void slow_down(Pause pause);
    /// Runs as the world does again.
    void recover();
    bool frozen() const { return state_->frozen; }
    bool slow() const { return state_->pause != nullptr; }
    /// How far its calendar is from the world's.
    void set_clock(Duration offset) { clock_offset_ = offset; }

    TimePoint now() const override { return state_->world.now(); }
    WallTime wall_now() const override {
        return state_->world.wall_now() + wall_duration(clock_offset_);
    }
    void post(async::Callback callback) override;
    TimerId call_at(TimePoint when, async::Callback callback) override;
    void cancel_timer(TimerId id) override;
    void offload(async::Callback work, async::Callback done) override;
    uint64_t random() override { return state_->world.random(); }

 private:
    struct State {
        explicit State(async::Loop& loop) : world(loop) {}
        bool runs() const { return !frozen && pause == nullptr; }

        async::Loop& world;
        bool frozen = false;
        Pause pause;
        bool stepping = false;  ///< A slow process: its next turn is set.
        std::vector<async::Callback> held;
        std::map<TimerId, async::Callback> due;  ///< Timers that are over and had no turn yet.
    };
    using Shared = std::shared_ptr<State>;
    /// `callback` when its turn comes, now or later.
    static async::Callback gated(const Shared& state, async::Callback callback);
    static void hold(const Shared& state, async::Callback callback);
    static void step_later(const Shared& state);

    // Callbacks that outlive the process find it here.
    Shared state_;
    Duration clock_offset_{0};
};

}  // namespace basalt::sim
