// What all servers share: accepting, TLS, the limit of connections, stopping.
//
// A server that strangers can reach may tell those connections on which somebody has shown that he
// is no stranger from the others (ConnectionLimits::max_strangers): strangers then neither keep
// anybody out nor stay.
#pragma once

#include <list>
#include <memory>
#include <string>

#include "async/task_group.h"
#include "async/wait.h"
#include "net/stream.h"
#include "net/tls.h"

namespace basalt::net::internal {

struct ConnectionLimits {
    size_t max_connections = 0;
    Duration handshake_timeout = kTlsHandshakeTimeout;
    /// 0: all connections are alike, and one more waits while there are max_connections.
    /// Otherwise the oldest stranger goes when there are too many, of all or of one address.
    size_t max_strangers = 0;
    size_t max_strangers_per_address = 0;
    /// How long a connection may be a stranger's.
    Duration stranger_timeout{};
};

/// Shared ownership with background.h. A subclass serves one connection in serve().
class ServerCore {
 public:
    ServerCore(async::Loop& loop, std::unique_ptr<Listener> listener,
               std::shared_ptr<const TlsContext> tls, ConnectionLimits limits);
    virtual ~ServerCore() = default;

    void start();
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
    /// One connection, from accept to its end.
    struct Guest {
        std::string address;  ///< Without a port.
        bool stranger = false;
        bool gone = false;
        TimePoint since;                    ///< A stranger: from when on.
        async::TaskGroup* group = nullptr;  ///< Of what serves it, until it is gone.
    };
    using GuestPtr = std::shared_ptr<Guest>;

    /// Serves `stream` until it ends. The scope's cancellation ends it early.
    virtual async::Task<void> serve(std::unique_ptr<Stream> stream, GuestPtr guest) = 0;
    /// Ends idle connections and tells busy ones.
    virtual void begin_stop() = 0;
    /// Called while a new connection waits because the limit is reached: may end an idle one.
    virtual void make_room() {}
    /// A new connection waits.
    bool crowded() const { return crowded_; }
    /// What the subclass has learned of a guest; each is a stranger at first.
    void set_stranger(const GuestPtr& guest, bool stranger);

    async::Loop& loop_;

 private:
    static async::Task<void> accept_loop(ServerCore& self);
    static async::Task<Result<void>> wait_for_place(ServerCore& self);
    static async::Task<void> serve_one(ServerCore& self, std::unique_ptr<Stream> stream);
    static async::Task<void> serve_guest(ServerCore& self, std::unique_ptr<Stream> stream);
    static async::Task<void> serve_stream(ServerCore& self, std::unique_ptr<Stream> stream,
                                          GuestPtr guest);
    static async::Task<void> end_strangers(ServerCore& self);
    bool guarded() const { return limits_.max_strangers > 0; }
    /// Sends strangers away for one more; false when there is no room even so.
    bool admit(const std::string& address);
    void send_away(GuestPtr guest);
    void left();
    async::Task<Result<void>> wait_until_empty();

    std::unique_ptr<Listener> listener_;
    std::shared_ptr<const TlsContext> tls_;
    ConnectionLimits limits_;
    size_t connections_count_ = 0;
    std::list<GuestPtr> strangers_;  ///< Oldest first.
    bool stopping_ = false;
    bool crowded_ = false;
    async::Condition changed_;
    async::Condition stranger_came_;
    async::TaskGroup group_;
};

}  // namespace basalt::net::internal
