#include "tests/sim/process_loop.h"

#include <utility>

namespace basalt::sim {

async::Callback ProcessLoop::gated(const std::shared_ptr<State>& state, async::Callback callback) {
    return [state, callback = std::move(callback)] {
        if (state->frozen) {
            state->held.push_back(callback);
        } else {
            callback();
        }
    };
}

void ProcessLoop::thaw() {
    state_->frozen = false;
    for (async::Callback& callback : std::exchange(state_->held, {})) post(std::move(callback));
    for (const auto& [id, callback] : state_->due) {
        // It may still be cancelled, or the process be frozen again, before its turn.
        post([state = state_, timer = id] {
            auto due = state->due.extract(timer);
            if (due) due.mapped()();
        });
    }
}

void ProcessLoop::post(async::Callback callback) {
    world_.post(gated(state_, std::move(callback)));
}

async::Loop::TimerId ProcessLoop::call_at(TimePoint when, async::Callback callback) {
    auto id = std::make_shared<TimerId>(0);
    *id = world_.call_at(when, [state = state_, id, callback = std::move(callback)] {
        if (state->frozen) {
            state->due[*id] = callback;
        } else {
            callback();
        }
    });
    return *id;
}

void ProcessLoop::cancel_timer(TimerId id) {
    state_->due.erase(id);
    world_.cancel_timer(id);
}

void ProcessLoop::offload(async::Callback work, async::Callback done) {
    world_.offload(std::move(work), gated(state_, std::move(done)));
}

}  // namespace basalt::sim
