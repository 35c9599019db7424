#include "async/sim_loop.h"

namespace basalt::async {

// Not zero: a default-constructed TimePoint must read as long past.
SimLoop::SimLoop(uint64_t seed, WallTime start)
    : random_(seed), start_(std::chrono::hours(1)), now_(start_), wall_start_(start) {}

WallTime SimLoop::wall_now() const {
    return wall_start_ +
           std::chrono::duration_cast<WallTime::duration>(now_ - start_ + wall_offset_);
}

void SimLoop::post(Callback callback) { ready_.push_back(std::move(callback)); }

Loop::TimerId SimLoop::call_at(TimePoint when, Callback callback) {
    TimerId id = next_timer_++;
    timers_.emplace(std::pair(when, id), std::move(callback));
    times_.emplace(id, when);
    return id;
}

void SimLoop::cancel_timer(TimerId id) {
    due_.erase(id);
    auto found = times_.find(id);
    if (found == times_.end()) return;
    timers_.erase(std::pair(found->second, id));
    times_.erase(found);
}

void SimLoop::offload(Callback work, Callback done) {
    post([work = std::move(work), done = std::move(done), this] {
        work();
        post(done);
    });
}

void SimLoop::fire_due() {
    while (!timers_.empty() && timers_.begin()->first.first <= now_) {
        auto node = timers_.extract(timers_.begin());
        TimerId id = node.key().second;
        times_.erase(id);
        due_.emplace(id, std::move(node.mapped()));
        ready_.push_back([this, id] {
            auto due = due_.extract(id);
            if (due) due.mapped()();  // Else cancelled by a callback that ran before it.
        });
    }
}

bool SimLoop::run_ready_one() {
    fire_due();
    if (ready_.empty()) return false;
    size_t index = random_() % ready_.size();
    std::swap(ready_[index], ready_.back());
    Callback callback = std::move(ready_.back());
    ready_.pop_back();
    callback();
    return true;
}

bool SimLoop::run_one() {
    if (run_ready_one()) return true;
    if (timers_.empty()) return false;
    now_ = timers_.begin()->first.first;
    return run_ready_one();
}

void SimLoop::run_ready() {
    while (run_ready_one()) {
    }
}

void SimLoop::run_for(Duration duration) {
    TimePoint end = now_ + duration;
    run_ready();
    while (!timers_.empty() && timers_.begin()->first.first <= end) {
        now_ = timers_.begin()->first.first;
        run_ready();
    }
    now_ = end;
}

bool SimLoop::run_until(const std::function<bool()>& done, Duration limit) {
    TimePoint end = now_ + limit;
    while (!done()) {
        if (run_ready_one()) continue;
        if (timers_.empty()) return false;
        TimePoint next = timers_.begin()->first.first;
        if (next > end) {
            now_ = end;
            return false;
        }
        now_ = next;
    }
    return true;
}

}  // namespace basalt::async
