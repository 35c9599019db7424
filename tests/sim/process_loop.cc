#include "tests/sim/process_loop.h"

#include <utility>

namespace basalt::sim {

async::Callback ProcessLoop::gated(const Shared& state, async::Callback callback) {
    return [state, callback = std::move(callback)] {
        if (state->runs()) {
            callback();
        } else {
            hold(state, callback);
        }
    };
}

void ProcessLoop::hold(const Shared& state, async::Callback callback) {
    state->held.push_back(std::move(callback));
    step_later(state);
}

/// The next turn of a slow process.
void ProcessLoop::step_later(const Shared& state) {
    if (state->frozen || !state->pause || state->stepping || state->held.empty()) return;
    state->stepping = true;
    state->world.call_at(state->world.now() + state->pause(), [state] {
        state->stepping = false;
        if (state->frozen || !state->pause || state->held.empty()) return;
        std::swap(state->held[state->world.random() % state->held.size()], state->held.back());
        const async::Callback callback = std::move(state->held.back());
        state->held.pop_back();
        callback();
        step_later(state);
    });
}

void ProcessLoop::slow_down(Pause pause) {
    state_->frozen = false;
    state_->pause = std::move(pause);
    step_later(state_);
}

void ProcessLoop::recover() {
    state_->frozen = false;
    state_->pause = nullptr;
    // It may be frozen again before their turn.
    for (async::Callback& callback : std::exchange(state_->held, {})) post(std::move(callback));
}

void ProcessLoop::post(async::Callback callback) {
    state_->world.post(gated(state_, std::move(callback)));
}

async::Loop::TimerId ProcessLoop::call_at(TimePoint when, async::Callback callback) {
    auto id = std::make_shared<TimerId>(0);
    *id = state_->world.call_at(when, [state = state_, id, callback = std::move(callback)] {
        if (state->runs()) {
            callback();
            return;
        }
        // It may still be cancelled before its turn.
        state->due[*id] = callback;
        hold(state, [state, timer = *id] {
            auto due = state->due.extract(timer);
            if (due) due.mapped()();
        });
    });
    return *id;
}

void ProcessLoop::cancel_timer(TimerId id) {
    state_->due.erase(id);
    state_->world.cancel_timer(id);
}

void ProcessLoop::offload(async::Callback work, async::Callback done) {
    state_->world.offload(std::move(work), gated(state_, std::move(done)));
}

}  // namespace basalt::sim
