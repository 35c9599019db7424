#include "tunnel/agent.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"
#include "base/strings.h"

namespace basalt::tunnel {

using async::Task;

struct Agent::LinkState {
    std::string server_id;
    uint32_t server_count = 1;  ///< As the response's header said.
    std::shared_ptr<net::GrpcChannel> channel;
    std::unique_ptr<MessageStream> stream;
    std::unique_ptr<AgentLink> link;
};

Agent::Agent(async::Loop& loop, AgentConfig config)
    : loop_(loop), config_(std::move(config)), group_(loop), backoff_(config_.sync_interval) {
    if (!config_.dialer) config_.dialer = make_tcp_dialer(loop_);
}

Agent::~Agent() = default;

void Agent::start() { group_.spawn(sync_loop()); }

void Agent::drain() {
    draining_ = true;
    for (auto& [id, link] : links_) link->link->drain();
    kick();
}

Task<void> Agent::stop() {
    group_.cancel();
    co_await group_.join();
}

size_t Agent::connections_count() const {
    size_t count = 0;
    for (const auto& [id, link] : links_) count += link->link->core().connections_count();
    return count;
}

uint32_t Agent::wanted() const {
    uint32_t count = 1;
    for (const auto& [id, link] : links_) {
        count =
            std::max(count, link->link->core().announced_servers().value_or(link->server_count));
    }
    return std::min(count, kMaxServers);
}

void Agent::kick() {
    kick_pending_ = true;
    kicked_.notify_all();
}

Duration Agent::jittered(Duration base) {
    auto spread = static_cast<uint64_t>(base.count()) / 5 + 1;
    return base - base / 10 + Duration(static_cast<int64_t>(loop_.random() % spread));
}

Duration Agent::pause(Outcome outcome) {
    if (links_.size() < wanted()) {
        if (outcome == Outcome::kNew) return config_.sync_interval / 10;
        Duration delay = backoff_;
        backoff_ = std::min(config_.sync_interval_cap, backoff_ + backoff_ / 2);
        return jittered(delay);
    }
    if (outcome == Outcome::kKnown) backoff_ = config_.sync_interval;
    // Servers that announce nothing are asked as often as upstream's agent does when it is content.
    return jittered(all_announce_ ? config_.resync_interval : config_.sync_interval_cap);
}

Task<void> Agent::sync_loop() {
    for (;;) {
        Outcome outcome = Outcome::kKnown;
        if (!draining_) outcome = co_await connect_once();
        for (;;) {
            kick_pending_ = false;
            bool content = draining_ || (!config_.sync_forever && links_.size() >= wanted());
            if (content) {
                Result<void> waited = co_await kicked_.wait();
                if (!waited.ok()) co_return;
            } else {
                Duration delay = pause(outcome);
                Result<void> waited = co_await async::with_timeout(loop_, delay, kicked_.wait());
                if (!waited.ok() && waited.error().code() != Code::kDeadlineExceeded) co_return;
            }
            if (!kick_pending_) break;
            // A link broke or a new server was announced: soon, but not all agents in the same
            // moment.
            if (links_.size() >= wanted() || draining_) continue;
            auto spread = static_cast<uint64_t>(backoff_.count()) / 2 + 1;
            Result<void> slept = co_await async::sleep_for(
                loop_, Duration(static_cast<int64_t>(loop_.random() % spread)));
            if (!slept.ok()) co_return;
            break;
        }
    }
}

Result<net::GrpcCallOptions> Agent::call_options() const {
    net::GrpcCallOptions call;
    call.metadata.add(std::string(kAgentIdHeader), config_.agent_id);
    call.metadata.add(std::string(kAgentIdentifiersHeader), config_.identifiers);
    call.metadata.add(std::string(kWindowHeader), fmt::to_string(config_.link.window_size));
    if (!config_.token) return call;
    BASALT_ASSIGN(Secret token, config_.token().context("the token"));
    call.metadata.add(std::string(kAuthorizationHeader),
                      std::string(kBearerPrefix) + std::string(trim(token.reveal())));
    return call;
}

Result<std::shared_ptr<net::GrpcChannel>> Agent::make_channel() const {
    net::HttpClientOptions options;
    if (config_.tls) {
        BASALT_ASSIGN(options.tls, config_.tls().context("the certificates"));
    }
    options.version = net::HttpVersion::kHttp2;
    options.connect_timeout = config_.connect_timeout;
    options.max_connections = 1;
    options.ping_after = config_.keepalive_time;
    options.ping_timeout = config_.keepalive_timeout;
    net::Url url;
    url.scheme = config_.tls ? "https" : "http";
    url.host = config_.server.host;
    url.port = config_.server.port;
    url.path = "/";
    return net::make_grpc_channel(loop_, url, std::move(options));
}

Task<Result<std::unique_ptr<net::GrpcStream>>> Agent::open(net::GrpcChannel& channel) const {
    using Stream = Result<std::unique_ptr<net::GrpcStream>>;
    Result<net::GrpcCallOptions> options = call_options();
    if (!options.ok()) co_return std::move(options).error();
    Task<Stream> opening = channel.open(std::string(kConnectMethod), std::move(*options));
    Stream stream =
        co_await async::with_timeout(loop_, config_.connect_timeout, std::move(opening));
    if (!stream.ok()) co_return std::move(stream);
    Result<void> header =
        co_await async::with_timeout(loop_, config_.connect_timeout, (*stream)->wait_header());
    if (!header.ok()) co_return std::move(header).error();
    if (!(*stream)->initial_metadata().get(kServerIdHeader).empty()) co_return std::move(stream);
    // Refused: the header was the whole answer, its status comes with the first read.
    auto refused = co_await async::with_timeout(loop_, config_.connect_timeout, (*stream)->read());
    if (refused.ok()) co_return failed_precondition("the peer is no tunnel server");
    co_return std::move(refused).error();
}

Task<Agent::Outcome> Agent::connect_once() {
    auto state = std::make_unique<LinkState>();
    Result<std::shared_ptr<net::GrpcChannel>> channel = make_channel();
    Result<void> connected;
    if (channel.ok()) {
        state->channel = *std::move(channel);
        Result<std::unique_ptr<net::GrpcStream>> stream = co_await open(*state->channel);
        if (stream.ok()) co_return adopt(std::move(state), *std::move(stream));
        connected = std::move(stream).error();
    } else {
        connected = std::move(channel).error();
    }
    ++connects_failed_;
    log_warn("cannot connect to a tunnel server",
             {{"server", config_.server.to_string()}, {"error", connected.error()}});
    co_return Outcome::kFailed;
}

Agent::Outcome Agent::adopt(std::unique_ptr<LinkState> state,
                            std::unique_ptr<net::GrpcStream> stream) {
    const net::GrpcMetadata& metadata = stream->initial_metadata();
    state->server_id = std::string(metadata.get(kServerIdHeader));
    state->server_count = parse_number<uint32_t>(metadata.get(kServerCountHeader)).value_or(1);
    const auto window = parse_number<uint32_t>(metadata.get(kWindowHeader));
    auto known = links_.find(state->server_id);
    if (known != links_.end()) {
        // The number may be news even when the server is not.
        known->second->server_count = state->server_count;
        return Outcome::kKnown;
    }
    if (links_.size() >= kMaxServers || draining_) return Outcome::kKnown;
    all_announce_ = window.has_value();
    state->stream = over(std::move(stream));
    state->link =
        std::make_unique<AgentLink>(loop_, *state->stream, config_.dialer, window, config_.link);
    state->link->on_servers([this] {
        backoff_ = config_.sync_interval;
        kick();
    });
    links_[state->server_id] = state.get();
    ++links_opened_;
    log_info("connected to a tunnel server",
             {{"server", state->server_id}, {"servers", state->server_count}});
    group_.spawn(serve_link(std::move(state)));
    return Outcome::kNew;
}

Task<void> Agent::serve_link(std::unique_ptr<LinkState> owned) {
    TimePoint since = loop_.now();
    Result<void> result = co_await owned->link->run();
    links_.erase(owned->server_id);
    // One that lasted is worth an attempt at once; one that breaks in its first moment is not.
    if (loop_.now() - since >= config_.sync_interval) backoff_ = config_.sync_interval;
    if (result.ok()) {
        log_info("a tunnel server ended its link", {{"server", owned->server_id}});
    } else if (result.error().code() != Code::kCancelled) {
        log_warn("the link to a tunnel server broke",
                 {{"server", owned->server_id}, {"error", result.error()}});
    }
    kick();
}

std::string Agent::metrics() const {
    std::string text;
    auto add = [&text](std::string_view name, std::string_view type, std::string_view help,
                       uint64_t value) {
        text += fmt::format("# HELP {0} {1}\n# TYPE {0} {2}\n{0} {3}\n", name, help, type, value);
    };
    add("konnectivity_network_proxy_agent_open_server_connections", "gauge",
        "Tunnel servers connected.", links_.size());
    add("konnectivity_network_proxy_agent_open_endpoint_connections", "gauge",
        "Connections to targets.", connections_count());
    add("konnectivity_network_proxy_agent_known_server_count", "gauge",
        "Tunnel servers said to exist.", wanted());
    add("basalt_tunnel_links_opened_total", "counter", "Links to tunnel servers.", links_opened_);
    add("basalt_tunnel_connects_failed_total", "counter", "Attempts that failed.",
        connects_failed_);
    return text;
}

}  // namespace basalt::tunnel
