#include "tunnel/link.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <utility>

namespace basalt::tunnel {

void Link::append(std::deque<std::string>& pieces, std::string data) const {
    constexpr size_t kLeast = 64;
    if (pieces.empty() || pieces.back().size() + data.size() > limits_.chunk_size) {
        pieces.push_back(std::move(data));
        return;
    }
    std::string& back = pieces.back();
    const size_t needed = back.size() + data.size();
    // In powers of two up to the whole chunk: growing by itself a string ends up with twice that.
    if (needed > back.capacity())
        back.reserve(std::min(limits_.chunk_size, std::max(kLeast, std::bit_ceil(needed))));
    back += data;
}

void Link::held(size_t size) {
    held_size_ += size;
    if (total_ != nullptr) *total_ += size;
}

void Link::let_go(size_t size) {
    held_size_ -= size;
    if (total_ != nullptr) *total_ -= size;
}

int64_t Link::largest() const {
    int64_t found = 0;
    size_t most = 0;
    for (const auto& [id, connection] : connections_) {
        const size_t size = connection.in_size + connection.out_size;
        if (size < most || size == 0 || (size == most && id > found)) continue;
        most = size;
        found = id;
    }
    return found;
}

bool Link::open(int64_t id) {
    auto [it, added] = connections_.try_emplace(id);
    if (added && peer_window_) it->second.credit = *peer_window_;
    return added;
}

void Link::drop(int64_t id) {
    auto it = connections_.find(id);
    if (it == connections_.end()) return;
    release_hold(it->second);
    let_go(it->second.in_size + it->second.out_size);
    connections_.erase(it);
    // turns_ may still name it; next() skips ids it does not know.
}

std::vector<int64_t> Link::ids() const {
    std::vector<int64_t> result;
    result.reserve(connections_.size());
    for (const auto& [id, connection] : connections_) result.push_back(id);
    std::sort(result.begin(), result.end());
    return result;
}

void Link::send(Packet packet) {
    // One beyond the limit stays visible to choked(); a peer that reads nothing must not cost more.
    if (!choked()) control_.push_back(std::move(packet));
}

void Link::send_data(int64_t id, std::string data) {
    auto it = connections_.find(id);
    if (it == connections_.end() || it->second.out_ended || data.empty()) return;
    it->second.out_size += data.size();
    held(data.size());
    append(it->second.out, std::move(data));
    enqueue(id, it->second);
}

void Link::send_last(int64_t id, Packet last, TimePoint now) {
    auto it = connections_.find(id);
    if (it == connections_.end() || it->second.out_ended) return;
    Connection& connection = it->second;
    connection.out_ended = true;
    connection.last = std::move(last);
    if (connection.out_size > 0) connection.linger_until = now + limits_.linger;
    enqueue(id, connection);
}

bool Link::accepts(int64_t id) const {
    auto it = connections_.find(id);
    return it != connections_.end() && !it->second.out_ended &&
           it->second.out_size < limits_.send_queue_size;
}

bool Link::sendable(const Connection& connection) const {
    if (connection.out_size > 0) return !peer_window_ || connection.credit > 0;
    return connection.last.has_value();
}

void Link::enqueue(int64_t id, Connection& connection) {
    if (connection.queued || !sendable(connection)) return;
    connection.queued = true;
    turns_.push_back(id);
}

bool Link::has_next() const { return !control_.empty() || !turns_.empty(); }

std::optional<Packet> Link::next() {
    if (!control_.empty()) {
        Packet packet = std::move(control_.front());
        control_.pop_front();
        return packet;
    }
    while (!turns_.empty()) {
        int64_t id = turns_.front();
        turns_.pop_front();
        auto it = connections_.find(id);
        if (it == connections_.end() || !it->second.queued) continue;
        it->second.queued = false;
        if (!sendable(it->second)) continue;
        Packet packet = pop_from(id, it->second);
        enqueue(id, it->second);
        return packet;
    }
    return std::nullopt;
}

Packet Link::pop_from(int64_t id, Connection& connection) {
    if (connection.out_size == 0) {
        Packet packet = std::move(*connection.last);
        connection.last.reset();
        connection.linger_until.reset();
        return packet;
    }
    size_t room = limits_.chunk_size;
    if (peer_window_) room = std::min(room, static_cast<size_t>(connection.credit));
    std::string& front = connection.out.front();
    size_t size = std::min(room, front.size() - connection.out_offset);
    std::string data;
    if (size == front.size()) {
        data = std::move(front);
        connection.out.pop_front();
    } else {
        data = front.substr(connection.out_offset, size);
        connection.out_offset += size;
        if (connection.out_offset == front.size()) {
            connection.out.pop_front();
            connection.out_offset = 0;
        }
    }
    connection.out_size -= size;
    let_go(size);
    if (peer_window_) connection.credit -= static_cast<int64_t>(size);
    return data_packet(id, std::move(data));
}

Result<void> Link::receive_data(int64_t id, std::string data, TimePoint now) {
    auto it = connections_.find(id);
    if (it == connections_.end() || it->second.in_ended) return not_found("no such connection");
    Connection& connection = it->second;
    if (data.empty()) return {};
    connection.in_size += data.size();
    held(data.size());
    append(connection.in, std::move(data));
    if (flow_control()) {
        // What the reader took but the peer was not told of does not count: the peer cannot know
        // it.
        if (connection.in_size + connection.owed_credit > limits_.window_size) {
            return resource_exhausted("the peer sent more than its window");
        }
    } else if (connection.in_size >= limits_.window_size && !connection.holding) {
        connection.holding = true;
        connection.hold_check = now + limits_.stall_interval;
        connection.progress = 0;
        ++holding_count_;
    }
    return {};
}

Result<void> Link::receive_end(int64_t id, std::string error) {
    auto it = connections_.find(id);
    if (it == connections_.end() || it->second.in_ended) return not_found("no such connection");
    it->second.in_ended = true;
    it->second.end_error = std::move(error);
    return {};
}

void Link::receive_credit(int64_t id, uint32_t size) {
    auto it = connections_.find(id);
    if (it == connections_.end() || !peer_window_) return;
    // Capped: what a peer adds beyond that has no meaning.
    constexpr int64_t kMaxCredit = std::numeric_limits<int32_t>::max();
    it->second.credit = std::min(kMaxCredit, it->second.credit + size);
    enqueue(id, it->second);
}

bool Link::has_inbound(int64_t id) const {
    auto it = connections_.find(id);
    if (it == connections_.end()) return false;
    return !it->second.in.empty() || (it->second.in_ended && !it->second.end_taken);
}

std::optional<Inbound> Link::take(int64_t id) {
    auto it = connections_.find(id);
    if (it == connections_.end()) return std::nullopt;
    Connection& connection = it->second;
    if (connection.in.empty()) {
        if (!connection.in_ended || connection.end_taken) return std::nullopt;
        connection.end_taken = true;
        return Inbound{{}, true, connection.end_error};
    }
    Inbound inbound{std::move(connection.in.front()), false, {}};
    connection.in.pop_front();
    connection.in_size -= inbound.data.size();
    let_go(inbound.data.size());
    if (flow_control()) {
        connection.owed_credit += static_cast<uint32_t>(inbound.data.size());
        if (!connection.in_ended && connection.owed_credit >= limits_.window_size / 2) {
            send(credit_packet(id, connection.owed_credit));
            connection.owed_credit = 0;
        }
    } else if (connection.holding) {
        connection.progress += inbound.data.size();
        // Half empty before the link goes on, so that it does not stop again at the next packet.
        if (connection.in_size <= limits_.window_size / 2) release_hold(connection);
    }
    return inbound;
}

void Link::release_hold(Connection& connection) {
    if (!connection.holding) return;
    connection.holding = false;
    --holding_count_;
}

void Link::stop_inbound(int64_t id) {
    auto it = connections_.find(id);
    if (it == connections_.end()) return;
    release_hold(it->second);
    it->second.in.clear();
    let_go(std::exchange(it->second.in_size, 0));
    it->second.in_ended = true;
    it->second.end_taken = true;
}

void Link::stop_outbound(int64_t id) {
    auto it = connections_.find(id);
    if (it == connections_.end()) return;
    it->second.out.clear();
    let_go(std::exchange(it->second.out_size, 0));
    it->second.out_offset = 0;
    it->second.out_ended = true;
    it->second.last.reset();
    it->second.linger_until.reset();
}

std::vector<int64_t> Link::expire(TimePoint now) {
    std::vector<int64_t> stalled;
    for (auto& [id, connection] : connections_) {
        if (connection.linger_until && *connection.linger_until <= now) {
            connection.out.clear();
            let_go(std::exchange(connection.out_size, 0));
            connection.out_offset = 0;
            connection.linger_until.reset();
            enqueue(id, connection);
        }
        if (!connection.holding || connection.hold_check > now) continue;
        if (connection.progress < limits_.stall_progress) {
            stalled.push_back(id);
        } else {
            connection.hold_check = now + limits_.stall_interval;
            connection.progress = 0;
        }
    }
    std::sort(stalled.begin(), stalled.end());
    return stalled;
}

}  // namespace basalt::tunnel
