// What tests and benchmarks of the tunnel put around it: targets to dial, certificates, programs.
#pragma once

#include <fcntl.h>
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
#include "base/assert.h"
#include "net/stream.h"
#include "net/tls.h"
#include "tunnel/client.h"

namespace basalt::tunnel::testing_support {

using async::Task;

/// Ends the loop with the task.
template <class T>
Task<void> store(Task<T> task, std::optional<T>* out, async::RealLoop* loop) {
    T value = co_await task;
    out->emplace(std::move(value));
    loop->stop();
}

/// Where `distribution/build` has put upstream's proxy-server and proxy-agent; "" when it has not.
inline std::string upstream_folder() {
    if (const char* folder = std::getenv("BASALT_KONNECTIVITY_DIR")) return folder;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator("/var/cache/basalt/bin", error)) {
        if (entry.path().filename().string().starts_with("konnectivity-") &&
            std::filesystem::exists(entry.path() / "proxy-agent"))
            return entry.path().string();
    }
    return {};
}

/// Accepts on a port of loopback until stop(), which is to be awaited before its end. One loop.
class Acceptor {
 public:
    Task<void> stop() {
        listener_->close();
        group_.cancel();
        co_await group_.join();
    }

 protected:
    explicit Acceptor(async::Loop& loop)
        : loop_(loop),
          group_(loop),
          listener_(net::listen(loop, net::Endpoint::tcp("127.0.0.1", 0)).value()) {}
    async::Loop& loop_;
    async::TaskGroup group_;
    std::unique_ptr<net::Listener> listener_;
};

/// A TCP server whose connections echo, or send without end ("source"), or never read ("sink").
class Target : public Acceptor {
 public:
    enum class Kind { kEcho, kSource, kSink };
    Target(async::Loop& loop, Kind kind) : Acceptor(loop), kind_(kind) {
        group_.spawn(accept_loop());
    }
    std::string address() const { return listener_->endpoint().to_string(); }
    size_t open_count() const { return open_count_; }
    size_t accepted_count() const { return accepted_count_; }

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

    Kind kind_;
    size_t open_count_ = 0;
    size_t accepted_count_ = 0;
};

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
        std::ifstream in(path(file));
        BASALT_ASSERT(in.good());
        return {std::istreambuf_iterator<char>(in), {}};
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
        BASALT_ASSERT(std::system(line.c_str()) == 0);
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
        BASALT_ASSERT(posix_spawn(&pid_, argv[0], &actions, nullptr, argv.data(), environ) == 0);
        posix_spawn_file_actions_destroy(&actions);
    }
    Child(const Child&) = delete;
    ~Child() { kill_now(); }
    pid_t pid() const { return pid_; }
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
    }

 private:
    pid_t pid_ = 0;
    std::string log_;
};

}  // namespace basalt::tunnel::testing_support
