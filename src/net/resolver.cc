#include "net/resolver.h"

#include <netdb.h>

#include <cstring>
#include <deque>
#include <list>
#include <optional>
#include <unordered_map>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>

#include "async/wait.h"

namespace basalt::net::internal {

namespace asio = boost::asio;
using async::Task;

namespace {

struct Waiter {
    async::Operation<Addresses>::Completion done;
    void finish(Result<Addresses> result) {
        if (auto call = std::exchange(done, nullptr)) call(std::move(result));
    }
};

struct Lookup {
    std::list<std::shared_ptr<Waiter>> waiters;
    bool running = false;
};

}  // namespace

Result<Addresses> system_lookup(const std::string& host) {
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_protocol = IPPROTO_TCP;
    addrinfo* found = nullptr;
    const int code = ::getaddrinfo(host.c_str(), nullptr, &hints, &found);
    if (code != 0) return unavailable("look up " + host + ": " + ::gai_strerror(code));
    Addresses addresses;
    for (const addrinfo* entry = found; entry != nullptr; entry = entry->ai_next) {
        asio::ip::tcp::endpoint endpoint;
        if (entry->ai_addrlen > endpoint.capacity()) continue;
        std::memcpy(endpoint.data(), entry->ai_addr, entry->ai_addrlen);
        addresses.push_back(endpoint.address().to_string());
    }
    ::freeaddrinfo(found);
    if (addresses.empty()) return unavailable("look up " + host + ": no address");
    return addresses;
}

// All but the look-ups themselves happens on the loop.
struct Resolver::State : std::enable_shared_from_this<Resolver::State> {
    State(asio::io_context& context_in, LookupFn lookup_in)
        : context(context_in), lookup(std::move(lookup_in)) {}

    void add(const std::string& host, const std::shared_ptr<Waiter>& waiter) {
        const auto [entry, is_new] = lookups.try_emplace(host);
        entry->second.waiters.push_back(waiter);
        if (is_new) waiting.push_back(host);
        start_some();
    }

    void drop(const std::string& host, const std::shared_ptr<Waiter>& waiter) {
        const auto found = lookups.find(host);
        if (found == lookups.end()) return;
        found->second.waiters.remove(waiter);
        if (!found->second.waiters.empty() || found->second.running) return;
        std::erase(waiting, host);
        lookups.erase(found);
    }

    void start_some() {
        while (running_count < kMaxThreads && !waiting.empty()) {
            const std::string host = std::move(waiting.front());
            waiting.pop_front();
            lookups.at(host).running = true;
            ++running_count;
            if (!pool) pool.emplace(kMaxThreads);
            asio::post(*pool, [this, host, self = weak_from_this(),
                               busy = asio::make_work_guard(context)] {
                Result<Addresses> found = lookup(host);
                asio::post(context, [self, host, found = std::move(found)] {
                    if (auto state = self.lock()) state->finish(host, found);
                });
            });
        }
    }

    void finish(const std::string& host, const Result<Addresses>& found) {
        --running_count;
        auto node = lookups.extract(host);
        start_some();
        for (const std::shared_ptr<Waiter>& waiter : node.mapped().waiters) waiter->finish(found);
    }

    static Task<Result<Addresses>> look_up(std::shared_ptr<State> state, std::string host) {
        if (state->lookups.size() >= kMaxHosts && !state->lookups.contains(host))
            co_return resource_exhausted("look up " + host + ": too many look-ups at a time");
        auto waiter = std::make_shared<Waiter>();
        std::function<void(async::Operation<Addresses>::Completion)> start =
            [state, host, waiter](async::Operation<Addresses>::Completion done) {
                waiter->done = std::move(done);
                state->add(host, waiter);
            };
        std::function<void()> cancel = [state, host, waiter] {
            state->drop(host, waiter);
            waiter->finish(cancelled());
        };
        async::Operation<Addresses> operation(std::move(start), std::move(cancel));
        Result<Addresses> found = co_await operation;
        co_return std::move(found);
    }

    asio::io_context& context;
    const LookupFn lookup;
    std::unordered_map<std::string, Lookup> lookups;
    std::deque<std::string> waiting;  ///< Those of `lookups` that do not run yet.
    size_t running_count = 0;
    std::optional<asio::thread_pool> pool;
};

Resolver::Resolver(asio::io_context& context, LookupFn lookup)
    : state_(std::make_shared<State>(context, std::move(lookup))) {}

// The threads use the state: they end before anything can let go of it.
Resolver::~Resolver() {
    if (state_->pool) state_->pool->join();
}

Task<Result<Addresses>> Resolver::look_up(std::string host) {
    return State::look_up(state_, std::move(host));
}

namespace {

/// Ends with the loop's context, before the queue that answers are posted to.
class ResolverService final : public asio::io_context::service {
 public:
    // NOLINTNEXTLINE(readability-identifier-naming): Asio looks for this name
    static asio::io_context::id id;
    explicit ResolverService(asio::io_context& context) : asio::io_context::service(context) {
        resolver_.emplace(context, system_lookup);
    }
    Resolver& resolver() { return *resolver_; }

 private:
    void shutdown() override { resolver_.reset(); }
    std::optional<Resolver> resolver_;
};

asio::io_context::id ResolverService::id;

}  // namespace

Resolver& resolver_of(asio::io_context& context) {
    return asio::use_service<ResolverService>(context).resolver();
}

}  // namespace basalt::net::internal
