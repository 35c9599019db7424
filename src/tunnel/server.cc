#include "tunnel/server.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/assert.h"
#include "base/log.h"
#include "base/strings.h"
#include "tunnel/agent_link.h"

namespace basalt::tunnel {

using async::Task;

namespace {
constexpr Duration kTick = std::chrono::milliseconds(500);
constexpr size_t kDirectQueueCount = 16;
}  // namespace

class TunnelServer::FrontendService final : public net::GrpcService {
 public:
    explicit FrontendService(TunnelServer& server) : server_(server) {}
    Task<Result<void>> serve(net::GrpcServerCall& call) override {
        if (call.method() == kProxyMethod) return server_.serve_frontend(call, false);
        return refuse();
    }
    static Task<Result<void>> refuse() { co_return unimplemented("no such method"); }

 private:
    TunnelServer& server_;
};

class TunnelServer::AgentService final : public net::GrpcService {
 public:
    explicit AgentService(TunnelServer& server) : server_(server) {}
    Task<Result<void>> serve(net::GrpcServerCall& call) override {
        if (call.method() == kConnectMethod) return server_.serve_agent(call);
        bool peer = server_.config_.peers_rule.matches(call.connection().identity);
        if (peer && call.method() == kMeetMethod) return server_.peers_.serve(call);
        if (peer && call.method() == kProxyMethod) return server_.serve_frontend(call, true);
        return FrontendService::refuse();
    }

 private:
    TunnelServer& server_;
};

TunnelServer::TunnelServer(async::Loop& loop, TunnelServerConfig config)
    : loop_(loop),
      config_(std::move(config)),
      core_(
          config_.core, [&loop] { return loop.random(); }, [this](StreamId id) { wake(id); }),
      peers_(loop, config_.server_id, config_.peers, core_, [this] { peers_changed(); }),
      group_(loop),
      authentications_(config_.authentications_limit),
      frontend_service_(std::make_shared<FrontendService>(*this)),
      agent_service_(std::make_shared<AgentService>(*this)) {}

TunnelServer::~TunnelServer() = default;

void TunnelServer::start() {
    core_.started(loop_.now());
    group_.spawn(tick_loop());
    group_.spawn(order_loop());
    group_.spawn(peers_.run());
    for (const DirectDestination& destination : config_.direct)
        group_.spawn(serve_direct(destination));
    if (config_.dialer) group_.spawn(serve_dialer());
    peers_changed();
}

void TunnelServer::set_configured_server_count(uint32_t count) {
    configured_count_ = count;
    peers_changed();
}

void TunnelServer::peers_changed() {
    peers_.set_ready(ready());
    core_.set_server_count(std::max(configured_count_, peers_.live_count()));
}

void TunnelServer::drain() {
    draining_ = true;
    peers_.set_draining();
    peers_changed();
}

Task<Result<void>> TunnelServer::wait_for_commands() {
    while (core_.commands_count() > 0) {
        Result<void> waited = co_await stream_ended_.wait();
        if (!waited.ok()) co_return waited;
    }
    co_return Result<void>();
}

Task<void> TunnelServer::commands_ended(Duration limit) {
    Result<void> ended = co_await async::with_timeout(loop_, limit, wait_for_commands());
    if (!ended.ok()) log_info("commands go on", {{"open", core_.commands_count()}});
}

Task<void> TunnelServer::stop() {
    group_.cancel();
    co_await group_.join();
}

void TunnelServer::wake(StreamId id) {
    tick_needed_.notify_all();
    if (id == 0) {
        orders_.notify_all();
        return;
    }
    auto it = streams_.find(id);
    if (it == streams_.end()) return;
    it->second->readable.notify_all();
    it->second->writable.notify_all();
}

// ---- streams ----

Task<Result<void>> TunnelServer::serve_frontend(net::GrpcServerCall& call, bool from_peer) {
    Result<StreamId> id = core_.add_frontend(from_peer);
    if (!id.ok()) co_return std::move(id).error();
    std::unique_ptr<MessageStream> stream = over(call);
    Result<void> result = co_await pump(*id, *stream);
    co_return result;
}

Task<Result<void>> TunnelServer::ask_authenticator(AgentCredentials credentials) {
    Result<void> acquired = co_await authentications_.acquire();
    if (!acquired.ok()) co_return acquired;
    Result<void> accepted = co_await config_.agents->authenticate(std::move(credentials));
    authentications_.release();
    co_return accepted;
}

Task<Result<void>> TunnelServer::authenticate(net::GrpcServerCall& call) {
    AgentCredentials credentials;
    credentials.identity = call.connection().identity;
    credentials.address = call.connection().peer;
    std::string_view authorization = call.metadata().get(kAuthorizationHeader);
    if (authorization.starts_with(kBearerPrefix)) {
        credentials.token = Secret(trim(authorization.substr(kBearerPrefix.size())));
    }
    // Who comes here may be anybody: what he brought is kept for so many, and so long, only.
    if (authenticating_count_ >=
        config_.authentications_limit + config_.authentications_waiting_limit) {
        ++agents_refused_;
        co_return unavailable("too many agents come at once");
    }
    ++authenticating_count_;
    Result<void> accepted = co_await async::with_timeout(loop_, config_.authentication_timeout,
                                                         ask_authenticator(std::move(credentials)));
    --authenticating_count_;
    if (!accepted.ok() && accepted.error().code() != Code::kCancelled) {
        ++agents_refused_;
        log_warn("agent refused", {{"agent", call.metadata().get(kAgentIdHeader)},
                                   {"address", call.connection().peer},
                                   {"error", accepted.error()}});
        // The reason is for our log; the other side learns only that it was refused.
        if (accepted.error().retriable())
            co_return unavailable("authentication is not possible now");
        co_return Error(Code::kUnauthenticated, "not accepted as an agent");
    }
    co_return accepted;
}

Task<Result<void>> TunnelServer::serve_agent(net::GrpcServerCall& call) {
    AgentInfo info;
    info.agent_id = std::string(call.metadata().get(kAgentIdHeader));
    // Before anything else: it is logged whoever sent it.
    if (!is_agent_id(info.agent_id)) co_return invalid_argument("an agent id has 1 to 256 bytes");
    Result<Identifiers> identifiers =
        parse_identifiers(call.metadata().get(kAgentIdentifiersHeader));
    if (!identifiers.ok()) co_return std::move(identifiers).error();
    info.identifiers = std::move(*identifiers);
    info.window = parse_number<uint32_t>(call.metadata().get(kWindowHeader));
    bool flow_control = info.window.has_value();
    std::string agent_id = info.agent_id;
    Result<void> accepted = co_await authenticate(call);
    if (!accepted.ok()) co_return accepted;

    Result<StreamId> id = core_.add_agent(std::move(info), loop_.now());
    if (!id.ok()) co_return std::move(id).error();
    call.add_initial_metadata(std::string(kServerIdHeader), config_.server_id);
    call.add_initial_metadata(std::string(kServerCountHeader),
                              fmt::to_string(core_.server_count()));
    if (flow_control) {
        call.add_initial_metadata(std::string(kWindowHeader),
                                  fmt::to_string(config_.core.link.window_size));
    }
    Result<void> sent = call.send_header();
    if (!sent.ok()) {
        core_.remove(*id, loop_.now());
        co_return sent;
    }
    // A further link of an agent is its search for other servers, over in a moment.
    if (core_.links_of(agent_id) == 1) {
        log_info("agent connected", {{"agent", agent_id},
                                     {"address", call.connection().peer},
                                     {"flow_control", flow_control}});
        peers_.agents_changed();
    }
    std::unique_ptr<MessageStream> stream = over(call);
    Result<void> result = co_await pump(*id, *stream);
    if (core_.links_of(agent_id) == 0) {
        log_info("agent left", {{"agent", agent_id}});
        peers_.agents_changed();
    }
    co_return result;
}

Task<Result<void>> TunnelServer::pump(StreamId id, MessageStream& stream) {
    StreamState state;
    streams_[id] = &state;
    async::TaskGroup group(loop_);
    group.spawn(read_loop(id, state, stream));
    Result<void> result = co_await write_loop(id, state, stream);
    group.cancel();
    co_await group.join();
    core_.remove(id, loop_.now());
    streams_.erase(id);
    stream_ended_.notify_all();
    co_return result;
}

Task<void> TunnelServer::read_loop(StreamId id, StreamState& state, MessageStream& stream) {
    for (;;) {
        while (!core_.may_read(id)) {
            Result<void> waited = co_await state.readable.wait();
            if (!waited.ok()) co_return;
        }
        Result<std::optional<std::string>> message = co_await stream.read();
        bool ended = !message.ok() || !message->has_value();
        if (!ended) {
            Result<Packet> packet = decode(**message);
            if (packet.ok()) {
                core_.packet(id, std::move(*packet), loop_.now());
            } else {
                log_debug("bad packet", {{"error", packet.error()}});
                ended = true;
            }
        }
        if (!ended) continue;
        state.read_ended = true;
        state.writable.notify_all();
        co_return;
    }
}

Task<Result<void>> TunnelServer::write_loop(StreamId id, StreamState& state,
                                            MessageStream& stream) {
    for (;;) {
        std::optional<Packet> packet = core_.next(id, loop_.now());
        if (packet) {
            Result<void> written = co_await stream.write(encode(*packet));
            if (!written.ok()) co_return written;
            continue;
        }
        if (core_.finished(id) || state.read_ended) co_return Result<void>();
        Result<void> waited = co_await state.writable.wait();
        if (!waited.ok()) co_return waited;
    }
}

Task<void> TunnelServer::tick_loop() {
    for (;;) {
        if (core_.idle()) {
            Result<void> waited = co_await tick_needed_.wait();
            if (!waited.ok()) co_return;
        }
        Result<void> slept = co_await async::sleep_for(loop_, kTick);
        if (!slept.ok()) co_return;
        core_.tick(loop_.now());
    }
}

// ---- relays and direct destinations ----

Task<void> TunnelServer::order_loop() {
    for (;;) {
        for (const ServerCore::RelayOrder& order : core_.take_orders()) group_.spawn(relay(order));
        Result<void> waited = co_await orders_.wait();
        if (!waited.ok()) co_return;
    }
}

Task<void> TunnelServer::relay(ServerCore::RelayOrder order) {
    Result<std::unique_ptr<net::GrpcStream>> opened = co_await peers_.open_relay(order.peer);
    if (!opened.ok()) {
        log_warn("cannot relay to another server", {{"error", opened.error()}});
        core_.remove(order.relay, loop_.now());
        co_return;
    }
    std::unique_ptr<MessageStream> stream = over(std::move(*opened));
    Result<void> result = co_await pump(order.relay, *stream);
    if (!result.ok()) log_debug("relay ended", {{"error", result.error()}});
}

Task<Result<std::unique_ptr<net::Stream>>> PinnedDialer::dial() {
    bool was_pinned = pinned_.has_value();
    net::Endpoint endpoint = was_pinned ? *pinned_ : endpoint_;
    Result<std::unique_ptr<net::Stream>> stream =
        co_await net::connect(loop_, endpoint, kTargetDialTimeout);
    if (!stream.ok()) {
        pinned_.reset();  // Resolved anew for the next one.
        co_return std::move(stream);
    }
    Result<net::Endpoint> actual = net::parse_endpoint((*stream)->info().peer);
    if (actual.ok()) pinned_ = std::move(*actual);
    co_return std::move(stream);
}

Task<void> TunnelServer::serve_direct(DirectDestination destination) {
    auto [ours, theirs] = make_message_pair(kDirectQueueCount);
    PinnedDialer dialer(loop_, destination.endpoint);
    StreamId id = core_.add_direct(destination.address, config_.core.link.window_size);
    // The address was matched by the core; the dialer knows no other.
    AgentLink agent(
        loop_, *theirs, [&dialer](std::string) { return dialer.dial(); },
        config_.core.link.window_size, config_.core.link);
    async::TaskGroup group(loop_);
    group.spawn(pump_direct(id, std::move(ours)));
    Result<void> ended = co_await agent.run();
    group.cancel();
    co_await group.join();
    if (!ended.ok() && ended.error().code() != Code::kCancelled) {
        log_error("a direct destination ended",
                  {{"address", destination.address}, {"error", ended.error()}});
    }
}

// Like an agent, but in this process and never gone.
Task<void> TunnelServer::serve_dialer() {
    AgentInfo info;
    info.agent_id = "here";
    info.window = config_.core.link.window_size;
    Result<StreamId> id = core_.add_agent(std::move(info), loop_.now());
    BASALT_ASSERT(id.ok());
    auto [ours, theirs] = make_message_pair(kDirectQueueCount);
    AgentLink agent(loop_, *theirs, config_.dialer, config_.core.link.window_size,
                    config_.core.link);
    async::TaskGroup group(loop_);
    group.spawn(pump_direct(*id, std::move(ours)));
    Result<void> ended = co_await agent.run();
    group.cancel();
    co_await group.join();
    if (!ended.ok() && ended.error().code() != Code::kCancelled) {
        log_error("direct egress ended", {{"error", ended.error()}});
    }
}

Task<void> TunnelServer::pump_direct(StreamId id, std::unique_ptr<MessageStream> stream) {
    Result<void> ended = co_await pump(id, *stream);
    if (!ended.ok() && ended.error().code() != Code::kCancelled) {
        log_error("a direct link ended", {{"error", ended.error()}});
    }
}

// ---- metrics ----

std::string TunnelServer::metrics() const {
    std::string text;
    auto add = [&text](std::string_view name, std::string_view type, std::string_view help,
                       uint64_t value) {
        text += fmt::format("# HELP {0} {1}\n# TYPE {0} {2}\n{0} {3}\n", name, help, type, value);
    };
    const ServerCounters& c = core_.counters();
    add("konnectivity_network_proxy_server_ready_backend_connections", "gauge", "Agents connected.",
        core_.agents_count());
    add("konnectivity_network_proxy_server_established_connections", "gauge",
        "Connections through agents.", core_.connections_count());
    add("konnectivity_network_proxy_server_pending_backend_dials", "gauge",
        "Dials without an answer yet.", core_.pending_count());
    constexpr std::string_view kFailures = "konnectivity_network_proxy_server_dial_failure_count";
    text += fmt::format("# HELP {0} Failed dials by reason.\n# TYPE {0} counter\n", kFailures);
    for (auto [reason, value] :
         {std::pair<std::string_view, uint64_t>{"error_response", c.dials_failed_by_target},
          {"no_agent", c.dials_without_agent},
          {"backend_dial_timeout", c.dials_timed_out},
          {"frontend_close", c.dials_cancelled}}) {
        text += fmt::format("{}{{reason=\"{}\"}} {}\n", kFailures, reason, value);
    }
    add("basalt_tunnel_dials_total", "counter", "Dials of the API server.", c.dials);
    add("basalt_tunnel_dials_moved_total", "counter", "Dials repeated on another agent.",
        c.dials_moved);
    add("basalt_tunnel_dials_relayed_total", "counter", "Dials through another server.",
        c.dials_relayed);
    add("basalt_tunnel_stalled_total", "counter", "Connections closed for a stalled reader.",
        c.stalled_closed);
    add("basalt_tunnel_overflow_total", "counter",
        "Connections closed because too much waited for slow readers.", c.overflow_closed);
    add("basalt_tunnel_waiting_bytes", "gauge", "Payload that waits for its readers.",
        core_.held_size());
    add("basalt_tunnel_violations_total", "counter", "Packets against the protocol.", c.violations);
    add("basalt_tunnel_agents_refused_total", "counter", "Agents that did not authenticate.",
        agents_refused_);
    add("basalt_tunnel_bytes_to_agents_total", "counter", "Payload towards targets.",
        c.bytes_to_agents);
    add("basalt_tunnel_bytes_from_agents_total", "counter", "Payload from targets.",
        c.bytes_from_agents);
    add("basalt_tunnel_peers", "gauge", "Other tunnel servers met.", peers_.count());
    add("basalt_tunnel_servers", "gauge", "Tunnel servers as told to agents.",
        core_.server_count());
    return text;
}

}  // namespace basalt::tunnel
