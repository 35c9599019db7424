// TCP and unix sockets with Asio: readiness from the reactor, then non-blocking system calls, so
// that an idle connection holds no buffer.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/local/stream_protocol.hpp>

#include "async/real_loop.h"
#include "async/wait.h"
#include "net/resolve.h"
#include "net/resolver.h"
#include "net/stream.h"

namespace basalt::net {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using Socket = asio::generic::stream_protocol::socket;
using Acceptor = asio::basic_socket_acceptor<asio::generic::stream_protocol>;
using async::Task;

constexpr size_t kMaxReadSize = 64 * 1024;
/// A busy connection lets others run after this many reads or writes that did not have to wait.
constexpr unsigned kOperationsPerTurn = 16;
constexpr Duration kMinAddressTime = std::chrono::seconds(2);
constexpr Duration kAcceptPause = std::chrono::milliseconds(100);

Error socket_error(const error_code& error, std::string_view what) {
    std::string message = std::string(what) + ": " + error.message();
    if (error == asio::error::operation_aborted || error == asio::error::bad_descriptor) {
        return unavailable(std::string(what) + ": the socket is closed");
    }
    return unavailable(std::move(message)).with_cause(error.value());
}

std::string address_text(const sockaddr* address, size_t size) {
    std::array<char, INET6_ADDRSTRLEN> text{};
    if (address->sa_family == AF_INET && size >= sizeof(sockaddr_in)) {
        const auto* v4 = reinterpret_cast<const sockaddr_in*>(address);
        inet_ntop(AF_INET, &v4->sin_addr, text.data(), text.size());
        return Endpoint::tcp(text.data(), ntohs(v4->sin_port)).to_string();
    }
    if (address->sa_family == AF_INET6 && size >= sizeof(sockaddr_in6)) {
        const auto* v6 = reinterpret_cast<const sockaddr_in6*>(address);
        if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
            inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], text.data(), text.size());
        } else {
            inet_ntop(AF_INET6, &v6->sin6_addr, text.data(), text.size());
        }
        return Endpoint::tcp(text.data(), ntohs(v6->sin6_port)).to_string();
    }
    if (address->sa_family == AF_UNIX && size > offsetof(sockaddr_un, sun_path)) {
        const auto* local = reinterpret_cast<const sockaddr_un*>(address);
        size_t path_size = strnlen(local->sun_path, size - offsetof(sockaddr_un, sun_path));
        return "unix:" + std::string(local->sun_path, path_size);
    }
    return {};
}

std::string address_text(const asio::generic::stream_protocol::endpoint& endpoint) {
    return address_text(reinterpret_cast<const sockaddr*>(endpoint.data()), endpoint.size());
}

/// Shared by the stream and the operations in flight on it.
struct SocketState {
    SocketState(async::Loop& loop_in, Socket socket_in)
        : loop(loop_in), socket(std::move(socket_in)) {}
    async::Loop& loop;
    Socket socket;
    StreamInfo info;
    unsigned operations_count = 0;
};

/// Awaits an Asio operation that takes a handler of (error_code).
Task<Result<error_code>> await_asio(
    std::function<void(std::function<void(error_code)>, asio::cancellation_slot)> start) {
    asio::cancellation_signal signal;
    std::function<void(async::Operation<error_code>::Completion)> begin =
        [&start, &signal](async::Operation<error_code>::Completion done) {
            start([done = std::move(done)](error_code error) { done(Result<error_code>(error)); },
                  signal.slot());
        };
    std::function<void()> cancel = [&signal] { signal.emit(asio::cancellation_type::terminal); };
    async::Operation<error_code> operation(std::move(begin), std::move(cancel));
    Result<error_code> result = co_await operation;
    co_return std::move(result);
}

template <class AnySocket>
Task<Result<error_code>> wait_ready(AnySocket& socket, asio::socket_base::wait_type type) {
    return await_asio(
        [&socket, type](std::function<void(error_code)> done, asio::cancellation_slot slot) {
            socket.async_wait(type, asio::bind_cancellation_slot(slot, std::move(done)));
        });
}

/// An operation that its scope's cancellation aborted returns the reason, not "aborted".
Task<Result<void>> check_cancelled(async::Loop& loop) {
    Result<void> result = co_await async::yield(loop);
    co_return std::move(result);
}

Task<Result<void>> wait_for(std::shared_ptr<SocketState> state, asio::socket_base::wait_type type,
                            std::string_view what) {
    Result<error_code> waited = co_await wait_ready(state->socket, type);
    if (!waited.ok()) co_return std::move(waited).error();
    if (*waited == asio::error::operation_aborted) {
        Result<void> alive = co_await check_cancelled(state->loop);
        if (!alive.ok()) co_return std::move(alive);
    }
    if (*waited) co_return socket_error(*waited, what);
    co_return Result<void>();
}

Task<Result<void>> take_turn(std::shared_ptr<SocketState> state) {
    if (++state->operations_count % kOperationsPerTurn != 0) co_return Result<void>();
    Result<void> result = co_await async::yield(state->loop);
    co_return std::move(result);
}

Task<Result<std::string>> socket_read(std::shared_ptr<SocketState> state, size_t max_size) {
    static thread_local std::array<char, kMaxReadSize> scratch;
    Result<void> turn = co_await take_turn(state);
    if (!turn.ok()) co_return std::move(turn).error();
    for (;;) {
        error_code error;
        size_t count = state->socket.read_some(asio::buffer(scratch, max_size), error);
        if (!error) co_return std::string(scratch.data(), count);
        if (error == asio::error::eof) co_return std::string();
        if (error == asio::error::interrupted) continue;
        if (error != asio::error::would_block) co_return socket_error(error, "read");
        Result<void> ready = co_await wait_for(state, asio::socket_base::wait_read, "read");
        if (!ready.ok()) co_return std::move(ready).error();
    }
}

Task<Result<void>> socket_write(std::shared_ptr<SocketState> state, std::string data) {
    Result<void> turn = co_await take_turn(state);
    if (!turn.ok()) co_return std::move(turn);
    size_t offset = 0;
    while (offset < data.size()) {
        error_code error;
        size_t count = state->socket.write_some(
            asio::buffer(data.data() + offset, data.size() - offset), error);
        offset += count;
        if (!error || error == asio::error::interrupted) continue;
        if (error != asio::error::would_block) co_return socket_error(error, "write");
        Result<void> ready = co_await wait_for(state, asio::socket_base::wait_write, "write");
        if (!ready.ok()) co_return std::move(ready);
    }
    co_return Result<void>();
}

class SocketStream final : public Stream {
 public:
    explicit SocketStream(std::shared_ptr<SocketState> state) : state_(std::move(state)) {
        error_code ignored;
        state_->socket.non_blocking(true, ignored);
        state_->info.local = address_text(state_->socket.local_endpoint(ignored));
        auto peer = state_->socket.remote_endpoint(ignored);
        state_->info.peer = address_text(peer);
        if (peer.protocol().family() == AF_INET || peer.protocol().family() == AF_INET6) {
            state_->socket.set_option(asio::ip::tcp::no_delay(true), ignored);
            state_->socket.set_option(asio::socket_base::keep_alive(true), ignored);
        }
    }
    ~SocketStream() override { SocketStream::close(); }

    Task<Result<std::string>> read(size_t max_size) override {
        return socket_read(state_, max_size);
    }
    Task<Result<void>> write(std::string data) override {
        return socket_write(state_, std::move(data));
    }
    Task<Result<void>> close_write() override {
        error_code error;
        state_->socket.shutdown(asio::socket_base::shutdown_send, error);
        if (error) co_return socket_error(error, "shutdown");
        co_return Result<void>();
    }
    void close() override {
        error_code ignored;
        state_->socket.close(ignored);
    }
    const StreamInfo& info() const override { return state_->info; }

 private:
    std::shared_ptr<SocketState> state_;
};

asio::io_context* context_of(async::Loop& loop) {
    auto* real = dynamic_cast<async::RealLoop*>(&loop);
    return real == nullptr ? nullptr : static_cast<asio::io_context*>(real->native());
}

using Endpoints = std::vector<asio::generic::stream_protocol::endpoint>;

Task<Result<Endpoints>> resolve(asio::io_context& context, std::string host, uint16_t port) {
    error_code not_an_address;
    asio::ip::address address = asio::ip::make_address(host, not_an_address);
    if (!not_an_address) co_return Endpoints{asio::ip::tcp::endpoint(address, port)};
    internal::Resolver& resolver = internal::resolver_of(context);
    Result<internal::Addresses> found = co_await resolver.look_up(host);
    if (!found.ok()) co_return std::move(found).error();
    Endpoints endpoints;
    for (const std::string& text : *found) {
        error_code malformed;
        address = asio::ip::make_address(text, malformed);
        if (!malformed) endpoints.emplace_back(asio::ip::tcp::endpoint(address, port));
    }
    co_return std::move(endpoints);
}

Task<Result<std::unique_ptr<Stream>>> connect_one(
    async::Loop& loop, asio::io_context& context,
    asio::generic::stream_protocol::endpoint endpoint) {
    auto state = std::make_shared<SocketState>(loop, Socket(context));
    error_code opened;
    state->socket.open(endpoint.protocol(), opened);
    if (opened) co_return socket_error(opened, "socket");
    Result<error_code> connected = co_await await_asio(
        [socket = &state->socket, endpoint](std::function<void(error_code)> done,
                                            asio::cancellation_slot slot) {
            socket->async_connect(endpoint, asio::bind_cancellation_slot(slot, std::move(done)));
        });
    if (!connected.ok()) co_return std::move(connected).error();
    if (*connected == asio::error::operation_aborted) {
        Result<void> alive = co_await check_cancelled(loop);
        if (!alive.ok()) co_return std::move(alive).error();
    }
    if (*connected) co_return socket_error(*connected, "connect to " + address_text(endpoint));
    co_return std::unique_ptr<Stream>(std::make_unique<SocketStream>(std::move(state)));
}

/// An address that swallows packets must leave time for those after it (Go's partialDeadline).
TimePoint share_of_time(TimePoint now, TimePoint deadline, size_t addresses_count) {
    Duration share = (deadline - now) / static_cast<int64_t>(addresses_count);
    return std::min(deadline, now + std::max(share, kMinAddressTime));
}

Task<Result<std::unique_ptr<Stream>>> connect_any(async::Loop& loop, asio::io_context& context,
                                                  Endpoint endpoint, TimePoint deadline) {
    Endpoints endpoints;
    if (endpoint.is_unix()) {
        if (endpoint.unix_path.size() >= sizeof(sockaddr_un::sun_path)) {
            co_return invalid_argument("the unix socket's path is too long");
        }
        endpoints.emplace_back(asio::local::stream_protocol::endpoint(endpoint.unix_path));
    } else {
        Result<Endpoints> found = co_await resolve(context, endpoint.host, endpoint.port);
        if (!found.ok()) co_return std::move(found).error();
        endpoints = std::move(*found);
    }
    Error last = unavailable("look up " + endpoint.host + ": no address");
    for (size_t i = 0; i < endpoints.size(); ++i) {
        TimePoint until = share_of_time(loop.now(), deadline, endpoints.size() - i);
        Result<std::unique_ptr<Stream>> stream =
            co_await async::with_deadline(loop, until, connect_one(loop, context, endpoints[i]));
        if (stream.ok() || stream.error().code() == Code::kCancelled) co_return std::move(stream);
        last = std::move(stream).error();
        if (last.code() == Code::kDeadlineExceeded) {
            last = deadline_exceeded("connect to " + address_text(endpoints[i]) + ": timed out");
        }
    }
    co_return std::move(last);
}

struct AcceptorState {
    AcceptorState(async::Loop& loop_in, asio::io_context& context_in)
        : loop(loop_in), context(context_in), acceptor(context_in) {}
    async::Loop& loop;
    asio::io_context& context;
    Acceptor acceptor;
    Endpoint endpoint;
};

bool is_lack_of_resources(const error_code& error) {
    return error.value() == EMFILE || error.value() == ENFILE || error.value() == ENOBUFS ||
           error.value() == ENOMEM;
}

Task<Result<std::unique_ptr<Stream>>> accept_one(std::shared_ptr<AcceptorState> state) {
    for (;;) {
        if (!state->acceptor.is_open()) co_return unavailable("the listener is closed");
        auto socket_state = std::make_shared<SocketState>(state->loop, Socket(state->context));
        error_code error;
        state->acceptor.accept(socket_state->socket, error);
        if (!error)
            co_return std::unique_ptr<Stream>(
                std::make_unique<SocketStream>(std::move(socket_state)));
        if (is_lack_of_resources(error)) {
            Result<void> slept = co_await async::sleep_for(state->loop, kAcceptPause);
            if (!slept.ok()) co_return std::move(slept).error();
            continue;
        }
        if (error != asio::error::would_block) {
            // Of that one connection (ECONNABORTED and the like).
            Result<void> yielded = co_await async::yield(state->loop);
            if (!yielded.ok()) co_return std::move(yielded).error();
            continue;
        }
        Result<error_code> waited =
            co_await wait_ready(state->acceptor, asio::socket_base::wait_read);
        if (!waited.ok()) co_return std::move(waited).error();
        if (*waited == asio::error::operation_aborted) {
            Result<void> alive = co_await check_cancelled(state->loop);
            if (!alive.ok()) co_return std::move(alive).error();
        }
    }
}

class SocketListener final : public Listener {
 public:
    explicit SocketListener(std::shared_ptr<AcceptorState> state) : state_(std::move(state)) {}
    ~SocketListener() override { SocketListener::close(); }
    Task<Result<std::unique_ptr<Stream>>> accept() override { return accept_one(state_); }
    const Endpoint& endpoint() const override { return state_->endpoint; }
    void close() override {
        if (!state_->acceptor.is_open()) return;
        error_code ignored;
        state_->acceptor.close(ignored);
        if (state_->endpoint.is_unix()) ::unlink(state_->endpoint.unix_path.c_str());
    }

 private:
    std::shared_ptr<AcceptorState> state_;
};

/// Removes the file of a socket that nobody listens on.
Result<void> clear_stale_socket(const std::string& path, asio::io_context& context) {
    struct stat status{};
    if (::lstat(path.c_str(), &status) != 0) return {};
    if (!S_ISSOCK(status.st_mode)) return already_exists(path + " exists and is not a socket");
    asio::local::stream_protocol::socket probe(context);
    error_code error;
    probe.connect(asio::local::stream_protocol::endpoint(path), error);
    if (!error) return already_exists("another process listens on " + path);
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) return errno_error(errno, "remove " + path);
    return {};
}

bool is_wildcard(const Endpoint& endpoint) {
    return endpoint.host.empty() || endpoint.host == "::";
}

Result<void> bind_and_listen(AcceptorState& state,
                             const asio::generic::stream_protocol::endpoint& address,
                             const ListenOptions& options) {
    error_code error;
    Acceptor& acceptor = state.acceptor;
    acceptor.open(address.protocol(), error);
    if (error) return errno_error(error.value(), "socket");
    if (!state.endpoint.is_unix())
        acceptor.set_option(asio::socket_base::reuse_address(true), error);
    if (address.protocol().family() == AF_INET6) {
        acceptor.set_option(asio::ip::v6_only(!is_wildcard(state.endpoint)), error);
    }
    // fchmod before bind makes the file no wider than asked from its first moment; chmod below
    // undoes the umask.
    if (state.endpoint.is_unix())
        ::fchmod(acceptor.native_handle(), static_cast<mode_t>(options.unix_mode));
    acceptor.bind(address, error);
    if (error) return errno_error(error.value(), "bind " + state.endpoint.to_string());
    if (state.endpoint.is_unix() &&
        ::chmod(state.endpoint.unix_path.c_str(), static_cast<mode_t>(options.unix_mode)) != 0) {
        return errno_error(errno, "chmod " + state.endpoint.unix_path);
    }
    acceptor.listen(options.backlog, error);
    if (error) return errno_error(error.value(), "listen on " + state.endpoint.to_string());
    acceptor.non_blocking(true, error);
    return {};
}

}  // namespace

Task<Result<std::vector<std::string>>> resolve_addresses(async::Loop& loop, std::string host) {
    asio::io_context* context = context_of(loop);
    if (context == nullptr) co_return failed_precondition("this loop has no network");
    error_code not_an_address;
    const asio::ip::address address = asio::ip::make_address(host, not_an_address);
    if (!not_an_address) co_return std::vector<std::string>{address.to_string()};
    internal::Resolver& resolver = internal::resolver_of(*context);
    Result<internal::Addresses> found = co_await resolver.look_up(std::move(host));
    co_return std::move(found);
}

Task<Result<std::unique_ptr<Stream>>> connect(async::Loop& loop, Endpoint endpoint,
                                              Duration timeout) {
    asio::io_context* context = context_of(loop);
    if (context == nullptr) co_return failed_precondition("this loop has no network");
    std::string name = endpoint.to_string();
    TimePoint deadline = loop.now() + timeout;
    Result<std::unique_ptr<Stream>> stream = co_await async::with_deadline(
        loop, deadline, connect_any(loop, *context, std::move(endpoint), deadline));
    if (!stream.ok() && stream.error().code() == Code::kDeadlineExceeded) {
        co_return deadline_exceeded("connect to " + name + ": timed out");
    }
    co_return std::move(stream);
}

Result<std::unique_ptr<Listener>> listen(async::Loop& loop, Endpoint endpoint,
                                         ListenOptions options) {
    asio::io_context* context = context_of(loop);
    if (context == nullptr) return failed_precondition("this loop has no network");
    auto state = std::make_shared<AcceptorState>(loop, *context);
    state->endpoint = endpoint;
    asio::generic::stream_protocol::endpoint address;
    if (endpoint.is_unix()) {
        if (endpoint.unix_path.size() >= sizeof(sockaddr_un::sun_path)) {
            return invalid_argument("the unix socket's path is too long");
        }
        BASALT_TRY(clear_stale_socket(endpoint.unix_path, *context));
        address = asio::local::stream_protocol::endpoint(endpoint.unix_path);
    } else {
        error_code error;
        auto ip = asio::ip::make_address(endpoint.host.empty() ? "::" : endpoint.host, error);
        if (error) return invalid_argument("not an address to listen on: " + endpoint.host);
        address = asio::ip::tcp::endpoint(ip, endpoint.port);
    }
    Result<void> bound = bind_and_listen(*state, address, options);
    if (!bound.ok() && bound.error().cause_code() == EAFNOSUPPORT && is_wildcard(endpoint)) {
        // A kernel without IPv6: all addresses are those of IPv4.
        state->endpoint.host = "0.0.0.0";
        address = asio::ip::tcp::endpoint(asio::ip::address_v4::any(), endpoint.port);
        bound = bind_and_listen(*state, address, options);
    }
    BASALT_TRY(std::move(bound));
    if (!endpoint.is_unix()) {
        error_code error;
        auto local = state->acceptor.local_endpoint(error);
        BASALT_ASSIGN(Endpoint real, parse_endpoint(address_text(local)));
        state->endpoint.port = real.port;
    }
    return std::unique_ptr<Listener>(std::make_unique<SocketListener>(std::move(state)));
}

}  // namespace basalt::net
