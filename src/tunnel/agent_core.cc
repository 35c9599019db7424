#include "tunnel/agent_core.h"

#include <algorithm>

namespace basalt::tunnel {

AgentCore::AgentCore(LinkLimits limits, std::optional<uint32_t> peer_window,
                     std::function<void(int64_t)> wake)
    : limits_(limits), link_(limits, peer_window), wake_(std::move(wake)) {}

std::optional<DialOrder> AgentCore::packet(Packet packet, TimePoint now) {
    switch (packet.kind) {
        case PacketKind::kDialRequest: return dial(std::move(packet));
        case PacketKind::kDialClose: {
            auto it = std::find_if(connections_.begin(), connections_.end(),
                                   [&packet](const auto& entry) {
                                       return entry.second.dial_id == packet.dial_id &&
                                              entry.second.phase == Phase::kDialing;
                                   });
            if (it != connections_.end()) forget(it->first);
            break;
        }
        case PacketKind::kData: data(std::move(packet), now); break;
        case PacketKind::kCloseRequest: server_closed(packet.connection_id, now); break;
        case PacketKind::kCredit:
            link_.receive_credit(packet.connection_id, packet.number);
            wake_(0);
            break;
        case PacketKind::kServers: announced_servers_ = packet.number; break;
        default: break;  // Nothing else is for agents.
    }
    return std::nullopt;
}

std::optional<DialOrder> AgentCore::dial(Packet packet) {
    std::string error;
    if (packet.network != "tcp") error = "only tcp is supported";
    if (connections_.size() >= kMaxConnections) error = "the agent has too many connections";
    if (!error.empty()) {
        link_.send(dial_response(packet.dial_id, 0, error));
        wake_(0);
        return std::nullopt;
    }
    int64_t id = next_id_++;
    connections_[id].dial_id = packet.dial_id;
    return DialOrder{id, std::move(packet.address)};
}

void AgentCore::data(Packet packet, TimePoint now) {
    int64_t id = packet.connection_id;
    if (id == 0) return;
    auto it = connections_.find(id);
    if (it == connections_.end()) {
        link_.send(close_response(id, "no such connection"));
        wake_(0);
        return;
    }
    if (it->second.phase != Phase::kOpen) return;  // Its end is under way.
    bytes_in_ += packet.data.size();
    Result<void> received = link_.receive_data(id, std::move(packet.data), now);
    if (!received.ok()) {
        link_.send(close_response(id, received.error().message()));
        forget(id);
        wake_(0);
        return;
    }
    wake_(id);
}

void AgentCore::server_closed(int64_t id, TimePoint now) {
    auto it = connections_.find(id);
    if (it == connections_.end()) {
        link_.send(close_response(id, "no such connection"));
        wake_(0);
        return;
    }
    Connection& connection = it->second;
    if (connection.phase == Phase::kServerClosed) return;
    link_.send(close_response(id));
    wake_(0);
    if (connection.phase != Phase::kOpen) {
        forget(id);
        return;
    }
    connection.phase = Phase::kServerClosed;
    connection.deadline = now + limits_.linger;
    link_.stop_outbound(id);
    Result<void> ended = link_.receive_end(id, {});
    if (!ended.ok()) forget(id);
    wake_(id);
}

std::optional<Packet> AgentCore::next() {
    std::optional<Packet> packet = link_.next();
    if (!packet) return packet;
    if (packet->kind == PacketKind::kData) {
        wake_(packet->connection_id);  // accepts() may have become true.
    } else if (packet->kind == PacketKind::kCloseResponse) {
        auto it = connections_.find(packet->connection_id);
        if (it != connections_.end() && it->second.phase == Phase::kTargetClosed) forget(it->first);
    }
    return packet;
}

void AgentCore::drain() {
    Packet packet;
    packet.kind = PacketKind::kDrain;
    link_.send(std::move(packet));
    wake_(0);
}

void AgentCore::tick(TimePoint now) {
    for (int64_t id : link_.expire(now)) {
        link_.send(close_response(id, "the target is stalled"));
        forget(id);
    }
    std::vector<int64_t> overdue;
    for (const auto& [id, connection] : connections_) {
        if (connection.deadline && *connection.deadline <= now) overdue.push_back(id);
    }
    for (int64_t id : overdue) forget(id);
    if (link_.has_next()) wake_(0);
}

void AgentCore::dialed(int64_t id) {
    auto it = connections_.find(id);
    if (it == connections_.end()) return;
    it->second.phase = Phase::kOpen;
    link_.open(id);
    link_.send(dial_response(it->second.dial_id, id));
    wake_(0);
}

void AgentCore::dial_failed(int64_t id, std::string error) {
    auto it = connections_.find(id);
    if (it == connections_.end()) return;
    link_.send(dial_response(it->second.dial_id, 0, std::move(error)));
    connections_.erase(it);
    wake_(0);
}

bool AgentCore::accepts(int64_t id) const {
    auto it = connections_.find(id);
    return it != connections_.end() && it->second.phase == Phase::kOpen && link_.accepts(id);
}

void AgentCore::from_target(int64_t id, std::string data) {
    auto it = connections_.find(id);
    if (it == connections_.end() || it->second.phase != Phase::kOpen) return;
    bytes_out_ += data.size();
    link_.send_data(id, std::move(data));
    wake_(0);
}

void AgentCore::target_closed(int64_t id, std::string error, TimePoint now) {
    auto it = connections_.find(id);
    if (it == connections_.end()) return;
    // With kServerClosed the target may still take the rest of what was sent to it.
    if (it->second.phase != Phase::kOpen) return;
    it->second.phase = Phase::kTargetClosed;
    link_.stop_inbound(id);
    link_.send_last(id, close_response(id, std::move(error)), now);
    wake_(0);
    wake_(id);
}

std::optional<Inbound> AgentCore::take(int64_t id) {
    std::optional<Inbound> inbound = link_.take(id);
    if (inbound) wake_(0);
    return inbound;
}

void AgentCore::closed(int64_t id, TimePoint now) {
    auto it = connections_.find(id);
    if (it == connections_.end()) return;
    if (it->second.phase == Phase::kOpen) target_closed(id, {}, now);
    // What a target sent before it closed is still on its way (kTargetClosed); next() forgets it
    // then.
    if (it->second.phase == Phase::kServerClosed) forget(id);
}

bool AgentCore::alive(int64_t id) const {
    auto it = connections_.find(id);
    return it != connections_.end() && it->second.phase != Phase::kTargetClosed;
}

void AgentCore::forget(int64_t id) {
    link_.drop(id);
    connections_.erase(id);
    wake_(id);
    wake_(0);
}

}  // namespace basalt::tunnel
