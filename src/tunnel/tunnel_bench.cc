// What the tunnel costs: a load through a server and an agent that are programs of their own, on
// loopback. A client in this process stands for the API server (one gRPC connection for each
// tunnelled one, on a unix socket, as kube-apiserver has it), targets in this process for kubelets.
//
//   tunnel_bench [--numbers] [FOLDER]
//
// FOLDER has upstream's proxy-server and proxy-agent; without it, the basalt-tunnel of this build
// is measured. "--numbers" prints one line for a program (tests/bench/tunnel_bench): the figures in
// the order of Figures.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>

#include "async/real_loop.h"
#include "net/grpc.h"
#include "tunnel/test_peers.h"

namespace {

using namespace basalt;
using namespace basalt::tunnel;
using namespace basalt::tunnel::testing_support;
using namespace std::chrono_literals;

constexpr int kDialsCount = 400;
constexpr int kDialsAtOnce = 32;
constexpr int kDialsEach = 25;  ///< Of those at once.
constexpr size_t kBulkSize = size_t{192} << 20;
constexpr int kOpenCount = 200;
constexpr int kStalledCount = 300;

template <class T>
T run(async::RealLoop& loop, Task<T> task) {
    std::optional<T> out;
    async::TaskGroup group(loop);
    group.spawn(store(std::move(task), &out, &loop));
    while (!out) loop.run();
    return std::move(*out);
}

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

/// User and system time of a process, in seconds.
double processor_seconds(pid_t pid) {
    std::ifstream file(fmt::format("/proc/{}/stat", pid));
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    std::istringstream fields(text.substr(text.rfind(')') + 2));
    std::string word;
    double ticks = 0;
    for (int i = 3; i <= 15 && fields >> word; ++i) {
        if (i >= 14) ticks += std::stod(word);
    }
    return ticks / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

/// Anonymous resident memory of a process, in MB.
double resident_mb(pid_t pid) {
    std::ifstream file(fmt::format("/proc/{}/status", pid));
    for (std::string word; file >> word;) {
        double kilobytes = 0;
        if (word == "RssAnon:" && file >> kilobytes) return kilobytes / 1024;
    }
    return 0;
}

/// A server, an agent, and the way in.
struct Pair {
    std::string socket;
    std::unique_ptr<Child> server, agent;

    double processor_seconds() const {
        return ::processor_seconds(server->pid()) + ::processor_seconds(agent->pid());
    }
};

/// Processor time is that of server and agent together.
struct Figures {
    double dial_p50_ms = 0, dial_p99_ms = 0;  ///< To a target, and a byte there and back.
    double dial_cpu_ms = 0;
    double dials_per_second = 0;  ///< kDialsAtOnce at a time.
    double bulk_mb_per_second = 0;
    double bulk_cpu_per_gb = 0;  ///< In seconds.
    double server_idle_mb = 0, agent_idle_mb = 0;
    double server_open_mb = 0, agent_open_mb = 0;  ///< With kOpenCount idle connections.
    double stalled_count = 0;  ///< Of kStalledCount, those that could still be dialled.
    double server_stalled_mb = 0, agent_stalled_mb = 0;  ///< With those, at most.

    static constexpr double Figures::* kAll[] = {
        &Figures::dial_p50_ms,      &Figures::dial_p99_ms,        &Figures::dial_cpu_ms,
        &Figures::dials_per_second, &Figures::bulk_mb_per_second, &Figures::bulk_cpu_per_gb,
        &Figures::server_idle_mb,   &Figures::agent_idle_mb,      &Figures::server_open_mb,
        &Figures::agent_open_mb,    &Figures::stalled_count,      &Figures::server_stalled_mb,
        &Figures::agent_stalled_mb,
    };
};

class Bench {
 public:
    /// `upstream` is the folder of upstream's programs; "" measures ours.
    explicit Bench(std::string upstream) : upstream_(std::move(upstream)) {
        pki_.issue("server", "/CN=kube-apiserver", "serverAuth");
        pki_.issue("agent", "/CN=system:konnectivity-agent", "clientAuth");
    }

    Figures measure() {
        Pair pair = start();
        Target echo(loop_, Target::Kind::kEcho);
        Target source(loop_, Target::Kind::kSource);
        run(loop_, ready(&pair, echo.address()));
        Figures figures;
        figures.server_idle_mb = resident_mb(pair.server->pid());
        figures.agent_idle_mb = resident_mb(pair.agent->pid());
        measure_dials(pair, echo.address(), figures);
        measure_bulk(pair, source.address(), figures);
        measure_open(pair, echo.address(), figures);
        measure_stalled(pair, source.address(), figures);
        run(loop_, stop(&echo));
        run(loop_, stop(&source));
        return figures;
    }

 private:
    std::string free_port() {
        const auto listener = net::listen(loop_, net::Endpoint::tcp("127.0.0.1", 0)).value();
        return std::to_string(listener->endpoint().port);
    }

    std::vector<std::string> server_flags(const std::string& socket, const std::string& port) {
        return {"--mode=grpc",
                "--server-port=0",
                "--uds-name=" + socket,
                "--agent-port=" + port,
                "--agent-bind-address=127.0.0.1",
                "--cluster-cert=" + pki_.path("server.crt"),
                "--cluster-key=" + pki_.path("server.key"),
                "--cluster-ca-cert=" + pki_.path("ca.crt"),
                "--health-bind-address=127.0.0.1",
                "--health-port=" + free_port(),
                "--admin-port=" + free_port()};
    }

    std::vector<std::string> agent_flags(const std::string& port) {
        return {"--ca-cert=" + pki_.path("ca.crt"),
                "--agent-cert=" + pki_.path("agent.crt"),
                "--agent-key=" + pki_.path("agent.key"),
                "--proxy-server-host=127.0.0.1",
                "--proxy-server-port=" + port,
                "--agent-id=one",
                "--agent-identifiers=host=node-1&ipv4=127.0.0.1",
                "--sync-forever=true",
                "--health-server-host=127.0.0.1",
                "--health-server-port=" + free_port(),
                "--admin-server-port=" + free_port()};
    }

    Pair start() {
        std::vector<std::string> server, agent;
        if (upstream_.empty()) {
            const auto here = std::filesystem::read_symlink("/proc/self/exe").parent_path();
            const std::string program = here.parent_path() / "bin/basalt-tunnel";
            server = {program, "server", "--agent-common-name=system:konnectivity-agent"};
            agent = {program, "agent"};
        } else {
            server = {upstream_ + "/proxy-server", "--server-count=1", "--server-id=one",
                      "--delete-existing-uds-file=true"};
            agent = {upstream_ + "/proxy-agent"};
        }
        Pair pair;
        pair.socket = pki_.path("server.sock");
        const std::string port = free_port();
        for (std::string& flag : server_flags(pair.socket, port)) server.push_back(std::move(flag));
        for (std::string& flag : agent_flags(port)) agent.push_back(std::move(flag));
        pair.server = std::make_unique<Child>(server, pki_.path("server.log"));
        pair.agent = std::make_unique<Child>(agent, pki_.path("agent.log"));
        return pair;
    }

    std::shared_ptr<net::GrpcChannel> channel(const Pair& pair) {
        net::Url url;
        url.scheme = "unix";
        url.path = pair.socket;
        return net::make_grpc_channel(loop_, url, {});
    }

    Task<bool> ready(const Pair* pair, std::string address) {
        const TimePoint deadline = loop_.now() + 30s;
        for (;;) {
            Result<std::string> back = co_await dial_and_echo(&loop_, channel(*pair), address, "x");
            if (back.ok()) co_return true;
            if (loop_.now() > deadline) {
                fmt::print(stderr, "the tunnel does not come up: {}\n{}\n{}\n",
                           back.error().to_string(), pair->server->log(), pair->agent->log());
                std::exit(1);
            }
            Result<void> slept = co_await async::sleep_for(loop_, 50ms);
            if (!slept.ok()) co_return false;
        }
    }

    static Task<bool> stop(Target* target) {
        co_await target->stop();
        co_return true;
    }

    /// Dials and echoes a byte `count` times, one after the other; how long each took, in ms.
    Task<Result<std::vector<double>>> dial_many(const Pair* pair, std::string address, int count) {
        std::vector<double> took;
        for (int i = 0; i < count; ++i) {
            const TimePoint began = loop_.now();
            Result<std::string> back = co_await dial_and_echo(&loop_, channel(*pair), address, "x");
            if (!back.ok()) co_return std::move(back).error();
            took.push_back(seconds(loop_.now() - began) * 1000);
        }
        co_return std::move(took);
    }

    Task<Result<void>> dial_some(const Pair* pair, std::string address, int count) {
        Result<std::vector<double>> took = co_await dial_many(pair, std::move(address), count);
        if (!took.ok()) co_return std::move(took).error();
        co_return Result<void>();
    }

    void measure_dials(const Pair& pair, const std::string& address, Figures& figures) {
        const double cpu = pair.processor_seconds();
        Result<std::vector<double>> took = run(loop_, dial_many(&pair, address, kDialsCount));
        std::vector<double> sorted = std::move(took).value();
        std::sort(sorted.begin(), sorted.end());
        figures.dial_p50_ms = sorted[sorted.size() / 2];
        figures.dial_p99_ms = sorted[sorted.size() * 99 / 100];
        figures.dial_cpu_ms = (pair.processor_seconds() - cpu) * 1000 / kDialsCount;
        const TimePoint began = loop_.now();
        std::vector<Task<Result<void>>> tasks;
        for (int i = 0; i < kDialsAtOnce; ++i) {
            tasks.push_back(dial_some(&pair, address, kDialsEach));
        }
        run(loop_, async::join_all(loop_, std::move(tasks))).value();
        figures.dials_per_second = kDialsEach * kDialsAtOnce / seconds(loop_.now() - began);
    }

    Task<Result<void>> read_bulk(const Pair* pair, std::string address) {
        Result<std::unique_ptr<net::Stream>> stream =
            co_await dial_through(loop_, channel(*pair), address);
        if (!stream.ok()) co_return std::move(stream).error();
        for (size_t size = 0; size < kBulkSize;) {
            Result<std::string> data = co_await (*stream)->read(size_t{1} << 20);
            if (!data.ok()) co_return std::move(data).error();
            if (data->empty()) co_return unavailable("the stream ended");
            size += data->size();
        }
        (*stream)->close();
        co_return Result<void>();
    }

    void measure_bulk(const Pair& pair, const std::string& address, Figures& figures) {
        const double cpu = pair.processor_seconds();
        const TimePoint began = loop_.now();
        run(loop_, read_bulk(&pair, address)).value();
        figures.bulk_mb_per_second = kBulkSize / 1e6 / seconds(loop_.now() - began);
        figures.bulk_cpu_per_gb = (pair.processor_seconds() - cpu) / (kBulkSize / 1e9);
    }

    using Streams = std::vector<std::unique_ptr<net::Stream>>;
    /// As many as can be had: upstream's dials fail once a stopped reader blocks its link.
    Task<Streams> open(const Pair* pair, std::string address, int count) {
        Streams streams;
        for (int i = 0; i < count; ++i) {
            Task<Result<std::unique_ptr<net::Stream>>> dialling =
                dial_through(loop_, channel(*pair), address);
            Result<std::unique_ptr<net::Stream>> stream =
                co_await async::with_timeout(loop_, 10s, std::move(dialling));
            if (!stream.ok()) break;
            streams.push_back(*std::move(stream));
        }
        co_return std::move(streams);
    }

    Task<bool> pause(Duration duration) {
        Result<void> slept = co_await async::sleep_for(loop_, duration);
        co_return slept.ok();
    }

    void measure_open(const Pair& pair, const std::string& address, Figures& figures) {
        Streams streams = run(loop_, open(&pair, address, kOpenCount));
        BASALT_ASSERT(streams.size() == kOpenCount);
        figures.server_open_mb = resident_mb(pair.server->pid());
        figures.agent_open_mb = resident_mb(pair.agent->pid());
        for (auto& stream : streams) stream->close();
        streams.clear();
        run(loop_, pause(1s));
    }

    /// Targets that send without end to readers that have stopped; the most that was seen.
    void measure_stalled(const Pair& pair, const std::string& address, Figures& figures) {
        Streams streams = run(loop_, open(&pair, address, kStalledCount));
        figures.stalled_count = static_cast<double>(streams.size());
        for (int i = 0; i < 30; ++i) {
            run(loop_, pause(100ms));
            figures.server_stalled_mb =
                std::max(figures.server_stalled_mb, resident_mb(pair.server->pid()));
            figures.agent_stalled_mb =
                std::max(figures.agent_stalled_mb, resident_mb(pair.agent->pid()));
        }
    }

    std::string upstream_;
    TestPki pki_;
    async::RealLoop loop_;
};

}  // namespace

int main(int argc, char** argv) {
    const std::vector<std::string> arguments(argv + 1, argv + argc);
    const bool numbers = !arguments.empty() && arguments.front() == "--numbers";
    const std::string upstream = arguments.size() > (numbers ? 1 : 0) ? arguments.back() : "";
    const Figures f = Bench(upstream).measure();
    if (numbers) {
        for (double Figures::* figure : Figures::kAll) fmt::print("{:.3f} ", f.*figure);
        fmt::print("\n");
        return 0;
    }
    fmt::print(
        "  a dial: {:.2f} ms (p99 {:.2f} ms), {:.2f} ms of a processor; {} at once: {:.0f}/s\n"
        "  one connection: {:.0f} MB/s, {:.2f} s of a processor for a GB\n"
        "  memory of server and agent: {:.1f} and {:.1f} MB; with {} connections {:.1f} and {:.1f} "
        "MB; with {:.0f} whose readers have stopped at most {:.1f} and {:.1f} MB\n",
        f.dial_p50_ms, f.dial_p99_ms, f.dial_cpu_ms, kDialsAtOnce, f.dials_per_second,
        f.bulk_mb_per_second, f.bulk_cpu_per_gb, f.server_idle_mb, f.agent_idle_mb, kOpenCount,
        f.server_open_mb, f.agent_open_mb, f.stalled_count, f.server_stalled_mb,
        f.agent_stalled_mb);
    return 0;
}
