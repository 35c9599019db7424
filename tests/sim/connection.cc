#include "tests/sim/connection.h"

#include <algorithm>

#include "async/wait.h"
#include "data/json.h"

namespace basalt::sim {

namespace {

using namespace std::chrono_literals;

net::HttpResponse respond_document(int status, const Value& body, net::Headers headers = {}) {
    net::HttpResponse response;
    response.status = status;
    response.headers = std::move(headers);
    response.body = read_text(data::to_json(body));
    return response;
}

/// Anything but a lease.
bool changes_something(const net::HttpRequest& request) {
    return request.method != "GET" && request.target.find("/leases") == std::string::npos;
}

/// Events of a watch as they arrive at a distant reader.
class DistantReader final : public net::BodyReader {
 public:
    DistantReader(async::Loop& loop, Chaos& chaos, std::shared_ptr<Link> link,
                  std::shared_ptr<Stream> stream, std::shared_ptr<ApiServer> server)
        : loop_(loop),
          chaos_(chaos),
          link_(std::move(link)),
          server_(std::move(server)),
          reader_(read_stream(std::move(stream))) {}

    async::Task<Result<std::optional<std::string>>> read() override {
        if (!again_.empty()) {
            std::optional<std::string> copy(std::exchange(again_, {}));
            co_return std::move(copy);
        }
        Result<std::optional<std::string>> line = co_await reader_->read();
        if (!line.ok() || !line->has_value()) co_return std::move(line);
        if (chaos_.chance(chaos_.rates.watch_break))
            co_return unavailable("the connection was reset");
        if (chaos_.chance(chaos_.rates.watch_lag)) {
            Result<void> slept = co_await async::sleep_for(loop_, chaos_.between(0s, 5s));
            if (!slept.ok()) co_return std::move(slept).error();
        }
        Result<void> through = co_await async::sleep_until(loop_, link_->blocked_until);
        if (!through.ok()) co_return std::move(through).error();
        if (chaos_.chance(chaos_.rates.watch_twice)) again_ = **line;
        co_return std::move(line);
    }
    const net::Headers& trailers() const override { return reader_->trailers(); }

 private:
    async::Loop& loop_;
    Chaos& chaos_;
    std::shared_ptr<Link> link_;
    std::shared_ptr<ApiServer> server_;
    std::unique_ptr<net::BodyReader> reader_;
    std::string again_;
};

}  // namespace

FaultRates no_faults() { return {}; }

FaultRates many_faults(double scale) {
    FaultRates rates;
    rates.not_sent = 0.02 * scale;
    rates.lost_response = 0.02 * scale;
    rates.throttled = 0.01 * scale;
    rates.unavailable = 0.02 * scale;
    rates.conflict = 0.02 * scale;
    rates.slow = 0.03 * scale;
    rates.dial = 0.05 * scale;
    rates.watch_break = 0.01 * scale;
    rates.watch_lag = 0.1 * scale;
    rates.watch_twice = 0.02 * scale;
    rates.etcd_error = 0.05 * scale;
    rates.etcd_slow = 0.03 * scale;
    return rates;
}

bool Chaos::chance(double probability) {
    if (probability <= 0) return false;
    return static_cast<double>(random_() >> 11) * 0x1.0p-53 < probability;
}

Duration Chaos::between(Duration low, Duration high) {
    const auto span = static_cast<uint64_t>((high - low).count());
    return low + Duration(static_cast<int64_t>(below(span + 1)));
}

Connection::Connection(async::Loop& loop, async::Loop& process, Chaos& chaos, std::string who,
                       std::shared_ptr<Link> link, Dial dial)
    : loop_(loop),
      process_(process),
      chaos_(chaos),
      who_(std::move(who)),
      dial_(std::move(dial)),
      link_(std::move(link)) {}

void Connection::kill() {
    *dead_ = true;
    for (const std::weak_ptr<Stream>& weak : streams_) {
        if (std::shared_ptr<Stream> stream = weak.lock())
            stream->fail(unavailable("the process ended"));
    }
    streams_.clear();
}

std::optional<Result<net::HttpResponse>> Connection::fault_before(const net::HttpRequest& request) {
    const FaultRates& rates = chaos_.rates;
    if (chaos_.chance(rates.not_sent))
        return unavailable("connection refused").with_cause(0, "NotSent");
    if (chaos_.chance(rates.throttled)) {
        return respond_document(
            429, make_status(429, "TooManyRequests", "too many requests, please try again later"),
            net::Headers{{"retry-after", "1"}});
    }
    if (chaos_.chance(rates.unavailable)) {
        const bool overloaded = chaos_.chance(0.5);
        return overloaded ? respond_document(503, make_status(503, "ServiceUnavailable", "not now"))
                          : respond_document(500, make_status(500, "InternalError",
                                                              "etcdserver: leader changed"));
    }
    const bool changes =
        request.method == "PATCH" || request.method == "PUT" || request.method == "DELETE";
    if (changes && chaos_.chance(rates.conflict)) {
        return respond_document(409, make_status(409, "Conflict",
                                                 "the object has been modified; please apply your "
                                                 "changes to the latest version and try again"));
    }
    return std::nullopt;
}

net::HttpResponse Connection::respond(ApiServer::Answer answer, std::shared_ptr<ApiServer> server) {
    if (answer.stream == nullptr) return respond_document(answer.status, answer.body);
    std::erase_if(streams_, [](const auto& stream) { return stream.expired(); });
    streams_.push_back(answer.stream);
    net::HttpResponse response;
    response.status = answer.status;
    response.body = std::make_unique<DistantReader>(loop_, chaos_, link_, std::move(answer.stream),
                                                    std::move(server));
    return response;
}

async::Task<Result<net::HttpResponse>> Connection::send(net::HttpRequest request) {
    if (chaos_.chance(chaos_.rates.dial)) {
        const int counted = changes_something(request) ? 1 : 0;
        link_->waiting_writes += counted;
        Result<void> dialled = co_await async::sleep_for(process_, chaos_.between(0s, 3s));
        link_->waiting_writes -= counted;
        if (!dialled.ok()) co_return std::move(dialled).error();
    }
    if (request.guard) {
        Result<void> allowed = request.guard();
        if (!allowed.ok()) co_return std::move(allowed).error();
    }
    Exchange exchange;
    exchange.request = std::move(request);
    async::Operation<net::HttpResponse> operation(
        [this, &exchange](std::function<void(Result<net::HttpResponse>)> done) {
            exchange.done = std::move(done);
            const Duration way = chaos_.chance(chaos_.rates.slow) ? chaos_.between(100ms, 3s)
                                                                  : chaos_.between(0ms, 10ms);
            exchange.timer = loop_.call_at(std::max(loop_.now() + way, link_->blocked_until),
                                           [this, &exchange] { arrive(exchange); });
        },
        [this, &exchange] {
            // A connection that is closed before: what was not there yet does not arrive.
            loop_.cancel_timer(exchange.timer);
            exchange.done(cancelled());
        });
    Result<net::HttpResponse> response = co_await operation;
    co_return std::move(response);
}

void Connection::arrive(Exchange& exchange) {
    if (link_->blocked_until > loop_.now()) {
        exchange.timer =
            loop_.call_at(link_->blocked_until, [this, &exchange] { arrive(exchange); });
        return;
    }
    exchange.answer.emplace(act(exchange.request));
    const bool lost = exchange.answer->ok() && chaos_.chance(chaos_.rates.lost_response);
    exchange.timer =
        loop_.call_at(loop_.now() + chaos_.between(0ms, 10ms), [this, &exchange, lost] {
            if (*dead_ || lost) {
                exchange.done(unavailable("the connection broke before the response arrived"));
            } else {
                exchange.done(std::move(*exchange.answer));
            }
        });
}

/// What comes of a request where it ends.
Result<net::HttpResponse> Connection::act(const net::HttpRequest& request) {
    const Error gone = unavailable("the process ended").with_cause(0, "NotSent");
    if (*dead_) return gone;
    const bool is_write = request.method != "GET";
    if (changes_something(request)) ++link_->writes_count;
    if (is_write && crash_point && crash_point(false)) {
        kill();
        return gone;
    }
    std::optional<Result<net::HttpResponse>> fault = fault_before(request);
    if (fault) return std::move(*fault);
    BASALT_ASSIGN(std::shared_ptr<ApiServer> server, dial_());
    ApiServer::Answer answer = server->handle(request, who_);
    const bool crashed = is_write && crash_point && crash_point(true);
    if (crashed) kill();
    return respond(std::move(answer), server);
}

}  // namespace basalt::sim
