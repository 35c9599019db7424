#include "tunnel/peers.h"

#include <algorithm>
#include <cerrno>

#include "base/log.h"
#include "tunnel/message_stream.h"
#include "tunnel/packet.pb.h"

namespace basalt::tunnel {

using async::Task;

namespace {
constexpr Duration kConnectTimeout = std::chrono::seconds(3);
constexpr Duration kFirstStateTimeout = std::chrono::seconds(5);
/// Between two looks while not settled: a refused connection costs next to nothing.
constexpr Duration kSearchPause = std::chrono::milliseconds(250);
/// Answers of "nobody there" in a row that count: one may be an endpoint that is just being
/// programmed.
constexpr int kNobodyEnough = 3;
/// Servers that start together find nobody at first: once settled they look again after this, then
/// after twice as long, up to the search interval.
constexpr Duration kEagerPause = std::chrono::seconds(1);
/// The Service that leads back here says nothing about siblings: so many times the next look comes
/// soon, without which servers that start together may miss each other for half a minute.
constexpr int kQuickRetries = 6;
/// Changes that come together are told together.
constexpr Duration kTellPause = std::chrono::milliseconds(50);
constexpr size_t kMaxStreams = 1000;
constexpr size_t kIdOverhead = 3;  // A field's number and a length of two bytes.

using StreamHolder = std::shared_ptr<std::unique_ptr<net::Stream>>;

/// A Service without endpoints refuses at once. Anything else, a name that cannot be looked up for
/// instance, says nothing about siblings.
bool nobody_there(const Error& error) {
    int cause = error.cause_code();
    return cause == ECONNREFUSED || cause == EHOSTUNREACH || cause == ENETUNREACH;
}

Task<Result<std::unique_ptr<net::Stream>>> take_stream(StreamHolder holder) {
    // The Service may lead elsewhere next time: a broken connection must not be replaced behind our
    // back.
    if (!*holder) co_return unavailable("the peer's connection broke");
    co_return std::move(*holder);
}

}  // namespace

struct Peers::Session {
    std::string server_id;
    bool ready = false;
    bool draining = false;
    std::set<std::string> agent_ids;
    std::set<std::string> peer_ids;
    std::unique_ptr<MessageStream> stream;
    // Set when we dialled: only then can we open relays.
    std::shared_ptr<net::GrpcChannel> channel;
    StreamId peer = 0;
};

Peers::Peers(async::Loop& loop, std::string server_id, PeersConfig config, ServerCore& core,
             std::function<void()> changed)
    : loop_(loop),
      server_id_(std::move(server_id)),
      config_(std::move(config)),
      core_(core),
      changed_(std::move(changed)),
      group_(loop),
      eager_pause_(kEagerPause),
      settled_(!config_.endpoint.has_value()) {}

Peers::~Peers() = default;

std::string Peers::state() const {
    wire::PeerState state;
    state.set_server_id(server_id_);
    state.set_ready(ready_);
    state.set_draining(draining_);
    for (const Session* session : sessions_) {
        if (session->ready && !session->draining) state.add_peer_ids(session->server_id);
    }
    // What does not fit seems not to be here: others then wait for it longer than they need to.
    size_t size = state.ByteSizeLong();
    for (const std::string& id : core_.agent_ids()) {
        size += id.size() + kIdOverhead;
        if (size > kMaxStateSize || state.agent_ids_size() >= kMaxStateIds) break;
        state.add_agent_ids(id);
    }
    return state.SerializeAsString();
}

void Peers::touch() {
    ++version_;
    state_changed_.notify_all();
}

void Peers::set_ready(bool ready) {
    if (ready_ == ready) return;
    ready_ = ready;
    touch();
}

void Peers::set_draining() {
    draining_ = true;
    touch();
}

void Peers::agents_changed() { touch(); }

void Peers::settle(std::string_view why) {
    if (settled_) return;
    settled_ = true;
    log_info("settled", {{"why", why}});
    changed_();
}

uint32_t Peers::live_count() const {
    std::set<std::string_view> ids;
    for (const Session* session : sessions_) {
        if (session->ready && !session->draining) ids.insert(session->server_id);
    }
    ids.erase(server_id_);
    // Ourselves also when draining: our agents have this link, and need one to each of the others.
    return static_cast<uint32_t>(ids.size()) + 1;
}

bool Peers::taken_over() const {
    std::set<std::string_view> theirs;
    bool any = false;
    for (const Session* session : sessions_) {
        if (!session->ready || session->draining) continue;
        any = true;
        theirs.insert(session->agent_ids.begin(), session->agent_ids.end());
    }
    if (!any) return true;
    std::vector<std::string> ours = core_.agent_ids();
    return std::all_of(ours.begin(), ours.end(),
                       [&theirs](const std::string& id) { return theirs.contains(id); });
}

size_t Peers::count() const {
    std::set<std::string_view> ids;
    for (const Session* session : sessions_) ids.insert(session->server_id);
    return ids.size();
}

bool Peers::someone_missing() const {
    std::set<std::string_view> dialled{server_id_};
    for (const Session* session : sessions_) {
        if (session->channel) dialled.insert(session->server_id);
    }
    for (const Session* session : sessions_) {
        if (session->ready && !session->draining && !dialled.contains(session->server_id))
            return true;
        for (const std::string& id : session->peer_ids) {
            if (!dialled.contains(id)) return true;
        }
    }
    return false;
}

Duration Peers::pause(Outcome outcome) {
    Duration base = kSearchPause;
    if (settled_ && outcome == Outcome::kSelf && quick_retries_ < kQuickRetries) {
        ++quick_retries_;
        // Half as much more or less: servers that look in turns would else stay in their turns.
        return base / 2 +
               Duration(static_cast<int64_t>(loop_.random() % static_cast<uint64_t>(base.count())));
    }
    if (settled_) {
        base = std::min(config_.search_interval, eager_pause_);
        eager_pause_ = base * 2;
    }
    if (settled_ && outcome != Outcome::kNobody && someone_missing())
        base = std::chrono::seconds(2);
    // A tenth more or less, so that the servers of one cluster do not move together.
    auto spread = static_cast<uint64_t>(base.count()) / 5 + 1;
    return base - base / 10 + Duration(static_cast<int64_t>(loop_.random() % spread));
}

Task<void> Peers::run() {
    if (!config_.endpoint) co_return;
    TimePoint give_up = loop_.now() + config_.settle_timeout;
    for (;;) {
        Outcome outcome = co_await search();
        nobody_count_ = outcome == Outcome::kNobody ? nobody_count_ + 1 : 0;
        if (outcome == Outcome::kSelf) settle("the Service leads here");
        if (nobody_count_ >= kNobodyEnough) settle("no other server is there");
        if (loop_.now() >= give_up) settle("no other server answered in time");
        Duration delay = pause(outcome);
        Result<void> slept = co_await async::sleep_for(loop_, delay);
        if (!slept.ok()) break;
    }
    group_.cancel();
    co_await group_.join();
}

Task<Peers::Outcome> Peers::search() {
    net::Endpoint endpoint = *config_.endpoint;
    auto holder = std::make_shared<std::unique_ptr<net::Stream>>();
    Result<std::unique_ptr<net::Stream>> connected =
        co_await net::connect(loop_, endpoint, kConnectTimeout);
    if (!connected.ok()) {
        co_return nobody_there(connected.error()) ? Outcome::kNobody : Outcome::kError;
    }
    *holder = std::move(*connected);
    Result<std::shared_ptr<const net::TlsContext>> tls = config_.tls();
    if (!tls.ok()) {
        log_warn("cannot meet other servers", {{"error", tls.error()}});
        co_return Outcome::kError;
    }
    net::HttpClientOptions options;
    options.tls = std::move(*tls);
    options.dialer = [holder] { return take_stream(holder); };
    options.version = net::HttpVersion::kHttp2;
    options.max_connections = 1;
    options.max_streams_per_connection = kMaxStreams;
    net::Url url;
    url.scheme = "https";
    url.host = endpoint.host;
    url.port = endpoint.port;
    url.path = "/";
    auto session = std::make_unique<Session>();
    session->channel = net::make_grpc_channel(loop_, url, std::move(options));
    auto opened = co_await async::with_timeout(
        loop_, kFirstStateTimeout, session->channel->open(std::string(kMeetMethod), {}));
    if (!opened.ok()) co_return Outcome::kError;
    session->stream = over(std::move(*opened));
    Result<void> written = co_await session->stream->write(state());
    if (!written.ok()) co_return Outcome::kError;
    auto first = co_await async::with_timeout(loop_, kFirstStateTimeout, session->stream->read());
    if (!first.ok() || !first->has_value()) {
        log_debug("no peer there",
                  {{"error", first.ok() ? unavailable("the call ended") : first.error()}});
        co_return Outcome::kError;
    }
    Result<void> understood = heard(*session, **first);
    if (!understood.ok()) {
        log_warn("not a server like this one", {{"error", understood.error()}});
        co_return Outcome::kError;
    }
    if (session->server_id == server_id_) co_return Outcome::kSelf;
    for (const Session* other : sessions_) {
        if (other->channel && other->server_id == session->server_id) co_return Outcome::kKnown;
    }
    if (sessions_.size() >= kMaxPeers) co_return Outcome::kError;
    session->peer = core_.new_id();
    group_.spawn(this->session(std::move(session)));
    co_return Outcome::kMet;
}

Task<void> Peers::session(std::unique_ptr<Session> owned) {
    Session& self = *owned;
    sessions_.push_back(&self);
    log_info("met another server", {{"server", self.server_id}, {"agents", self.agent_ids.size()}});
    tell_core(self);
    settle("another server was met");
    touch();
    changed_();
    async::TaskGroup group(loop_);
    group.spawn(tell(self));
    Result<void> ended = co_await listen(self);
    group.cancel();
    co_await group.join();
    sessions_.remove(&self);
    if (self.peer != 0) core_.remove_peer(self.peer, loop_.now());
    log_info("another server left", {{"server", self.server_id}});
    touch();
    changed_();
}

Task<void> Peers::tell(Session& session) {
    uint64_t told = 0;
    for (;;) {
        if (told == version_) {
            Result<void> waited = co_await state_changed_.wait();
            if (!waited.ok()) co_return;
            Result<void> slept = co_await async::sleep_for(loop_, kTellPause);
            if (!slept.ok()) co_return;
        }
        told = version_;
        Result<void> written = co_await session.stream->write(state());
        if (!written.ok()) co_return;
    }
}

Task<Result<void>> Peers::listen(Session& session) {
    for (;;) {
        Result<std::optional<std::string>> message = co_await session.stream->read();
        if (!message.ok()) co_return std::move(message).error();
        if (!message->has_value()) co_return Result<void>();
        Result<void> understood = heard(session, **message);
        if (!understood.ok()) co_return understood;
        tell_core(session);
        changed_();
    }
}

void Peers::tell_core(const Session& session) {
    if (session.peer == 0) return;
    core_.set_peer(session.peer, session.agent_ids.size(), session.draining, loop_.now());
}

Result<void> Peers::heard(Session& session, std::string_view bytes) {
    wire::PeerState state;
    if (bytes.size() > kMaxStateSize ||
        !state.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
        return invalid_argument("not a peer's state");
    }
    const auto good_id = [](const std::string& id) {
        return !id.empty() && id.size() <= kMaxServerIdSize;
    };
    if (!good_id(state.server_id())) return invalid_argument("a peer has a server id");
    if (state.agent_ids_size() > kMaxStateIds ||
        !std::all_of(state.agent_ids().begin(), state.agent_ids().end(), is_agent_id)) {
        return invalid_argument("a peer has agents with agents' ids");
    }
    if (static_cast<size_t>(state.peer_ids_size()) > 2 * kMaxPeers ||
        !std::all_of(state.peer_ids().begin(), state.peer_ids().end(), good_id)) {
        return invalid_argument("a peer has peers with server ids");
    }
    // A session stays with whom it began.
    if (session.server_id.empty()) session.server_id = state.server_id();
    session.ready = state.ready();
    session.draining = state.draining();
    session.agent_ids = {state.agent_ids().begin(), state.agent_ids().end()};
    session.peer_ids = {state.peer_ids().begin(), state.peer_ids().end()};
    return {};
}

Task<Result<void>> Peers::serve(net::GrpcServerCall& call) {
    if (sessions_.size() >= kMaxPeers || meeting_count_ >= kMaxPeers)
        co_return resource_exhausted("too many peers");
    ++meeting_count_;
    Result<void> served = co_await serve_new(call);
    co_return served;
}

Task<Result<void>> Peers::serve_new(net::GrpcServerCall& call) {
    auto owned = std::make_unique<Session>();
    owned->stream = over(call);
    auto first = co_await async::with_timeout(loop_, kFirstStateTimeout, owned->stream->read());
    --meeting_count_;
    if (!first.ok()) co_return std::move(first).error();
    if (!first->has_value()) co_return Result<void>();
    Result<void> understood = heard(*owned, **first);
    if (!understood.ok()) co_return understood;
    if (owned->server_id == server_id_) {
        // Ourselves: say so, then end.
        Result<void> written = co_await owned->stream->write(state());
        co_return written;
    }
    // Others may have come while we waited.
    if (sessions_.size() >= kMaxPeers) co_return resource_exhausted("too many peers");
    co_await session(std::move(owned));
    co_return Result<void>();
}

Task<Result<std::unique_ptr<net::GrpcStream>>> Peers::open_relay(StreamId peer) {
    std::shared_ptr<net::GrpcChannel> channel;
    for (const Session* session : sessions_) {
        if (session->peer == peer) channel = session->channel;
    }
    if (!channel) co_return unavailable("the peer has left");
    auto stream = co_await channel->open(std::string(kProxyMethod), {});
    co_return std::move(stream);
}

}  // namespace basalt::tunnel
