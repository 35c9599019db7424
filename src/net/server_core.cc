#include "net/server_core.h"

#include <algorithm>

#include "base/log.h"

namespace basalt::net::internal {

using async::Task;

namespace {

/// How often a connection that waits looks whether another one has been idle for long enough.
constexpr Duration kRoomInterval = std::chrono::milliseconds(500);

// "[::1]:80" and "10.0.0.1:80" without the port.
std::string address_of(const std::string& peer) { return peer.substr(0, peer.rfind(':')); }

}  // namespace

ServerCore::ServerCore(async::Loop& loop, std::unique_ptr<Listener> listener,
                       std::shared_ptr<const TlsContext> tls, ConnectionLimits limits)
    : loop_(loop),
      listener_(std::move(listener)),
      tls_(std::move(tls)),
      limits_(limits),
      group_(loop) {}

void ServerCore::start() {
    group_.spawn(accept_loop(*this));
    if (guarded()) group_.spawn(end_strangers(*this));
}

Task<void> ServerCore::accept_loop(ServerCore& self) {
    while (!self.stopping_) {
        Result<std::unique_ptr<Stream>> stream = co_await self.listener_->accept();
        if (!stream.ok()) co_return;
        if (self.guarded()) {
            if (!self.admit(address_of((*stream)->info().peer))) continue;
        } else {
            Result<void> place = co_await wait_for_place(self);
            if (!place.ok() || self.stopping_) co_return;
        }
        ++self.connections_count_;
        self.group_.spawn(self.guarded() ? serve_guest(self, std::move(*stream))
                                         : serve_one(self, std::move(*stream)));
    }
}

Task<Result<void>> ServerCore::wait_for_place(ServerCore& self) {
    Result<void> waited;
    while (waited.ok() && !self.stopping_ &&
           self.connections_count_ >= self.limits_.max_connections) {
        self.crowded_ = true;
        self.make_room();
        waited = co_await async::with_timeout(self.loop_, kRoomInterval, self.changed_.wait());
        if (!waited.ok() && waited.error().code() == Code::kDeadlineExceeded) waited = {};
    }
    self.crowded_ = false;
    co_return std::move(waited);
}

Task<void> ServerCore::serve_one(ServerCore& self, std::unique_ptr<Stream> stream) {
    auto guest = std::make_shared<Guest>();
    co_await serve_stream(self, std::move(stream), guest);
    self.left();
}

Task<void> ServerCore::serve_guest(ServerCore& self, std::unique_ptr<Stream> stream) {
    async::TaskGroup group(self.loop_);
    auto guest = std::make_shared<Guest>();
    guest->address = address_of(stream->info().peer);
    guest->group = &group;
    self.set_stranger(guest, true);
    group.spawn(serve_stream(self, std::move(stream), guest));
    co_await group.join();
    if (guest->gone) co_return;
    self.set_stranger(guest, false);
    guest->gone = true;
    self.left();
}

Task<void> ServerCore::serve_stream(ServerCore& self, std::unique_ptr<Stream> stream,
                                    GuestPtr guest) {
    if (self.tls_) {
        std::string peer = stream->info().peer;
        Result<std::unique_ptr<Stream>> secured =
            co_await async::with_timeout(self.loop_, self.limits_.handshake_timeout,
                                         tls_accept(self.loop_, self.tls_, std::move(stream)));
        if (secured.ok()) {
            stream = std::move(*secured);
        } else {
            log_debug("TLS handshake failed", {{"peer", peer}, {"error", secured.error()}});
        }
    }
    if (stream) co_await self.serve(std::move(stream), std::move(guest));
}

// ---- strangers ----

void ServerCore::left() {
    --connections_count_;
    changed_.notify_all();
}

void ServerCore::set_stranger(const GuestPtr& guest, bool stranger) {
    if (!guarded() || guest->gone || guest->stranger == stranger) return;
    guest->stranger = stranger;
    if (!stranger) {
        strangers_.remove(guest);
        return;
    }
    guest->since = loop_.now();
    strangers_.push_back(guest);
    stranger_came_.notify_all();
}

void ServerCore::send_away(GuestPtr guest) {
    log_debug("sent a stranger away", {{"address", guest->address}});
    set_stranger(guest, false);
    guest->gone = true;
    // What serves it ends within this turn of the loop; from now on it takes nobody's place.
    left();
    guest->group->cancel();
}

bool ServerCore::admit(const std::string& address) {
    const auto same = [&address](const GuestPtr& guest) { return guest->address == address; };
    const auto from_there = std::count_if(strangers_.begin(), strangers_.end(), same);
    if (static_cast<size_t>(from_there) >= limits_.max_strangers_per_address) {
        send_away(*std::find_if(strangers_.begin(), strangers_.end(), same));
    } else if (!strangers_.empty() && (strangers_.size() >= limits_.max_strangers ||
                                       connections_count_ >= limits_.max_connections)) {
        send_away(strangers_.front());
    }
    return connections_count_ < limits_.max_connections;
}

Task<void> ServerCore::end_strangers(ServerCore& self) {
    for (;;) {
        if (self.strangers_.empty()) {
            Result<void> waited = co_await self.stranger_came_.wait();
            if (!waited.ok()) co_return;
            continue;
        }
        // Who comes later is due later.
        TimePoint due = self.strangers_.front()->since + self.limits_.stranger_timeout;
        if (due <= self.loop_.now()) {
            self.send_away(self.strangers_.front());
            continue;
        }
        Result<void> slept = co_await async::sleep_until(self.loop_, due);
        if (!slept.ok()) co_return;
    }
}

Task<Result<void>> ServerCore::wait_until_empty() {
    while (connections_count_ > 0) {
        Result<void> waited = co_await changed_.wait();
        if (!waited.ok()) co_return std::move(waited);
    }
    co_return Result<void>();
}

Task<void> ServerCore::stop(std::shared_ptr<ServerCore> self, Duration grace) {
    self->shut_down();
    self->changed_.notify_all();
    self->begin_stop();
    Result<void> empty = co_await async::with_timeout(self->loop_, grace, self->wait_until_empty());
    static_cast<void>(empty);
    self->group_.cancel();
    co_await self->group_.join();
}

}  // namespace basalt::net::internal
