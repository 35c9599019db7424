// ServerCore: the tunnel server without I/O: which packet goes where, and who has to wait.
//
// Streams, each with an id, are what the driver (server.h) carries packets for:
//   - frontends: one stream of the API server (or of a peer server) each, with at most one
//   connection on it;
//   - agents: links that carry many connections; a *direct* link is one whose agent lives in this
//   process and
//     serves exactly one address (--direct-allow), which then never goes through an agent;
//   - relays: a frontend whose dial another tunnel server (a peer) serves, because we have no agent
//   yet.
//
// Decisions:
//   - the dial ids on a link are ours: two API servers may choose the same number;
//   - a dial without an answer moves to another agent when its link breaks (nothing was sent yet),
//   and waits a
//     moment when the last agent has just gone: a restart of either end fails no request;
//   - back-pressure is per connection in both directions (link.h); may_read() says which stream has
//   to wait;
//   - when either end goes, the other gets what was received before, then the end.
// Whatever an agent sends is untrusted: it ends at most its own link.
//
// Pure: no I/O; time and chance are arguments. Belongs to one loop.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "tunnel/identifiers.h"
#include "tunnel/link.h"

namespace basalt::tunnel {

/// Streams and peers; never reused, never 0.
using StreamId = uint64_t;

struct ServerCoreOptions {
    std::vector<Strategy> strategies{Strategy::kDefault};
    LinkLimits link;
    /// The API server gives up after 30 s; agents after 5 s, so an agent that says nothing for this
    /// long is stuck. 0 waits for ever (upstream's default).
    Duration dial_timeout = std::chrono::seconds(15);
    /// How long a dial waits for an agent to come back, if there was one in the last
    /// `agent_memory`, or if this server has just started: the agents of the one before it are on
    /// their way.
    Duration agent_wait = std::chrono::seconds(5);
    Duration agent_memory = std::chrono::seconds(60);
    Duration start_grace = std::chrono::seconds(10);
    int max_dial_attempts = 3;
    /// How long an agent may take to confirm a close before the connection is forgotten.
    Duration close_timeout = std::chrono::seconds(15);
    size_t max_agents = 4096;
    /// Links of one agent id: it keeps one a server and opens another now and then to look for new
    /// servers.
    size_t max_links_per_agent = 8;
    size_t max_frontends = 8192;
    /// A peer that leaves takes its relays with it. From this long after it said so, with agents of
    /// our own, a relay ends as soon as its target has spoken last and both ends have been quiet
    /// for `relay_quiet`: a kept connection of HTTP/1.1 between two requests, which its client
    /// replaces.
    Duration relay_patience = std::chrono::seconds(20);
    Duration relay_quiet = std::chrono::milliseconds(30);
    /// Where kubelets listen (kubeadm's and upstream's default). Connections to it carry commands:
    /// exec, attach, logs, forwarded ports. Nobody can repeat those, so a relay of one may use all
    /// the time that its peer has: less than its --graceful-shutdown-timeout.
    uint16_t kubelet_port = 10250;
    Duration command_patience = std::chrono::seconds(80);
    /// Bytes that wait for a frontend or a relay beside what link.h holds.
    size_t relay_queue_size = size_t{256} << 10;
    /// Bytes that wait for anybody, altogether. With more nothing is read until three quarters are
    /// left; if that takes longer than link.stall_interval, what waits longest for its reader, the
    /// connections with the most, ends. Windows alone would allow a megabyte a connection.
    size_t memory_limit = size_t{128} << 20;
};

/// Longer ids are not those of agents: a UUID has 36 bytes, a node name at most 253.
inline constexpr size_t kMaxAgentIdSize = 256;
inline bool is_agent_id(std::string_view id) { return !id.empty() && id.size() <= kMaxAgentIdSize; }

struct AgentInfo {
    std::string agent_id;
    Identifiers identifiers;
    std::optional<uint32_t> window;  ///< Its kWindowHeader.
};

struct ServerCounters {
    uint64_t dials = 0;
    uint64_t dials_established = 0;
    uint64_t dials_failed_by_target = 0;  ///< The agent could not connect.
    uint64_t dials_without_agent = 0;
    uint64_t dials_timed_out = 0;
    uint64_t dials_cancelled = 0;
    uint64_t dials_moved = 0;  ///< To another agent, after the first one's link broke.
    uint64_t dials_relayed = 0;
    uint64_t relays_ended = 0;  ///< In a quiet moment, because the peer leaves.
    uint64_t stalled_closed = 0;
    uint64_t overflow_closed = 0;  ///< To stay within memory_limit.
    uint64_t violations = 0;       ///< Packets that the protocol forbids.
    uint64_t bytes_to_agents = 0;
    uint64_t bytes_from_agents = 0;
};

class ServerCore {
 public:
    /// `wake` is called when next(), may_read() or finished() of a stream may have changed, and
    /// with 0 when take_orders() has something; it must not call back into the core.
    ServerCore(ServerCoreOptions options, std::function<uint64_t()> random,
               std::function<void(StreamId)> wake);

    /// Begins start_grace.
    void started(TimePoint now) { started_ = now; }

    // Streams.
    /// ResourceExhausted beyond the limits; InvalidArgument for a bad id.
    Result<StreamId> add_agent(AgentInfo info, TimePoint now);
    /// The link to an agent in this process that dials exactly `address`.
    StreamId add_direct(std::string address, uint32_t window);
    /// `from_peer`: gets no direct destinations and is not relayed further.
    Result<StreamId> add_frontend(bool from_peer);
    void packet(StreamId id, Packet packet, TimePoint now);
    void remove(StreamId id, TimePoint now);

    /// The next packet for a stream's wire.
    std::optional<Packet> next(StreamId id, TimePoint now);
    /// False: do not read from this stream now.
    bool may_read(StreamId id) const;
    /// True when nothing will follow for this stream: end it. True for unknown streams.
    bool finished(StreamId id) const;
    /// Every half second or so: time limits.
    void tick(TimePoint now);
    /// True when tick() has nothing to watch.
    bool idle() const;

    // Peers.
    /// A peer that can relay when `agents_count` is above 0.
    /// `leaving`: it was told to stop and goes on for a while.
    void set_peer(StreamId peer, size_t agents_count, bool leaving, TimePoint now);
    void remove_peer(StreamId peer, TimePoint now);
    struct RelayOrder {
        StreamId relay;
        StreamId peer;
    };
    /// Streams to open to peers; the driver then serves `relay`, or removes it when it cannot.
    std::vector<RelayOrder> take_orders();
    /// Ids for peers come from the same numbers as streams.
    StreamId new_id() { return next_id_++; }

    // The number of servers, for agents.
    void set_server_count(uint32_t count);
    uint32_t server_count() const { return server_count_; }

    // For health and metrics.
    size_t agents_count() const;  ///< Distinct agent ids.
    std::vector<std::string> agent_ids() const;
    size_t links_of(std::string_view agent_id) const;
    size_t links_count() const { return agents_.size() - direct_.size(); }
    size_t frontends_count() const { return frontends_.size(); }
    size_t connections_count() const;
    size_t pending_count() const;
    /// Connections of our own API server to kubelets, with and without an answer to their dial.
    size_t commands_count() const;
    const ServerCounters& counters() const { return counters_; }
    /// What memory_limit limits.
    size_t held_size() const { return held_size_; }

 private:
    enum class Phase { kIdle, kWaiting, kDialing, kOpen, kRelayed, kEnded };
    struct Frontend {
        bool from_peer = false;
        Phase phase = Phase::kIdle;
        Packet dial;  ///< As the frontend sent it.
        int attempts = 0;
        StreamId link = 0;  ///< Agent or relay.
        int64_t link_dial_id = 0;
        int64_t connection_id = 0;
        TimePoint deadline;  ///< kWaiting, kDialing
        std::deque<Packet> out;
        size_t out_size = 0;
    };
    struct Agent {
        AgentInfo info;
        bool direct = false;
        bool draining = false;
        bool suspect = false;  ///< Did not answer a dial; chosen last.
        bool broken = false;   ///< Violated the protocol: end the stream.
        uint64_t order = 0;
        Link link;
        std::unordered_map<int64_t, StreamId> dials;   ///< Dial id -> frontend.
        std::unordered_map<int64_t, StreamId> owners;  ///< Connection id -> frontend.
        std::unordered_map<int64_t, TimePoint> closing;
    };
    struct Relay {
        StreamId frontend = 0;
        StreamId peer = 0;
        bool answered = false;   ///< The peer has sent something: the dial cannot move any more.
        bool continued = false;  ///< The frontend has sent more than its dial.
        bool target_spoke_last = false;
        int64_t connection_id = 0;  ///< As the peer's answer to the dial said; 0 before.
        TimePoint last_packet;
        std::deque<Packet> out;
        size_t out_size = 0;
    };

    std::optional<Packet> next_of(StreamId id);
    void frontend_packet(StreamId id, Frontend& frontend, Packet packet, TimePoint now);
    void frontend_data(StreamId id, Frontend& frontend, Packet packet, TimePoint now);
    void agent_packet(StreamId id, Agent& agent, Packet packet, TimePoint now);
    void agent_dialed(StreamId id, Agent& agent, Packet packet);
    void agent_data(StreamId id, Agent& agent, Packet packet, TimePoint now);
    void relay_packet(StreamId id, Relay& relay, Packet packet, TimePoint now);
    void end_quiet_relays(TimePoint now);
    /// True for the kubelet's port.
    bool carries_commands(const Frontend& frontend) const;

    void route(StreamId id, Frontend& frontend, TimePoint now);
    StreamId choose_agent(const Frontend& frontend);
    StreamId choose_peer();
    void dial_via_agent(StreamId id, Frontend& frontend, StreamId agent_id, TimePoint now);
    void dial_via_peer(StreamId id, Frontend& frontend, StreamId peer);
    void fail_dial(StreamId id, Frontend& frontend, std::string error);
    void retry_waiting(TimePoint now);
    /// Leaves the link side of a frontend: closes or gives up what it has there.
    void detach(StreamId id, Frontend& frontend, TimePoint now);
    void end_frontend(StreamId id, Frontend& frontend, std::optional<Packet> last);
    void push(StreamId id, Frontend& frontend, Packet packet);
    void remove_agent(StreamId id, TimePoint now);
    void remove_relay(StreamId id, TimePoint now);
    void violation(StreamId id, Agent& agent);
    /// Behind whatever may have changed held_size_.
    void check_memory(TimePoint now);
    /// What is left before anything is read again, once memory_limit was reached.
    size_t kept_size() const { return options_.memory_limit / 4 * 3; }
    /// Ends the streams for which most waits, as many as it takes.
    void make_room(TimePoint now);
    void close_largest(TimePoint now);
    template <class Stream>
    void queue(Stream& stream, Packet packet);
    template <class Stream>
    Packet unqueue(Stream& stream);
    void close_connection(StreamId id, Agent& agent, int64_t connection, std::string error,
                          TimePoint now);

    ServerCoreOptions options_;
    std::function<uint64_t()> random_;
    std::function<void(StreamId)> wake_;
    StreamId next_id_ = 1;
    int64_t next_dial_id_ = 1;
    uint32_t server_count_ = 1;
    std::optional<TimePoint> last_agent_seen_;
    std::optional<TimePoint> started_;
    std::map<StreamId, Frontend>
        frontends_;  // Ordered: what is done to all of them is done in order.
    std::map<StreamId, Agent> agents_;
    std::map<StreamId, Relay> relays_;
    struct Peer {
        size_t agents_count = 0;
        std::optional<TimePoint> leaving_since;
    };
    std::map<StreamId, Peer> peers_;
    std::map<std::string, StreamId> direct_;
    std::vector<RelayOrder> orders_;
    size_t held_size_ = 0;
    std::optional<TimePoint> full_since_;
    ServerCounters counters_;
};

}  // namespace basalt::tunnel
