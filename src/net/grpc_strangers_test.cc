// What those get who reach a server's port and are nobody: little memory, little time, no place of
// anybody else.
#include "net/grpc.h"
#include "net/net_test_util.h"

namespace basalt::net {
namespace {

using test::run;
using test::Task;
using test::TestCa;
using namespace std::chrono_literals;

/// Accepts nobody before open() was called; then says how many bytes the client has sent.
class LateService final : public GrpcService {
 public:
    Task<Result<void>> serve(GrpcServerCall& call) override {
        if (call.method() == "/t.T/Sum") return sum(call, nullptr);
        return sum(call, this);
    }
    void open() {
        open_ = true;
        changed_.notify_all();
    }
    size_t waiting_count() const { return changed_.waiting_count(); }

 private:
    static Task<Result<void>> sum(GrpcServerCall& call, LateService* wait_for) {
        while (wait_for != nullptr && !wait_for->open_) {
            Result<void> waited = co_await wait_for->changed_.wait();
            if (!waited.ok()) co_return waited;
        }
        if (wait_for != nullptr) {
            Result<void> header = call.send_header();
            if (!header.ok()) co_return header;
        }
        size_t size = 0;
        for (;;) {
            Result<std::optional<std::string>> message = co_await call.read();
            if (!message.ok()) co_return std::move(message).error();
            if (!message->has_value()) break;
            size += (*message)->size();
        }
        Result<void> written = co_await call.write(std::to_string(size));
        co_return written;
    }

    bool open_ = false;
    async::Condition changed_;
};

struct Server {
    Server(async::RealLoop& on, GrpcServerOptions options)
        : loop(on),
          server(start_grpc_server(on, listen(on, Endpoint::tcp("127.0.0.1", 0)).value(), service,
                                   std::move(options))
                     .value()) {}
    std::shared_ptr<GrpcChannel> channel(HttpClientOptions options = {}) {
        options.version = HttpVersion::kHttp2;
        options.max_connections = 1;
        const char* scheme = options.tls ? "https://" : "http://";
        Url url = parse_url(scheme + server->endpoint().to_string()).value();
        return make_grpc_channel(loop, url, std::move(options));
    }
    Task<bool> eventually(std::function<bool()> condition) {
        const TimePoint deadline = loop.now() + 20s;
        while (!condition()) {
            Result<void> slept = co_await async::sleep_for(loop, 2ms);
            if (!slept.ok() || loop.now() >= deadline) co_return false;
        }
        co_return true;
    }

    async::RealLoop& loop;
    std::shared_ptr<LateService> service = std::make_shared<LateService>();
    std::unique_ptr<GrpcServer> server;
};

constexpr size_t kSize = size_t{1} << 20;

Task<Result<void>> send(GrpcChannel& channel, std::string method, std::string* answer) {
    GrpcCallOptions options;
    Result<std::unique_ptr<GrpcStream>> call = co_await channel.open(std::move(method), options);
    if (!call.ok()) co_return std::move(call).error();
    for (size_t sent = 0; sent < kSize; sent += 65536) {
        Result<void> written = co_await (*call)->write(std::string(65536, 'x'));
        if (!written.ok()) co_return written;
    }
    Result<void> finished = co_await (*call)->finish_writing();
    if (!finished.ok()) co_return finished;
    Result<std::optional<std::string>> read = co_await (*call)->read();
    if (!read.ok()) co_return std::move(read).error();
    *answer = read->value_or("nothing");
    co_return Result<void>();
}

Task<void> spawned(GrpcChannel& channel, std::string method, std::string* answer) {
    Result<void> sent = co_await send(channel, std::move(method), answer);
    if (!sent.ok()) *answer = sent.error().to_string();
}

Task<void> keeps_little(async::RealLoop& loop) {
    GrpcServerOptions options;
    options.strangers = GrpcStrangerLimits();
    const size_t window = options.strangers->window;
    Server server(loop, options);
    auto channel = server.channel();
    // Reading without accepting opens the windows again.
    std::string answer;
    Result<void> sent = co_await send(*channel, "/t.T/Sum", &answer);
    CO_REQUIRE_OK(sent);
    EXPECT_EQ(answer, std::to_string(kSize));

    // Its answer made that connection more than a stranger's.
    channel = server.channel();
    std::vector<std::string> answers(20);
    async::TaskGroup group(loop);
    for (std::string& each : answers) group.spawn(spawned(*channel, "/t.T/Late", &each));
    bool full = co_await server.eventually(
        [&] { return server.server->buffered_size() >= window - 5 * answers.size(); });
    EXPECT_TRUE(full) << server.server->buffered_size();
    for (int i = 0; i < 50; ++i) {
        Result<void> slept = co_await async::sleep_for(loop, 1ms);
        CO_REQUIRE_OK(slept);
        EXPECT_LE(server.server->buffered_size(), window);
    }
    EXPECT_LE(server.service->waiting_count(), options.strangers->max_streams);
    // What is given up gives its part of the connection's window back.
    group.cancel();
    co_await group.join();
    sent = co_await send(*channel, "/t.T/Sum", &answer);
    CO_REQUIRE_OK(sent);

    // Accepted: all comes, and no call waits for another's reader.
    channel = server.channel();
    async::TaskGroup others(loop);
    for (std::string& each : answers) others.spawn(spawned(*channel, "/t.T/Late", &each));
    full = co_await server.eventually([&] { return server.service->waiting_count() > 0; });
    EXPECT_TRUE(full);
    server.service->open();
    co_await others.join();
    for (const std::string& each : answers) EXPECT_EQ(each, std::to_string(kSize));
    co_await server.server->stop(1s);
}

TEST(GrpcStrangers, MakeTheServerKeepLittle) {
    async::RealLoop loop;
    run(loop, keeps_little(loop));
}

Task<Result<std::unique_ptr<GrpcStream>>> accepted_call(GrpcChannel& channel) {
    GrpcCallOptions options;
    Result<std::unique_ptr<GrpcStream>> call = co_await channel.open("/t.T/Late", options);
    if (!call.ok()) co_return std::move(call).error();
    Result<void> header = co_await (*call)->wait_header();
    if (!header.ok()) co_return std::move(header).error();
    co_return std::move(call);
}

/// Of silent connections: handshake done, nothing said.
Task<Result<std::unique_ptr<Stream>>> silent(async::Loop& loop, Endpoint endpoint,
                                             std::shared_ptr<const TlsContext> tls) {
    std::string host = endpoint.host;
    Result<std::unique_ptr<Stream>> plain = co_await connect(loop, std::move(endpoint));
    if (!plain.ok() || !tls) co_return std::move(plain);
    std::vector<std::string> alpn{"h2"};
    Result<std::unique_ptr<Stream>> secured =
        co_await tls_connect(loop, tls, std::move(*plain), std::move(host), std::move(alpn));
    co_return std::move(secured);
}

Task<Result<void>> wait_for_end(Stream& stream) {
    for (;;) {
        Result<std::string> data = co_await stream.read(65536);
        if (!data.ok() || data->empty()) co_return Result<void>();
    }
}

Task<void> take_no_place(async::RealLoop& loop, TestCa& ca, size_t max_strangers,
                         size_t per_address, bool handshakes) {
    GrpcServerOptions options;
    std::vector<std::string> alpn{"h2"};
    options.tls = ca.server_context(std::move(alpn));
    options.max_connections = 8;
    options.strangers = GrpcStrangerLimits();
    options.strangers->max_connections = max_strangers;
    options.strangers->max_connections_per_address = per_address;
    Server server(loop, options);
    server.service->open();
    auto tls = ca.client_context();
    HttpClientOptions client;
    client.tls = tls;
    std::vector<std::unique_ptr<Stream>> crowd;
    std::vector<std::shared_ptr<GrpcChannel>> channels;
    std::vector<std::unique_ptr<GrpcStream>> calls;
    // Each time as many silent ones as there is room for, then one that has something to say.
    for (size_t i = 0; i < 8; ++i) {
        for (size_t j = 0; j < 8; ++j) {
            std::shared_ptr<const TlsContext> used = tls;
            if (!handshakes) used = nullptr;
            Endpoint there = server.server->endpoint();
            Result<std::unique_ptr<Stream>> one = co_await silent(loop, there, used);
            if (one.ok()) crowd.push_back(std::move(*one));
        }
        channels.push_back(server.channel(client));
        Result<std::unique_ptr<GrpcStream>> call =
            co_await async::with_timeout(loop, 10s, accepted_call(*channels.back()));
        CO_REQUIRE_OK(call);
        calls.push_back(std::move(*call));
        EXPECT_LE(server.server->connections_count(), 8U);
    }
    // The oldest have gone, and nobody takes the place of one that was accepted.
    Result<void> ended = co_await async::with_timeout(loop, 10s, wait_for_end(*crowd.front()));
    CO_REQUIRE_OK(ended);
    auto late = server.channel(client);
    Result<std::unique_ptr<GrpcStream>> refused =
        co_await async::with_timeout(loop, 10s, accepted_call(*late));
    EXPECT_FALSE(refused.ok());
    EXPECT_EQ(server.server->connections_count(), 8U);
    for (auto& call : calls) {
        Result<void> written = co_await call->write("still here");
        CO_REQUIRE_OK(written);
        Result<void> finished = co_await call->finish_writing();
        CO_REQUIRE_OK(finished);
        Result<std::optional<std::string>> answer = co_await call->read();
        CO_REQUIRE_OK(answer);
        EXPECT_EQ(answer->value_or(""), "10");
    }
    calls.clear();
    co_await server.server->stop(1s);
}

TEST(GrpcStrangers, TakeNobodysPlace) {
    TestCa ca;
    for (bool handshakes : {true, false}) {
        async::RealLoop loop;
        run(loop, take_no_place(loop, ca, 100, 100, handshakes));
    }
}

TEST(GrpcStrangers, AreLimitedByThemselvesAndByAddress) {
    TestCa ca;
    async::RealLoop loop;
    run(loop, take_no_place(loop, ca, 3, 100, true));
    async::RealLoop other;
    run(other, take_no_place(other, ca, 100, 3, true));
}

Task<void> have_little_time(async::RealLoop& loop) {
    GrpcServerOptions options;
    options.strangers = GrpcStrangerLimits();
    options.strangers->timeout = 100ms;
    Server server(loop, options);
    server.service->open();
    Endpoint there = server.server->endpoint();
    auto channel = server.channel();
    Result<std::unique_ptr<GrpcStream>> call = co_await accepted_call(*channel);
    CO_REQUIRE_OK(call);
    Result<std::unique_ptr<Stream>> nobody = co_await silent(loop, there, nullptr);
    CO_REQUIRE_OK(nobody);
    EXPECT_EQ(server.server->connections_count(), 2U);
    Result<void> ended = co_await async::with_timeout(loop, 10s, wait_for_end(**nobody));
    CO_REQUIRE_OK(ended);
    Result<void> slept = co_await async::sleep_for(loop, 300ms);
    CO_REQUIRE_OK(slept);
    // The call goes on; with it the connection ends.
    EXPECT_EQ(server.server->connections_count(), 1U);
    Result<void> finished = co_await (*call)->finish_writing();
    CO_REQUIRE_OK(finished);
    Result<std::optional<std::string>> answer = co_await (*call)->read();
    CO_REQUIRE_OK(answer);
    EXPECT_EQ(answer->value_or(""), "0");
    bool empty =
        co_await server.eventually([&] { return server.server->connections_count() == 0; });
    EXPECT_TRUE(empty);
    co_await server.server->stop(1s);
}

TEST(GrpcStrangers, HaveLittleTime) {
    async::RealLoop loop;
    run(loop, have_little_time(loop));
}

}  // namespace
}  // namespace basalt::net
