#include "tunnel/server_core.h"

#include <algorithm>
#include <set>
#include <utility>

namespace basalt::tunnel {

namespace {
constexpr size_t kMaxAddressSize = 512;  // a DNS name of 253 bytes, brackets and a port fit

size_t cost_of(const Packet& packet) { return packet.data.size() + packet.error.size() + 64; }
}  // namespace

ServerCore::ServerCore(ServerCoreOptions options, std::function<uint64_t()> random,
                       std::function<void(StreamId)> wake)
    : options_(std::move(options)), random_(std::move(random)), wake_(std::move(wake)) {}

Result<StreamId> ServerCore::add_agent(AgentInfo info, TimePoint now) {
    if (!is_agent_id(info.agent_id)) {
        return invalid_argument("an agent id has 1 to 256 bytes");
    }
    if (links_count() >= options_.max_agents) return resource_exhausted("too many agents");
    if (links_of(info.agent_id) >= options_.max_links_per_agent) {
        return resource_exhausted("too many links of one agent");
    }
    StreamId id = new_id();
    Agent& agent = agents_[id];
    agent.link = Link(options_.link, info.window);
    agent.link.count_in(&held_size_);
    agent.info = std::move(info);
    agent.order = id;
    last_agent_seen_ = now;
    retry_waiting(now);
    return id;
}

StreamId ServerCore::add_direct(std::string address, uint32_t window) {
    StreamId id = new_id();
    Agent& agent = agents_[id];
    agent.info.agent_id = "direct";
    agent.info.window = window;
    agent.link = Link(options_.link, window);
    agent.link.count_in(&held_size_);
    agent.direct = true;
    direct_[std::move(address)] = id;
    return id;
}

Result<StreamId> ServerCore::add_frontend(bool from_peer) {
    if (frontends_.size() >= options_.max_frontends) return resource_exhausted("too many streams");
    StreamId id = new_id();
    frontends_[id].from_peer = from_peer;
    return id;
}

void ServerCore::packet(StreamId id, Packet packet, TimePoint now) {
    if (auto it = frontends_.find(id); it != frontends_.end()) {
        frontend_packet(id, it->second, std::move(packet), now);
    } else if (auto agent = agents_.find(id); agent != agents_.end()) {
        agent_packet(id, agent->second, std::move(packet), now);
    } else if (auto relay = relays_.find(id); relay != relays_.end()) {
        relay_packet(id, relay->second, std::move(packet), now);
    }
    check_memory(now);
}

// ---- memory ----

template <class Stream>
void ServerCore::queue(Stream& stream, Packet packet) {
    stream.out_size += cost_of(packet);
    held_size_ += cost_of(packet);
    stream.out.push_back(std::move(packet));
}

template <class Stream>
Packet ServerCore::unqueue(Stream& stream) {
    Packet packet = std::move(stream.out.front());
    stream.out.pop_front();
    stream.out_size -= cost_of(packet);
    held_size_ -= cost_of(packet);
    return packet;
}

void ServerCore::check_memory(TimePoint now) {
    if (!full_since_) {
        if (held_size_ >= options_.memory_limit) full_since_ = now;
        return;
    }
    if (held_size_ > kept_size()) return;
    full_since_.reset();
    for (const auto& [id, agent] : agents_) wake_(id);
    for (const auto& [id, frontend] : frontends_) wake_(id);
    for (const auto& [id, relay] : relays_) wake_(id);
}

void ServerCore::make_room(TimePoint now) {
    // A stream may end twice: first what waits for its reader, then what it was still to be sent.
    size_t steps = 2 * (frontends_.size() + relays_.size());
    for (const auto& [id, agent] : agents_) steps += 2 * agent.link.size();
    for (; steps > 0 && held_size_ > kept_size(); --steps) close_largest(now);
}

void ServerCore::close_largest(TimePoint now) {
    const auto largest = [](const auto& streams, auto size_of) {
        std::pair<StreamId, size_t> found{0, 0};
        for (const auto& [id, stream] : streams) {
            if (size_of(stream) > found.second) found = {id, size_of(stream)};
        }
        return found;
    };
    const auto queued = [](const auto& stream) { return stream.out_size; };
    const auto [agent_id, of_agent] =
        largest(agents_, [](const Agent& agent) { return agent.link.held_size(); });
    const auto [frontend_id, of_frontend] = largest(frontends_, queued);
    const auto [relay_id, of_relay] = largest(relays_, queued);
    if (of_relay > std::max(of_agent, of_frontend)) {
        ++counters_.overflow_closed;
        remove_relay(relay_id, now);
        return;
    }
    if (of_frontend > of_agent) {
        ++counters_.overflow_closed;
        Frontend& frontend = frontends_.at(frontend_id);
        detach(frontend_id, frontend, now);
        held_size_ -= std::exchange(frontend.out_size, 0);
        frontend.out.clear();
        end_frontend(frontend_id, frontend, std::nullopt);
        return;
    }
    if (agent_id == 0) return;
    Agent& agent = agents_.at(agent_id);
    const int64_t connection = agent.link.largest();
    if (!agent.owners.contains(connection)) {
        agent.link.stop_outbound(connection);  // Closed already; what lingers goes.
        return;
    }
    ++counters_.overflow_closed;
    close_connection(agent_id, agent, connection, "too much waits for slow readers", now);
}

// ---- frontends ----

void ServerCore::push(StreamId id, Frontend& frontend, Packet packet) {
    queue(frontend, std::move(packet));
    wake_(id);
}

void ServerCore::end_frontend(StreamId id, Frontend& frontend, std::optional<Packet> last) {
    frontend.phase = Phase::kEnded;
    frontend.link = 0;
    if (last) push(id, frontend, std::move(*last));
    wake_(id);
}

void ServerCore::frontend_packet(StreamId id, Frontend& frontend, Packet packet, TimePoint now) {
    if (frontend.phase == Phase::kEnded) return;  // It has its last answer.
    if (frontend.phase == Phase::kRelayed) {
        Relay& relay = relays_.at(frontend.link);
        relay.continued = true;
        relay.target_spoke_last = false;
        relay.last_packet = now;
        queue(relay, std::move(packet));
        wake_(frontend.link);
        return;
    }
    switch (packet.kind) {
        case PacketKind::kDialRequest:
            if (frontend.phase != Phase::kIdle) {
                ++counters_.violations;
                detach(id, frontend, now);
                end_frontend(
                    id, frontend,
                    dial_response(packet.dial_id, 0, "this stream has a connection already"));
                return;
            }
            ++counters_.dials;
            if (packet.network != "tcp" || packet.address.empty() ||
                packet.address.size() > kMaxAddressSize) {
                frontend.dial = std::move(packet);
                fail_dial(id, frontend, "only tcp to host:port is supported");
                return;
            }
            frontend.dial = std::move(packet);
            route(id, frontend, now);
            return;
        case PacketKind::kDialClose:
            if (packet.dial_id != frontend.dial.dial_id) return;
            if (frontend.phase == Phase::kDialing || frontend.phase == Phase::kWaiting) {
                ++counters_.dials_cancelled;
            }
            detach(id, frontend, now);
            end_frontend(id, frontend, std::nullopt);
            return;
        case PacketKind::kData: frontend_data(id, frontend, std::move(packet), now); return;
        case PacketKind::kCloseRequest:
            if (frontend.phase == Phase::kOpen && packet.connection_id != frontend.connection_id) {
                ++counters_.violations;
            }
            detach(id, frontend, now);
            // Answered at once: the API server waits for it, the agent's confirmation adds nothing.
            end_frontend(id, frontend, close_response(packet.connection_id));
            return;
        default: return;  // What later versions may send.
    }
}

void ServerCore::frontend_data(StreamId id, Frontend& frontend, Packet packet, TimePoint now) {
    if (packet.connection_id == 0) return;
    if (frontend.phase != Phase::kOpen || packet.connection_id != frontend.connection_id) {
        ++counters_.violations;
        detach(id, frontend, now);
        end_frontend(id, frontend, close_response(packet.connection_id, "no such connection"));
        return;
    }
    counters_.bytes_to_agents += packet.data.size();
    agents_.at(frontend.link).link.send_data(frontend.connection_id, std::move(packet.data));
    wake_(frontend.link);
}

void ServerCore::detach(StreamId id, Frontend& frontend, TimePoint now) {
    if (frontend.phase == Phase::kRelayed) {
        StreamId relay = frontend.link;
        frontend.link = 0;
        frontend.phase = Phase::kEnded;
        held_size_ -= relays_.at(relay).out_size;
        relays_.erase(relay);
        wake_(relay);
        return;
    }
    if (frontend.phase != Phase::kDialing && frontend.phase != Phase::kOpen) return;
    auto it = agents_.find(frontend.link);
    if (it == agents_.end()) return;
    Agent& agent = it->second;
    if (frontend.phase == Phase::kDialing) {
        agent.dials.erase(frontend.link_dial_id);
        agent.link.send(dial_close(frontend.link_dial_id));
    } else {
        int64_t connection = frontend.connection_id;
        agent.owners.erase(connection);
        agent.link.stop_inbound(connection);
        agent.link.send_last(connection, close_request(connection), now);
        agent.closing[connection] = now + options_.close_timeout;
    }
    (void)id;
    wake_(frontend.link);
}

void ServerCore::fail_dial(StreamId id, Frontend& frontend, std::string error) {
    end_frontend(id, frontend, dial_response(frontend.dial.dial_id, 0, std::move(error)));
}

// ---- routing ----

void ServerCore::route(StreamId id, Frontend& frontend, TimePoint now) {
    if (!frontend.from_peer) {
        if (auto direct = direct_.find(frontend.dial.address); direct != direct_.end()) {
            dial_via_agent(id, frontend, direct->second, now);
            return;
        }
    }
    if (StreamId agent = choose_agent(frontend)) {
        dial_via_agent(id, frontend, agent, now);
        return;
    }
    if (StreamId peer = frontend.from_peer ? 0 : choose_peer()) {
        dial_via_peer(id, frontend, peer);
        return;
    }
    bool recently = (last_agent_seen_ && now - *last_agent_seen_ < options_.agent_memory) ||
                    (started_ && now - *started_ < options_.start_grace);
    if (frontend.phase == Phase::kWaiting) return;
    if (!recently || options_.agent_wait <= Duration(0)) {
        ++counters_.dials_without_agent;
        fail_dial(id, frontend, "No agent available");
        return;
    }
    frontend.phase = Phase::kWaiting;
    frontend.deadline = now + options_.agent_wait;
}

StreamId ServerCore::choose_agent(const Frontend& frontend) {
    std::string_view host = host_of(frontend.dial.address);
    for (Strategy strategy : options_.strategies) {
        // The oldest link of each agent: a later one is often an agent's search for new servers,
        // soon closed.
        std::map<std::string_view, std::pair<StreamId, const Agent*>> candidates;
        for (const auto& [id, agent] : agents_) {
            if (agent.direct || agent.broken) continue;
            if (strategy == Strategy::kDestHost && !agent.info.identifiers.serves_host(host))
                continue;
            if (strategy == Strategy::kDefaultRoute && !agent.info.identifiers.default_route)
                continue;
            auto [it, added] = candidates.try_emplace(agent.info.agent_id, id, &agent);
            bool held_back = it->second.second->draining || it->second.second->suspect;
            if (!added && held_back && !agent.draining && !agent.suspect) it->second = {id, &agent};
        }
        if (candidates.empty()) continue;
        // Healthy ones first, then those that leave, then those that did not answer.
        for (int grade = 0; grade < 3; ++grade) {
            std::vector<StreamId> ids;
            for (const auto& [name, candidate] : candidates) {
                const Agent& agent = *candidate.second;
                int agent_grade = agent.suspect ? 2 : agent.draining ? 1 : 0;
                if (agent_grade == grade) ids.push_back(candidate.first);
            }
            if (!ids.empty()) return ids[random_() % ids.size()];
        }
    }
    return 0;
}

StreamId ServerCore::choose_peer() {
    std::vector<StreamId> ids;
    for (const auto& [id, peer] : peers_) {
        if (peer.agents_count > 0) ids.push_back(id);
    }
    return ids.empty() ? 0 : ids[random_() % ids.size()];
}

void ServerCore::dial_via_agent(StreamId id, Frontend& frontend, StreamId agent_id, TimePoint now) {
    Agent& agent = agents_.at(agent_id);
    ++frontend.attempts;
    frontend.phase = Phase::kDialing;
    frontend.link = agent_id;
    frontend.link_dial_id = next_dial_id_++;
    frontend.deadline = now + options_.dial_timeout;
    agent.dials[frontend.link_dial_id] = id;
    agent.link.send(dial_request(frontend.link_dial_id, frontend.dial.address));
    wake_(agent_id);
}

void ServerCore::dial_via_peer(StreamId id, Frontend& frontend, StreamId peer) {
    ++counters_.dials_relayed;
    ++frontend.attempts;
    StreamId relay_id = new_id();
    Relay& relay = relays_[relay_id];
    relay.frontend = id;
    relay.peer = peer;
    queue(relay, frontend.dial);
    frontend.phase = Phase::kRelayed;
    frontend.link = relay_id;
    orders_.push_back({relay_id, peer});
    wake_(0);
}

void ServerCore::retry_waiting(TimePoint now) {
    for (auto& [id, frontend] : frontends_) {
        if (frontend.phase == Phase::kWaiting) route(id, frontend, now);
    }
}

// ---- agents ----

void ServerCore::violation(StreamId id, Agent& agent) {
    ++counters_.violations;
    agent.broken = true;
    wake_(id);
}

void ServerCore::agent_packet(StreamId id, Agent& agent, Packet packet, TimePoint now) {
    if (!agent.direct) last_agent_seen_ = now;
    agent.suspect = false;
    switch (packet.kind) {
        case PacketKind::kDialResponse: agent_dialed(id, agent, std::move(packet)); return;
        case PacketKind::kDialClose: {
            auto it = agent.dials.find(packet.dial_id);
            if (it == agent.dials.end()) return;
            StreamId owner = it->second;
            agent.dials.erase(it);
            Frontend& frontend = frontends_.at(owner);
            ++counters_.dials_failed_by_target;
            end_frontend(owner, frontend, dial_close(frontend.dial.dial_id));
            return;
        }
        case PacketKind::kData: agent_data(id, agent, std::move(packet), now); return;
        case PacketKind::kCloseRequest:
        case PacketKind::kCloseResponse: {
            int64_t connection = packet.connection_id;
            if (agent.closing.erase(connection) > 0) {
                agent.link.drop(connection);
                return;
            }
            auto owner = agent.owners.find(connection);
            if (owner == agent.owners.end()) return;
            Result<void> ended = agent.link.receive_end(connection, std::move(packet.error));
            if (ended.ok()) wake_(owner->second);
            return;
        }
        case PacketKind::kCredit:
            agent.link.receive_credit(packet.connection_id, packet.number);
            wake_(id);
            return;
        case PacketKind::kDrain: agent.draining = true; return;
        default: return;
    }
}

void ServerCore::agent_dialed(StreamId id, Agent& agent, Packet packet) {
    auto it = agent.dials.find(packet.dial_id);
    if (it == agent.dials.end()) {
        // Given up meanwhile: nobody will use the connection.
        if (packet.connection_id != 0 && packet.error.empty() &&
            !agent.link.contains(packet.connection_id)) {
            agent.link.send(close_request(packet.connection_id));
            wake_(id);
        }
        return;
    }
    StreamId owner = it->second;
    agent.dials.erase(it);
    Frontend& frontend = frontends_.at(owner);
    if (!packet.error.empty()) {
        ++counters_.dials_failed_by_target;
        fail_dial(owner, frontend, std::move(packet.error));
        return;
    }
    if (packet.connection_id == 0 || !agent.link.open(packet.connection_id)) {
        fail_dial(owner, frontend, "the agent gave a bad connection id");
        violation(id, agent);
        return;
    }
    ++counters_.dials_established;
    agent.owners[packet.connection_id] = owner;
    frontend.phase = Phase::kOpen;
    frontend.connection_id = packet.connection_id;
    push(owner, frontend, dial_response(frontend.dial.dial_id, packet.connection_id));
}

void ServerCore::agent_data(StreamId id, Agent& agent, Packet packet, TimePoint now) {
    int64_t connection = packet.connection_id;
    if (connection == 0 || agent.closing.contains(connection)) return;
    auto owner = agent.owners.find(connection);
    if (owner == agent.owners.end()) {
        agent.link.send(close_request(connection));
        wake_(id);
        return;
    }
    counters_.bytes_from_agents += packet.data.size();
    Result<void> received = agent.link.receive_data(connection, std::move(packet.data), now);
    if (!received.ok()) {
        ++counters_.violations;
        close_connection(id, agent, connection, received.error().message(), now);
        return;
    }
    wake_(owner->second);
}

void ServerCore::close_connection(StreamId id, Agent& agent, int64_t connection, std::string error,
                                  TimePoint now) {
    auto owner = agent.owners.find(connection);
    if (owner == agent.owners.end()) return;
    StreamId frontend_id = owner->second;
    Frontend& frontend = frontends_.at(frontend_id);
    detach(frontend_id, frontend, now);
    end_frontend(frontend_id, frontend, close_response(connection, std::move(error)));
    wake_(id);
}

// ---- relays ----

void ServerCore::relay_packet(StreamId id, Relay& relay, Packet packet, TimePoint now) {
    (void)id;
    relay.answered = true;
    relay.target_spoke_last = packet.kind == PacketKind::kData;
    relay.last_packet = now;
    if (packet.kind == PacketKind::kDialResponse) relay.connection_id = packet.connection_id;
    Frontend& frontend = frontends_.at(relay.frontend);
    push(relay.frontend, frontend, std::move(packet));
}

void ServerCore::end_quiet_relays(TimePoint now) {
    std::vector<StreamId> quiet;
    for (const auto& [id, relay] : relays_) {
        auto peer = peers_.find(relay.peer);
        if (peer == peers_.end() || !peer->second.leaving_since) continue;
        const Frontend& frontend = frontends_.at(relay.frontend);
        Duration patience =
            carries_commands(frontend) ? options_.command_patience : options_.relay_patience;
        if (now - *peer->second.leaving_since >= patience && relay.target_spoke_last &&
            now - relay.last_packet >= options_.relay_quiet && relay.out.empty() &&
            frontend.out.empty() && choose_agent(frontend) != 0) {
            quiet.push_back(id);
        }
    }
    for (StreamId id : quiet) {
        const Relay& relay = relays_.at(id);
        ++counters_.relays_ended;
        push(relay.frontend, frontends_.at(relay.frontend), close_response(relay.connection_id));
        remove_relay(id, now);
    }
}

void ServerCore::set_peer(StreamId peer, size_t agents_count, bool leaving, TimePoint now) {
    Peer& known = peers_[peer];
    known.agents_count = agents_count;
    if (leaving && !known.leaving_since) known.leaving_since = now;
    if (agents_count == 0) return;
    last_agent_seen_ = now;
    retry_waiting(now);
}

void ServerCore::remove_peer(StreamId peer, TimePoint now) {
    peers_.erase(peer);
    std::vector<StreamId> gone;
    for (const auto& [id, relay] : relays_) {
        if (relay.peer == peer) gone.push_back(id);
    }
    for (StreamId id : gone) remove_relay(id, now);
}

std::vector<ServerCore::RelayOrder> ServerCore::take_orders() { return std::exchange(orders_, {}); }

// ---- removal ----

void ServerCore::remove(StreamId id, TimePoint now) {
    if (auto it = frontends_.find(id); it != frontends_.end()) {
        detach(id, it->second, now);
        held_size_ -= it->second.out_size;
        frontends_.erase(it);
        wake_(id);
    } else if (agents_.contains(id)) {
        remove_agent(id, now);
    } else if (relays_.contains(id)) {
        remove_relay(id, now);
    }
    check_memory(now);
}

void ServerCore::remove_agent(StreamId id, TimePoint now) {
    Agent agent = std::move(agents_.at(id));
    agents_.erase(id);
    if (agent.direct)
        std::erase_if(direct_, [id](const auto& entry) { return entry.second == id; });
    for (int64_t connection : agent.link.ids()) {
        auto owner = agent.owners.find(connection);
        if (owner == agent.owners.end()) continue;
        Frontend& frontend = frontends_.at(owner->second);
        std::string error = "the agent's link broke";
        while (std::optional<Inbound> inbound = agent.link.take(connection)) {
            if (inbound->end) {
                error = inbound->error;
                break;
            }
            push(owner->second, frontend, data_packet(connection, std::move(inbound->data)));
        }
        end_frontend(owner->second, frontend, close_response(connection, error));
    }
    held_size_ -= agent.link.held_size();
    agent.link.count_in(nullptr);
    std::set<StreamId> pending;
    for (const auto& [dial, owner] : agent.dials) pending.insert(owner);
    for (StreamId owner : pending) {
        Frontend& frontend = frontends_.at(owner);
        frontend.phase = Phase::kIdle;
        if (frontend.attempts >= options_.max_dial_attempts) {
            fail_dial(owner, frontend, "the agent's link broke");
            continue;
        }
        ++counters_.dials_moved;
        route(owner, frontend, now);
    }
    wake_(id);
}

void ServerCore::remove_relay(StreamId id, TimePoint now) {
    Relay relay = std::move(relays_.at(id));
    held_size_ -= relay.out_size;
    relays_.erase(id);
    wake_(id);
    auto it = frontends_.find(relay.frontend);
    if (it == frontends_.end()) return;
    Frontend& frontend = it->second;
    if (relay.answered) {
        // The peer's last packet told the frontend how it ended, or the stream's end does.
        end_frontend(relay.frontend, frontend, std::nullopt);
        return;
    }
    frontend.phase = Phase::kIdle;
    frontend.link = 0;
    if (relay.continued || frontend.attempts >= options_.max_dial_attempts) {
        fail_dial(relay.frontend, frontend, "the peer's link broke");
        return;
    }
    ++counters_.dials_moved;
    peers_.erase(relay.peer);  // Until it says again that it is there.
    route(relay.frontend, frontend, now);
}

// ---- what the driver asks ----

std::optional<Packet> ServerCore::next(StreamId id, TimePoint now) {
    std::optional<Packet> packet = next_of(id);
    if (packet) check_memory(now);
    return packet;
}

std::optional<Packet> ServerCore::next_of(StreamId id) {
    if (auto it = agents_.find(id); it != agents_.end()) {
        Agent& agent = it->second;
        std::optional<Packet> packet = agent.link.next();
        if (packet && packet->kind == PacketKind::kData) {
            auto owner = agent.owners.find(packet->connection_id);
            if (owner != agent.owners.end()) wake_(owner->second);  // May read again.
        }
        return packet;
    }
    if (auto it = relays_.find(id); it != relays_.end()) {
        if (it->second.out.empty()) return std::nullopt;
        Packet packet = unqueue(it->second);
        wake_(it->second.frontend);
        return packet;
    }
    auto it = frontends_.find(id);
    if (it == frontends_.end()) return std::nullopt;
    Frontend& frontend = it->second;
    if (!frontend.out.empty()) {
        Packet packet = unqueue(frontend);
        if (frontend.phase == Phase::kRelayed) wake_(frontend.link);
        wake_(id);  // May read again.
        return packet;
    }
    if (frontend.phase != Phase::kOpen) return std::nullopt;
    Agent& agent = agents_.at(frontend.link);
    int64_t connection = frontend.connection_id;
    std::optional<Inbound> inbound = agent.link.take(connection);
    if (!inbound) return std::nullopt;
    wake_(frontend.link);  // Credit to send, or no longer held.
    if (!inbound->end) return data_packet(connection, std::move(inbound->data));
    agent.owners.erase(connection);
    agent.link.drop(connection);
    end_frontend(id, frontend, std::nullopt);
    return close_response(connection, std::move(inbound->error));
}

bool ServerCore::may_read(StreamId id) const {
    if (full_since_) return false;
    if (auto it = agents_.find(id); it != agents_.end()) return it->second.link.may_read();
    if (auto it = relays_.find(id); it != relays_.end()) {
        auto frontend = frontends_.find(it->second.frontend);
        return frontend == frontends_.end() ||
               frontend->second.out_size < options_.relay_queue_size;
    }
    auto it = frontends_.find(id);
    if (it == frontends_.end()) return true;
    const Frontend& frontend = it->second;
    // Who does not take his answers asks nothing more.
    if (frontend.phase != Phase::kRelayed && frontend.out_size >= options_.relay_queue_size)
        return false;
    switch (frontend.phase) {
        case Phase::kOpen: return agents_.at(frontend.link).link.accepts(frontend.connection_id);
        case Phase::kRelayed: return relays_.at(frontend.link).out_size < options_.relay_queue_size;
        default: return true;
    }
}

bool ServerCore::finished(StreamId id) const {
    if (auto it = frontends_.find(id); it != frontends_.end()) {
        return it->second.phase == Phase::kEnded && it->second.out.empty();
    }
    if (auto it = agents_.find(id); it != agents_.end()) {
        return it->second.broken || it->second.link.choked();
    }
    return !relays_.contains(id);
}

void ServerCore::tick(TimePoint now) {
    end_quiet_relays(now);
    for (auto& [id, frontend] : frontends_) {
        if (frontend.phase == Phase::kWaiting && frontend.deadline <= now) {
            ++counters_.dials_without_agent;
            fail_dial(id, frontend, "No agent available");
        } else if (frontend.phase == Phase::kDialing && options_.dial_timeout > Duration(0) &&
                   frontend.deadline <= now) {
            ++counters_.dials_timed_out;
            agents_.at(frontend.link).suspect = true;
            detach(id, frontend, now);
            fail_dial(id, frontend, "dial timed out: the agent did not answer");
        }
    }
    for (auto& [id, agent] : agents_) {
        for (int64_t connection : agent.link.expire(now)) {
            ++counters_.stalled_closed;
            close_connection(id, agent, connection, "the reader is stalled", now);
        }
        bool dropped = false;
        for (auto it = agent.closing.begin(); it != agent.closing.end();) {
            if (it->second > now) {
                ++it;
                continue;
            }
            agent.link.drop(it->first);
            it = agent.closing.erase(it);
            dropped = true;
        }
        if (dropped || agent.link.has_next()) wake_(id);
    }
    if (full_since_ && now - *full_since_ >= options_.link.stall_interval) make_room(now);
    check_memory(now);
}

bool ServerCore::idle() const {
    if (!frontends_.empty()) return false;
    return std::all_of(agents_.begin(), agents_.end(),
                       [](const auto& entry) { return entry.second.link.size() == 0; });
}

void ServerCore::set_server_count(uint32_t count) {
    if (count == server_count_) return;
    server_count_ = count;
    for (auto& [id, agent] : agents_) {
        if (agent.direct || !agent.info.window) continue;
        Packet packet;
        packet.kind = PacketKind::kServers;
        packet.number = count;
        agent.link.send(std::move(packet));
        wake_(id);
    }
}

std::vector<std::string> ServerCore::agent_ids() const {
    std::set<std::string> ids;
    for (const auto& [id, agent] : agents_) {
        if (!agent.direct && !agent.broken) ids.insert(agent.info.agent_id);
    }
    return {ids.begin(), ids.end()};
}

size_t ServerCore::links_of(std::string_view agent_id) const {
    return static_cast<size_t>(
        std::count_if(agents_.begin(), agents_.end(), [agent_id](const auto& entry) {
            return !entry.second.direct && entry.second.info.agent_id == agent_id;
        }));
}

size_t ServerCore::agents_count() const { return agent_ids().size(); }

size_t ServerCore::connections_count() const {
    size_t count = 0;
    for (const auto& [id, agent] : agents_) count += agent.owners.size();
    return count;
}

size_t ServerCore::pending_count() const {
    size_t count = 0;
    for (const auto& [id, frontend] : frontends_) {
        if (frontend.phase == Phase::kDialing || frontend.phase == Phase::kWaiting) ++count;
    }
    return count;
}

bool ServerCore::carries_commands(const Frontend& frontend) const {
    return frontend.dial.address.ends_with(":" + std::to_string(options_.kubelet_port));
}

size_t ServerCore::commands_count() const {
    size_t count = 0;
    for (const auto& [id, frontend] : frontends_) {
        bool over = frontend.phase == Phase::kIdle || frontend.phase == Phase::kEnded;
        if (!over && !frontend.from_peer && carries_commands(frontend)) ++count;
    }
    return count;
}

}  // namespace basalt::tunnel
