#include "net/http_client.h"

#include "async/sim_loop.h"
#include "net/background.h"
#include "net/http2_connection.h"
#include "net/net_test_util.h"

namespace basalt::net {
namespace {

using internal::Http2Connection;
using internal::Http2StreamPtr;
using test::run;
using test::Task;
using test::TestCa;
using namespace std::chrono_literals;

std::vector<std::string> alpn_h2() { return {"h2"}; }

/// An HTTP/2 server for tests: `serve` handles each stream.
class TestServer {
 public:
    using Serve =
        std::function<Task<void>(TestServer&, std::shared_ptr<Http2Connection>, Http2StreamPtr)>;

    TestServer(async::RealLoop& loop, std::shared_ptr<const TlsContext> tls, Serve serve,
               uint32_t max_streams = 100)
        : loop_(loop),
          tls_(std::move(tls)),
          serve_(std::move(serve)),
          max_streams_(max_streams),
          group_(loop),
          listener_(listen(loop, Endpoint::tcp("127.0.0.1", 0)).value()) {
        group_.spawn(accept_loop(*this));
    }
    Url url() const {
        return parse_url("https://127.0.0.1:" + std::to_string(listener_->endpoint().port)).value();
    }
    Task<void> stop() {
        listener_->close();
        connections.clear();
        group_.cancel();
        return group_.join();
    }
    async::Loop& loop() { return loop_; }

    std::vector<std::shared_ptr<Http2Connection>> connections;
    size_t requests_count = 0;
    size_t active_count = 0, most_active = 0;
    bool drain_on_next = false;

 private:
    static Task<void> accept_loop(TestServer& self) {
        for (;;) {
            Result<std::unique_ptr<Stream>> stream = co_await self.listener_->accept();
            if (!stream.ok()) co_return;
            Result<std::unique_ptr<Stream>> secured =
                co_await tls_accept(self.loop_, self.tls_, std::move(*stream));
            if (!secured.ok()) continue;
            Http2Connection::Options options{};
            options.session.server = true;
            options.session.max_streams = self.max_streams_;
            options.ping_after = 1h;
            options.ping_timeout = 1h;
            self.connections.push_back(Http2Connection::start(
                self.loop_, std::move(*secured), options,
                [&self](std::shared_ptr<Http2Connection> c, Http2StreamPtr s) {
                    ++self.requests_count;
                    self.group_.spawn(self.serve_(self, std::move(c), std::move(s)));
                }));
        }
    }

    async::RealLoop& loop_;
    std::shared_ptr<const TlsContext> tls_;
    Serve serve_;
    uint32_t max_streams_;
    async::TaskGroup group_;
    std::unique_ptr<Listener> listener_;
};

/// Sends the request's body back, as it comes.
Task<void> echo(TestServer& server, std::shared_ptr<Http2Connection> connection,
                Http2StreamPtr stream) {
    server.most_active = std::max(server.most_active, ++server.active_count);
    Headers headers{{"x-path", stream->head.path}, {"x-method", stream->head.method}};
    Result<void> sent = connection->respond(stream, 200, headers, false);
    while (sent.ok()) {
        Result<std::optional<std::string>> piece =
            co_await Http2Connection::read(connection, stream);
        if (!piece.ok() || !piece->has_value()) break;
        Result<void> written =
            co_await Http2Connection::write(connection, stream, std::move(**piece));
        sent = std::move(written);
    }
    connection->end_with_trailers(stream, Headers{{"x-sum", "done"}});
    --server.active_count;
}

HttpClientOptions options_for(TestCa& ca) {
    HttpClientOptions options;
    options.tls = ca.client_context();
    return options;
}

Task<Result<void>> post_and_check(HttpClient& client, std::string body) {
    HttpRequest request;
    request.method = "POST";
    request.target = "/a?b=c";
    request.body = body;
    Result<HttpResponse> response = co_await client.send(std::move(request));
    if (!response.ok()) co_return std::move(response).error();
    Result<std::string> text = co_await read_all(*response->body, body.size() + 1);
    if (!text.ok()) co_return std::move(text).error();
    if (*text != body) co_return internal_error("the body came back changed");
    if (response->headers.get("x-path") != "/a?b=c")
        co_return internal_error("the path came back changed");
    if (response->body->trailers().get("x-sum") != "done") co_return internal_error("no trailers");
    co_return Result<void>();
}

Task<void> big_bodies(async::RealLoop& loop, TestCa& ca) {
    TestServer server(loop, ca.server_context(alpn_h2()), echo);
    auto client = make_http_client(loop, server.url(), options_for(ca));
    Result<void> big = co_await post_and_check(*client, std::string(10'000'000, 'x'));
    CO_REQUIRE_OK(big);
    std::vector<Task<Result<void>>> many;
    for (size_t i = 0; i < 250; ++i)
        many.push_back(post_and_check(*client, std::string(i * 400 + 1, static_cast<char>(i))));
    Result<void> all = co_await async::join_all(loop, std::move(many));
    CO_REQUIRE_OK(all);
    EXPECT_EQ(server.requests_count, 251U);
    EXPECT_LE(client->connections_count(), 3U);
    co_await server.stop();
}

TEST(Http2Client, CarriesBigBodiesAndManyStreams) {
    async::RealLoop loop;
    TestCa ca;
    run(loop, big_bodies(loop, ca));
}

Task<void> limited_streams(async::RealLoop& loop, TestCa& ca) {
    TestServer server(loop, ca.server_context(alpn_h2()), echo, 5);
    HttpClientOptions options = options_for(ca);
    options.max_connections = 2;
    auto client = make_http_client(loop, server.url(), options);
    std::vector<Task<Result<void>>> many;
    for (size_t i = 0; i < 60; ++i)
        many.push_back(post_and_check(*client, std::string(50'000, 'y')));
    Result<void> all = co_await async::join_all(loop, std::move(many));
    CO_REQUIRE_OK(all);
    EXPECT_EQ(server.requests_count, 60U);
    EXPECT_LE(server.most_active, 10U);
    EXPECT_EQ(server.connections.size(), 2U);
    co_await server.stop();
}

TEST(Http2Client, RespectsTheServersStreamLimit) {
    async::RealLoop loop;
    TestCa ca;
    run(loop, limited_streams(loop, ca));
}

/// Sends until nobody takes it; counts what went out.
Task<void> flood(TestServer&, std::shared_ptr<Http2Connection> connection, Http2StreamPtr stream) {
    Result<void> sent = connection->respond(stream, 200, Headers(), false);
    while (sent.ok()) {
        Result<void> written =
            co_await Http2Connection::write(connection, stream, std::string(100'000, 'f'));
        sent = std::move(written);
    }
}

Task<void> slow_reader(async::RealLoop& loop, TestCa& ca) {
    TestServer server(loop, ca.server_context(alpn_h2()), flood);
    auto client = make_http_client(loop, server.url(), options_for(ca));
    // 20 streams that nobody reads hold more than the connection's window, and do not stop another
    // one.
    std::vector<HttpResponse> unread;
    for (int i = 0; i < 20; ++i) {
        Result<HttpResponse> response = co_await client->send(HttpRequest());
        CO_REQUIRE_OK(response);
        unread.push_back(std::move(*response));
    }
    Result<HttpResponse> response = co_await client->send(HttpRequest());
    CO_REQUIRE_OK(response);
    size_t size = 0;
    while (size < 5'000'000) {
        Result<std::optional<std::string>> piece = co_await response->body->read();
        CO_REQUIRE_OK(piece);
        CO_REQUIRE(piece->has_value());
        size += (*piece)->size();
    }
    EXPECT_EQ(client->connections_count(), 1U);
    // What waits for a reader is bounded by the stream's window.
    size_t waiting = 0;
    for (;;) {
        Result<std::optional<std::string>> piece =
            co_await async::with_timeout(loop, 50ms, unread[0].body->read());
        if (!piece.ok() || waiting > 3 * kStreamWindow) break;
        waiting += (*piece)->size();
        break;
    }
    EXPECT_LE(waiting, kStreamWindow);
    unread.clear();
    response->body.reset();
    // Dropping the readers resets the streams: the server's writers end.
    while (server.connections[0]->streams_count() > 0) {
        Result<void> slept = co_await async::sleep_for(loop, 1ms);
        CO_REQUIRE_OK(slept);
    }
    co_await server.stop();
}

TEST(Http2Client, SlowReadersHoldUpNobodyElse) {
    async::RealLoop loop;
    TestCa ca;
    run(loop, slow_reader(loop, ca));
}

Task<void> never_answer(TestServer& server, std::shared_ptr<Http2Connection>, Http2StreamPtr) {
    Result<void> slept = co_await async::sleep_for(server.loop(), 1h);
    static_cast<void>(slept);
}

Task<void> cancelled_send(async::RealLoop& loop, TestCa& ca) {
    TestServer server(loop, ca.server_context(alpn_h2()), never_answer);
    auto client = make_http_client(loop, server.url(), options_for(ca));
    Result<HttpResponse> response =
        co_await async::with_timeout(loop, 50ms, client->send(HttpRequest()));
    CO_REQUIRE(!response.ok());
    EXPECT_EQ(response.error().code(), Code::kDeadlineExceeded);
    while (server.connections.empty() || server.connections[0]->streams_count() > 0) {
        Result<void> slept = co_await async::sleep_for(loop, 1ms);
        CO_REQUIRE_OK(slept);
    }
    EXPECT_EQ(client->connections_count(), 1U);
    co_await server.stop();
}

TEST(Http2Client, CancelResetsTheStreamOnly) {
    async::RealLoop loop;
    TestCa ca;
    run(loop, cancelled_send(loop, ca));
}

Task<void> goaway(async::RealLoop& loop, TestCa& ca) {
    TestServer server(loop, ca.server_context(alpn_h2()), echo);
    auto client = make_http_client(loop, server.url(), options_for(ca));
    HttpRequest open_request;
    open_request.method = "POST";
    Result<std::unique_ptr<HttpExchange>> exchange = co_await client->open(std::move(open_request));
    CO_REQUIRE_OK(exchange);
    Result<void> head = co_await (*exchange)->wait_head();
    CO_REQUIRE_OK(head);
    server.connections[0]->drain();
    while (client->connections_count() > 0) {
        Result<void> slept = co_await async::sleep_for(loop, 1ms);
        CO_REQUIRE_OK(slept);
    }
    // New requests go to a new connection, the old stream lives on.
    Result<void> next = co_await post_and_check(*client, "abc");
    CO_REQUIRE_OK(next);
    EXPECT_EQ(server.connections.size(), 2U);
    Result<void> written = co_await (*exchange)->write("still");
    CO_REQUIRE_OK(written);
    Result<void> finished = co_await (*exchange)->finish();
    CO_REQUIRE_OK(finished);
    Result<std::string> text = co_await read_all(**exchange, 100);
    CO_REQUIRE_OK(text);
    EXPECT_EQ(*text, "still");
    Result<void> closed = co_await server.connections[0]->wait_closed();
    CO_REQUIRE_OK(closed);
    co_await server.stop();
}

TEST(Http2Client, GoawayDrainsAndReopens) {
    async::RealLoop loop;
    TestCa ca;
    run(loop, goaway(loop, ca));
}

Task<void> steady_load_over_goaways(async::RealLoop& loop, TestCa& ca) {
    TestServer server(loop, ca.server_context(alpn_h2()), echo);
    auto client = make_http_client(loop, server.url(), options_for(ca));
    for (size_t round = 0; round < 30; ++round) {
        std::vector<Task<Result<void>>> many;
        for (size_t i = 0; i < 10; ++i)
            many.push_back(post_and_check(*client, std::string(1000, 'z')));
        if (!server.connections.empty()) server.connections.back()->drain();
        Result<void> all = co_await async::join_all(loop, std::move(many));
        CO_REQUIRE_OK(all);
    }
    EXPECT_GE(server.connections.size(), 10U);
    co_await server.stop();
}

TEST(Http2Client, LosesNoRequestOverGoaways) {
    async::RealLoop loop;
    TestCa ca;
    run(loop, steady_load_over_goaways(loop, ca));
}

Task<void> broken(async::RealLoop& loop, TestCa& ca) {
    TestServer server(loop, ca.server_context(alpn_h2()), flood);
    auto client = make_http_client(loop, server.url(), options_for(ca));
    Result<HttpResponse> response = co_await client->send(HttpRequest());
    CO_REQUIRE_OK(response);
    server.connections[0]->fail(unavailable("test"));
    for (;;) {
        Result<std::optional<std::string>> piece = co_await response->body->read();
        if (piece.ok()) continue;
        EXPECT_EQ(piece.error().code(), Code::kUnavailable);
        EXPECT_NE(piece.error().reason(), "NotSent");
        break;
    }
    // Identity of a server that nobody trusts: no request is sent.
    TestCa other("other");
    auto wrong = make_http_client(loop, server.url(), options_for(other));
    Result<HttpResponse> refused = co_await wrong->send(HttpRequest());
    CO_REQUIRE(!refused.ok());
    EXPECT_EQ(refused.error().code(), Code::kUnauthenticated);
    uint16_t port = server.url().port;
    co_await server.stop();
    auto nobody = make_http_client(
        loop, parse_url("https://127.0.0.1:" + std::to_string(port)).value(), options_for(ca));
    Result<HttpResponse> none = co_await nobody->send(HttpRequest());
    CO_REQUIRE(!none.ok());
    EXPECT_EQ(none.error().code(), Code::kUnavailable);
    EXPECT_EQ(none.error().reason(), "NotSent");
}

TEST(Http2Client, ReportsBrokenAndRefusedConnections) {
    async::RealLoop loop;
    TestCa ca;
    run(loop, broken(loop, ca));
}

Task<void> rotate(async::RealLoop& loop, TestCa& ca) {
    TestServer server(loop, ca.server_context(alpn_h2(), ClientCertificates::kRequired), echo);
    HttpClientOptions options;
    options.tls =
        ca.client_context(test::CertSpec{.common_name = "old", .organization = {}, .names = {}});
    auto client = make_http_client(loop, server.url(), options);
    Result<void> first = co_await post_and_check(*client, "1");
    CO_REQUIRE_OK(first);
    client->set_tls(
        ca.client_context(test::CertSpec{.common_name = "new", .organization = {}, .names = {}}));
    Result<void> second = co_await post_and_check(*client, "2");
    CO_REQUIRE_OK(second);
    CO_REQUIRE(server.connections.size() == 2U);
    EXPECT_EQ(server.connections[0]->info().identity->common_name, "old");
    EXPECT_EQ(server.connections[1]->info().identity->common_name, "new");
    client->set_tls(ca.client_context());
    Result<void> third = co_await post_and_check(*client, "3");
    CO_REQUIRE(!third.ok());
    EXPECT_EQ(third.error().code(), Code::kUnauthenticated) << third.error().to_string();
    co_await server.stop();
}

TEST(Http2Client, NewIdentityTakesNewConnections) {
    async::RealLoop loop;
    TestCa ca;
    run(loop, rotate(loop, ca));
}

// ---- on the simulator's loop: virtual time

struct SimServer {
    std::shared_ptr<Http2Connection> connection;
    int connects_count = 0;
};

/// Passes bytes on until told to swallow them: a peer that died without a word.
class StallingStream final : public Stream {
 public:
    StallingStream(std::unique_ptr<Stream> under, const bool* stalled)
        : under_(std::move(under)), stalled_(stalled) {}
    Task<Result<std::string>> read(size_t max_size) override { return under_->read(max_size); }
    Task<Result<void>> write(std::string data) override {
        if (*stalled_) return swallow();
        return under_->write(std::move(data));
    }
    Task<Result<void>> close_write() override { return under_->close_write(); }
    void close() override { under_->close(); }
    const StreamInfo& info() const override { return under_->info(); }

 private:
    static Task<Result<void>> swallow() { co_return Result<void>(); }
    std::unique_ptr<Stream> under_;
    const bool* stalled_;
};

Task<Result<std::unique_ptr<Stream>>> sim_dial(async::Loop& loop, SimServer& server,
                                               const bool* stalled) {
    ++server.connects_count;
    auto pair = make_stream_pair(loop);
    Http2Connection::Options options{};
    options.session.server = true;
    options.ping_after = 1h;
    options.ping_timeout = 1h;
    server.connection = Http2Connection::start(
        loop, std::move(pair.second), options,
        [](std::shared_ptr<Http2Connection> c, Http2StreamPtr s) {
            Result<void> sent = c->respond(s, 200, Headers(), s->head.path == "/end");
            static_cast<void>(sent);
        });
    co_return std::unique_ptr<Stream>(
        std::make_unique<StallingStream>(std::move(pair.first), stalled));
}

HttpClientOptions sim_options(async::SimLoop& loop, SimServer& server, const bool* stalled) {
    HttpClientOptions options;
    options.version = HttpVersion::kHttp2;
    options.dialer = [&loop, &server, stalled] { return sim_dial(loop, server, stalled); };
    return options;
}

Task<void> get_and_hang(HttpClient& client, Duration* took, async::Loop& loop, Error* error) {
    TimePoint start = loop.now();
    Result<HttpResponse> response = co_await client.send(HttpRequest());
    CO_REQUIRE_OK(response);
    Result<std::optional<std::string>> piece = co_await response->body->read();
    CO_REQUIRE(!piece.ok());
    *error = piece.error();
    *took = loop.now() - start;
}

TEST(Http2Client, PingFindsDeadPeers) {
    async::SimLoop loop(3);
    SimServer server;
    bool stalled = false;
    auto client = make_http_client(loop, parse_url("http://sim").value(),
                                   sim_options(loop, server, &stalled));
    async::TaskGroup group(loop);
    Duration took{};
    Error error = internal_error("none");
    group.spawn(get_and_hang(*client, &took, loop, &error));
    // A living peer answers for hours.
    loop.run_for(2h);
    EXPECT_EQ(group.size(), 1U);
    EXPECT_EQ(client->connections_count(), 1U);
    stalled = true;
    TimePoint death = loop.now();
    EXPECT_TRUE(loop.run_until([&group] { return group.size() == 0; }, 1min));
    EXPECT_EQ(error.code(), Code::kUnavailable);
    EXPECT_EQ(error.reason(), "PingTimeout");
    EXPECT_LE(loop.now() - death, kPingAfter + kPingTimeout);
    EXPECT_EQ(client->connections_count(), 0U);
    client.reset();
    server.connection.reset();
    loop.run_for(1h);
}

Task<void> get_and_end(HttpClient& client) {
    HttpRequest request;
    request.target = "/end";
    Result<HttpResponse> response = co_await client.send(std::move(request));
    CO_REQUIRE_OK(response);
    Result<std::string> body = co_await read_all(*response->body, 10);
    CO_REQUIRE_OK(body);
}

TEST(Http2Client, IdleConnectionsClose) {
    async::SimLoop loop(4);
    SimServer server;
    bool stalled = false;
    auto client = make_http_client(loop, parse_url("http://sim").value(),
                                   sim_options(loop, server, &stalled));
    async::TaskGroup group(loop);
    group.spawn(get_and_end(*client));
    loop.run_for(30s);
    EXPECT_EQ(client->connections_count(), 1U);
    loop.run_for(2min);
    EXPECT_EQ(client->connections_count(), 0U);
    group.spawn(get_and_end(*client));
    loop.run_for(1s);
    EXPECT_EQ(server.connects_count, 2);
    client.reset();
    server.connection.reset();
    loop.run_for(1h);
}

Task<Result<std::unique_ptr<Stream>>> failing_dial(async::Loop& loop, int* count) {
    ++*count;
    Result<void> slept = co_await async::sleep_for(loop, 1s);
    if (!slept.ok()) co_return std::move(slept).error();
    co_return unavailable("nobody there");
}

Task<void> expect_unavailable(HttpClient& client, int* failures) {
    Result<HttpResponse> response = co_await client.send(HttpRequest());
    CO_REQUIRE(!response.ok());
    EXPECT_EQ(response.error().code(), Code::kUnavailable);
    EXPECT_EQ(response.error().reason(), "NotSent");
    ++*failures;
}

TEST(Http2Client, ManyRequestsShareOneFailingDial) {
    async::SimLoop loop(5);
    HttpClientOptions options;
    options.version = HttpVersion::kHttp2;
    int dials = 0, failures = 0;
    options.dialer = [&loop, &dials] { return failing_dial(loop, &dials); };
    auto client = make_http_client(loop, parse_url("http://sim").value(), options);
    async::TaskGroup group(loop);
    for (int i = 0; i < 80; ++i) group.spawn(expect_unavailable(*client, &failures));
    EXPECT_TRUE(loop.run_until([&group] { return group.size() == 0; }, 1min));
    EXPECT_EQ(failures, 80);
    EXPECT_EQ(dials, 1);
    client.reset();
    loop.run_for(1min);
}

Task<Result<std::unique_ptr<Stream>>> slow_dial(async::Loop& loop, std::unique_ptr<Stream> stream) {
    Result<void> slept = co_await async::sleep_for(loop, 3s);
    if (!slept.ok()) co_return std::move(slept).error();
    co_return std::move(stream);
}

Task<void> keep_error(HttpClient& client, HttpRequest request, std::optional<Error>* error) {
    Result<HttpResponse> response = co_await client.send(std::move(request));
    if (!response.ok()) *error = response.error();
}

// Much may change while a connection is made: who may not write any more sends nothing.
TEST(HttpClient, AsksTheGuardOfARequestWhenItsConnectionIsThere) {
    async::SimLoop loop(6);
    auto pair = make_stream_pair(loop);
    HttpClientOptions options;
    options.version = HttpVersion::kHttp1;
    options.dialer = [&] { return slow_dial(loop, std::move(pair.first)); };
    auto client = make_http_client(loop, parse_url("http://sim").value(), options);
    int asked_count = 0;
    bool may_go = true;
    HttpRequest request;
    request.guard = [&]() -> Result<void> {
        ++asked_count;
        if (may_go) return {};
        return failed_precondition("no leader");
    };
    std::optional<Error> error;
    async::TaskGroup group(loop);
    group.spawn(keep_error(*client, request, &error));
    loop.run_for(2s);
    EXPECT_EQ(asked_count, 0);
    may_go = false;
    ASSERT_TRUE(loop.run_until([&] { return group.size() == 0; }, 1min));
    EXPECT_EQ(asked_count, 1);
    ASSERT_TRUE(error.has_value());
    EXPECT_EQ(error->message(), "no leader");
    // The connection stays for others, and nothing was sent on it.
    may_go = true;
    request.target = "/second";
    group.spawn(keep_error(*client, request, &error));
    std::optional<Result<std::string>> first;
    auto read = [](Stream* stream, std::optional<Result<std::string>>* out) -> Task<void> {
        Result<std::string> data = co_await stream->read(1000);
        out->emplace(std::move(data));
    };
    group.spawn(read(pair.second.get(), &first));
    ASSERT_TRUE(loop.run_until([&] { return first.has_value(); }, 1min));
    ASSERT_TRUE(first->ok());
    EXPECT_TRUE((*first)->starts_with("GET /second")) << **first;
    group.cancel();
    ASSERT_TRUE(loop.run_until([&] { return group.size() == 0; }, 1min));
    client.reset();
    loop.run_for(1min);
}

}  // namespace
}  // namespace basalt::net
