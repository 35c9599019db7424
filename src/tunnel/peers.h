// Peers: the other tunnel servers of the same control plane, one in each of its Pods.
//
// The problem: a Pod that replaces another must not take over before the API server in it can reach
// the nodes, but agents find it only once it is Ready, through the Service. The design: a starting
// server dials the Service, which leads to a sibling that is Ready, and they tell each other who
// they are and which agents they have. From then on
//   - a dial for which the new server has no agent yet goes through the sibling's agents
//   (ServerCore's relays);
//   - the new server is settled(), which its readiness waits for (bounded; at once when nobody
//   answers);
//   - both know how many servers there are and tell it to their agents, which look for the new one;
//   - the old server, when it is told to stop, stays until the others have its agents
//   (taken_over(); bounded).
// The cost: one idle connection between siblings, a dozen looks at the Service in the first minute
// and one a minute then.
//
// Method /basalt.tunnel.Peers/Meet, both ways a stream of wire::PeerState: one at once, one at each
// change. What a peer can do at most: use our agents, as the API server does. Direct destinations
// are not for peers. A tenant that lets its own CA sign a certificate with a server's name is a
// peer, too: all that a peer says is bounded (kMax…), and whom we have not dialled ourselves is
// given nothing to relay.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "async/task_group.h"
#include "async/wait.h"
#include "net/grpc.h"
#include "tunnel/server_core.h"

namespace basalt::tunnel {

inline constexpr std::string_view kMeetMethod = "/basalt.tunnel.Peers/Meet";

struct PeersConfig {
    /// The Service in front of all servers' agent ports; without one there are no peers.
    std::optional<net::Endpoint> endpoint;
    /// The client's identity for it, made anew for each connection, so that rotation works.
    std::function<Result<std::shared_ptr<const net::TlsContext>>()> tls;
    /// Where waiting for the first sibling ends.
    Duration settle_timeout = std::chrono::seconds(15);
    Duration search_interval = std::chrono::seconds(60);
};

class Peers {
 public:
    static constexpr size_t kMaxPeers = 16;
    static constexpr size_t kMaxServerIdSize = 128;
    /// All ids of max_agents agents that are names of nodes or UUIDs; of longer ones as many as
    /// fit.
    static constexpr size_t kMaxStateSize = size_t{256} << 10;
    static constexpr int kMaxStateIds = 4096;

    /// `changed` is called when live_count(), settled() or taken_over() may have changed.
    /// References outlive this; so does the loop, until run() has ended.
    Peers(async::Loop& loop, std::string server_id, PeersConfig config, ServerCore& core,
          std::function<void()> changed);
    Peers(const Peers&) = delete;
    Peers& operator=(const Peers&) = delete;
    ~Peers();

    /// Looks for peers until cancelled.
    async::Task<void> run();
    /// A peer that dialled us.
    async::Task<Result<void>> serve(net::GrpcServerCall& call);
    /// A stream to the API server's end of a peer, for a relay.
    async::Task<Result<std::unique_ptr<net::GrpcStream>>> open_relay(StreamId peer);

    /// Our own state, for the others.
    void set_ready(bool ready);
    void set_draining();
    /// The agents here have changed.
    void agents_changed();

    /// Nothing to wait for: a sibling was met, or there is none.
    bool settled() const { return settled_; }
    /// Servers that take part in the Service, this one included.
    uint32_t live_count() const;
    /// Each of our agents is connected to another server that stays, too; true when there is no
    /// such server.
    bool taken_over() const;
    size_t count() const;

 private:
    struct Session;
    enum class Outcome { kNobody, kSelf, kKnown, kMet, kError };

    async::Task<Outcome> search();
    async::Task<void> session(std::unique_ptr<Session> owned);
    async::Task<void> tell(Session& session);
    async::Task<Result<void>> listen(Session& session);
    /// InvalidArgument for what no server says.
    Result<void> heard(Session& session, std::string_view bytes);
    async::Task<Result<void>> serve_new(net::GrpcServerCall& call);
    void tell_core(const Session& session);
    void settle(std::string_view why);
    void touch();
    std::string state() const;
    bool someone_missing() const;
    Duration pause(Outcome outcome);

    async::Loop& loop_;
    std::string server_id_;
    PeersConfig config_;
    ServerCore& core_;
    std::function<void()> changed_;
    async::TaskGroup group_;
    std::list<Session*> sessions_;
    size_t meeting_count_ = 0;  ///< Those that dialled us and have not said yet who they are.
    async::Condition state_changed_;
    uint64_t version_ = 1;
    Duration eager_pause_;
    bool ready_ = false;
    bool draining_ = false;
    bool settled_ = false;
    int nobody_count_ = 0;
    int quick_retries_ = 0;
};

}  // namespace basalt::tunnel
