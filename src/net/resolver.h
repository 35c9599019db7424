// Host names to addresses on threads of their own: getaddrinfo cannot be interrupted, and one name
// server that does not answer must not keep other names from theirs.
//
// Look-ups of one name that overlap are one. A few names are looked up at a time, more wait in the
// order in which they came; a name that nobody waits for any more is not looked up, and its answer,
// if it comes, is dropped. Belongs to one loop, whose run() does not run out of work while a
// look-up is under way.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "async/task.h"

namespace boost::asio {
class io_context;  // NOLINT(readability-identifier-naming): Boost's
}

namespace basalt::net::internal {

using Addresses = std::vector<std::string>;
/// Blocks. Called on any thread, several at a time.
using LookupFn = std::function<Result<Addresses>(const std::string& host)>;

/// getaddrinfo: addresses as text, in its order. Unavailable when it finds none.
Result<Addresses> system_lookup(const std::string& host);

class Resolver {
 public:
    /// Names that are looked up at a time.
    static constexpr size_t kMaxThreads = 4;
    /// Names that are looked up or wait for it; more are ResourceExhausted.
    static constexpr size_t kMaxHosts = 1000;

    Resolver(boost::asio::io_context& context, LookupFn lookup);
    /// Waits for look-ups under way.
    ~Resolver();
    Resolver(const Resolver&) = delete;
    Resolver& operator=(const Resolver&) = delete;

    async::Task<Result<Addresses>> look_up(std::string host);

 private:
    struct State;
    std::shared_ptr<State> state_;
};

/// The one of this loop, with system_lookup(). It lives as long as the loop.
Resolver& resolver_of(boost::asio::io_context& context);

}  // namespace basalt::net::internal
