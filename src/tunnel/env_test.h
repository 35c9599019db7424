// What the end-to-end tests share: running coroutines on a real loop, servers and agents.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "async/real_loop.h"
#include "async/task_group.h"
#include "async/wait.h"
#include "net/grpc.h"
#include "tunnel/agent.h"
#include "tunnel/server.h"
#include "tunnel/test_peers.h"

namespace basalt::tunnel::testing_support {

using async::Task;

inline constexpr Duration kTestLimit = std::chrono::seconds(60);

/// Runs a coroutine to its end; cancelled after the limit.
template <class T>
T run(async::RealLoop& loop, Task<T> task, Duration limit = kTestLimit) {
    std::optional<T> out;
    async::TaskGroup group(loop);
    auto timer = loop.call_at(loop.now() + limit, [&group] {
        ADD_FAILURE() << "the test took too long";
        group.cancel();
    });
    group.spawn(store(std::move(task), &out, &loop));
    while (!out) loop.run();
    loop.cancel_timer(timer);
    return std::move(*out);
}

inline Task<bool> void_task(Task<void> task) {
    co_await task;
    co_return true;
}
inline void run_void(async::RealLoop& loop, Task<void> task) {
    run(loop, void_task(std::move(task)));
}

/// Waits until `condition` holds; false after the limit.
inline Task<bool> eventually(async::Loop* loop, std::function<bool()> condition,
                             Duration limit = std::chrono::seconds(20)) {
    TimePoint deadline = loop->now() + limit;
    while (!condition()) {
        if (loop->now() >= deadline) co_return false;
        Result<void> slept = co_await async::sleep_for(*loop, std::chrono::milliseconds(5));
        if (!slept.ok()) co_return false;
    }
    co_return true;
}

/// TCP in front of several servers, as a Service is: each new connection goes to the next of those
/// that are on.
class Balancer : public Acceptor {
 public:
    explicit Balancer(async::Loop& loop) : Acceptor(loop) { group_.spawn(accept_loop()); }
    net::Endpoint endpoint() const { return listener_->endpoint(); }
    void set(std::vector<net::Endpoint> servers) { servers_ = std::move(servers); }

 private:
    Task<void> accept_loop() {
        for (size_t i = 0;; ++i) {
            auto stream = co_await listener_->accept();
            if (!stream.ok()) co_return;
            if (servers_.empty()) continue;
            group_.spawn(serve(std::move(*stream), servers_[i % servers_.size()]));
        }
    }
    Task<void> serve(std::unique_ptr<net::Stream> near, net::Endpoint server) {
        auto far = co_await net::connect(loop_, server);
        if (!far.ok()) co_return;
        async::TaskGroup group(loop_);
        group.spawn(copy(near.get(), far->get()));
        co_await copy(far->get(), near.get());
        group.cancel();
        co_await group.join();
    }
    static Task<void> copy(net::Stream* from, net::Stream* to) {
        for (;;) {
            Result<std::string> data = co_await from->read(65536);
            if (!data.ok() || data->empty()) break;
            Result<void> written = co_await to->write(std::move(*data));
            if (!written.ok()) break;
        }
        from->close();
        to->close();
    }

    std::vector<net::Endpoint> servers_;
};

class AllowAll final : public Authenticator {
 public:
    Task<Result<void>> authenticate(AgentCredentials) override { co_return Result<void>(); }
};

/// A tunnel server on a unix socket and a port of loopback.
class TestServer {
 public:
    TestServer(async::Loop& loop, TunnelServerConfig config,
               net::GrpcServerOptions agent_options = {}, uint16_t port = 0)
        : loop_(loop) {
        if (config.server_id.empty()) config.server_id = fmt::format("server-{}", ++servers_count_);
        if (!config.agents) config.agents = std::make_shared<AllowAll>();
        tunnel_ = std::make_unique<TunnelServer>(loop, config);
        socket_ = (std::filesystem::temp_directory_path() /
                   fmt::format("basalt-tunnel-{}-{}.sock", ::getpid(), ++servers_count_))
                      .string();
        frontends_ = net::start_grpc_server(
                         loop, net::listen(loop, net::Endpoint::local_socket(socket_)).value(),
                         tunnel_->frontend_service())
                         .value();
        agents_ = net::start_grpc_server(
                      loop, net::listen(loop, net::Endpoint::tcp("127.0.0.1", port)).value(),
                      tunnel_->agent_service(), agent_options)
                      .value();
        tunnel_->start();
    }
    TunnelServer& tunnel() { return *tunnel_; }
    const std::string& socket() const { return socket_; }
    net::Endpoint agent_endpoint() const { return agents_->endpoint(); }
    size_t agents_buffered_size() const { return agents_->buffered_size(); }
    std::shared_ptr<net::GrpcChannel> channel() const {
        net::Url url;
        url.scheme = "unix";
        url.path = socket_;
        return net::make_grpc_channel(loop_, url, {});
    }
    Task<void> stop() {
        co_await frontends_->stop(Duration(0));
        co_await agents_->stop(Duration(0));
        co_await tunnel_->stop();
    }

 private:
    static inline int servers_count_ = 0;
    async::Loop& loop_;
    std::string socket_;
    std::unique_ptr<TunnelServer> tunnel_;
    std::unique_ptr<net::GrpcServer> frontends_;
    std::unique_ptr<net::GrpcServer> agents_;
};

inline AgentConfig agent_config(net::Endpoint server, std::string id = "agent-1") {
    AgentConfig config;
    config.server = std::move(server);
    config.agent_id = std::move(id);
    config.sync_interval = std::chrono::milliseconds(50);
    config.sync_interval_cap = std::chrono::milliseconds(300);
    config.resync_interval = std::chrono::seconds(1);
    return config;
}

/// Whose log is printed when the test has failed.
class LoggedChild : public Child {
 public:
    using Child::Child;
    ~LoggedChild() {
        kill_now();
        if (::testing::Test::HasFailure()) fmt::print(stderr, "{}\n", log());
    }
};

class TunnelFixture : public ::testing::Test {
 protected:
    ~TunnelFixture() override {
        for (auto& agent : agents_) run_void(loop_, agent->stop());
        for (auto& server : servers_) run_void(loop_, server->stop());
        if (balancer_) run_void(loop_, balancer_->stop());
        for (auto& target : targets_) run_void(loop_, target->stop());
        agents_.clear();
        servers_.clear();
        // Connections that were dropped a moment ago end on the loop.
        loop_.keep_running(false);
        loop_.run();
        EXPECT_EQ(bug_count(), 0u);
    }
    /// Lives as long as the servers and agents that read its files.
    TestPki& pki() {
        if (!pki_) pki_ = std::make_unique<TestPki>();
        return *pki_;
    }
    uint16_t free_port() {
        auto listener = net::listen(loop_, net::Endpoint::tcp("127.0.0.1", 0)).value();
        return listener->endpoint().port;
    }
    Target& target(Target::Kind kind = Target::Kind::kEcho) {
        targets_.push_back(std::make_unique<Target>(loop_, kind));
        return *targets_.back();
    }
    TestServer& server(TunnelServerConfig config = {}, net::GrpcServerOptions options = {},
                       uint16_t port = 0) {
        servers_.push_back(
            std::make_unique<TestServer>(loop_, std::move(config), std::move(options), port));
        return *servers_.back();
    }
    Agent& agent(AgentConfig config) {
        agents_.push_back(std::make_unique<Agent>(loop_, std::move(config)));
        agents_.back()->start();
        return *agents_.back();
    }
    bool wait_until(std::function<bool()> condition) {
        return run(loop_, eventually(&loop_, std::move(condition)));
    }
    void wait_for_agents(TestServer& server, size_t count) {
        EXPECT_TRUE(wait_until([&] { return server.tunnel().core().agents_count() == count; }))
            << server.tunnel().core().agents_count();
    }
    Result<std::string> echo(TestServer& server, const std::string& address, std::string text) {
        return run(loop_, dial_and_echo(&loop_, server.channel(), address, std::move(text)));
    }
    Result<std::shared_ptr<net::Stream>> dial(TestServer& server, const std::string& address) {
        auto stream = run(loop_, dial_through(loop_, server.channel(), address));
        if (!stream.ok()) return std::move(stream).error();
        return std::shared_ptr<net::Stream>(std::move(*stream));
    }

    std::unique_ptr<TestPki> pki_;
    async::RealLoop loop_;
    std::vector<std::unique_ptr<Target>> targets_;
    std::vector<std::unique_ptr<TestServer>> servers_;
    std::vector<std::unique_ptr<Agent>> agents_;
    std::unique_ptr<Balancer> balancer_;
};

}  // namespace basalt::tunnel::testing_support
