// A connection of one process to a model API server, with everything that can go wrong on the way.
// A request is on its way on the world's loop, also when the process that sent it stands still; a
// connection is made on the process's.
//
// Faults are drawn from one Chaos for the whole run, so that a seed replays. A connection that was
// killed (its process crashed) fails everything that is open and everything that comes.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "async/loop.h"
#include "net/http.h"
#include "tests/sim/api_server.h"

namespace basalt::sim {

/// Chances are of one request, unless said otherwise.
struct FaultRates {
    double not_sent = 0;       ///< Refused before the server saw it.
    double lost_response = 0;  ///< Acted on, but the answer is lost.
    double throttled = 0;      ///< 429 with Retry-After.
    double unavailable = 0;    ///< 503 or 500.
    double conflict = 0;       ///< 409 of a change, though nothing is wrong.
    double slow = 0;           ///< Takes up to three seconds.
    double dial = 0;           ///< Finds no connection: up to three seconds of the process's own.
    double watch_break = 0;    ///< Of one event: the stream breaks before it.
    double watch_lag = 0;      ///< Of one event: it comes up to five seconds late.
    double watch_twice = 0;    ///< Of one event: it comes twice.
    double etcd_error = 0;     ///< Of one call, half of them after its effect.
    double etcd_slow = 0;      ///< Of one call: it takes up to three seconds.
};

FaultRates no_faults();
FaultRates many_faults(double scale);

/// Chance itself, apart from the loop's own.
class Chaos {
 public:
    explicit Chaos(uint64_t seed) : random_(seed) {}
    bool chance(double probability);
    /// Uniform in [0, limit).
    uint64_t below(uint64_t limit) { return limit == 0 ? 0 : random_() % limit; }
    Duration between(Duration low, Duration high);
    template <class T>
    const T& pick(const std::vector<T>& items) {
        return items[below(items.size())];
    }

    FaultRates rates;

 private:
    std::mt19937_64 random_;
};

/// What all connections of one process have in common.
struct Link {
    /// Nothing gets through before, in either direction.
    TimePoint blocked_until{};
    /// Requests that are there to change something, but for leases.
    uint64_t writes_count = 0;
    /// Such that wait for a connection now.
    int waiting_writes = 0;
};

class Connection final : public net::HttpTransport {
 public:
    /// The server this leads to now; an error when nothing listens there.
    using Dial = std::function<Result<std::shared_ptr<ApiServer>>()>;

    /// `loop` is the world's, `process` that of the process at this end.
    Connection(async::Loop& loop, async::Loop& process, Chaos& chaos, std::string who,
               std::shared_ptr<Link> link, Dial dial);
    async::Task<Result<net::HttpResponse>> send(net::HttpRequest request) override;

    /// The process at this end is gone.
    void kill();
    bool killed() const { return *dead_; }
    /// Called before a write reaches the server; true kills the process in its place, before or
    /// after the effect.
    std::function<bool(bool after_effect)> crash_point;

 private:
    struct Exchange {
        net::HttpRequest request;
        std::function<void(Result<net::HttpResponse>)> done;
        async::Loop::TimerId timer = 0;
        std::optional<Result<net::HttpResponse>> answer;
    };
    void arrive(Exchange& exchange);
    Result<net::HttpResponse> act(const net::HttpRequest& request);
    std::optional<Result<net::HttpResponse>> fault_before(const net::HttpRequest& request);
    net::HttpResponse respond(ApiServer::Answer answer, std::shared_ptr<ApiServer> server);

    async::Loop& loop_;
    async::Loop& process_;
    Chaos& chaos_;
    std::string who_;
    Dial dial_;
    std::shared_ptr<bool> dead_ = std::make_shared<bool>(false);
    std::shared_ptr<Link> link_;
    std::vector<std::weak_ptr<Stream>> streams_;
};

}  // namespace basalt::sim
