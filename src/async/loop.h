// Loop: where code runs, and the only source of time and chance.
//
// One loop is one thread; an object belongs to one loop and needs no locks. Two drivers stand
// behind this interface: RealLoop (real_loop.h, Asio) and SimLoop (sim_loop.h: virtual time, seeded
// order, offload in place). Whatever runs on a Loop& can therefore be replayed from a seed.
#pragma once

#include <cstdint>
#include <functional>

#include "base/time.h"

namespace basalt::async {

using Callback = std::function<void()>;

class Loop {
 public:
    using TimerId = uint64_t;

    virtual ~Loop() = default;

    /// Monotonic time, for timers and durations. Never compare it with another process's.
    virtual TimePoint now() const = 0;
    /// Calendar time, for certificates, leases and status. May jump.
    virtual WallTime wall_now() const = 0;

    /// Runs `callback` soon, on this loop, never inside this call. Safe from any thread.
    virtual void post(Callback callback) = 0;

    /// Runs `callback` at or after `when`, on this loop. Call from this loop only.
    virtual TimerId call_at(TimePoint when, Callback callback) = 0;
    /// Forgets a timer; no-op when it has fired. Call from this loop only.
    virtual void cancel_timer(TimerId id) = 0;

    /// Runs `work` on a worker thread (bounded pool), then `done` on this loop. For CPU work over a
    /// millisecond: keys, signatures, big decodes. `work` must not touch what belongs to a loop.
    virtual void offload(Callback work, Callback done) = 0;

    /// Uniform bits for jitter and names. Not for keys: those come from pki::KeySource.
    virtual uint64_t random() = 0;
};

}  // namespace basalt::async
