// The whole tunnel over loopback: API server's client -> unix socket -> server -> agent -> target.
#include <map>

#include "tunnel/env_test.h"
#include "tunnel/packet.pb.h"

namespace basalt::tunnel {
namespace {

using namespace testing_support;  // NOLINT: a test
using TunnelTest = TunnelFixture;

TEST_F(TunnelTest, Echo) {
    Target& there = target();
    TestServer& s = server();
    agent(agent_config(s.agent_endpoint()));
    wait_for_agents(s, 1);
    Result<std::string> back = echo(s, there.address(), "hello through the tunnel");
    ASSERT_TRUE(back.ok()) << back.error().to_string();
    EXPECT_EQ(*back, "hello through the tunnel");
    // The client went away: so does the connection to the target.
    EXPECT_TRUE(wait_until(
        [&] { return there.open_count() == 0 && s.tunnel().core().connections_count() == 0; }));
    EXPECT_EQ(s.tunnel().core().frontends_count(), 0u);
}

TEST_F(TunnelTest, LargeDataBothWays) {
    Target& there = target();
    TestServer& s = server();
    agent(agent_config(s.agent_endpoint()));
    wait_for_agents(s, 1);
    auto stream = dial(s, there.address());
    ASSERT_TRUE(stream.ok());
    for (int round = 0; round < 8; ++round) {
        std::string block(700'000, static_cast<char>('a' + round));
        // Echo keeps at most a window in flight, so writing and reading have to overlap.
        async::TaskGroup writer(loop_);
        std::optional<Result<void>> written;
        struct Helper {
            static Task<void> write(std::shared_ptr<net::Stream> to, std::string data,
                                    std::optional<Result<void>>* out) {
                Result<void> result = co_await to->write(std::move(data));
                out->emplace(std::move(result));
            }
            static Task<Result<std::string>> read(std::shared_ptr<net::Stream> from, size_t size) {
                std::string all;
                while (all.size() < size) {
                    Result<std::string> data = co_await from->read(100'000);
                    if (!data.ok()) co_return std::move(data).error();
                    if (data->empty()) break;
                    all += *data;
                }
                co_return all;
            }
        };
        writer.spawn(Helper::write(*stream, block, &written));
        Result<std::string> back = run(loop_, Helper::read(*stream, block.size()));
        ASSERT_TRUE(back.ok()) << back.error().to_string();
        EXPECT_TRUE(*back == block) << back->size();
        EXPECT_TRUE(wait_until([&] { return written.has_value(); }));
        EXPECT_TRUE(written->ok());
    }
}

Task<Result<void>> one_of_many(async::Loop* loop, std::shared_ptr<net::GrpcChannel> channel,
                               std::string address, int number) {
    std::string text;
    for (int i = 0; i < 2000; ++i) text += fmt::format("{}:{} ", number, i);
    auto back = co_await dial_and_echo(loop, channel, address, text);
    if (!back.ok()) co_return std::move(back).error();
    if (*back != text) co_return internal_error("bytes of another stream");
    co_return Result<void>();
}

TEST_F(TunnelTest, HundredStreamsAtOnce) {
    Target& there = target();
    TestServer& s = server();
    agent(agent_config(s.agent_endpoint(), "agent-1"));
    agent(agent_config(s.agent_endpoint(), "agent-2"));
    wait_for_agents(s, 2);
    std::vector<Task<Result<void>>> tasks;
    for (int i = 0; i < 100; ++i)
        tasks.push_back(one_of_many(&loop_, s.channel(), there.address(), i));
    Result<void> all = run(loop_, async::join_all(loop_, std::move(tasks)));
    EXPECT_TRUE(all.ok()) << all.error().to_string();
    EXPECT_EQ(there.accepted_count(), 100u);
    EXPECT_TRUE(wait_until([&] { return there.open_count() == 0; }));
}

TEST_F(TunnelTest, TargetRefuses) {
    TestServer& s = server();
    agent(agent_config(s.agent_endpoint()));
    wait_for_agents(s, 1);
    std::string closed;
    {
        auto listener = net::listen(loop_, net::Endpoint::tcp("127.0.0.1", 0)).value();
        closed = listener->endpoint().to_string();
    }
    auto stream = dial(s, closed);
    ASSERT_FALSE(stream.ok());
    EXPECT_EQ(stream.error().code(), Code::kUnavailable);
    EXPECT_NE(stream.error().message().find("refused"), std::string::npos)
        << stream.error().message();
    EXPECT_FALSE(dial(s, "unix:/run/containerd/containerd.sock").ok());
}

// What the kubelet waits for before it stops the API server.
TEST_F(TunnelTest, TellsWhenCommandsHaveEnded) {
    Target& kubelet = target();
    Target& webhook = target();
    TunnelServerConfig config;
    config.core.kubelet_port = net::parse_endpoint(kubelet.address())->port;
    TestServer& s = server(std::move(config));
    agent(agent_config(s.agent_endpoint()));
    wait_for_agents(s, 1);
    auto kept = dial(s, webhook.address());
    ASSERT_TRUE(kept.ok());
    run_void(loop_, s.tunnel().commands_ended(std::chrono::hours(1)));
    auto command = dial(s, kubelet.address());
    ASSERT_TRUE(command.ok());

    async::TaskGroup waiting(loop_);
    bool ended = false;
    struct Helper {
        static Task<void> wait(TunnelServer* tunnel, bool* out) {
            co_await tunnel->commands_ended(std::chrono::hours(1));
            *out = true;
        }
    };
    waiting.spawn(Helper::wait(&s.tunnel(), &ended));
    // As long as it says something, and in between.
    Result<std::string> said = run(loop_, echo_over(*command, "still here"));
    ASSERT_TRUE(said.ok()) << said.error().to_string();
    EXPECT_FALSE(ended);
    run_void(loop_, s.tunnel().commands_ended(std::chrono::milliseconds(50)));
    EXPECT_FALSE(ended);
    EXPECT_EQ(s.tunnel().core().commands_count(), 1u);
    (*command)->close();
    EXPECT_TRUE(wait_until([&] { return ended; }));
    said = run(loop_, echo_over(*kept, "kept"));
    EXPECT_TRUE(said.ok());
}

TEST_F(TunnelTest, NoAgentEver) {
    TunnelServerConfig config;
    config.core.start_grace = Duration(0);
    TestServer& s = server(std::move(config));
    TimePoint start = loop_.now();
    auto stream = dial(s, "10.0.0.1:443");
    ASSERT_FALSE(stream.ok());
    EXPECT_EQ(stream.error().message(), "No agent available");
    EXPECT_LT(loop_.now() - start, std::chrono::seconds(3));
}

/// A client that does not read stops its own source, and nobody else notices.
TEST_F(TunnelTest, SlowReaderHoldsOnlyItself) {
    Target& source = target(Target::Kind::kSource);
    Target& there = target();
    TestServer& s = server();
    agent(agent_config(s.agent_endpoint()));
    wait_for_agents(s, 1);
    auto slow = dial(s, source.address());
    ASSERT_TRUE(slow.ok());
    // The source comes to a stop when all windows are full.
    uint64_t last = 0;
    int same = 0;
    EXPECT_TRUE(wait_until([&] {
        uint64_t bytes = s.tunnel().core().counters().bytes_from_agents;
        same = bytes == last && bytes > 0 ? same + 1 : 0;
        last = bytes;
        return same > 20;
    }));
    EXPECT_LT(last, uint64_t{6} << 20);
    for (int i = 0; i < 20; ++i) {
        Result<std::string> back = echo(s, there.address(), std::string(50'000, 'z'));
        ASSERT_TRUE(back.ok()) << back.error().to_string();
    }
    EXPECT_EQ(s.tunnel().core().counters().stalled_closed, 0u);
    // It goes on where it stopped, in order, however long it waited.
    struct Helper {
        static Task<Result<bool>> check(std::shared_ptr<net::Stream> stream, size_t size) {
            size_t position = 0;
            while (position < size) {
                Result<std::string> data = co_await stream->read(65536);
                if (!data.ok()) co_return std::move(data).error();
                for (char c : *data) {
                    if (c != static_cast<char>('a' + (position / 4096) % 26)) co_return false;
                    ++position;
                }
            }
            co_return true;
        }
    };
    Result<bool> in_order = run(loop_, Helper::check(*slow, size_t{16} << 20));
    ASSERT_TRUE(in_order.ok()) << in_order.error().to_string();
    EXPECT_TRUE(*in_order);
}

/// The same in the other direction: a target that does not read.
TEST_F(TunnelTest, SlowTargetHoldsOnlyItself) {
    Target& sink = target(Target::Kind::kSink);
    Target& there = target();
    TunnelServerConfig config;
    config.core.link.linger = std::chrono::milliseconds(300);
    TestServer& s = server(std::move(config));
    AgentConfig agent_settings = agent_config(s.agent_endpoint());
    agent_settings.link.linger = std::chrono::milliseconds(300);
    agent(std::move(agent_settings));
    wait_for_agents(s, 1);
    auto slow = dial(s, sink.address());
    ASSERT_TRUE(slow.ok());
    async::TaskGroup group(loop_);
    struct Helper {
        static Task<void> fill(std::shared_ptr<net::Stream> stream, size_t* written_size) {
            for (;;) {
                Result<void> written = co_await stream->write(std::string(65536, 'x'));
                if (!written.ok()) co_return;
                *written_size += 65536;
            }
        }
    };
    size_t written_size = 0;
    group.spawn(Helper::fill(*slow, &written_size));
    size_t last = 0;
    int same = 0;
    EXPECT_TRUE(wait_until([&] {
        same = written_size == last && last > 0 ? same + 1 : 0;
        last = written_size;
        return same > 20;
    }));
    EXPECT_LT(last, size_t{16} << 20);
    for (int i = 0; i < 20; ++i) {
        Result<std::string> back = echo(s, there.address(), std::string(50'000, 'z'));
        ASSERT_TRUE(back.ok()) << back.error().to_string();
    }
    group.cancel();
    run_void(loop_, group.join());
    (*slow)->close();
    // Closing does not wait for the sink: after the linger time the rest is dropped.
    EXPECT_TRUE(wait_until([&] { return agents_[0]->connections_count() == 0; }));
}

TEST_F(TunnelTest, AgentGoesAndComesBack) {
    Target& there = target();
    TestServer& s = server();
    agent(agent_config(s.agent_endpoint()));
    wait_for_agents(s, 1);
    auto stream = dial(s, there.address());
    ASSERT_TRUE(stream.ok());
    run_void(loop_, agents_[0]->stop());
    agents_.clear();
    Result<std::string> end = run(loop_, (*stream)->read(100));
    EXPECT_TRUE(!end.ok() || end->empty());
    EXPECT_TRUE(wait_until([&] { return there.open_count() == 0; }));
    wait_for_agents(s, 0);
    // A dial in the gap waits for the next agent.
    struct Helper {
        static Task<void> echo(async::Loop* loop, std::shared_ptr<net::GrpcChannel> channel,
                               std::string address, std::optional<Result<std::string>>* out) {
            auto result = co_await dial_and_echo(loop, channel, address, "in the gap");
            out->emplace(std::move(result));
        }
    };
    std::optional<Result<std::string>> result;
    async::TaskGroup group(loop_);
    group.spawn(Helper::echo(&loop_, s.channel(), there.address(), &result));
    EXPECT_TRUE(wait_until([&] { return s.tunnel().core().pending_count() == 1; }));
    agent(agent_config(s.agent_endpoint()));
    EXPECT_TRUE(wait_until([&] { return result.has_value(); }));
    ASSERT_TRUE(result->ok()) << result->error().to_string();
}

TEST_F(TunnelTest, ServerRestarts) {
    Target& there = target();
    TestServer& first = server();
    net::Endpoint endpoint = first.agent_endpoint();
    agent(agent_config(endpoint));
    wait_for_agents(first, 1);
    auto stream = dial(first, there.address());
    ASSERT_TRUE(stream.ok());
    run_void(loop_, first.stop());
    EXPECT_TRUE(wait_until([&] { return agents_[0]->links_count() == 0; }));
    EXPECT_TRUE(wait_until([&] { return there.open_count() == 0; }));
    servers_.clear();
    // The new one has no agent yet when the first dial comes: it waits for the agent to be back.
    TestServer& second = server({}, {}, endpoint.port);
    EXPECT_EQ(second.tunnel().core().agents_count(), 0u);
    Result<std::string> back = echo(second, there.address(), "again");
    ASSERT_TRUE(back.ok()) << back.error().to_string();
}

TEST_F(TunnelTest, AgentFindsAllServers) {
    TestServer& a = server();
    TestServer& b = server();
    TestServer& c = server();
    balancer_ = std::make_unique<Balancer>(loop_);
    balancer_->set({a.agent_endpoint()});
    AgentConfig config = agent_config(balancer_->endpoint());
    config.resync_interval = std::chrono::hours(1);  // Only what servers announce makes it look.
    Agent& the_agent = agent(std::move(config));
    wait_for_agents(a, 1);
    // A surge: b comes, and a hears of it.
    balancer_->set({a.agent_endpoint(), b.agent_endpoint()});
    a.tunnel().set_configured_server_count(2);
    wait_for_agents(b, 1);
    balancer_->set({a.agent_endpoint(), b.agent_endpoint(), c.agent_endpoint()});
    b.tunnel().set_configured_server_count(3);
    wait_for_agents(c, 1);
    // Its own count follows when the server's answer has arrived.
    EXPECT_TRUE(wait_until([&] { return the_agent.links_count() == 3; }));
    EXPECT_EQ(a.tunnel().core().links_count(), 1u);
}

TEST_F(TunnelTest, AgentDrains) {
    Target& there = target();
    TestServer& s = server();
    Agent& leaving = agent(agent_config(s.agent_endpoint(), "leaving"));
    wait_for_agents(s, 1);
    auto stream = dial(s, there.address());
    ASSERT_TRUE(stream.ok());
    Agent& staying = agent(agent_config(s.agent_endpoint(), "staying"));
    wait_for_agents(s, 2);
    leaving.drain();
    Result<std::string> back = run(loop_, echo_over(*stream, "still here"));
    ASSERT_TRUE(back.ok()) << back.error().to_string();
    std::vector<std::shared_ptr<net::Stream>> others;
    for (int i = 0; i < 8; ++i) others.push_back(dial(s, there.address()).value());
    EXPECT_EQ(staying.connections_count(), 8u);
    EXPECT_EQ(leaving.connections_count(), 1u);
}

TEST_F(TunnelTest, DirectDestination) {
    Target& webhook = target();
    Target& other = target();
    TunnelServerConfig config;
    config.core.start_grace = Duration(0);
    config.direct.push_back(
        {"webhook.basalt-system.svc:443", net::parse_endpoint(webhook.address()).value()});
    TestServer& s = server(std::move(config));
    Result<std::string> back = echo(s, "webhook.basalt-system.svc:443", "admit?");
    ASSERT_TRUE(back.ok()) << back.error().to_string();
    // No agent is there: everything else has no way out, not even the webhook's own address.
    EXPECT_FALSE(echo(s, webhook.address(), "x").ok());
    EXPECT_FALSE(echo(s, other.address(), "x").ok());
    EXPECT_FALSE(echo(s, "webhook.basalt-system.svc:8443", "x").ok());
    EXPECT_EQ(webhook.accepted_count(), 1u);
    EXPECT_EQ(other.accepted_count(), 0u);
    EXPECT_FALSE(s.tunnel().metrics().empty());
}

class TokenIs final : public Authenticator {
 public:
    Task<Result<void>> authenticate(AgentCredentials credentials) override {
        if (credentials.token == Secret("good")) co_return Result<void>();
        co_return Error(Code::kUnauthenticated, "bad token");
    }
};

TEST_F(TunnelTest, TokenOverTls) {
    TestPki& pki = this->pki();
    pki.issue("server", "/CN=kube-apiserver", "serverAuth");
    Target& there = target();
    TunnelServerConfig config;
    config.agents = std::make_shared<TokenIs>();
    net::GrpcServerOptions options;
    options.tls = pki.server("server", net::ClientCertificates::kIgnored);
    TestServer& s = server(std::move(config), options);
    auto with_token = [&](std::string id, std::string token) {
        AgentConfig agent_settings = agent_config(s.agent_endpoint(), std::move(id));
        agent_settings.tls = [&pki] { return pki.client(""); };
        if (!token.empty())
            agent_settings.token = [token] { return Result<Secret>(Secret(token)); };
        return agent_settings;
    };
    agent(with_token("bad", "bad"));
    agent(with_token("none", ""));
    agent(with_token("good", "good\n"));
    wait_for_agents(s, 1);
    Result<std::string> back = echo(s, there.address(), "secret");
    ASSERT_TRUE(back.ok()) << back.error().to_string();
    EXPECT_TRUE(wait_until(
        [&] { return s.tunnel().metrics().find("agents_refused_total 0") == std::string::npos; }));
    EXPECT_EQ(s.tunnel().core().agent_ids(), std::vector<std::string>{"good"});
    // One that is refused never counts as connected, and tries less and less often.
    EXPECT_EQ(agents_[0]->links_count(), 0u);
    EXPECT_TRUE(wait_until([&] {
        return agents_[0]->metrics().find("connects_failed_total 4") != std::string::npos;
    }));
    EXPECT_NE(agents_[0]->metrics().find("links_opened_total 0"), std::string::npos);
}

TEST_F(TunnelTest, ClientCertificates) {
    TestPki& pki = this->pki();
    pki.issue("server", "/CN=kube-apiserver", "serverAuth");
    pki.issue("agent", "/O=agents/CN=system:konnectivity-agent", "clientAuth");
    pki.issue("kubelet", "/O=system:nodes/CN=system:node:n1", "clientAuth");
    TunnelServerConfig config;
    config.agents = make_certificate_authenticator({"system:konnectivity-agent", "agents"});
    net::GrpcServerOptions options;
    options.tls = pki.server("server", net::ClientCertificates::kRequired);
    TestServer& s = server(std::move(config), options);
    for (std::string name : {"", "kubelet", "agent"}) {
        AgentConfig agent_settings = agent_config(s.agent_endpoint(), "by-" + name);
        agent_settings.tls = [&pki, name] { return pki.client(name); };
        agent(std::move(agent_settings));
    }
    wait_for_agents(s, 1);
    EXPECT_TRUE(wait_until(
        [&] { return s.tunnel().metrics().find("agents_refused_total 0") == std::string::npos; }));
    EXPECT_EQ(s.tunnel().core().agent_ids(), std::vector<std::string>{"by-agent"});
}

/// An upgrade: the new server works through the old one's agents before any agent knows it.
/// A server with peers, and the Service in front of them.
class PeersTest : public TunnelTest {
 protected:
    PeersTest() {
        pki().issue("server", "/CN=kube-apiserver", "serverAuth");
        pki().issue("peer", "/CN=system:konnectivity-server", "clientAuth");
        balancer_ = std::make_unique<Balancer>(loop_);
    }
    TestServer& make(std::string id, ServerCoreOptions core = {}) {
        TunnelServerConfig config;
        config.server_id = std::move(id);
        config.core = std::move(core);
        config.peers_rule.common_name = "system:konnectivity-server";
        config.peers.endpoint = balancer_->endpoint();
        config.peers.tls = [this] { return pki().client("peer"); };
        // The balancer accepts even when nobody is behind it, as no Service does.
        config.peers.settle_timeout = std::chrono::milliseconds(500);
        net::GrpcServerOptions options;
        options.tls = pki().server("server", net::ClientCertificates::kOptional);
        return server(std::move(config), options);
    }
    Agent& make_agent() {
        AgentConfig config = agent_config(balancer_->endpoint());
        config.tls = [this] { return pki().client(""); };
        config.resync_interval = std::chrono::hours(1);
        return agent(std::move(config));
    }
};

TEST_F(PeersTest, Takeover) {
    Target& there = target();
    // The first one: nobody is there yet, it need not wait.
    TestServer& old_server = make("old");
    EXPECT_TRUE(wait_until([&] { return old_server.tunnel().ready(); }));
    balancer_->set({old_server.agent_endpoint()});
    Agent& the_agent = make_agent();
    wait_for_agents(old_server, 1);
    EXPECT_EQ(old_server.tunnel().core().server_count(), 1u);

    TestServer& new_server = make("new");
    EXPECT_TRUE(wait_until([&] { return new_server.tunnel().ready(); }));
    EXPECT_EQ(new_server.tunnel().core().agents_count(), 0u);
    Result<std::string> back = echo(new_server, there.address(), "relayed");
    ASSERT_TRUE(back.ok()) << back.error().to_string();
    EXPECT_EQ(new_server.tunnel().core().counters().dials_relayed, 1u);
    std::vector<Task<Result<void>>> tasks;
    for (int i = 0; i < 20; ++i)
        tasks.push_back(one_of_many(&loop_, new_server.channel(), there.address(), i));
    Result<void> all = run(loop_, async::join_all(loop_, std::move(tasks)));
    EXPECT_TRUE(all.ok()) << all.error().to_string();

    // It is Ready: the Service leads to both, the old one says so to its agents.
    balancer_->set({old_server.agent_endpoint(), new_server.agent_endpoint()});
    EXPECT_TRUE(wait_until([&] { return old_server.tunnel().core().server_count() == 2; }));
    old_server.tunnel().drain();
    EXPECT_FALSE(old_server.tunnel().ready());
    wait_for_agents(new_server, 1);
    EXPECT_TRUE(wait_until([&] { return old_server.tunnel().drained(); }));
    balancer_->set({new_server.agent_endpoint()});
    run_void(loop_, old_server.stop());
    back = echo(new_server, there.address(), "direct now");
    ASSERT_TRUE(back.ok()) << back.error().to_string();
    EXPECT_EQ(new_server.tunnel().core().counters().dials_relayed, 21u);
    EXPECT_TRUE(wait_until([&] { return new_server.tunnel().core().server_count() == 1; }));
    EXPECT_EQ(the_agent.links_count(), 1u);
}

// A connection that is kept and used all the time, as an API server's to a webhook, must not end
// with the old server in the middle of a request: it ends between two of them, and the next one
// goes through an agent.
TEST_F(PeersTest, RelaysEndBetweenRequests) {
    Target& there = target();
    TestServer& old_server = make("old");
    EXPECT_TRUE(wait_until([&] { return old_server.tunnel().ready(); }));
    balancer_->set({old_server.agent_endpoint()});
    make_agent();
    wait_for_agents(old_server, 1);
    ServerCoreOptions core;
    core.relay_patience = std::chrono::milliseconds(100);
    TestServer& new_server = make("new", core);
    EXPECT_TRUE(wait_until([&] { return new_server.tunnel().ready(); }));
    auto kept = dial(new_server, there.address());
    ASSERT_TRUE(kept.ok()) << kept.error().to_string();
    Result<std::string> answer = run(loop_, echo_over(*kept, "one"));
    ASSERT_TRUE(answer.ok()) << answer.error().to_string();
    EXPECT_EQ(new_server.tunnel().core().counters().dials_relayed, 1u);

    balancer_->set({old_server.agent_endpoint(), new_server.agent_endpoint()});
    wait_for_agents(new_server, 1);
    old_server.tunnel().drain();
    EXPECT_FALSE(old_server.tunnel().drained());
    Result<std::string> ended = run(loop_, (*kept)->read(100));
    ASSERT_TRUE(ended.ok()) << ended.error().to_string();
    EXPECT_EQ(*ended, "");
    EXPECT_EQ(new_server.tunnel().core().counters().relays_ended, 1u);
    EXPECT_TRUE(wait_until([&] { return old_server.tunnel().drained(); }));
    answer = echo(new_server, there.address(), "two");
    ASSERT_TRUE(answer.ok()) << answer.error().to_string();
    EXPECT_EQ(new_server.tunnel().core().counters().dials_relayed, 1u);
}

// Replicas that start together find an empty Service and are settled; they meet soon after.
TEST_F(PeersTest, ServersThatStartTogetherMeet) {
    TestServer& a = make("a");
    TestServer& b = make("b");
    EXPECT_TRUE(wait_until([&] { return a.tunnel().ready() && b.tunnel().ready(); }));
    EXPECT_EQ(a.tunnel().core().server_count(), 1u);
    balancer_->set({a.agent_endpoint(), b.agent_endpoint()});
    Agent& the_agent = make_agent();
    EXPECT_TRUE(wait_until([&] { return the_agent.links_count() == 2; }));
    EXPECT_EQ(a.tunnel().core().server_count(), 2u);
    EXPECT_EQ(b.tunnel().core().server_count(), 2u);
}

// What is for the other servers is for nobody else who reaches the agents' port, agents included:
// it would be a way to everything that agents reach.
class PeersOnlyTest : public PeersTest {
 protected:
    /// Opens `method`, says what a peer would say, and waits for the first answer.
    Result<std::string> ask(TestServer& s, std::string_view method, const std::string& certificate,
                            const std::string& token, std::string said) {
        net::HttpClientOptions options;
        options.tls = pki().client(certificate).value();
        net::Url url;
        url.scheme = "https";
        url.host = "127.0.0.1";
        url.port = s.agent_endpoint().port;
        std::shared_ptr<net::GrpcChannel> channel =
            net::make_grpc_channel(loop_, url, std::move(options));
        net::GrpcMetadata metadata;
        if (!token.empty())
            metadata.add(std::string(kAuthorizationHeader), std::string(kBearerPrefix) + token);
        return run(loop_, talk(channel, std::string(method), std::move(metadata), std::move(said)));
    }
    static Task<Result<std::string>> talk(std::shared_ptr<net::GrpcChannel> channel,
                                          std::string method, net::GrpcMetadata metadata,
                                          std::string said) {
        net::GrpcCallOptions options;
        options.metadata = std::move(metadata);
        Result<std::unique_ptr<net::GrpcStream>> stream =
            co_await channel->open(std::move(method), std::move(options));
        if (!stream.ok()) co_return std::move(stream).error();
        Result<void> written = co_await (*stream)->write(std::move(said));
        if (!written.ok()) co_return std::move(written).error();
        Result<std::optional<std::string>> answer = co_await (*stream)->read();
        if (!answer.ok()) co_return std::move(answer).error();
        if (!answer->has_value()) co_return unavailable("ended without an answer");
        co_return std::move(**answer);
    }
};

TEST_F(PeersOnlyTest, NobodyElseMeetsOrDials) {
    pki().issue("agent", "/CN=system:konnectivity-agent", "clientAuth");
    pki().issue("admin", "/O=system:masters/CN=kubernetes-admin", "clientAuth");
    // A name of several parts is not the name.
    pki().issue("longer", "/CN=system:konnectivity-server.example", "clientAuth");
    pki().issue("organization", "/O=system:konnectivity-server/CN=somebody", "clientAuth");
    Target& there = target();
    TestServer& s = make("one");
    EXPECT_TRUE(wait_until([&] { return s.tunnel().ready(); }));
    balancer_->set({s.agent_endpoint()});
    make_agent();
    wait_for_agents(s, 1);
    wire::PeerState other;
    other.set_server_id("other");
    const std::map<std::string_view, std::string> said = {
        {kProxyMethod, encode(dial_request(1, there.address()))},
        {kMeetMethod, other.SerializeAsString()}};
    for (const auto& [method, message] : said) {
        for (const char* certificate : {"", "agent", "admin", "longer", "organization"}) {
            for (const char* token : {"", "good"}) {
                Result<std::string> answer = ask(s, method, certificate, token, message);
                ASSERT_FALSE(answer.ok()) << method << " as \"" << certificate << "\"";
                EXPECT_EQ(answer.error().code(), Code::kUnimplemented)
                    << method << " as \"" << certificate << "\": " << answer.error().to_string();
            }
        }
    }
    EXPECT_EQ(there.accepted_count(), 0u);
    EXPECT_EQ(s.tunnel().core().counters().dials, 0u);
    EXPECT_EQ(s.tunnel().core().server_count(), 1u);
    // The very same from a peer: both are served.
    for (const auto& [method, message] : said) {
        Result<std::string> answer = ask(s, method, "peer", "", message);
        EXPECT_TRUE(answer.ok()) << method << ": " << answer.error().to_string();
    }
    EXPECT_EQ(there.accepted_count(), 1u);
}

// Without a rule for peers nobody is one, whatever the certificate says.
TEST_F(PeersOnlyTest, NoRuleNoPeers) {
    pki().issue("nameless", "/O=nobody", "clientAuth");
    net::GrpcServerOptions options;
    options.tls = pki().server("server", net::ClientCertificates::kOptional);
    TestServer& s = server({}, options);
    for (std::string_view method : {kProxyMethod, kMeetMethod}) {
        for (const char* certificate : {"", "nameless", "peer"}) {
            Result<std::string> answer = ask(s, method, certificate, "", "");
            ASSERT_FALSE(answer.ok()) << method << " as \"" << certificate << "\"";
            EXPECT_EQ(answer.error().code(), Code::kUnimplemented) << answer.error().to_string();
        }
    }
}

}  // namespace
}  // namespace basalt::tunnel
