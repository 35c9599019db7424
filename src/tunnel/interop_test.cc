// Against upstream's own programs, in both roles: proxy-agent with our server, proxy-server with
// our agent. They are built by `distribution/build`; without them the tests are skipped, loudly.

#include "tunnel/env_test.h"

namespace basalt::tunnel {
namespace {

using namespace testing_support;  // NOLINT: a test

class InteropTest : public TunnelFixture {
 protected:
    void SetUp() override {
        folder_ = upstream_folder();
        if (folder_.empty()) {
            GTEST_SKIP()
                << "NOT TESTED with upstream's konnectivity: no proxy-server and proxy-agent below "
                   "/var/cache/basalt/bin";
        }
        pki().issue("server", "/CN=kube-apiserver", "serverAuth");
        pki_->issue("agent", "/CN=system:konnectivity-agent", "clientAuth");
        std::ofstream(pki_->path("token")) << "good";
    }
    std::unique_ptr<LoggedChild> upstream_agent(const TestServer& s, bool with_certificate) {
        std::vector<std::string> arguments{
            folder_ + "/proxy-agent",
            "--ca-cert=" + pki_->path("ca.crt"),
            "--proxy-server-host=127.0.0.1",
            fmt::format("--proxy-server-port={}", s.agent_endpoint().port),
            "--agent-id=upstream-agent",
            "--agent-identifiers=host=node-1&ipv4=127.0.0.1",
            "--health-server-host=127.0.0.1",
            fmt::format("--health-server-port={}", free_port()),
            fmt::format("--admin-server-port={}", free_port()),
            "--sync-interval=200ms",
            "--sync-forever=true"};
        if (with_certificate) {
            arguments.push_back("--agent-cert=" + pki_->path("agent.crt"));
            arguments.push_back("--agent-key=" + pki_->path("agent.key"));
        } else {
            arguments.push_back("--service-account-token-path=" + pki_->path("token"));
        }
        return std::make_unique<LoggedChild>(arguments, pki_->path("agent.log"));
    }
    std::unique_ptr<LoggedChild> upstream_server(const std::string& socket, uint16_t agent_port,
                                                 std::string id) {
        return std::make_unique<LoggedChild>(
            std::vector<std::string>{
                folder_ + "/proxy-server", "--mode=grpc", "--server-port=0", "--uds-name=" + socket,
                "--delete-existing-uds-file=true", fmt::format("--agent-port={}", agent_port),
                "--agent-bind-address=127.0.0.1", "--cluster-cert=" + pki_->path("server.crt"),
                "--cluster-key=" + pki_->path("server.key"),
                "--cluster-ca-cert=" + pki_->path("ca.crt"), "--health-bind-address=127.0.0.1",
                fmt::format("--health-port={}", free_port()),
                fmt::format("--admin-port={}", free_port()), "--server-count=1",
                "--server-id=" + std::move(id)},
            pki_->path("server.log"));
    }
    std::shared_ptr<net::GrpcChannel> channel_to(const std::string& socket) {
        net::Url url;
        url.scheme = "unix";
        url.path = socket;
        // One connection a tunnel, as kube-apiserver does it.
        return net::make_grpc_channel(loop_, url, {});
    }
    void echo_many(const std::function<std::shared_ptr<net::GrpcChannel>()>& channel,
                   const std::string& address) {
        std::vector<Task<Result<void>>> tasks;
        for (int i = 0; i < 50; ++i) tasks.push_back(one(channel(), address, i));
        Result<void> all = run(loop_, async::join_all(loop_, std::move(tasks)));
        EXPECT_TRUE(all.ok()) << all.error().to_string();
    }
    Task<Result<void>> one(std::shared_ptr<net::GrpcChannel> channel, std::string address,
                           int number) {
        std::string text;
        for (int i = 0; i < 3000; ++i) text += fmt::format("{}:{} ", number, i);
        auto back = co_await dial_and_echo(&loop_, channel, address, text);
        if (!back.ok()) co_return std::move(back).error();
        if (*back != text) co_return internal_error("bytes of another stream");
        co_return Result<void>();
    }

    std::string folder_;
};

class TokenIsGood final : public Authenticator {
 public:
    Task<Result<void>> authenticate(AgentCredentials credentials) override {
        if (credentials.token == Secret("good")) co_return Result<void>();
        co_return Error(Code::kUnauthenticated, "bad token");
    }
};

TEST_F(InteropTest, UpstreamAgentWithToken) {
    Target& there = target();
    TunnelServerConfig config;
    config.agents = std::make_shared<TokenIsGood>();
    config.core.strategies = {Strategy::kDestHost};
    net::GrpcServerOptions options;
    options.tls = pki_->server("server", net::ClientCertificates::kOptional);
    TestServer& s = server(std::move(config), options);
    auto child = upstream_agent(s, false);
    wait_for_agents(s, 1);
    echo_many([&s] { return s.channel(); }, there.address());
    EXPECT_TRUE(wait_until(
        [&] { return there.open_count() == 0 && s.tunnel().core().connections_count() == 0; }));
    // Refused by the target.
    EXPECT_FALSE(dial(s, fmt::format("127.0.0.1:{}", free_port())).ok());
    // The agent is killed: its connections end, a new one takes over.
    auto stream = dial(s, there.address());
    ASSERT_TRUE(stream.ok());
    child->kill_now();
    Result<std::string> end = run(loop_, (*stream)->read(100));
    EXPECT_TRUE(!end.ok() || end->empty());
    child = upstream_agent(s, false);
    wait_for_agents(s, 1);
    Result<std::string> back = echo(s, there.address(), "again");
    ASSERT_TRUE(back.ok()) << back.error().to_string();
}

TEST_F(InteropTest, UpstreamAgentWithCertificateAndSlowReader) {
    Target& source = target(Target::Kind::kSource);
    Target& there = target();
    TunnelServerConfig config;
    config.agents = make_certificate_authenticator({"system:konnectivity-agent", {}});
    config.core.link.stall_interval = std::chrono::milliseconds(500);
    net::GrpcServerOptions options;
    options.tls = pki_->server("server", net::ClientCertificates::kRequired);
    TestServer& s = server(std::move(config), options);
    auto child = upstream_agent(s, true);
    wait_for_agents(s, 1);
    // Upstream's agent has no flow control: the stalled connection is closed, the others go on.
    auto stalled = dial(s, source.address());
    ASSERT_TRUE(stalled.ok());
    EXPECT_TRUE(wait_until([&] { return s.tunnel().core().counters().stalled_closed == 1; }));
    for (int i = 0; i < 10; ++i) {
        Result<std::string> back = echo(s, there.address(), std::string(50'000, 'z'));
        ASSERT_TRUE(back.ok()) << back.error().to_string();
    }
}

TEST_F(InteropTest, UpstreamServer) {
    Target& there = target();
    std::string socket = pki_->path("server.sock");
    uint16_t port = free_port();
    auto child = upstream_server(socket, port, "one");
    AgentConfig config = agent_config(net::Endpoint::tcp("127.0.0.1", port));
    config.tls = [this] { return pki_->client("agent"); };
    Agent& ours = agent(std::move(config));
    ASSERT_TRUE(wait_until([&] { return ours.links_count() == 1; }));
    echo_many([&] { return channel_to(socket); }, there.address());
    EXPECT_TRUE(
        wait_until([&] { return there.open_count() == 0 && ours.connections_count() == 0; }));
    auto refused = run(
        loop_, dial_through(loop_, channel_to(socket), fmt::format("127.0.0.1:{}", free_port())));
    EXPECT_FALSE(refused.ok());
    // The server is killed and comes back under another name.
    auto stream = run(loop_, dial_through(loop_, channel_to(socket), there.address()));
    ASSERT_TRUE(stream.ok()) << stream.error().to_string();
    child->kill_now();
    EXPECT_TRUE(wait_until([&] { return ours.links_count() == 0 && there.open_count() == 0; }));
    child = upstream_server(socket, port, "two");
    ASSERT_TRUE(wait_until([&] { return ours.links_count() == 1; }));
    auto back = run(loop_, dial_and_echo(&loop_, channel_to(socket), there.address(), "again"));
    ASSERT_TRUE(back.ok()) << back.error().to_string();
    ours.drain();
    back = run(loop_, dial_and_echo(&loop_, channel_to(socket), there.address(),
                                    "the only one, draining"));
    EXPECT_TRUE(back.ok()) << back.error().to_string();
}

}  // namespace
}  // namespace basalt::tunnel
