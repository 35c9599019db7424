#include "net/grpc.h"

#include "async/sim_loop.h"
#include "net/grpc_wire.h"
#include "net/net_test_util.h"

namespace basalt::net {
namespace {

using test::run;
using test::Task;
using test::TestCa;
using namespace std::chrono_literals;

class TestService final : public GrpcService {
 public:
    explicit TestService(async::Loop& loop) : loop_(loop) {}
    Task<Result<void>> serve(GrpcServerCall& call) override {
        if (call.method() == "/t.T/Unary") return unary(call);
        if (call.method() == "/t.T/Count") return count(call);
        if (call.method() == "/t.T/Sum") return sum(call);
        if (call.method() == "/t.T/Chat") return chat(call);
        if (call.method() == "/t.T/Hang") return hang(*this, call);
        if (call.method() == "/t.T/EarlyEnd") return early_end(call);
        return unknown();
    }
    int cancelled_count = 0;
    int hanging_count = 0;

 private:
    static Task<Result<void>> unknown() { co_return unimplemented("no such method"); }

    static Task<Result<void>> unary(GrpcServerCall& call) {
        Result<std::string> request = co_await read_unary(call);
        if (!request.ok()) co_return std::move(request).error();
        if (*request == "fail") {
            call.add_trailing_metadata("why", "asked");
            co_return failed_precondition("100% näh\n");
        }
        call.add_initial_metadata(
            "x-who", call.connection().identity ? call.connection().identity->common_name : "-");
        call.add_initial_metadata("x-meta", std::string(call.metadata().get("x-meta")));
        call.add_trailing_metadata("x-raw-bin", std::string(call.metadata().get("raw-bin")));
        Result<void> written = co_await call.write("<" + *request + ">");
        co_return std::move(written);
    }
    static Task<Result<void>> count(GrpcServerCall& call) {
        Result<std::string> request = co_await read_unary(call);
        if (!request.ok()) co_return std::move(request).error();
        for (size_t i = 0; i < request->size(); ++i) {
            Result<void> written = co_await call.write(std::string(i * 100, 'c'));
            if (!written.ok()) co_return std::move(written);
        }
        co_return Result<void>();
    }
    static Task<Result<void>> sum(GrpcServerCall& call) {
        size_t size = 0;
        for (;;) {
            Result<std::optional<std::string>> message = co_await call.read();
            if (!message.ok()) co_return std::move(message).error();
            if (!message->has_value()) break;
            size += (*message)->size();
        }
        Result<void> written = co_await call.write(std::to_string(size));
        co_return std::move(written);
    }
    static Task<Result<void>> chat(GrpcServerCall& call) {
        Result<void> header = call.send_header();
        while (header.ok()) {
            Result<std::optional<std::string>> message = co_await call.read();
            if (!message.ok()) co_return std::move(message).error();
            if (!message->has_value()) break;
            Result<void> written = co_await call.write("re:" + **message);
            header = std::move(written);
        }
        co_return std::move(header);
    }
    static Task<Result<void>> hang(TestService& self, GrpcServerCall& call) {
        Result<void> header = call.send_header();
        ++self.hanging_count;
        Result<void> slept = co_await async::sleep_for(self.loop_, 1h);
        --self.hanging_count;
        if (!slept.ok()) ++self.cancelled_count;
        co_return header.ok() ? std::move(slept) : std::move(header);
    }
    static Task<Result<void>> early_end(GrpcServerCall& call) {
        Result<std::optional<std::string>> message = co_await call.read();
        if (!message.ok()) co_return std::move(message).error();
        co_return resource_exhausted("enough");
    }
    async::Loop& loop_;
};

std::vector<std::string> alpn_h2() { return {"h2"}; }

struct Fixture {
    Fixture(async::RealLoop& loop, std::shared_ptr<const TlsContext> tls, Endpoint endpoint,
            GrpcServerOptions options = {})
        : service(std::make_shared<TestService>(loop)) {
        options.tls = std::move(tls);
        server = start_grpc_server(loop, listen(loop, endpoint).value(), service, options).value();
    }
    std::shared_ptr<TestService> service;
    std::unique_ptr<GrpcServer> server;
};

Task<Result<void>> unary_size(GrpcChannel& channel, size_t size) {
    Result<std::string> response = co_await channel.unary("/t.T/Unary", std::string(size, 'u'));
    if (!response.ok()) co_return std::move(response).error();
    EXPECT_EQ(response->size(), size + 2);
    co_return Result<void>();
}

Task<Result<void>> feed(GrpcStream& stream, size_t count, size_t size) {
    for (size_t i = 0; i < count; ++i) {
        Result<void> written = co_await stream.write(std::string(size, 'm'));
        if (!written.ok()) co_return std::move(written);
    }
    Result<void> finished = co_await stream.finish_writing();
    co_return std::move(finished);
}

Task<Result<void>> drain(GrpcStream& stream, size_t* messages, size_t* bytes) {
    for (;;) {
        Result<std::optional<std::string>> message = co_await stream.read();
        if (!message.ok()) co_return std::move(message).error();
        if (!message->has_value()) co_return Result<void>();
        ++*messages;
        *bytes += (*message)->size();
    }
}

Task<void> all_kinds(async::RealLoop& loop, std::shared_ptr<GrpcChannel> channel, std::string who) {
    GrpcCallOptions options;
    options.metadata.add("x-meta", "m");
    options.metadata.add("raw-bin", std::string("\x00\xff\x01\x02", 4));
    Result<std::unique_ptr<GrpcStream>> one =
        co_await channel->server_stream("/t.T/Unary", "hello", options);
    CO_REQUIRE_OK(one);
    Result<std::optional<std::string>> answer = co_await (*one)->read();
    CO_REQUIRE_OK(answer);
    CO_REQUIRE(answer->has_value());
    EXPECT_EQ(**answer, "<hello>");
    EXPECT_EQ((*one)->initial_metadata().get("x-who"), who);
    EXPECT_EQ((*one)->initial_metadata().get("x-meta"), "m");
    answer = co_await (*one)->read();
    CO_REQUIRE_OK(answer);
    EXPECT_FALSE(answer->has_value());
    EXPECT_EQ((*one)->trailing_metadata().get("x-raw-bin"), std::string("\x00\xff\x01\x02", 4));

    Result<std::string> failed = co_await channel->unary("/t.T/Unary", "fail");
    CO_REQUIRE(!failed.ok());
    EXPECT_EQ(failed.error().code(), Code::kFailedPrecondition);
    EXPECT_EQ(failed.error().message(), "100% näh\n");
    EXPECT_EQ(failed.error().cause_code(), 9);
    Result<std::string> unknown = co_await channel->unary("/t.T/None", "");
    CO_REQUIRE(!unknown.ok());
    EXPECT_EQ(unknown.error().code(), Code::kUnimplemented);

    Result<std::unique_ptr<GrpcStream>> counted =
        co_await channel->server_stream("/t.T/Count", std::string(300, 'x'));
    CO_REQUIRE_OK(counted);
    size_t messages = 0, bytes = 0;
    Result<void> drained = co_await drain(**counted, &messages, &bytes);
    CO_REQUIRE_OK(drained);
    EXPECT_EQ(messages, 300U);
    EXPECT_EQ(bytes, 300U * 299 / 2 * 100);

    Result<std::unique_ptr<GrpcStream>> summed = co_await channel->open("/t.T/Sum", {});
    CO_REQUIRE_OK(summed);
    Result<void> fed = co_await feed(**summed, 100, 100'000);
    CO_REQUIRE_OK(fed);
    answer = co_await (*summed)->read();
    CO_REQUIRE_OK(answer);
    CO_REQUIRE(answer->has_value());
    EXPECT_EQ(**answer, "10000000");

    Result<std::unique_ptr<GrpcStream>> chat = co_await channel->open("/t.T/Chat", {});
    CO_REQUIRE_OK(chat);
    messages = bytes = 0;
    std::vector<Task<Result<void>>> both;
    both.push_back(feed(**chat, 1000, 5000));
    both.push_back(drain(**chat, &messages, &bytes));
    Result<void> chatted = co_await async::join_all(loop, std::move(both));
    CO_REQUIRE_OK(chatted);
    EXPECT_EQ(messages, 1000U);
    EXPECT_EQ(bytes, 1000U * 5003);

    std::vector<Task<Result<void>>> many;
    for (size_t i = 0; i < 150; ++i) many.push_back(unary_size(*channel, i * 1000));
    Result<void> all = co_await async::join_all(loop, std::move(many));
    CO_REQUIRE_OK(all);
}

Task<void> over_tls(async::RealLoop& loop, TestCa& ca) {
    Fixture fixture(loop, ca.server_context(alpn_h2(), ClientCertificates::kRequired),
                    Endpoint::tcp("127.0.0.1", 0));
    Url url = parse_url("https://" + fixture.server->endpoint().to_string()).value();
    HttpClientOptions options;
    options.tls = ca.client_context(
        test::CertSpec{.common_name = "tenant-a", .organization = {}, .names = {}});
    co_await all_kinds(loop, make_grpc_channel(loop, url, options), "tenant-a");
    co_await fixture.server->stop(1s);
}

TEST(Grpc, AllKindsOverMutualTls) {
    async::RealLoop loop;
    TestCa ca;
    run(loop, over_tls(loop, ca));
}

Task<void> over_unix(async::RealLoop& loop, std::string path) {
    Fixture fixture(loop, nullptr, Endpoint::local_socket(path));
    co_await all_kinds(loop, make_grpc_channel(loop, parse_url("unix://" + path).value(), {}), "-");
    co_await fixture.server->stop(1s);
}

TEST(Grpc, AllKindsOverUnixSocket) {
    async::RealLoop loop;
    run(loop, over_unix(loop, testing::TempDir() + "grpc_test.sock"));
}

Task<void> endings(async::RealLoop& loop, std::string path) {
    GrpcServerOptions server_options;
    server_options.max_message_size = 1000;
    Fixture fixture(loop, nullptr, Endpoint::local_socket(path), server_options);
    auto channel = make_grpc_channel(loop, parse_url("unix://" + path).value(), {});
    GrpcCallOptions hurried;
    hurried.deadline = loop.now() + 50ms;
    Result<std::string> late = co_await channel->unary("/t.T/Hang", "", hurried);
    CO_REQUIRE(!late.ok());
    EXPECT_EQ(late.error().code(), Code::kDeadlineExceeded) << late.error().to_string();
    {
        Result<std::unique_ptr<GrpcStream>> dropped = co_await channel->open("/t.T/Hang", {});
        CO_REQUIRE_OK(dropped);
        Result<void> header = co_await (*dropped)->wait_header();
        CO_REQUIRE_OK(header);
    }
    while (fixture.service->hanging_count > 0) {
        Result<void> slept = co_await async::sleep_for(loop, 1ms);
        CO_REQUIRE_OK(slept);
    }
    EXPECT_EQ(fixture.service->cancelled_count, 2);

    Result<std::unique_ptr<GrpcStream>> cancelled_stream = co_await channel->open("/t.T/Hang", {});
    CO_REQUIRE_OK(cancelled_stream);
    loop.call_at(loop.now() + 20ms, [stream = cancelled_stream->get()] { stream->cancel(); });
    Result<std::optional<std::string>> read = co_await (*cancelled_stream)->read();
    CO_REQUIRE(!read.ok());
    EXPECT_EQ(read.error().code(), Code::kCancelled);

    Result<std::string> large = co_await channel->unary("/t.T/Unary", std::string(2000, 'l'));
    CO_REQUIRE(!large.ok());
    EXPECT_EQ(large.error().code(), Code::kResourceExhausted);
    GrpcCallOptions small;
    small.max_message_size = 10;
    Result<std::string> too_large = co_await channel->unary("/t.T/Unary", "0123456789", small);
    CO_REQUIRE(!too_large.ok());
    EXPECT_EQ(too_large.error().code(), Code::kResourceExhausted);

    // A server that ends the call while the client still writes: the writer learns the status.
    Result<std::unique_ptr<GrpcStream>> early = co_await channel->open("/t.T/EarlyEnd", {});
    CO_REQUIRE_OK(early);
    Result<void> written;
    while (written.ok()) {
        Result<void> again = co_await (*early)->write(std::string(900, 'e'));
        Result<void> turn = co_await async::yield(loop);
        CO_REQUIRE_OK(turn);
        written = std::move(again);
    }
    EXPECT_EQ(written.error().code(), Code::kResourceExhausted) << written.error().to_string();
    EXPECT_EQ(written.error().message(), "enough");
    read = co_await (*early)->read();
    CO_REQUIRE(!read.ok());
    EXPECT_EQ(read.error().message(), "enough");
    co_await fixture.server->stop(1s);
    Result<std::string> gone = co_await channel->unary("/t.T/Unary", "x");
    CO_REQUIRE(!gone.ok());
    EXPECT_EQ(gone.error().code(), Code::kUnavailable);
    EXPECT_EQ(gone.error().reason(), "NotSent");
}

TEST(Grpc, EndsCallsInEveryWay) {
    async::RealLoop loop;
    run(loop, endings(loop, testing::TempDir() + "grpc_ends.sock"));
}

Task<Result<void>> hang_until_end(GrpcChannel& channel, Code* code) {
    Result<std::string> response = co_await channel.unary("/t.T/Hang", "");
    *code = response.ok() ? Code::kOk : response.error().code();
    co_return Result<void>();
}

Task<Result<void>> stop_when_hanging(async::Loop& loop, Fixture& fixture) {
    while (fixture.service->hanging_count == 0) {
        Result<void> slept = co_await async::sleep_for(loop, 1ms);
        if (!slept.ok()) co_return std::move(slept);
    }
    co_await fixture.server->stop(20ms);
    co_return Result<void>();
}

Task<void> stop_breaks_off(async::RealLoop& loop, std::string path) {
    Fixture fixture(loop, nullptr, Endpoint::local_socket(path));
    auto channel = make_grpc_channel(loop, parse_url("unix://" + path).value(), {});
    Code code = Code::kOk;
    std::vector<Task<Result<void>>> tasks;
    tasks.push_back(hang_until_end(*channel, &code));
    tasks.push_back(stop_when_hanging(loop, fixture));
    Result<void> all = co_await async::join_all(loop, std::move(tasks));
    CO_REQUIRE_OK(all);
    EXPECT_TRUE(code == Code::kUnavailable || code == Code::kCancelled) << code_name(code);
    EXPECT_EQ(fixture.service->cancelled_count, 1);
}

TEST(Grpc, StopBreaksCallsOffAfterItsGrace) {
    async::RealLoop loop;
    run(loop, stop_breaks_off(loop, testing::TempDir() + "grpc_stop.sock"));
}

TEST(GrpcWire, CutsFramesWhereverTheyAreSplit) {
    std::string bytes = internal::grpc_frame("one") + internal::grpc_frame("") +
                        internal::grpc_frame(std::string(300, 'x'));
    for (size_t step = 1; step < bytes.size(); ++step) {
        internal::GrpcDecoder decoder(1000);
        std::vector<std::string> messages;
        for (size_t i = 0; i < bytes.size(); i += step) {
            decoder.feed(std::string_view(bytes).substr(i, step));
            for (;;) {
                auto message = decoder.next();
                ASSERT_TRUE(message.ok());
                if (!message->has_value()) break;
                messages.push_back(**message);
            }
        }
        ASSERT_EQ(messages.size(), 3U);
        EXPECT_EQ(messages[0], "one");
        EXPECT_EQ(messages[1], "");
        EXPECT_EQ(messages[2].size(), 300U);
        EXPECT_TRUE(decoder.empty());
    }
    internal::GrpcDecoder decoder(10);
    decoder.feed(std::string_view("\x01\x00\x00\x00\x00", 5));
    EXPECT_EQ(decoder.next().error().code(), Code::kInternal);
    internal::GrpcDecoder limited(10);
    limited.feed(std::string_view("\x00\xff\xff\xff\xff", 5));
    EXPECT_EQ(limited.next().error().code(), Code::kResourceExhausted);
}

TEST(GrpcWire, Timeouts) {
    EXPECT_EQ(internal::format_grpc_timeout(1ns), "1n");
    EXPECT_EQ(internal::format_grpc_timeout(1s), "1000000u");
    EXPECT_EQ(internal::format_grpc_timeout(100s), "100000m");
    EXPECT_EQ(internal::format_grpc_timeout(Duration(-5)), "1n");
    EXPECT_EQ(internal::parse_grpc_timeout("100m"), Duration(100ms));
    EXPECT_EQ(internal::parse_grpc_timeout("2H"), Duration(2h));
    EXPECT_EQ(internal::parse_grpc_timeout("99999999H"), Duration::max());
    for (const char* text : {"", "5", "m", "-1m", "123456789m", "5x"})
        EXPECT_FALSE(internal::parse_grpc_timeout(text));
}

TEST(GrpcWire, MetadataKeepsBytesAndRefusesReservedNames) {
    Headers wire =
        internal::encode_metadata(Headers{{"a-bin", std::string("\0\xff", 2)}, {"b", "text"}})
            .value();
    EXPECT_EQ(wire.get("a-bin"), "AP8");
    EXPECT_EQ(internal::decode_metadata(wire).get("a-bin"), std::string("\0\xff", 2));
    EXPECT_EQ(internal::decode_metadata(Headers{{"a-bin", "AP8="}}).get("a-bin"),
              std::string("\0\xff", 2));
    EXPECT_FALSE(internal::encode_metadata(Headers{{"grpc-status", "0"}}).ok());
    EXPECT_FALSE(internal::encode_metadata(Headers{{"x", "a\nb"}}).ok());
    EXPECT_EQ(internal::decode_grpc_message("100%"), "100%");
    EXPECT_EQ(internal::status_from(Headers{{"grpc-status", "77"}}).error().code(), Code::kUnknown);
    EXPECT_EQ(internal::status_from(Headers()).error().code(), Code::kUnknown);
}

}  // namespace
}  // namespace basalt::net
