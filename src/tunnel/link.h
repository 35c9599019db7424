// Link: one agent's stream as either end sees it, with many connections running beside each other
// on it.
//
// The problem: the protocol has no flow control a connection. One that nobody reads fills the
// stream's HTTP/2 window, and then every connection of that agent stands still. The design:
//   - outgoing data waits in one bounded queue a connection; next() takes turns between those that
//   may send, so
//     that a bulk transfer does not starve a small one, and accepts() tells the source to stop
//     reading;
//   - between two Basalt ends a connection may have only `window` bytes on their way until the
//   receiver gives
//     credit (kCredit): a slow reader then slows down its own source and nobody else;
//   - an upstream peer knows no credit. A connection whose queue is full then holds the link
//   (may_read() is
//     false), but only while its reader makes progress: one that takes less than `stall_progress`
//     bytes in `stall_interval` is stalled, and its owner must close it.
// The cost: up to window + send_queue bytes a connection in memory at each end, when its reader is
// slow.
//
// Pure: no I/O, no clock (time comes as an argument). Belongs to one loop.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "tunnel/packet.h"

namespace basalt::tunnel {

struct LinkLimits {
    /// Bytes of one connection that wait for the link. Two gRPC messages of the API server's usual
    /// maximum.
    size_t send_queue_size = size_t{256} << 10;
    /// Bytes of one connection on their way or waiting for its local reader. 1 MiB carries 100 MB/s
    /// at 10 ms.
    uint32_t window_size = uint32_t{1} << 20;
    /// Bytes in one packet, so that turns are short.
    size_t chunk_size = size_t{32} << 10;
    /// Packets other than data that wait for the link; more means that the peer does not read.
    size_t control_queue_count = 16384;
    /// A reader without credit that takes less than stall_progress in stall_interval is stalled.
    Duration stall_interval = std::chrono::seconds(2);
    size_t stall_progress = size_t{64} << 10;
    /// How long data may keep waiting for the link after its source has closed.
    Duration linger = std::chrono::seconds(5);
};

/// What a connection's local reader gets next.
struct Inbound {
    std::string data;
    bool end = false;   ///< The peer closed; nothing follows.
    std::string error;  ///< With end: the peer's reason, or empty.
};

class Link {
 public:
    /// `peer_window`: the peer's kWindowHeader, nothing when it has no flow control (upstream's).
    explicit Link(const LinkLimits& limits = {}, std::optional<uint32_t> peer_window = std::nullopt)
        : limits_(limits), peer_window_(peer_window) {}

    bool flow_control() const { return peer_window_.has_value(); }

    /// Bytes that wait here, of all connections in both directions, are added to `total` as they
    /// come and taken off as they go. The owner takes off held_size() when the link ends.
    void count_in(size_t* total) { total_ = total; }
    size_t held_size() const { return held_size_; }
    /// The connection for which most waits; 0 when nothing waits.
    int64_t largest() const;

    // Connections. An id that is open twice is refused.
    bool open(int64_t id);
    /// Known and not ended by drop(); true for one that is closing.
    bool contains(int64_t id) const { return connections_.contains(id); }
    size_t size() const { return connections_.size(); }
    /// Forgets the connection and all that waits for it, in both directions.
    void drop(int64_t id);
    std::vector<int64_t> ids() const;

    // To the peer.
    /// Anything but data: sent in order, before any data.
    void send(Packet packet);
    void send_data(int64_t id, std::string data);
    /// `last` (a close packet) follows the connection's data; the outgoing direction ends with it.
    /// Data that cannot leave within `linger` is dropped, `last` is sent then (see expire()).
    void send_last(int64_t id, Packet last, TimePoint now);
    /// False: the source should wait (queue full) or is gone.
    bool accepts(int64_t id) const;
    /// The next packet for the wire.
    std::optional<Packet> next();
    bool has_next() const;
    /// The peer reads nothing any more: end the stream.
    bool choked() const { return control_.size() > limits_.control_queue_count; }

    // From the peer.
    /// NotFound for an unknown or ended connection; ResourceExhausted when the peer sent more than
    /// it was allowed to: the owner closes the connection.
    Result<void> receive_data(int64_t id, std::string data, TimePoint now);
    /// The peer closed: its reader gets what waits, then the end.
    Result<void> receive_end(int64_t id, std::string error);
    /// Credit of the peer for a connection of ours.
    void receive_credit(int64_t id, uint32_t size);
    /// What waits for the connection's local reader. Gives the peer credit.
    std::optional<Inbound> take(int64_t id);
    bool has_inbound(int64_t id) const;
    /// The local reader is gone: what waits is dropped, what still comes is NotFound.
    void stop_inbound(int64_t id);
    /// The local source is gone and nothing of it matters any more: what waits for the link is
    /// dropped.
    void stop_outbound(int64_t id);
    /// False while a full connection of a peer without flow control holds the link.
    bool may_read() const { return holding_count_ == 0; }

    // Time.
    /// Call it about every half second while connections are open.
    /// Sends last packets whose data lingered too long; returns the stalled connections, for the
    /// owner to close.
    std::vector<int64_t> expire(TimePoint now);

 private:
    struct Connection {
        // To the peer.
        std::deque<std::string> out;
        size_t out_size = 0;
        size_t out_offset = 0;  ///< Of the first piece, already sent.
        int64_t credit = 0;     ///< Bytes the peer still takes; unused without flow control.
        bool queued = false;    ///< In turns_.
        bool out_ended = false;
        std::optional<Packet> last;
        std::optional<TimePoint> linger_until;
        // From the peer.
        std::deque<std::string> in;
        size_t in_size = 0;
        uint32_t owed_credit = 0;  ///< Taken by the reader, not yet given back to the peer.
        bool in_ended = false;
        std::string end_error;
        bool end_taken = false;
        bool holding = false;
        TimePoint hold_check;
        size_t progress = 0;  ///< Bytes taken since the last check.
    };

    /// Joins what fits into one chunk: packets of a byte must not cost an allocation each.
    void append(std::deque<std::string>& pieces, std::string data) const;
    void held(size_t size);
    void let_go(size_t size);
    bool sendable(const Connection& connection) const;
    void enqueue(int64_t id, Connection& connection);
    Packet pop_from(int64_t id, Connection& connection);
    void release_hold(Connection& connection);

    LinkLimits limits_;
    std::optional<uint32_t> peer_window_;
    std::unordered_map<int64_t, Connection> connections_;
    std::deque<Packet> control_;
    std::deque<int64_t> turns_;  ///< Connections that may have something to send.
    size_t holding_count_ = 0;
    size_t held_size_ = 0;
    size_t* total_ = nullptr;
};

}  // namespace basalt::tunnel
