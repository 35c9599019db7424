// What somebody can do to the tunnel server who reaches the agents' port and is no agent, or who is
// called like a server and is none.
#include "tunnel/env_test.h"
#include "tunnel/packet.pb.h"

namespace basalt::tunnel {
namespace {

using namespace testing_support;  // NOLINT: a test

/// One token is good; for any other there is never an answer.
class NeverAnswers final : public Authenticator {
 public:
    explicit NeverAnswers(async::Loop& loop) : loop_(loop) {}
    Task<Result<void>> authenticate(AgentCredentials credentials) override {
        if (credentials.token == Secret("good")) co_return Result<void>();
        ++asked_count;
        Result<void> slept = co_await async::sleep_for(loop_, std::chrono::hours(1));
        co_return slept.ok() ? unavailable("never") : std::move(slept).error();
    }
    size_t asked_count = 0;

 private:
    async::Loop& loop_;
};

std::shared_ptr<net::GrpcChannel> channel_to(async::Loop& loop, const net::Endpoint& endpoint,
                                             std::shared_ptr<const net::TlsContext> tls = nullptr) {
    net::HttpClientOptions options;
    options.tls = std::move(tls);
    options.version = net::HttpVersion::kHttp2;
    options.max_connections = 1;
    net::Url url;
    url.scheme = options.tls ? "https" : "http";
    url.host = endpoint.host;
    url.port = endpoint.port;
    url.path = "/";
    return net::make_grpc_channel(loop, url, std::move(options));
}

struct Flood {
    size_t done_count = 0;
    size_t refused_count = 0;
    size_t accepted_count = 0;
};

/// `count` calls one after the other, each with `size` bytes that nobody asked for.
Task<void> flood(std::shared_ptr<net::GrpcChannel> channel, std::string agent_id, size_t count,
                 size_t size, Flood* out) {
    for (size_t i = 0; i < count; ++i) {
        net::GrpcCallOptions options;
        options.metadata.add(std::string(kAgentIdHeader), agent_id);
        options.metadata.add(std::string(kAuthorizationHeader), "Bearer bad");
        auto call = co_await channel->open(std::string(kConnectMethod), options);
        if (call.ok()) {
            Result<void> written = co_await (*call)->write(std::string(size, 'x'));
            Result<void> header = co_await (*call)->wait_header();
            if (header.ok() && written.ok()) {
                auto end = co_await (*call)->read();
                if (end.ok()) ++out->accepted_count;
                if (!end.ok() && end.error().code() == Code::kUnavailable) ++out->refused_count;
            } else {
                ++out->refused_count;
            }
        }
        ++out->done_count;
    }
}

using StrangersTest = TunnelFixture;

TEST_F(StrangersTest, ExhaustNeitherMemoryNorPatience) {
    constexpr size_t kConnections = 50, kCallsEach = 100, kSize = size_t{256} << 10;
    Target& there = target();
    TunnelServerConfig config;
    auto authenticator = std::make_shared<NeverAnswers>(loop_);
    config.agents = authenticator;
    net::GrpcServerOptions options;
    options.strangers = net::GrpcStrangerLimits();
    TestServer& s = server(std::move(config), options);
    AgentConfig good = agent_config(s.agent_endpoint());
    good.token = [] { return Result<Secret>(Secret("good")); };
    agent(std::move(good));
    wait_for_agents(s, 1);

    Flood result;
    async::TaskGroup group(loop_);
    for (size_t i = 0; i < kConnections; ++i) {
        auto channel = channel_to(loop_, s.agent_endpoint());
        // As many callers as the connection may have streams: the others wait at the client.
        for (size_t j = 0; j < 10; ++j)
            group.spawn(flood(channel, "evil", kCallsEach / 10, kSize, &result));
    }
    size_t most = 0;
    // Until only those are left that wait for an answer, and most were sent away.
    EXPECT_TRUE(wait_until([&] {
        most = std::max(most, s.agents_buffered_size());
        return result.done_count >= kConnections * kCallsEach / 4;
    })) << result.done_count;
    EXPECT_LE(most, kConnections * options.strangers->window);
    EXPECT_LE(authenticator->asked_count, 32u);
    EXPECT_GT(result.refused_count, 0u);
    EXPECT_EQ(result.accepted_count, 0u);
    // The agent that was there before goes on, and another one gets its turn.
    Result<std::string> back = echo(s, there.address(), "goes on");
    EXPECT_TRUE(back.ok()) << back.error().to_string();
    EXPECT_EQ(s.tunnel().core().agents_count(), 1u);
    group.cancel();
    run_void(loop_, group.join());
    AgentConfig next = agent_config(s.agent_endpoint(), "agent-2");
    next.token = [] { return Result<Secret>(Secret("good")); };
    agent(std::move(next));
    wait_for_agents(s, 2);
}

TEST_F(StrangersTest, WaitingForATurnTakesNoLongerThanAnAnswer) {
    TunnelServerConfig config;
    auto authenticator = std::make_shared<NeverAnswers>(loop_);
    config.agents = authenticator;
    config.authentications_limit = 1;
    config.authentication_timeout = std::chrono::milliseconds(200);
    TestServer& s = server(std::move(config));
    Flood result;
    async::TaskGroup group(loop_);
    auto channel = channel_to(loop_, s.agent_endpoint());
    for (int i = 0; i < 10; ++i) group.spawn(flood(channel, "evil", 1, 10, &result));
    EXPECT_TRUE(wait_until([&] { return result.done_count == 10; }));
    EXPECT_EQ(result.accepted_count, 0u);
    // One had its turn; the time of the others was up when the first one's was.
    EXPECT_LE(authenticator->asked_count, 2u);
    run_void(loop_, group.join());
}

TEST_F(StrangersTest, AnIdThatIsNoneIsNotLookedAt) {
    TunnelServerConfig config;
    auto authenticator = std::make_shared<NeverAnswers>(loop_);
    config.agents = authenticator;
    TestServer& s = server(std::move(config));
    Flood result;
    auto channel = channel_to(loop_, s.agent_endpoint());
    run_void(loop_, flood(channel, "", 1, 10, &result));
    run_void(loop_, flood(channel, std::string(257, 'a'), 1, 10, &result));
    EXPECT_EQ(result.done_count, 2u);
    EXPECT_EQ(result.accepted_count, 0u);
    EXPECT_EQ(authenticator->asked_count, 0u);
}

/// A tenant's CA signs what the tenant wants: also a certificate with a server's name.
class FalsePeersTest : public TunnelFixture {
 protected:
    FalsePeersTest() {
        pki().issue("server", "/CN=kube-apiserver", "serverAuth");
        pki().issue("peer", "/CN=system:konnectivity-server", "clientAuth");
        TunnelServerConfig config;
        config.server_id = "the-server";
        config.peers_rule.common_name = "system:konnectivity-server";
        net::GrpcServerOptions options;
        options.tls = pki().server("server", net::ClientCertificates::kOptional);
        options.strangers = net::GrpcStrangerLimits();
        server_ = &server(std::move(config), options);
    }
    std::shared_ptr<net::GrpcChannel> peer_channel() {
        return channel_to(loop_, server_->agent_endpoint(), pki().client("peer").value());
    }
    static wire::PeerState state(const std::string& id) {
        wire::PeerState made;
        made.set_server_id(id);
        made.set_ready(true);
        return made;
    }
    /// Meets the server and stays until cancelled; `last` is what came instead.
    static Task<void> meet(async::Loop* loop, std::shared_ptr<net::GrpcChannel> channel,
                           Duration pause, std::string first, std::optional<Error>* last) {
        net::GrpcCallOptions options;
        auto call = co_await channel->open(std::string(kMeetMethod), options);
        if (!call.ok()) co_return;
        Result<void> slept = co_await async::sleep_for(*loop, pause);
        if (!slept.ok()) co_return;
        Result<void> written = co_await (*call)->write(std::move(first));
        for (;;) {
            auto message = co_await (*call)->read();
            if (!message.ok()) last->emplace(std::move(message).error());
            if (!message.ok() || !message->has_value()) co_return;
        }
    }
    TestServer* server_ = nullptr;
};

TEST_F(FalsePeersTest, AreNoMoreThanAFew) {
    auto channel = peer_channel();
    async::TaskGroup group(loop_);
    std::vector<std::optional<Error>> ends(50);
    auto come = [&](size_t i, Duration pause) {
        group.spawn(meet(&loop_, channel, pause,
                         state(fmt::format("peer-{}", i)).SerializeAsString(), &ends[i]));
    };
    for (size_t i = 0; i < 10; ++i) come(i, Duration(0));
    EXPECT_TRUE(wait_until([&] { return server_->tunnel().peers().count() == 10; }));
    // They are let in before any of them has said who it is, and then say it at once.
    for (size_t i = 10; i < ends.size(); ++i) come(i, std::chrono::milliseconds(200));
    const size_t limit = Peers::kMaxPeers;
    auto refused = [&] {
        return static_cast<size_t>(std::count_if(ends.begin(), ends.end(), [](const auto& end) {
            return end && end->code() == Code::kResourceExhausted;
        }));
    };
    EXPECT_TRUE(wait_until([&] {
        return server_->tunnel().peers().count() == limit && refused() == ends.size() - limit;
    })) << server_->tunnel().peers().count()
        << " " << refused();
    group.cancel();
    run_void(loop_, group.join());
    EXPECT_TRUE(wait_until([&] { return server_->tunnel().peers().count() == 0; }));
}

TEST_F(FalsePeersTest, SayNothingLarge) {
    wire::PeerState many_ids = state("many-ids");
    for (int i = 0; i <= Peers::kMaxStateIds; ++i) many_ids.add_agent_ids("a");
    wire::PeerState many_peers = state("many-peers");
    for (size_t i = 0; i <= 2 * Peers::kMaxPeers; ++i) many_peers.add_peer_ids("p");
    wire::PeerState long_agent = state("long-agent");
    long_agent.add_agent_ids(std::string(kMaxAgentIdSize + 1, 'a'));
    wire::PeerState long_peer = state("long-peer");
    long_peer.add_peer_ids(std::string(Peers::kMaxServerIdSize + 1, 'a'));
    wire::PeerState large = state("large");
    for (int i = 0; i < 2000; ++i) large.add_agent_ids(std::string(200, 'a'));
    std::vector<std::string> bad{
        state(std::string(Peers::kMaxServerIdSize + 1, 'x')).SerializeAsString(),
        state(std::string(size_t{1} << 20, 'x')).SerializeAsString(),
        state("").SerializeAsString(),
        many_ids.SerializeAsString(),
        many_peers.SerializeAsString(),
        long_agent.SerializeAsString(),
        long_peer.SerializeAsString(),
        large.SerializeAsString(),
        "\xff\xff no message",
    };
    auto channel = peer_channel();
    for (const std::string& text : bad) {
        std::optional<Error> end;
        run_void(loop_, meet(&loop_, channel, Duration(0), text, &end));
        ASSERT_TRUE(end) << text.substr(0, 20);
        EXPECT_EQ(end->code(), Code::kInvalidArgument) << text.substr(0, 20);
        EXPECT_EQ(server_->tunnel().peers().count(), 0u);
    }
}

}  // namespace
}  // namespace basalt::tunnel
