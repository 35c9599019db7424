#include "async/real_loop.h"

#include <atomic>
#include <chrono>
#include <map>
#include <optional>
#include <random>
#include <unordered_map>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>

namespace basalt::async {

namespace asio = boost::asio;

// Timers share one Asio timer, armed for the earliest: thousands of deadlines that never fire cost
// a map entry each and no system call.
struct RealLoop::State {
    explicit State(size_t threads_count) : workers_count(threads_count) {}

    void arm() {
        if (timers.empty()) return;
        TimePoint first = timers.begin()->first.first;
        if (armed && armed_for <= first) return;
        armed = true;
        armed_for = first;
        timer.expires_at(first);
        timer.async_wait([this](const boost::system::error_code& error) {
            if (error) return;  // Armed anew for an earlier time.
            armed = false;
            fire();
        });
    }

    void fire() {
        TimePoint now = Clock::now();
        // Timers that callbacks add wait for the next turn, even when they are due: sockets come
        // first.
        const TimerId first_new = next_timer;
        while (!timers.empty() && timers.begin()->first.first <= now &&
               timers.begin()->first.second < first_new) {
            auto node = timers.extract(timers.begin());
            times.erase(node.key().second);
            node.mapped()();
        }
        arm();
    }

    /// The Asio timer outlives the timers it was armed for; it must not keep an idle run() alive.
    void disarm_if_idle() {
        if (guard || !timers.empty() || !armed) return;
        armed = false;
        timer.cancel();
    }

    asio::io_context context{1};
    std::optional<asio::executor_work_guard<asio::io_context::executor_type>> guard{
        context.get_executor()};
    std::atomic<bool> stop_requested{false};
    asio::steady_timer timer{context};
    asio::signal_set signals{context};
    std::map<int, Callback> signal_callbacks;
    bool waiting_for_signal = false;
    std::map<std::pair<TimePoint, TimerId>, Callback> timers;
    std::unordered_map<TimerId, TimePoint> times;
    TimerId next_timer = 1;
    bool armed = false;
    TimePoint armed_for;
    size_t workers_count;
    std::unique_ptr<asio::thread_pool> workers;
    std::mt19937_64 random{std::random_device{}()};

    void wait_for_signal() {
        if (std::exchange(waiting_for_signal, true)) return;
        signals.async_wait([this](const boost::system::error_code& error, int number) {
            if (error) return;
            waiting_for_signal = false;
            Callback callback = signal_callbacks[number];  // A copy: it may replace itself.
            callback();
            wait_for_signal();
        });
    }
};

RealLoop::RealLoop(size_t workers_count) : state_(std::make_unique<State>(workers_count)) {}

RealLoop::~RealLoop() {
    if (state_->workers) state_->workers->join();
}

void RealLoop::run() {
    // Asio's context also counts as stopped when it once ran out of work, so a stop() that came
    // before run() needs a note of its own.
    state_->context.restart();
    if (!state_->stop_requested) state_->context.run();
    state_->stop_requested = false;
}

void RealLoop::stop() {
    state_->stop_requested = true;
    state_->context.stop();
}

void RealLoop::keep_running(bool keep) {
    if (!keep) {
        state_->guard.reset();
        state_->disarm_if_idle();
    } else if (!state_->guard) {
        state_->guard.emplace(state_->context.get_executor());
    }
}

void RealLoop::on_signal(int signal_number, Callback callback) {
    state_->signals.add(signal_number);
    state_->signal_callbacks[signal_number] = std::move(callback);
    state_->wait_for_signal();
}

TimePoint RealLoop::now() const { return Clock::now(); }

WallTime RealLoop::wall_now() const {
    return std::chrono::time_point_cast<WallTime::duration>(std::chrono::system_clock::now());
}

void RealLoop::post(Callback callback) { asio::post(state_->context, std::move(callback)); }

Loop::TimerId RealLoop::call_at(TimePoint when, Callback callback) {
    TimerId id = state_->next_timer++;
    state_->timers.emplace(std::pair(when, id), std::move(callback));
    state_->times.emplace(id, when);
    state_->arm();
    return id;
}

void RealLoop::cancel_timer(TimerId id) {
    auto found = state_->times.find(id);
    if (found == state_->times.end()) return;
    state_->timers.erase(std::pair(found->second, id));
    state_->times.erase(found);
    state_->disarm_if_idle();
}

void RealLoop::offload(Callback work, Callback done) {
    if (!state_->workers) {
        state_->workers = std::make_unique<asio::thread_pool>(state_->workers_count);
    }
    auto pending = asio::make_work_guard(state_->context);
    asio::post(*state_->workers, [this, work = std::move(work), done = std::move(done),
                                  pending = std::move(pending)]() mutable {
        work();
        asio::post(state_->context, std::move(done));
    });
}

uint64_t RealLoop::random() { return state_->random(); }

void* RealLoop::native() { return &state_->context; }

}  // namespace basalt::async
