#include "tests/integration/kube_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <thread>

#include <fmt/format.h>

namespace basalt::integration {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

Process::Process(std::vector<std::string> argv, const std::string& log_path) {
    std::vector<char*> pointers;
    for (std::string& text : argv) pointers.push_back(text.data());
    pointers.push_back(nullptr);
    const int parent = ::getpid();
    pid_ = ::fork();
    if (pid_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);
    const int log = ::open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    ::dup2(log, STDOUT_FILENO);
    ::dup2(log, STDERR_FILENO);
    ::execv(pointers[0], pointers.data());
    ::_exit(127);
}

Process::~Process() { stop(); }

void Process::stop() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
}

bool Process::is_running() { return pid_ > 0 && ::waitpid(pid_, nullptr, WNOHANG) == 0; }

uint16_t free_port() {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    ::bind(fd, reinterpret_cast<sockaddr*>(&address), size);
    ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
    ::close(fd);
    return ntohs(address.sin_port);
}

bool can_connect(uint16_t port) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    const bool ok = ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    ::close(fd);
    return ok;
}

namespace {

std::string cache_directory() {
    const char* given = std::getenv("BASALT_BIN_CACHE");
    return given != nullptr ? given : "/var/cache/basalt/bin";
}

/// The newest directory "etcd-v…".
std::string find_etcd() {
    std::string found;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(cache_directory(), error)) {
        const std::string name = entry.path().filename();
        if (name.starts_with("etcd-v") && fs::exists(entry.path() / "etcd") &&
            entry.path().string() > found) {
            found = entry.path();
        }
    }
    return found.empty() ? "" : found + "/etcd";
}

WallTime now() {
    return std::chrono::time_point_cast<std::chrono::milliseconds>(
        std::chrono::system_clock::now());
}

bool wait_for_port(uint16_t port, Process& process, Duration limit) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    while (std::chrono::steady_clock::now() < deadline && process.is_running()) {
        if (can_connect(port)) return true;
        std::this_thread::sleep_for(20ms);
    }
    return false;
}

std::map<std::string, std::unique_ptr<KubeServer>>& servers() {
    static std::map<std::string, std::unique_ptr<KubeServer>> all;
    return all;
}

class StopServers : public ::testing::Environment {
 public:
    void TearDown() override { servers().clear(); }
};
const ::testing::Environment* const kStopServers =
    ::testing::AddGlobalTestEnvironment(new StopServers);

}  // namespace

KubeServer* KubeServer::get(const std::string& version, std::string* missing) {
    std::unique_ptr<KubeServer>& server = servers()[version];
    if (server) return server.get();
    const std::string program = cache_directory() + "/kubernetes-v" + version + "/kube-apiserver";
    if (!fs::exists(program)) *missing = program;
    if (find_etcd().empty()) *missing = cache_directory() + "/etcd-v*/etcd";
    if (!missing->empty()) return nullptr;
    server.reset(new KubeServer(version));
    Result<void> started = server->start();
    if (!started.ok()) {
        ADD_FAILURE() << "kube-apiserver " << version << ": " << started.error().to_string();
        server.reset();
    }
    return server.get();
}

KubeServer::~KubeServer() {
    api_server_.reset();
    etcd_.reset();
    std::error_code ignored;
    if (!directory_.empty()) fs::remove_all(directory_, ignored);
}

std::string KubeServer::write(const std::string& name, std::string_view text) const {
    const std::string path = directory_ + "/" + name;
    std::ofstream(path) << text;
    return path;
}

Result<void> KubeServer::start() {
    char name[] = "/tmp/basalt-integration-XXXXXX";
    if (::mkdtemp(name) == nullptr) return errno_error(errno, "mkdtemp");
    directory_ = name;
    keys_ = std::make_unique<pki::SystemKeySource>();
    ca_ = pki::CertificateAuthority::create(*keys_, "test-ca", now());
    write("ca.crt", ca_->certificate().to_pem());
    pki::CertificateSpec spec;
    spec.common_name = "kube-apiserver";
    spec.ip_addresses = {"127.0.0.1", "10.96.0.1"};
    spec.dns_names = {"localhost", "kubernetes"};
    spec.server = true;
    BASALT_ASSIGN(const pki::KeyPair serving, ca_->issue(spec, *keys_, now()));
    write("server.crt", serving.certificate_pem());
    write("server.key", serving.key_pem().reveal());
    const pki::PrivateKey accounts = keys_->new_key();
    write("sa.key", accounts.to_pem().reveal());
    write("sa.pub", accounts.public_pem());

    etcd_port_ = free_port();
    const uint16_t peer_port = free_port();
    const std::string url = fmt::format("http://127.0.0.1:{}", etcd_port_);
    const std::string peer = fmt::format("http://127.0.0.1:{}", peer_port);
    etcd_ = std::make_unique<Process>(
        std::vector<std::string>{find_etcd(), "--name=e", "--data-dir=" + directory_ + "/etcd",
                                 "--unsafe-no-fsync", "--listen-client-urls=" + url,
                                 "--advertise-client-urls=" + url, "--listen-peer-urls=" + peer,
                                 "--initial-advertise-peer-urls=" + peer,
                                 "--initial-cluster=e=" + peer},
        directory_ + "/etcd.log");
    if (!wait_for_port(etcd_port_, *etcd_, 30s))
        return unavailable("etcd does not start, see " + directory_);
    port_ = free_port();
    return start_api_server();
}

Result<void> KubeServer::start_api_server() {
    const std::string& dir = directory_;
    api_server_ = std::make_unique<Process>(
        std::vector<std::string>{
            cache_directory() + "/kubernetes-v" + version_ + "/kube-apiserver",
            fmt::format("--etcd-servers=http://127.0.0.1:{}", etcd_port_),
            fmt::format("--secure-port={}", port_), "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none",
            "--service-cluster-ip-range=10.96.0.0/16", "--tls-cert-file=" + dir + "/server.crt",
            "--tls-private-key-file=" + dir + "/server.key", "--client-ca-file=" + dir + "/ca.crt",
            "--authorization-mode=RBAC", "--service-account-issuer=https://kubernetes.default.svc",
            "--service-account-key-file=" + dir + "/sa.pub",
            "--service-account-signing-key-file=" + dir + "/sa.key",
            "--disable-admission-plugins=ServiceAccount", "--goaway-chance=0.01"},
        dir + "/kube-apiserver.log");
    if (!wait_for_port(port_, *api_server_, 60s))
        return unavailable("kube-apiserver does not start, see " + dir);
    return {};
}

std::string KubeServer::program(const std::string& name) const {
    return cache_directory() + "/kubernetes-v" + version_ + "/" + name;
}

void KubeServer::stop_api_server() { api_server_.reset(); }

kube::Access KubeServer::access(const std::string& user, const std::string& group) const {
    pki::CertificateSpec spec;
    spec.common_name = user;
    if (!group.empty()) spec.organizations = {group};
    spec.client = true;
    const Result<pki::KeyPair> pair = ca_->issue(spec, *keys_, now());
    kube::Access access;
    access.server = fmt::format("https://127.0.0.1:{}", port_);
    access.ca.file = directory_ + "/ca.crt";
    access.client_certificate.inline_data = Secret(pair->certificate_pem());
    access.client_key.inline_data = pair->key_pem();
    return access;
}

void KubeTest::SetUp() {
    std::string missing;
    server = KubeServer::get(GetParam(), &missing);
    if (server == nullptr && !missing.empty()) {
        std::cerr << "\n*** SKIPPED: no " << missing
                  << ": nothing is tested against a real kube-apiserver ***\n\n";
        GTEST_SKIP() << "no " << missing;
    }
    ASSERT_NE(server, nullptr);
    loop = std::make_unique<async::RealLoop>();
    group = std::make_unique<async::TaskGroup>(*loop);
    client = make_client(server->access());
    const auto is_ready = [&] { return run(client->request_text("GET", "/readyz")).ok(); };
    ASSERT_TRUE(wait_until(is_ready, 60s));
}

void KubeTest::TearDown() {
    if (!loop) return;
    group->cancel();
    EXPECT_TRUE(wait_until([&] { return group->size() == 0; }, 30s)) << "tasks do not end";
    client.reset();
    loop->keep_running(false);
    loop->run();
    group.reset();
    loop.reset();
}

bool KubeTest::wait_until(const std::function<bool()>& done, Duration limit) {
    const TimePoint deadline = loop->now() + limit;
    while (!done()) {
        if (loop->now() >= deadline) return false;
        loop->call_at(loop->now() + 3ms, [this] { loop->stop(); });
        loop->run();
    }
    return true;
}

std::unique_ptr<kube::Client> KubeTest::make_client(const kube::Access& access) {
    Result<std::shared_ptr<net::HttpTransport>> transport = kube::make_transport(*loop, access);
    if (!transport.ok()) {
        ADD_FAILURE() << transport.error().to_string();
        return nullptr;
    }
    kube::Client::Options options;
    options.qps = 0;
    return std::make_unique<kube::Client>(*loop, *transport, options);
}

std::string KubeTest::make_namespace() {
    const std::string name = fmt::format("t-{:016x}", loop->random());
    Result<kube::Value> created = run(
        client->create(kube::resources::namespaces(),
                       kube::make_object(kube::resources::namespaces(), kube::ObjectKey(name))));
    EXPECT_TRUE(created.ok()) << created.error().to_string();
    return name;
}

std::string version_name(const ::testing::TestParamInfo<const char*>& info) {
    std::string name = info.param;
    for (char& c : name) {
        if (c == '.') c = '_';
    }
    return "v" + name;
}

}  // namespace basalt::integration
