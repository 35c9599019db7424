#include "net/http_server.h"

#include "net/http_client.h"
#include "net/net_test_util.h"

namespace basalt::net {
namespace {

using test::run;
using test::Task;
using test::TestCa;
using namespace std::chrono_literals;

/// Numbers 0 to 9, a line each, as a stream.
class CountingBody final : public BodyReader {
 public:
    Task<Result<std::optional<std::string>>> read() override {
        if (next_ == 10) co_return std::optional<std::string>();
        co_return std::optional<std::string>(std::to_string(next_++) + "\n");
    }
    const Headers& trailers() const override { return trailers_; }

 private:
    int next_ = 0;
    Headers trailers_;
};

Task<void> shout_back(std::unique_ptr<Stream> stream) {
    Result<std::string> text = co_await stream->read(100);
    if (!text.ok()) co_return;
    Result<void> written = co_await stream->write("[" + *text + "]");
    static_cast<void>(written);
}

class TestHandler final : public HttpHandler {
 public:
    explicit TestHandler(async::Loop& loop) : loop_(loop) {}
    Task<Result<HttpServerResponse>> handle(ServerRequest request) override {
        return serve(*this, std::move(request));
    }
    int requests_count = 0;
    async::OneShot<bool> slow_started;

 private:
    static Task<Result<HttpServerResponse>> serve(TestHandler& self, ServerRequest request) {
        ++self.requests_count;
        HttpServerResponse response;
        std::string_view path = request.path();
        if (path == "/missing") co_return not_found("secret detail");
        if (path == "/slow") {
            self.slow_started.set(true);
            Result<void> slept = co_await async::sleep_for(self.loop_, 200ms);
            if (!slept.ok()) co_return std::move(slept).error();
        }
        if (path == "/stream") response.stream = std::make_unique<CountingBody>();
        if (path == "/upgrade") {
            response.status = 101;
            response.headers = Headers{{"connection", "Upgrade"}, {"upgrade", "shout"}};
            response.takeover = shout_back;
            co_return std::move(response);
        }
        response.headers.add("x-query", std::string(request.query()));
        if (request.connection.identity)
            response.headers.add("x-client", request.connection.identity->common_name);
        response.body = std::move(request.body);
        co_return std::move(response);
    }
    async::Loop& loop_;
};

struct Fixture {
    Fixture(async::RealLoop& loop, std::shared_ptr<const TlsContext> tls,
            HttpServerOptions options = {})
        : handler(std::make_shared<TestHandler>(loop)) {
        options.tls = std::move(tls);
        server = start_http_server(loop, listen(loop, Endpoint::tcp("127.0.0.1", 0)).value(),
                                   handler, options)
                     .value();
    }
    Url url(const std::string& scheme) const {
        return parse_url(scheme + "://127.0.0.1:" + std::to_string(server->endpoint().port))
            .value();
    }
    std::shared_ptr<TestHandler> handler;
    std::unique_ptr<HttpServer> server;
};

std::vector<std::string> alpn_h1() { return {"http/1.1"}; }

Task<Result<std::string>> get(HttpClient& client, std::string target, int expected_status = 200) {
    HttpRequest request;
    request.target = std::move(target);
    Result<HttpResponse> response = co_await client.send(std::move(request));
    if (!response.ok()) co_return std::move(response).error();
    EXPECT_EQ(response->status, expected_status);
    Result<std::string> text = co_await read_all(*response->body, 1'000'000);
    co_return std::move(text);
}

Task<Result<void>> post_big(HttpClient& client, size_t size) {
    HttpRequest request;
    request.method = "POST";
    request.target = "/big?n=" + std::to_string(size);
    request.body = std::string(size, 'b');
    Result<HttpResponse> response = co_await client.send(std::move(request));
    if (!response.ok()) co_return std::move(response).error();
    EXPECT_EQ(response->headers.get("x-query"), "n=" + std::to_string(size));
    Result<std::string> text = co_await read_all(*response->body, size);
    if (!text.ok()) co_return std::move(text).error();
    EXPECT_EQ(text->size(), size);
    co_return Result<void>();
}

Task<void> basics(async::RealLoop& loop, TestCa& ca) {
    Fixture fixture(loop, ca.server_context(alpn_h1(), ClientCertificates::kOptional));
    HttpClientOptions options;
    options.tls = ca.client_context(
        test::CertSpec{.common_name = "kube-apiserver", .organization = {}, .names = {}});
    auto client = make_http_client(loop, fixture.url("https"), options);
    HttpRequest request;
    request.method = "POST";
    request.target = "/echo?a=1";
    request.body = "hello";
    Result<HttpResponse> response = co_await client->send(std::move(request));
    CO_REQUIRE_OK(response);
    EXPECT_EQ(response->headers.get("x-client"), "kube-apiserver");
    EXPECT_EQ(response->headers.get("x-query"), "a=1");
    Result<std::string> text = co_await read_all(*response->body, 100);
    CO_REQUIRE_OK(text);
    EXPECT_EQ(*text, "hello");
    Result<std::string> missing = co_await get(*client, "/missing", 404);
    CO_REQUIRE_OK(missing);
    EXPECT_EQ(*missing, "Not Found\n");
    Result<std::string> counted = co_await get(*client, "/stream");
    CO_REQUIRE_OK(counted);
    EXPECT_EQ(*counted, "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n");
    EXPECT_EQ(client->connections_count(), 1U) << "one connection is used again";
    Result<std::unique_ptr<HttpExchange>> exchange = co_await client->open(HttpRequest());
    EXPECT_EQ(exchange.error().code(), Code::kUnimplemented);
    std::vector<Task<Result<void>>> many;
    for (size_t i = 1; i <= 20; ++i) many.push_back(post_big(*client, i * 100'000));
    Result<void> all = co_await async::join_all(loop, std::move(many));
    CO_REQUIRE_OK(all);
    co_await fixture.server->stop(1s);
}

TEST(HttpServer, ServesOverTls) {
    async::RealLoop loop;
    TestCa ca;
    run(loop, basics(loop, ca));
}

Task<void> upgrade(async::RealLoop& loop) {
    Fixture fixture(loop, nullptr);
    auto client = make_http_client(loop, fixture.url("http"), {});
    HttpRequest request;
    request.target = "/upgrade";
    request.headers = Headers{{"connection", "Upgrade"}, {"upgrade", "shout"}};
    Result<HttpClient::Upgraded> upgraded = co_await client->upgrade(std::move(request));
    CO_REQUIRE_OK(upgraded);
    CO_REQUIRE(upgraded->stream != nullptr);
    Result<void> written = co_await upgraded->stream->write("hi");
    CO_REQUIRE_OK(written);
    Result<std::string> text = co_await upgraded->stream->read(100);
    CO_REQUIRE_OK(text);
    EXPECT_EQ(*text, "[hi]");
    HttpRequest plain;
    plain.target = "/missing";
    Result<HttpClient::Upgraded> refused = co_await client->upgrade(std::move(plain));
    CO_REQUIRE_OK(refused);
    EXPECT_EQ(refused->status, 404);
    EXPECT_EQ(refused->body, "Not Found\n");
    co_await fixture.server->stop(1s);
}

TEST(HttpServer, HandsConnectionsOver) {
    async::RealLoop loop;
    run(loop, upgrade(loop));
}

/// What the server answers to raw bytes, until it closes.
Task<Result<std::string>> talk(async::RealLoop& loop, Endpoint endpoint, std::string bytes) {
    Result<std::unique_ptr<Stream>> stream = co_await connect(loop, endpoint);
    if (!stream.ok()) co_return std::move(stream).error();
    Result<void> written = co_await (*stream)->write(std::move(bytes));
    if (!written.ok()) co_return std::move(written).error();
    std::string text;
    for (;;) {
        Result<std::string> piece = co_await (*stream)->read(10'000);
        if (!piece.ok()) co_return std::move(piece);
        if (piece->empty()) co_return std::move(text);
        text += *piece;
    }
}

Task<void> raw(async::RealLoop& loop) {
    HttpServerOptions options;
    options.max_body_size = 1000;
    options.max_header_size = 1000;
    options.header_timeout = 100ms;
    options.body_timeout = 100ms;
    options.idle_timeout = 300ms;
    Fixture fixture(loop, nullptr, options);
    Endpoint endpoint = fixture.server->endpoint();
    Result<std::string> answer = co_await talk(loop, endpoint, "not http at all\r\n\r\n");
    CO_REQUIRE_OK(answer);
    EXPECT_TRUE(answer->starts_with("HTTP/1.1 400 ")) << *answer;
    answer = co_await talk(loop, endpoint, "GET / HTTP/1.1\r\nX: " + std::string(2000, 'x'));
    CO_REQUIRE_OK(answer);
    EXPECT_TRUE(answer->starts_with("HTTP/1.1 431 ")) << *answer;
    answer = co_await talk(
        loop, endpoint, "POST / HTTP/1.1\r\nContent-Length: 1001\r\n\r\n" + std::string(1001, 'x'));
    CO_REQUIRE_OK(answer);
    EXPECT_TRUE(answer->starts_with("HTTP/1.1 413 ")) << *answer;
    const std::string chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    answer = co_await talk(loop, endpoint, chunked + "1;" + std::string(2000, 'x'));
    CO_REQUIRE_OK(answer);
    EXPECT_TRUE(answer->starts_with("HTTP/1.1 431 ")) << *answer;
    answer = co_await talk(loop, endpoint, chunked + "0\r\nX: " + std::string(2000, 'x'));
    CO_REQUIRE_OK(answer);
    EXPECT_TRUE(answer->starts_with("HTTP/1.1 431 ")) << *answer;
    answer = co_await talk(loop, endpoint, "GET / HTTP/1.1\r\nHost:");
    CO_REQUIRE_OK(answer);
    EXPECT_TRUE(answer->starts_with("HTTP/1.1 408 ")) << *answer;
    answer = co_await talk(loop, endpoint, "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab");
    CO_REQUIRE_OK(answer);
    EXPECT_TRUE(answer->starts_with("HTTP/1.1 408 ")) << *answer;
    EXPECT_EQ(fixture.handler->requests_count, 0);
    answer = co_await talk(loop, endpoint,
                           "POST /1 HTTP/1.1\r\nContent-Length: 3\r\n\r\noneGET /2 "
                           "HTTP/1.1\r\nConnection: close\r\n\r\n");
    CO_REQUIRE_OK(answer);
    EXPECT_EQ(fixture.handler->requests_count, 2) << "pipelined";
    EXPECT_NE(answer->find("\r\n\r\none"), std::string::npos) << *answer;
    EXPECT_NE(answer->find("Connection: close"), std::string::npos) << *answer;
    answer = co_await talk(loop, endpoint, "HEAD /x HTTP/1.1\r\nConnection: close\r\n\r\n");
    CO_REQUIRE_OK(answer);
    EXPECT_TRUE(answer->ends_with("\r\n\r\n")) << *answer;
    answer = co_await talk(loop, endpoint,
                           "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: "
                           "4\r\nConnection: close\r\n\r\n");
    CO_REQUIRE_OK(answer);
    EXPECT_TRUE(answer->starts_with("HTTP/1.1 100 Continue\r\n\r\n")) << *answer;
    answer = co_await talk(loop, endpoint, "");
    CO_REQUIRE_OK(answer);
    EXPECT_EQ(*answer, "") << "idle connections are closed";
    co_await fixture.server->stop(1s);
}

TEST(HttpServer, BoundsWhatClientsMayDo) {
    async::RealLoop loop;
    run(loop, raw(loop));
}

Task<Result<void>> slow_get(HttpClient& client) {
    Result<std::string> text = co_await get(client, "/slow");
    if (!text.ok()) co_return std::move(text).error();
    co_return Result<void>();
}

Task<Result<void>> stop_when_slow(Fixture& fixture, Duration grace) {
    Result<bool> started = co_await fixture.handler->slow_started.wait();
    if (!started.ok()) co_return std::move(started).error();
    co_await fixture.server->stop(grace);
    EXPECT_EQ(fixture.server->connections_count(), 0U);
    co_return Result<void>();
}

Task<void> graceful(async::RealLoop& loop, Duration grace, bool finishes) {
    Fixture fixture(loop, nullptr);
    auto client = make_http_client(loop, fixture.url("http"), {});
    auto idle_client = make_http_client(loop, fixture.url("http"), {});
    Result<std::string> warm = co_await get(*idle_client, "/");
    CO_REQUIRE_OK(warm);
    std::vector<Task<Result<void>>> tasks;
    tasks.push_back(slow_get(*client));
    tasks.push_back(stop_when_slow(fixture, grace));
    TimePoint start = loop.now();
    Result<void> all = co_await async::join_all(loop, std::move(tasks));
    EXPECT_EQ(all.ok(), finishes);
    EXPECT_LT(loop.now() - start, 5s);
}

TEST(HttpServer, StopsGracefully) {
    async::RealLoop loop;
    run(loop, graceful(loop, 10s, true));
    async::RealLoop impatient;
    run(impatient, graceful(impatient, 10ms, false));
}

Task<void> rotate(async::RealLoop& loop, TestCa& ca, TestCa& next) {
    Fixture fixture(loop, ca.server_context(alpn_h1()));
    HttpClientOptions options;
    options.tls = next.client_context();
    auto client = make_http_client(loop, fixture.url("https"), options);
    Result<std::string> before = co_await get(*client, "/");
    EXPECT_FALSE(before.ok());
    fixture.server->set_tls(next.server_context(alpn_h1()));
    Result<std::string> after = co_await get(*client, "/");
    CO_REQUIRE_OK(after);
    co_await fixture.server->stop(1s);
}

TEST(HttpServer, TakesNewCertificates) {
    async::RealLoop loop;
    TestCa ca, next("next-ca");
    run(loop, rotate(loop, ca, next));
}

Task<void> limited(async::RealLoop& loop) {
    HttpServerOptions options;
    options.max_connections = 3;
    Fixture fixture(loop, nullptr, options);
    HttpClientOptions client_options;
    client_options.max_connections = 3;
    auto client = make_http_client(loop, fixture.url("http"), client_options);
    std::vector<Task<Result<void>>> many;
    for (size_t i = 1; i <= 30; ++i) many.push_back(post_big(*client, i * 1000));
    Result<void> all = co_await async::join_all(loop, std::move(many));
    CO_REQUIRE_OK(all);
    EXPECT_LE(fixture.server->connections_count(), 3U);
    co_await fixture.server->stop(1s);
}

TEST(HttpServer, LimitsConnections) {
    async::RealLoop loop;
    run(loop, limited(loop));
}

Task<Result<std::unique_ptr<Stream>>> connect_and_get(async::RealLoop& loop, Endpoint endpoint) {
    Result<std::unique_ptr<Stream>> stream = co_await connect(loop, endpoint);
    if (!stream.ok()) co_return std::move(stream);
    Result<void> written = co_await (*stream)->write("GET / HTTP/1.1\r\n\r\n");
    if (!written.ok()) co_return std::move(written).error();
    Result<std::string> answer = co_await (*stream)->read(10'000);
    if (!answer.ok()) co_return std::move(answer).error();
    EXPECT_TRUE(answer->starts_with("HTTP/1.1 200 ")) << *answer;
    co_return std::move(stream);
}

Task<void> crowded(async::RealLoop& loop) {
    HttpServerOptions options;
    options.max_connections = 2;
    Fixture fixture(loop, nullptr, options);
    const Endpoint endpoint = fixture.server->endpoint();
    const std::string request = "GET / HTTP/1.1\r\nConnection: close\r\n\r\n";
    Result<std::unique_ptr<Stream>> oldest = co_await connect_and_get(loop, endpoint);
    CO_REQUIRE_OK(oldest);
    Result<std::unique_ptr<Stream>> newer = co_await connect_and_get(loop, endpoint);
    CO_REQUIRE_OK(newer);
    Result<std::string> answer = co_await talk(loop, endpoint, request);
    CO_REQUIRE_OK(answer);
    EXPECT_TRUE(answer->starts_with("HTTP/1.1 200 ")) << *answer;
    Result<std::string> end = co_await (*oldest)->read(10);
    EXPECT_TRUE(end.ok() && end->empty()) << "idle for longest";
    Result<void> written = co_await (*newer)->write(request);
    CO_REQUIRE_OK(written);
    answer = co_await (*newer)->read(10'000);
    CO_REQUIRE_OK(answer);
    EXPECT_TRUE(answer->starts_with("HTTP/1.1 200 ")) << *answer;
    // Those who never say anything.
    std::vector<std::unique_ptr<Stream>> silent;
    for (int i = 0; i < 5; ++i) {
        Result<std::unique_ptr<Stream>> stream = co_await connect(loop, endpoint);
        CO_REQUIRE_OK(stream);
        silent.push_back(std::move(*stream));
    }
    answer = co_await async::with_timeout(loop, 30s, talk(loop, endpoint, request));
    CO_REQUIRE_OK(answer);
    EXPECT_TRUE(answer->starts_with("HTTP/1.1 200 ")) << *answer;
    co_await fixture.server->stop(1s);
}

TEST(HttpServer, ClosesIdleConnectionsWhenOthersWait) {
    async::RealLoop loop;
    run(loop, crowded(loop));
}

constexpr size_t kFree = 64 * 1024;

/// A request whose header was answered with 100 Continue.
Task<Result<std::unique_ptr<Stream>>> begin_post(async::RealLoop& loop, Endpoint endpoint,
                                                 size_t size) {
    Result<std::unique_ptr<Stream>> stream = co_await connect(loop, endpoint);
    if (!stream.ok()) co_return std::move(stream);
    Result<void> written = co_await (*stream)->write(
        "POST / HTTP/1.1\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: " +
        std::to_string(size) + "\r\n\r\n");
    if (!written.ok()) co_return std::move(written).error();
    Result<std::string> answer = co_await (*stream)->read(10'000);
    if (!answer.ok()) co_return std::move(answer).error();
    EXPECT_EQ(*answer, "HTTP/1.1 100 Continue\r\n\r\n");
    co_return std::move(stream);
}

Task<Result<std::string>> finish_post(Stream& stream, size_t size) {
    Result<void> written = co_await stream.write(std::string(size, 'x'));
    if (!written.ok()) co_return std::move(written).error();
    Result<std::string> answer = co_await stream.read(10'000);
    co_return std::move(answer);
}

Task<void> budget(async::RealLoop& loop) {
    HttpServerOptions options;
    options.max_buffered_size = 200'000;
    Fixture fixture(loop, nullptr, options);
    const Endpoint endpoint = fixture.server->endpoint();
    Result<std::unique_ptr<Stream>> slow = co_await begin_post(loop, endpoint, 500'000);
    CO_REQUIRE_OK(slow);
    Result<void> written = co_await (*slow)->write(std::string(kFree + 150'000, 'x'));
    CO_REQUIRE_OK(written);
    while (fixture.server->buffered_size() < 150'000) {
        Result<void> turn = co_await async::yield(loop);
        CO_REQUIRE_OK(turn);
    }
    Result<std::unique_ptr<Stream>> small = co_await begin_post(loop, endpoint, kFree);
    CO_REQUIRE_OK(small);
    Result<std::string> answer = co_await finish_post(**small, kFree);
    CO_REQUIRE_OK(answer);
    EXPECT_TRUE(answer->starts_with("HTTP/1.1 200 ")) << *answer;
    EXPECT_EQ(fixture.server->buffered_size(), 150'000U) << "small bodies do not count";
    Result<std::unique_ptr<Stream>> fast = co_await begin_post(loop, endpoint, kFree + 150'000);
    CO_REQUIRE_OK(fast);
    answer = co_await finish_post(**fast, kFree + 150'000);
    CO_REQUIRE_OK(answer);
    EXPECT_TRUE(answer->starts_with("HTTP/1.1 200 ")) << *answer;
    Result<std::string> end = co_await (*slow)->read(10);
    EXPECT_TRUE(!end.ok() || end->empty()) << "the slow one was broken off";
    Result<std::unique_ptr<Stream>> large = co_await begin_post(loop, endpoint, kFree + 200'001);
    CO_REQUIRE_OK(large);
    answer = co_await finish_post(**large, kFree + 200'001);
    CO_REQUIRE_OK(answer);
    EXPECT_TRUE(answer->starts_with("HTTP/1.1 503 ")) << *answer;
    large->reset();
    fast->reset();
    small->reset();
    while (fixture.server->connections_count() > 0) {
        Result<void> turn = co_await async::yield(loop);
        CO_REQUIRE_OK(turn);
    }
    EXPECT_EQ(fixture.server->buffered_size(), 0U);
    co_await fixture.server->stop(1s);
}

TEST(HttpServer, BoundsTheBodiesOfAllConnections) {
    async::RealLoop loop;
    run(loop, budget(loop));
}

Task<void> stale(async::RealLoop& loop) {
    HttpServerOptions options;
    options.idle_timeout = 20ms;
    Fixture fixture(loop, nullptr, options);
    auto client = make_http_client(loop, fixture.url("http"), {});
    for (int round = 0; round < 3; ++round) {
        Result<std::string> text = co_await get(*client, "/");
        CO_REQUIRE_OK(text);
        while (fixture.server->connections_count() > 0) {
            Result<void> slept = co_await async::sleep_for(loop, 1ms);
            CO_REQUIRE_OK(slept);
        }
    }
    co_await fixture.server->stop(1s);
}

TEST(Http1Client, RepeatsOnStaleConnections) {
    async::RealLoop loop;
    run(loop, stale(loop));
}

Task<void> drop_server(async::RealLoop& loop) {
    auto fixture = std::make_unique<Fixture>(loop, nullptr);
    auto client = make_http_client(loop, fixture->url("http"), {});
    Result<std::string> text = co_await get(*client, "/");
    CO_REQUIRE_OK(text);
    fixture.reset();
    Result<std::string> gone = co_await get(*client, "/");
    EXPECT_FALSE(gone.ok());
}

TEST(HttpServer, MayBeDroppedWithoutStop) {
    async::RealLoop loop;
    run(loop, drop_server(loop));
}

}  // namespace
}  // namespace basalt::net
