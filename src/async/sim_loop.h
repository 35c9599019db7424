// The Loop of the simulator: virtual time, and an order of ready callbacks drawn from a seed.
//
// Time stands still while anything is ready and then jumps to the next timer, so that an hour of
// retries takes no time. Offloaded work runs in place; its completion is one more ready callback.
// Two runs with one seed and one program do the same.
#pragma once

#include <map>
#include <random>
#include <unordered_map>
#include <vector>

#include "async/loop.h"

namespace basalt::async {

class SimLoop final : public Loop {
 public:
    /// Calendar time starts at `start`.
    explicit SimLoop(uint64_t seed, WallTime start = WallTime(std::chrono::seconds(1'767'225'600)));

    /// Runs one ready callback, or jumps to the next timer and runs that; false when nothing is
    /// left.
    bool run_one();
    /// Runs everything that is ready and all timers up to `now() + duration`; ends at that time.
    void run_for(Duration duration);
    /// Runs until `done` returns true; false when nothing is left, or nothing before `now() +
    /// limit` (virtual time then stands there).
    bool run_until(const std::function<bool()>& done, Duration limit);
    /// Runs all that is ready, without letting time pass.
    void run_ready();

    /// Moves calendar time, not monotonic time: a clock that was corrected.
    void jump_wall_clock(Duration by) { wall_offset_ += by; }
    size_t timers_count() const { return timers_.size(); }

    TimePoint now() const override { return now_; }
    WallTime wall_now() const override;
    void post(Callback callback) override;
    TimerId call_at(TimePoint when, Callback callback) override;
    void cancel_timer(TimerId id) override;
    void offload(Callback work, Callback done) override;
    uint64_t random() override { return random_(); }

 private:
    bool run_ready_one();
    void fire_due();

    std::mt19937_64 random_;
    TimePoint start_;
    TimePoint now_;
    WallTime wall_start_;
    Duration wall_offset_{0};
    std::vector<Callback> ready_;
    std::map<std::pair<TimePoint, TimerId>, Callback> timers_;
    std::unordered_map<TimerId, TimePoint> times_;
    std::unordered_map<TimerId, Callback> due_;  ///< Fired, waiting for their turn among the ready.
    TimerId next_timer_ = 1;
};

}  // namespace basalt::async
