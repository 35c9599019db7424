// What all servers share: accepting, TLS, the limit of connections, stopping.
#pragma once

#include <memory>

#include "async/task_group.h"
#include "async/wait.h"
#include "net/stream.h"
#include "net/tls.h"

namespace basalt::net::internal {

/// Shared ownership with background.h. A subclass serves one connection in serve().
class ServerCore {
 public:
    ServerCore(async::Loop& loop, std::unique_ptr<Listener> listener,
               std::shared_ptr<const TlsContext> tls, size_t max_connections,
               Duration handshake_timeout);
    virtual ~ServerCore() = default;

    void start() { group_.spawn(accept_loop(*this)); }
    const Endpoint& endpoint() const { return listener_->endpoint(); }
    void set_tls(std::shared_ptr<const TlsContext> tls) { tls_ = std::move(tls); }
    size_t connections_count() const { return connections_count_; }
    bool stopping() const { return stopping_; }
    /// See HttpServer::stop.
    static async::Task<void> stop(std::shared_ptr<ServerCore> self, Duration grace);

    // For background.h.
    async::TaskGroup& group() { return group_; }
    void shut_down() noexcept {
        stopping_ = true;
        listener_->close();
    }

 protected:
    /// Serves `stream` until it ends. The group's cancellation ends it early.
    virtual async::Task<void> serve(std::unique_ptr<Stream> stream) = 0;
    /// Ends idle connections and tells busy ones.
    virtual void begin_stop() = 0;
    /// Called while a new connection waits because the limit is reached: may end an idle one.
    virtual void make_room() {}
    /// A new connection waits.
    bool crowded() const { return crowded_; }

    async::Loop& loop_;

 private:
    static async::Task<void> accept_loop(ServerCore& self);
    static async::Task<Result<void>> wait_for_place(ServerCore& self);
    static async::Task<void> serve_one(ServerCore& self, std::unique_ptr<Stream> stream);
    async::Task<Result<void>> wait_until_empty();

    std::unique_ptr<Listener> listener_;
    std::shared_ptr<const TlsContext> tls_;
    size_t max_connections_;
    Duration handshake_timeout_;
    size_t connections_count_ = 0;
    bool stopping_ = false;
    bool crowded_ = false;
    async::Condition changed_;
    async::TaskGroup group_;
};

}  // namespace basalt::net::internal
