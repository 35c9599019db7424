#include "tunnel/agent_link.h"

#include "base/log.h"

namespace basalt::tunnel {

using async::Task;

namespace {
constexpr Duration kTick = std::chrono::milliseconds(500);
constexpr size_t kReadSize = size_t{32} << 10;

Task<Result<std::unique_ptr<net::Stream>>> dial_tcp(async::Loop* loop, std::string address,
                                                    Duration timeout) {
    Result<net::Endpoint> endpoint = net::parse_endpoint(address);
    if (!endpoint.ok()) co_return std::move(endpoint).error();
    // A unix socket on the node is nothing that the API server has to do with.
    if (endpoint->is_unix()) co_return invalid_argument("only tcp is supported");
    Result<std::unique_ptr<net::Stream>> stream =
        co_await net::connect(*loop, std::move(*endpoint), timeout);
    co_return std::move(stream);
}
}  // namespace

TargetDialer make_tcp_dialer(async::Loop& loop, Duration timeout) {
    return [&loop, timeout](std::string address) {
        return dial_tcp(&loop, std::move(address), timeout);
    };
}

AgentLink::AgentLink(async::Loop& loop, MessageStream& stream, TargetDialer dialer,
                     std::optional<uint32_t> peer_window, LinkLimits limits)
    : loop_(loop),
      stream_(stream),
      dialer_(std::move(dialer)),
      group_(loop),
      core_(limits, peer_window, [this](int64_t id) { wake(id); }) {}

void AgentLink::wake(int64_t id) {
    tick_needed_.notify_all();
    if (id == 0) {
        link_changed_.notify_all();
        read_allowed_.notify_all();
        return;
    }
    auto it = targets_.find(id);
    if (it == targets_.end()) return;
    // Ends a read or write that waits on the target.
    if (!core_.alive(id) && it->second->stream) it->second->stream->close();
    it->second->changed.notify_all();
}

void AgentLink::stop(Result<void> result) {
    if (!result_) result_ = std::move(result);
    stopped_.notify_all();
}

Task<Result<void>> AgentLink::run() {
    group_.spawn(read_loop());
    group_.spawn(write_loop());
    group_.spawn(tick_loop());
    while (!result_) {
        Result<void> waited = co_await stopped_.wait();
        if (!waited.ok()) stop(std::move(waited));
    }
    group_.cancel();
    co_await group_.join();
    co_return std::move(*result_);
}

Task<void> AgentLink::read_loop() {
    for (;;) {
        while (!core_.may_read()) {
            Result<void> waited = co_await read_allowed_.wait();
            if (!waited.ok()) co_return;
        }
        Result<std::optional<std::string>> message = co_await stream_.read();
        if (!message.ok()) {
            stop(std::move(message).error());
            co_return;
        }
        if (!message->has_value()) {
            stop(Result<void>());
            co_return;
        }
        Result<Packet> packet = decode(**message);
        if (!packet.ok()) {
            stop(std::move(packet).error());
            co_return;
        }
        bool announcement = packet->kind == PacketKind::kServers;
        std::optional<DialOrder> order = core_.packet(std::move(*packet), loop_.now());
        if (order) group_.spawn(serve_target(std::move(*order)));
        if (announcement && on_servers_) on_servers_();
    }
}

Task<void> AgentLink::write_loop() {
    for (;;) {
        if (core_.choked()) {
            stop(resource_exhausted("the server does not read"));
            co_return;
        }
        std::optional<Packet> packet = core_.next();
        if (!packet) {
            Result<void> waited = co_await link_changed_.wait();
            if (!waited.ok()) co_return;
            continue;
        }
        Result<void> written = co_await stream_.write(encode(*packet));
        if (!written.ok()) {
            stop(std::move(written));
            co_return;
        }
    }
}

Task<void> AgentLink::tick_loop() {
    for (;;) {
        if (core_.connections_count() == 0) {
            Result<void> waited = co_await tick_needed_.wait();
            if (!waited.ok()) co_return;
            continue;
        }
        Result<void> slept = co_await async::sleep_for(loop_, kTick);
        if (!slept.ok()) co_return;
        core_.tick(loop_.now());
    }
}

Task<void> AgentLink::serve_target(DialOrder order) {
    int64_t id = order.connection_id;
    Result<std::unique_ptr<net::Stream>> stream = co_await dialer_(order.address);
    if (!stream.ok()) {
        log_debug("cannot reach the target",
                  {{"address", order.address}, {"error", stream.error()}});
        core_.dial_failed(id, stream.error().to_string());
        co_return;
    }
    Target target;
    target.stream = std::move(*stream);
    targets_[id] = &target;
    core_.dialed(id);
    if (core_.alive(id)) co_await pump_target(id, target);
    targets_.erase(id);
}

Task<void> AgentLink::pump_target(int64_t id, Target& target) {
    async::TaskGroup group(loop_);
    group.spawn(read_target(id, target));
    co_await write_target(id, target);
    target.stream->close();
    group.cancel();
    co_await group.join();
    core_.closed(id, loop_.now());
}

Task<void> AgentLink::read_target(int64_t id, Target& target) {
    for (;;) {
        while (core_.alive(id) && !core_.accepts(id)) {
            Result<void> waited = co_await target.changed.wait();
            if (!waited.ok()) co_return;
        }
        if (!core_.alive(id)) co_return;
        Result<std::string> data = co_await target.stream->read(kReadSize);
        if (!data.ok()) {
            // A cancelled read is the link's end or the server's close, not the target's.
            if (data.error().code() == Code::kCancelled) co_return;
            core_.target_closed(id, data.error().message(), loop_.now());
            co_return;
        }
        if (data->empty()) {
            core_.target_closed(id, {}, loop_.now());
            co_return;
        }
        core_.from_target(id, std::move(*data));
    }
}

Task<void> AgentLink::write_target(int64_t id, Target& target) {
    while (core_.alive(id)) {
        std::optional<Inbound> inbound = core_.take(id);
        if (!inbound) {
            Result<void> waited = co_await target.changed.wait();
            if (!waited.ok()) co_return;
            continue;
        }
        if (inbound->end) co_return;
        Result<void> written = co_await target.stream->write(std::move(inbound->data));
        if (!written.ok()) {
            core_.target_closed(id, written.error().message(), loop_.now());
            co_return;
        }
    }
}

}  // namespace basalt::tunnel
