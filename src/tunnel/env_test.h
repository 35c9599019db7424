// What the end-to-end tests share: running coroutines on a real loop, echo targets, servers and
// agents.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
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
#include "tunnel/client.h"
#include "tunnel/server.h"

namespace basalt::tunnel::testing_support {

using async::Task;

inline constexpr Duration kTestLimit = std::chrono::seconds(60);

template <class T>
Task<void> store(Task<T> task, std::optional<T>* out, async::RealLoop* loop) {
    T value = co_await task;
    out->emplace(std::move(value));
    loop->stop();
}

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

/// A TCP server whose connections echo, or send without end ("source"), or never read ("sink").
class Target {
 public:
    enum class Kind { kEcho, kSource, kSink };
    Target(async::Loop& loop, Kind kind) : loop_(loop), kind_(kind), group_(loop) {
        listener_ = net::listen(loop, net::Endpoint::tcp("127.0.0.1", 0)).value();
        group_.spawn(accept_loop());
    }
    std::string address() const { return listener_->endpoint().to_string(); }
    size_t open_count() const { return open_count_; }
    size_t accepted_count() const { return accepted_count_; }
    Task<void> stop() {
        listener_->close();
        group_.cancel();
        co_await group_.join();
    }

 private:
    Task<void> accept_loop() {
        for (;;) {
            auto stream = co_await listener_->accept();
            if (!stream.ok()) co_return;
            ++accepted_count_;
            group_.spawn(serve(std::move(*stream)));
        }
    }
    Task<void> serve(std::unique_ptr<net::Stream> stream) {
        ++open_count_;
        co_await talk(*stream);
        --open_count_;
    }
    Task<void> talk(net::Stream& stream) {
        if (kind_ == Kind::kSource) {
            for (uint32_t i = 0;; ++i) {
                std::string block(4096, static_cast<char>('a' + i % 26));
                Result<void> written = co_await stream.write(std::move(block));
                if (!written.ok()) co_return;
            }
        }
        if (kind_ == Kind::kSink) {
            Result<void> slept = co_await async::sleep_for(loop_, std::chrono::hours(1));
            (void)slept;
            co_return;
        }
        for (;;) {
            Result<std::string> data = co_await stream.read(65536);
            if (!data.ok() || data->empty()) co_return;
            Result<void> written = co_await stream.write(std::move(*data));
            if (!written.ok()) co_return;
        }
    }

    async::Loop& loop_;
    Kind kind_;
    async::TaskGroup group_;
    std::unique_ptr<net::Listener> listener_;
    size_t open_count_ = 0;
    size_t accepted_count_ = 0;
};

/// TCP in front of several servers, as a Service is: each new connection goes to the next of those
/// that are on.
class Balancer {
 public:
    explicit Balancer(async::Loop& loop) : loop_(loop), group_(loop) {
        listener_ = net::listen(loop, net::Endpoint::tcp("127.0.0.1", 0)).value();
        group_.spawn(accept_loop());
    }
    net::Endpoint endpoint() const { return listener_->endpoint(); }
    void set(std::vector<net::Endpoint> servers) { servers_ = std::move(servers); }
    Task<void> stop() {
        listener_->close();
        group_.cancel();
        co_await group_.join();
    }

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

    async::Loop& loop_;
    async::TaskGroup group_;
    std::unique_ptr<net::Listener> listener_;
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

/// Sends `text` and reads as many bytes back.
inline Task<Result<std::string>> echo_over(std::shared_ptr<net::Stream> stream, std::string text) {
    size_t size = text.size();
    Result<void> written = co_await stream->write(std::move(text));
    if (!written.ok()) co_return std::move(written).error();
    std::string back;
    while (back.size() < size) {
        Result<std::string> data = co_await stream->read(65536);
        if (!data.ok()) co_return std::move(data).error();
        if (data->empty()) co_return unavailable("the connection ended early");
        back += *data;
    }
    co_return back;
}

inline Task<Result<std::string>> dial_and_echo(async::Loop* loop,
                                               std::shared_ptr<net::GrpcChannel> channel,
                                               std::string address, std::string text) {
    auto stream = co_await dial_through(*loop, channel, address);
    if (!stream.ok()) co_return std::move(stream).error();
    auto result = co_await echo_over(std::move(*stream), std::move(text));
    co_return result;
}

/// Certificates made with the openssl program, in a folder that goes with this object.
class TestPki {
 public:
    TestPki() {
        char name[] = "/tmp/basalt-tunnel-pki-XXXXXX";
        folder_ = ::mkdtemp(name);
        sh("openssl ecparam -name prime256v1 -genkey -noout -out ca.key");
        sh("openssl req -x509 -new -key ca.key -days 2 -subj /CN=tenant-ca -out ca.crt");
    }
    ~TestPki() { std::filesystem::remove_all(folder_); }
    /// NAME.crt and NAME.key; `usage` is serverAuth or clientAuth.
    void issue(const std::string& name, const std::string& subject, const std::string& usage) {
        sh(fmt::format(
            "openssl ecparam -name prime256v1 -genkey -noout -out {0}.key && "
            "openssl req -new -key {0}.key -subj '{1}' -out {0}.csr && "
            "printf 'extendedKeyUsage={2}\\nsubjectAltName=IP:127.0.0.1,DNS:localhost' > {0}.ext "
            "&& "
            "openssl x509 -req -in {0}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 "
            "-extfile {0}.ext -out {0}.crt",
            name, subject, usage));
    }
    std::string path(const std::string& file) const { return folder_ + "/" + file; }
    std::string text(const std::string& file) const {
        std::string content;
        std::FILE* in = std::fopen(path(file).c_str(), "r");
        EXPECT_NE(in, nullptr) << file;
        if (in == nullptr) return content;
        char buffer[4096];
        for (size_t n = 0; (n = std::fread(buffer, 1, sizeof buffer, in)) > 0;)
            content.append(buffer, n);
        std::fclose(in);
        return content;
    }
    std::shared_ptr<const net::TlsContext> server(const std::string& name,
                                                  net::ClientCertificates mode) const {
        net::TlsConfig config;
        config.ca_pem = text("ca.crt");
        config.cert_pem = text(name + ".crt");
        config.key_pem = Secret(text(name + ".key"));
        config.alpn = {"h2"};
        config.client_certificates = mode;
        return net::make_tls_server(std::move(config)).value();
    }
    /// `name` empty: no certificate.
    Result<std::shared_ptr<const net::TlsContext>> client(const std::string& name) const {
        net::TlsConfig config;
        config.ca_pem = text("ca.crt");
        if (!name.empty()) {
            config.cert_pem = text(name + ".crt");
            config.key_pem = Secret(text(name + ".key"));
        }
        config.alpn = {"h2"};
        return net::make_tls_client(std::move(config));
    }

 private:
    void sh(const std::string& command) {
        std::string line = "cd " + folder_ + " && (" + command + ") >/dev/null 2>&1";
        EXPECT_EQ(std::system(line.c_str()), 0) << command;
    }
    std::string folder_;
};

/// A program that runs until this object goes.
class Child {
 public:
    Child(std::vector<std::string> arguments, const std::string& log) : log_(log) {
        std::vector<char*> argv;
        for (std::string& argument : arguments) argv.push_back(argument.data());
        argv.push_back(nullptr);
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_CREAT | O_WRONLY | O_APPEND,
                                         0600);
        posix_spawn_file_actions_adddup2(&actions, 1, 2);
        EXPECT_EQ(posix_spawn(&pid_, argv[0], &actions, nullptr, argv.data(), environ), 0);
        posix_spawn_file_actions_destroy(&actions);
    }
    Child(const Child&) = delete;
    ~Child() { kill_now(); }
    /// Sends a signal; wait() or the destructor collects the end.
    void signal(int number) { ::kill(pid_, number); }
    bool running() const {
        siginfo_t info{};
        return pid_ > 0 &&
               ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
               info.si_pid == 0;
    }
    std::string log() const {
        std::ifstream in(log_);
        return {std::istreambuf_iterator<char>(in), {}};
    }
    void kill_now() {
        if (pid_ <= 0) return;
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
        pid_ = 0;
        if (::testing::Test::HasFailure()) {
            fmt::print(stderr, "{}:\n{}\n", log_, log());
        }
    }

 private:
    pid_t pid_ = 0;
    std::string log_;
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
