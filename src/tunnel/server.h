// TunnelServer: carries ServerCore's streams over gRPC. Listening, TLS, health and signals are the
// program's.
//
//     TunnelServer server(loop, config);
//     start_grpc_server(loop, unix socket, server.frontend_service());   // the API server
//     start_grpc_server(loop, agent port with TLS, server.agent_service());
//     server.start();
//     ... server.drain() ... co_await server.stop();                     // after the gRPC servers
//     have stopped
//
// The only addresses this process dials are the peers' Service, config.direct, and, where there is
// no tunnel, what config.dialer permits; everything else goes to agents: nothing a tenant writes
// makes it connect to the management network.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "async/task_group.h"
#include "async/wait.h"
#include "net/grpc.h"
#include "tunnel/agent_link.h"
#include "tunnel/authenticator.h"
#include "tunnel/message_stream.h"
#include "tunnel/peers.h"
#include "tunnel/server_core.h"

namespace basalt::tunnel {

struct DirectDestination {
    std::string address;     ///< Exactly as the API server names it: "host:port".
    net::Endpoint endpoint;  ///< Where it is. A name is resolved once and kept while it answers.
};

struct TunnelServerConfig {
    std::string
        server_id;  ///< Distinct for each server that ever runs: agents tell servers apart by it.
    ServerCoreOptions core;
    std::shared_ptr<Authenticator> agents;
    /// Who may speak to us as a peer; nobody when the name is empty.
    CertificateRule peers_rule;
    PeersConfig peers;
    std::vector<DirectDestination> direct;
    /// Set where there are no agents: this process dials what this permits (direct.h).
    TargetDialer dialer;
    /// Token checks at the same time, how many wait for their turn, and how long one may take with
    /// its waiting.
    size_t authentications_limit = 32;
    size_t authentications_waiting_limit = 256;
    Duration authentication_timeout = std::chrono::seconds(10);
};

class TunnelServer {
 public:
    TunnelServer(async::Loop& loop, TunnelServerConfig config);
    ~TunnelServer();
    TunnelServer(const TunnelServer&) = delete;
    TunnelServer& operator=(const TunnelServer&) = delete;

    std::shared_ptr<net::GrpcService> frontend_service() { return frontend_service_; }
    std::shared_ptr<net::GrpcService> agent_service() { return agent_service_; }

    void start();
    /// What the outside says about the number of servers; agents hear the larger of it and what
    /// peers know.
    void set_configured_server_count(uint32_t count);
    /// Ready for the Service: see Peers::settled(). Stays true until drain().
    bool ready() const { return peers_.settled() && !draining_; }
    /// About to stop: not ready, and peers are told. Everything goes on.
    void drain();
    /// After drain(): no stream is open, and the others have our agents.
    bool drained() const { return core_.frontends_count() == 0 && peers_.taken_over(); }
    /// Returns when no connection of the API server to a kubelet is open, at the latest after
    /// `limit`: until then its end would cut a command short.
    async::Task<void> commands_ended(Duration limit);
    async::Task<void> stop();

    const ServerCore& core() const { return core_; }
    const Peers& peers() const { return peers_; }
    /// Prometheus text, names of upstream's server where it has such a metric.
    std::string metrics() const;

 private:
    class FrontendService;
    class AgentService;
    struct StreamState {
        async::Condition readable;
        async::Condition writable;
        bool read_ended = false;
    };

    void wake(StreamId id);
    void peers_changed();
    async::Task<Result<void>> serve_frontend(net::GrpcServerCall& call, bool from_peer);
    async::Task<Result<void>> serve_agent(net::GrpcServerCall& call);
    async::Task<Result<void>> authenticate(net::GrpcServerCall& call);
    async::Task<Result<void>> ask_authenticator(AgentCredentials credentials);
    async::Task<Result<void>> pump(StreamId id, MessageStream& stream);
    async::Task<void> read_loop(StreamId id, StreamState& state, MessageStream& stream);
    async::Task<Result<void>> write_loop(StreamId id, StreamState& state, MessageStream& stream);
    async::Task<void> tick_loop();
    async::Task<Result<void>> wait_for_commands();
    async::Task<void> order_loop();
    async::Task<void> relay(ServerCore::RelayOrder order);
    async::Task<void> serve_direct(DirectDestination destination);
    async::Task<void> serve_dialer();
    async::Task<void> pump_direct(StreamId id, std::unique_ptr<MessageStream> stream);

    async::Loop& loop_;
    TunnelServerConfig config_;
    ServerCore core_;
    Peers peers_;
    async::TaskGroup group_;
    async::Semaphore authentications_;
    size_t authenticating_count_ = 0;  ///< With those that wait.
    std::unordered_map<StreamId, StreamState*> streams_;
    async::Condition orders_;
    async::Condition tick_needed_;
    async::Condition stream_ended_;
    uint32_t configured_count_ = 1;
    bool draining_ = false;
    uint64_t agents_refused_ = 0;
    std::shared_ptr<net::GrpcService> frontend_service_;
    std::shared_ptr<net::GrpcService> agent_service_;
};

/// Dials a fixed endpoint whatever the address asked for; the resolved address is kept while it
/// answers.
class PinnedDialer {
 public:
    PinnedDialer(async::Loop& loop, net::Endpoint endpoint)
        : loop_(loop), endpoint_(std::move(endpoint)) {}
    async::Task<Result<std::unique_ptr<net::Stream>>> dial();

 private:
    async::Loop& loop_;
    net::Endpoint endpoint_;
    std::optional<net::Endpoint> pinned_;
};

}  // namespace basalt::tunnel
