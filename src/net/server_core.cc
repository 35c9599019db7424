#include "net/server_core.h"

#include "base/log.h"

namespace basalt::net::internal {

using async::Task;

namespace {

/// How often a connection that waits looks whether another one has been idle for long enough.
constexpr Duration kRoomInterval = std::chrono::milliseconds(500);

}  // namespace

ServerCore::ServerCore(async::Loop& loop, std::unique_ptr<Listener> listener,
                       std::shared_ptr<const TlsContext> tls, size_t max_connections,
                       Duration handshake_timeout)
    : loop_(loop),
      listener_(std::move(listener)),
      tls_(std::move(tls)),
      max_connections_(max_connections),
      handshake_timeout_(handshake_timeout),
      group_(loop) {}

Task<void> ServerCore::accept_loop(ServerCore& self) {
    while (!self.stopping_) {
        Result<std::unique_ptr<Stream>> stream = co_await self.listener_->accept();
        if (!stream.ok()) co_return;
        Result<void> place = co_await wait_for_place(self);
        if (!place.ok() || self.stopping_) co_return;
        ++self.connections_count_;
        self.group_.spawn(serve_one(self, std::move(*stream)));
    }
}

Task<Result<void>> ServerCore::wait_for_place(ServerCore& self) {
    Result<void> waited;
    while (waited.ok() && !self.stopping_ && self.connections_count_ >= self.max_connections_) {
        self.crowded_ = true;
        self.make_room();
        waited = co_await async::with_timeout(self.loop_, kRoomInterval, self.changed_.wait());
        if (!waited.ok() && waited.error().code() == Code::kDeadlineExceeded) waited = {};
    }
    self.crowded_ = false;
    co_return std::move(waited);
}

Task<void> ServerCore::serve_one(ServerCore& self, std::unique_ptr<Stream> stream) {
    if (self.tls_) {
        std::string peer = stream->info().peer;
        Result<std::unique_ptr<Stream>> secured =
            co_await async::with_timeout(self.loop_, self.handshake_timeout_,
                                         tls_accept(self.loop_, self.tls_, std::move(stream)));
        if (secured.ok()) {
            stream = std::move(*secured);
        } else {
            log_debug("TLS handshake failed", {{"peer", peer}, {"error", secured.error()}});
        }
    }
    if (stream) co_await self.serve(std::move(stream));
    --self.connections_count_;
    self.changed_.notify_all();
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
