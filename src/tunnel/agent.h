// Agent: runs on a tenant's node; keeps one link to every tunnel server behind one address.
//
// The servers stand behind a Service, so that a new connection reaches any of them. The agent
// connects until it knows as many different server ids as the servers say there are, and looks
// again whenever one announces a new number (ours do, at once), a link breaks, or, if
// `sync_forever`, now and then. It never gives up: the time between failed attempts grows from
// sync_interval to sync_interval_cap.
//
// Credentials are read anew for each connection, so that tokens and certificates may rotate.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

#include "async/task_group.h"
#include "async/wait.h"
#include "base/secret.h"
#include "net/grpc.h"
#include "tunnel/agent_link.h"
#include "tunnel/identifiers.h"

namespace basalt::tunnel {

struct AgentConfig {
    net::Endpoint server;
    std::string agent_id;     ///< Distinct for each agent process.
    std::string identifiers;  ///< As in identifiers.h.
    /// For each connection: how to verify the server, and our certificate if we have one.
    std::function<Result<std::shared_ptr<const net::TlsContext>>()> tls;
    /// For each connection: a bearer token; empty function for none.
    std::function<Result<Secret>()> token;
    TargetDialer dialer;  ///< make_tcp_dialer() when empty.
    LinkLimits link;
    Duration sync_interval = std::chrono::seconds(1);       // upstream's default
    Duration sync_interval_cap = std::chrono::seconds(10);  // upstream's default
    bool sync_forever = true;
    /// With sync_forever: how often to look for servers that nobody announced.
    Duration resync_interval = std::chrono::seconds(60);
    /// Silence after which a link is probed. Upstream's server ends a connection that is probed
    /// more often than each 30 s.
    Duration keepalive_time = std::chrono::seconds(35);
    Duration keepalive_timeout = std::chrono::seconds(10);
    Duration connect_timeout = std::chrono::seconds(10);
};

class Agent {
 public:
    /// More servers than this are not looked for, whatever a server says.
    static constexpr uint32_t kMaxServers = 32;

    Agent(async::Loop& loop, AgentConfig config);
    Agent(const Agent&) = delete;
    Agent& operator=(const Agent&) = delete;
    ~Agent();

    void start();
    /// Asks the servers for no more dials and looks for no more servers; connections go on.
    void drain();
    async::Task<void> stop();

    size_t links_count() const { return links_.size(); }
    size_t connections_count() const;
    bool ready() const { return !links_.empty(); }
    std::string metrics() const;

 private:
    struct LinkState;
    enum class Outcome { kNew, kKnown, kFailed };

    async::Task<void> sync_loop();
    Result<net::GrpcCallOptions> call_options() const;
    Result<std::shared_ptr<net::GrpcChannel>> make_channel() const;
    /// A stream that a tunnel server has accepted.
    async::Task<Result<std::unique_ptr<net::GrpcStream>>> open(net::GrpcChannel& channel) const;
    /// Serves it from now on, unless its server is known.
    Outcome adopt(std::unique_ptr<LinkState> state, std::unique_ptr<net::GrpcStream> stream);
    async::Task<Outcome> connect_once();
    async::Task<void> serve_link(std::unique_ptr<LinkState> owned);
    uint32_t wanted() const;
    Duration pause(Outcome outcome);
    Duration jittered(Duration base);
    void kick();

    async::Loop& loop_;
    AgentConfig config_;
    async::TaskGroup group_;
    std::unordered_map<std::string, LinkState*> links_;  ///< By server id.
    async::Condition kicked_;
    bool kick_pending_ = false;
    bool draining_ = false;
    bool all_announce_ = true;
    Duration backoff_{0};
    uint64_t connects_failed_ = 0;
    uint64_t links_opened_ = 0;
};

}  // namespace basalt::tunnel
