// AgentCore: one link of an agent to one tunnel server, without I/O.
//
// The server asks for dials; the driver (agent_link.h) connects and moves bytes between each target
// and this. Connection ids are ours, counted up, never reused on a link.
//
//   server        AgentCore                         driver
//   DIAL_REQ  ->  packet() gives a DialOrder    ->  connects
//   DIAL_RSP  <-  dialed() or dial_failed()     <-
//   DATA     <->  take() / from_target()       <->  writes and reads, while accepts() and alive()
//   CLOSE_REQ ->  take() gives the end after what waits: write that, close, closed()
//   CLOSE_RSP <-  target_closed()               <-  the target closed; sent after what it had sent
//
// Pure: no I/O, no clock. Belongs to one loop.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "tunnel/link.h"

namespace basalt::tunnel {

struct DialOrder {
    int64_t connection_id = 0;
    std::string address;  ///< "host:port", as the API server named it.
};

class AgentCore {
 public:
    /// Connections of one link, those that are being dialled included: below the usual limit of
    /// descriptors.
    static constexpr size_t kMaxConnections = 4096;

    /// `wake` is called with 0 when the link, else when that connection, may have something to do;
    /// it must not call back into the core.
    AgentCore(LinkLimits limits, std::optional<uint32_t> peer_window,
              std::function<void(int64_t)> wake);

    // The link.
    std::optional<DialOrder> packet(Packet packet, TimePoint now);
    std::optional<Packet> next();
    bool may_read() const { return link_.may_read(); }
    bool choked() const { return link_.choked(); }
    void drain();
    /// Every half second or so while connections are open.
    void tick(TimePoint now);
    /// What the server last announced with kServers.
    std::optional<uint32_t> announced_servers() const { return announced_servers_; }

    // Connections.
    void dialed(int64_t id);
    void dial_failed(int64_t id, std::string error);
    /// False once nobody wants this connection's target any more: close it.
    bool alive(int64_t id) const;
    bool accepts(int64_t id) const;
    void from_target(int64_t id, std::string data);
    void target_closed(int64_t id, std::string error, TimePoint now);
    std::optional<Inbound> take(int64_t id);
    /// The driver has closed the target, after take() gave the end or because it had to stop.
    void closed(int64_t id, TimePoint now);

    size_t connections_count() const { return connections_.size(); }
    uint64_t bytes_in() const { return bytes_in_; }
    uint64_t bytes_out() const { return bytes_out_; }

 private:
    enum class Phase { kDialing, kOpen, kServerClosed, kTargetClosed };
    struct Connection {
        Phase phase = Phase::kDialing;
        int64_t dial_id = 0;
        std::optional<TimePoint>
            deadline;  ///< kServerClosed: the target must have taken the rest by then.
    };
    std::optional<DialOrder> dial(Packet packet);
    void data(Packet packet, TimePoint now);
    void server_closed(int64_t id, TimePoint now);
    void forget(int64_t id);

    LinkLimits limits_;
    Link link_;
    std::function<void(int64_t)> wake_;
    int64_t next_id_ = 1;
    std::unordered_map<int64_t, Connection> connections_;
    std::optional<uint32_t> announced_servers_;
    uint64_t bytes_in_ = 0;  ///< From the server.
    uint64_t bytes_out_ = 0;
};

}  // namespace basalt::tunnel
