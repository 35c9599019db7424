#include "net/websocket.h"

#include "net/net_test_util.h"
#include "net/websocket_codec.h"

namespace basalt::net {
namespace {

using internal::WebSocketDecoder;
using internal::WebSocketFrame;
using internal::WebSocketOpcode;
using test::run;
using test::Task;
using namespace std::chrono_literals;

Task<void> echo(std::unique_ptr<WebSocket> socket) {
    for (;;) {
        Result<std::optional<WebSocketMessage>> message = co_await socket->read();
        if (!message.ok() || !message->has_value()) co_return;
        if ((*message)->data == "bye") {
            Result<void> closed = co_await socket->close(1000, "as asked");
            CO_REQUIRE_OK(closed);
            continue;
        }
        Result<void> pinged = co_await socket->ping();
        CO_REQUIRE_OK(pinged);
        Result<void> written = co_await socket->write(std::move(**message));
        CO_REQUIRE_OK(written);
    }
}

class EchoHandler final : public HttpHandler {
 public:
    explicit EchoHandler(async::Loop& loop) : loop_(loop) {}
    Task<Result<HttpServerResponse>> handle(ServerRequest request) override {
        if (request.path() == "/forbidden") co_return permission_denied("no");
        std::vector<std::string> protocols{"v5.channel.k8s.io", "v4.channel.k8s.io"};
        co_return websocket_accept(loop_, request, protocols, echo);
    }

 private:
    async::Loop& loop_;
};

std::vector<std::string> v4_only() { return {"v4.channel.k8s.io"}; }

Task<void> talk(async::RealLoop& loop) {
    auto server = start_http_server(loop, listen(loop, Endpoint::tcp("127.0.0.1", 0)).value(),
                                    std::make_shared<EchoHandler>(loop))
                      .value();
    auto client =
        make_http_client(loop, parse_url("http://" + server->endpoint().to_string()).value(), {});
    Result<std::unique_ptr<WebSocket>> socket =
        co_await websocket_connect(loop, client, HttpRequest(), v4_only());
    CO_REQUIRE_OK(socket);
    EXPECT_EQ((*socket)->protocol(), "v4.channel.k8s.io");
    for (size_t size : {size_t{0}, size_t{1}, size_t{125}, size_t{126}, size_t{65'535},
                        size_t{65'536}, size_t{900'000}}) {
        WebSocketMessage message;
        message.data = std::string(size, 'w');
        message.is_text = size % 2 == 0;
        const bool is_text = message.is_text;
        Result<void> written = co_await (*socket)->write(std::move(message));
        CO_REQUIRE_OK(written);
        Result<std::optional<WebSocketMessage>> back = co_await (*socket)->read();
        CO_REQUIRE_OK(back);
        CO_REQUIRE(back->has_value());
        EXPECT_EQ((*back)->data.size(), size);
        EXPECT_EQ((*back)->is_text, is_text);
    }
    WebSocketMessage bye;
    bye.data = "bye";
    Result<void> written = co_await (*socket)->write(std::move(bye));
    CO_REQUIRE_OK(written);
    Result<std::optional<WebSocketMessage>> end = co_await (*socket)->read();
    CO_REQUIRE_OK(end);
    EXPECT_FALSE(end->has_value());
    EXPECT_EQ((*socket)->close_code(), 1000);
    EXPECT_EQ((*socket)->close_reason(), "as asked");
    HttpRequest forbidden;
    forbidden.target = "/forbidden";
    Result<std::unique_ptr<WebSocket>> refused =
        co_await websocket_connect(loop, client, std::move(forbidden), v4_only());
    CO_REQUIRE(!refused.ok());
    EXPECT_EQ(refused.error().code(), Code::kPermissionDenied);
    EXPECT_EQ(refused.error().cause_code(), 403);
    Result<std::unique_ptr<WebSocket>> none = co_await websocket_connect(
        loop, client, HttpRequest(), std::vector<std::string>(1, "other"));
    CO_REQUIRE(!none.ok());
    EXPECT_EQ(none.error().code(), Code::kInvalidArgument);
    co_await server->stop(1s);
}

TEST(WebSocket, TalksBothWays) {
    async::RealLoop loop;
    run(loop, talk(loop));
}

TEST(WebSocket, KnowsTheExampleKeyOfTheStandard) {
    EXPECT_EQ(internal::websocket_accept_key("dGhlIHNhbXBsZSBub25jZQ=="),
              "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

TEST(WebSocketDecoder, TakesFramesByteByByte) {
    std::string bytes =
        internal::encode_frame({WebSocketOpcode::kText, false, "Hel"}, 0x37fa213dU) +
        internal::encode_frame({WebSocketOpcode::kPing, true, ""}, 1U) +
        internal::encode_frame({WebSocketOpcode::kContinuation, true, std::string(300, 'l')}, 2U);
    WebSocketDecoder decoder(true, 1000);
    std::vector<WebSocketFrame> frames;
    for (char c : bytes) {
        decoder.feed(std::string_view(&c, 1));
        auto frame = decoder.next();
        ASSERT_TRUE(frame.ok());
        if (frame->has_value()) frames.push_back(**frame);
    }
    ASSERT_EQ(frames.size(), 3U);
    EXPECT_EQ(frames[0].payload, "Hel");
    EXPECT_FALSE(frames[0].final);
    EXPECT_EQ(frames[2].payload, std::string(300, 'l'));
}

TEST(WebSocketDecoder, RefusesProtocolErrors) {
    struct Case {
        std::string bytes;
        Code code;
    };
    std::vector<Case> cases{
        {std::string("\xc2\x01x"), Code::kInvalidArgument},      // reserved bit
        {std::string("\x83\x01x"), Code::kInvalidArgument},      // unknown opcode
        {std::string("\x09\x01x"), Code::kInvalidArgument},      // fragmented ping
        {std::string("\x82\x81mmmmx"), Code::kInvalidArgument},  // masked by a server
        {std::string("\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff"), Code::kResourceExhausted}};
    for (const Case& one : cases) {
        WebSocketDecoder decoder(false, 1000);
        decoder.feed(one.bytes);
        auto frame = decoder.next();
        ASSERT_FALSE(frame.ok());
        EXPECT_EQ(frame.error().code(), one.code);
    }
}

}  // namespace
}  // namespace basalt::net
