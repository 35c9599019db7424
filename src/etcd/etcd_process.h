// A real etcd with TLS and client certificates for tests, and what is needed to talk to it.
#pragma once

#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "async/real_loop.h"
#include "async/task_group.h"
#include "async/wait.h"
#include "etcd/client.h"
#include "etcd/version.h"

extern char** environ;

namespace basalt::etcd {

/// The etcd programs on this machine, newest first; BASALT_ETCD names another.
inline std::vector<std::string> etcd_programs() {
    namespace fs = std::filesystem;
    if (const char* path = std::getenv("BASALT_ETCD")) return {path};
    std::vector<std::string> found;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator("/var/cache/basalt/bin", error)) {
        fs::path program = entry.path() / "etcd";
        if (entry.path().filename().string().starts_with("etcd-") && fs::exists(program)) {
            found.push_back(program.string());
        }
    }
    std::sort(found.rbegin(), found.rend());
    return found;
}

template <class T>
async::Task<void> keep_and_stop(async::RealLoop& loop, async::Task<Result<T>> task,
                                std::optional<Result<T>>* slot) {
    Result<T> result = co_await task;
    slot->emplace(std::move(result));
    loop.stop();
}

/// Runs one task to its end on a real loop.
template <class T>
Result<T> run_task(async::RealLoop& loop, async::Task<Result<T>> task) {
    std::optional<Result<T>> slot;
    async::TaskGroup group(loop);
    group.spawn(keep_and_stop(
        loop, async::with_timeout(loop, std::chrono::seconds(120), std::move(task)), &slot));
    while (!slot || group.size() > 0) loop.run();
    return std::move(*slot);
}

class EtcdProcess {
 public:
    /// Starts it and waits until it answers. `name_of_user` certificates are made on demand.
    explicit EtcdProcess(const std::string& program, std::vector<std::string> more_flags = {}) {
        std::string name = (std::filesystem::temp_directory_path() / "basalt-etcd-XXXXXX").string();
        dir_ = ::mkdtemp(name.data());
        make_authority("ca");
        make_certificate("server", "server", "subjectAltName=IP:127.0.0.1,DNS:localhost");
        client_port_ = free_port();
        peer_port_ = free_port();
        start(program, std::move(more_flags));
    }
    ~EtcdProcess() {
        stop(SIGKILL);
        std::filesystem::remove_all(dir_);
    }
    EtcdProcess(const EtcdProcess&) = delete;
    EtcdProcess& operator=(const EtcdProcess&) = delete;

    std::string endpoint() const { return "127.0.0.1:" + std::to_string(client_port_); }
    std::string file(const std::string& name) const { return (dir_ / name).string(); }
    std::string read(const std::string& name) const {
        std::ifstream in(dir_ / name, std::ios::binary);
        return std::string(std::istreambuf_iterator<char>(in), {});
    }

    /// TLS as `user`; an empty user gives a certificate without a common name.
    net::TlsConfig tls_config(const std::string& user, const std::string& authority = "ca") {
        const std::string stem = authority + "-user-" + user;
        if (!std::filesystem::exists(file(stem + ".pem"))) {
            if (!std::filesystem::exists(file(authority + ".pem"))) make_authority(authority);
            make_certificate(stem, user, "extendedKeyUsage=clientAuth", authority);
        }
        net::TlsConfig config;
        config.ca_pem = read("ca.pem");
        config.cert_pem = read(stem + ".pem");
        config.key_pem = Secret(read(stem + ".key"));
        return config;
    }

    std::shared_ptr<net::GrpcChannel> channel(async::Loop& loop, const std::string& user,
                                              const std::string& authority = "ca") {
        net::HttpClientOptions options;
        Result<std::shared_ptr<const net::TlsContext>> tls =
            net::make_tls_client(tls_config(user, authority));
        EXPECT_TRUE(tls.ok()) << tls.error().to_string();
        options.tls = *tls;
        options.version = net::HttpVersion::kHttp2;
        Result<net::Url> url = net::parse_url("https://" + endpoint());
        EXPECT_TRUE(url.ok());
        return net::make_grpc_channel(loop, *url, std::move(options));
    }

    std::unique_ptr<Client> client(async::Loop& loop, const std::string& user,
                                   std::vector<std::string> endpoints = {}) {
        ClientOptions options;
        options.endpoints =
            endpoints.empty() ? std::vector<std::string>{endpoint()} : std::move(endpoints);
        Result<std::shared_ptr<const net::TlsContext>> tls = net::make_tls_client(tls_config(user));
        EXPECT_TRUE(tls.ok()) << tls.error().to_string();
        options.tls = *tls;
        Result<std::unique_ptr<Client>> made = make_client(loop, std::move(options));
        EXPECT_TRUE(made.ok()) << made.error().to_string();
        return std::move(*made);
    }

    void stop(int signal_number) {
        if (pid_ <= 0) return;
        ::kill(pid_, signal_number);
        ::waitpid(pid_, nullptr, 0);
        pid_ = 0;
    }
    void restart(const std::string& program, std::vector<std::string> more_flags = {}) {
        stop(SIGTERM);
        start(program, std::move(more_flags));
    }
    void pause() { ::kill(pid_, SIGSTOP); }
    void go_on() { ::kill(pid_, SIGCONT); }

    /// A TCP port that was free a moment ago.
    static uint16_t free_port() {
        const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        ::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address);
        socklen_t size = sizeof address;
        ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
        ::close(fd);
        return ntohs(address.sin_port);
    }

 private:
    void shell(const std::string& command) {
        const std::string line = "cd " + dir_.string() + " && " + command + " >>openssl.log 2>&1";
        EXPECT_EQ(std::system(line.c_str()), 0) << command << "\n" << read("openssl.log");
    }
    void make_authority(const std::string& name) {
        shell(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "
            "/CN=" +
            name + " -keyout " + name + ".key -out " + name + ".pem");
    }
    void make_certificate(const std::string& stem, const std::string& common_name,
                          const std::string& extension, const std::string& authority = "ca") {
        const std::string subject = common_name.empty() ? "/O=nobody" : "/CN=" + common_name;
        std::ofstream(file(stem + ".cnf")) << extension << "\n";
        shell("openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj " +
              subject + " -keyout " + stem + ".key -out " + stem + ".csr");
        shell("openssl x509 -req -in " + stem + ".csr -CA " + authority + ".pem -CAkey " +
              authority + ".key -CAcreateserial -days 30 -extfile " + stem + ".cnf -out " + stem +
              ".pem");
    }

    void start(const std::string& program, std::vector<std::string> more_flags) {
        const std::string client_url = "https://" + endpoint();
        const std::string peer_url = "http://127.0.0.1:" + std::to_string(peer_port_);
        std::vector<std::string> args = {program,
                                         "--name=one",
                                         "--data-dir=" + file("data"),
                                         "--unsafe-no-fsync",
                                         "--listen-client-urls=" + client_url,
                                         "--advertise-client-urls=" + client_url,
                                         "--listen-peer-urls=" + peer_url,
                                         "--initial-advertise-peer-urls=" + peer_url,
                                         "--initial-cluster=one=" + peer_url,
                                         "--client-cert-auth",
                                         "--trusted-ca-file=" + file("ca.pem"),
                                         "--cert-file=" + file("server.pem"),
                                         "--key-file=" + file("server.key"),
                                         "--log-level=warn",
                                         "--log-outputs=" + file("etcd.log")};
        args.insert(args.end(), more_flags.begin(), more_flags.end());
        std::vector<char*> argv;
        for (std::string& arg : args) argv.push_back(arg.data());
        argv.push_back(nullptr);
        ASSERT_EQ(::posix_spawn(&pid_, program.c_str(), nullptr, nullptr, argv.data(), environ), 0);
        wait_until_it_answers();
    }

    void wait_until_it_answers() {
        async::RealLoop loop;
        std::unique_ptr<Client> probe = client(loop, "root");
        const TimePoint limit = loop.now() + std::chrono::seconds(60);
        Result<MemberStatus> status = unavailable("not asked yet");
        while (!status.ok() && loop.now() < limit) {
            status = run_task(loop, probe->status(0));
            if (status.ok() && status->leader_id != 0) break;
            (void)run_task(loop, async::sleep_for(loop, std::chrono::milliseconds(50)));
        }
        probe.reset();
        loop.keep_running(false);
        loop.run();
        ASSERT_LT(loop.now(), limit) << status.error().to_string() << "\n" << read("etcd.log");
    }

    std::filesystem::path dir_;
    uint16_t client_port_ = 0;
    uint16_t peer_port_ = 0;
    pid_t pid_ = 0;
};

}  // namespace basalt::etcd
