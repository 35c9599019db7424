#include "net/tls.h"

#include "net/net_test_util.h"

namespace basalt::net {
namespace {

using test::Identity;
using test::run;
using test::Task;
using test::TestCa;
using Context = std::shared_ptr<const TlsContext>;

struct Handshake {
    std::optional<Result<std::unique_ptr<Stream>>> client, server;
};

Task<Result<void>> client_side(async::Loop& loop, Context context, std::unique_ptr<Stream> stream,
                               std::string name, Handshake* out) {
    Result<std::unique_ptr<Stream>> secured =
        co_await tls_connect(loop, context, std::move(stream), name);
    out->client.emplace(std::move(secured));
    co_return Result<void>();
}

Task<Result<void>> server_side(async::Loop& loop, Context context, std::unique_ptr<Stream> stream,
                               Handshake* out) {
    Result<std::unique_ptr<Stream>> secured = co_await tls_accept(loop, context, std::move(stream));
    out->server.emplace(std::move(secured));
    co_return Result<void>();
}

Task<void> shake_hands(async::Loop& loop, Context client, Context server, std::string name,
                       Handshake* out) {
    auto pair = make_stream_pair(loop);
    std::vector<Task<Result<void>>> tasks;
    tasks.push_back(client_side(loop, client, std::move(pair.first), name, out));
    tasks.push_back(server_side(loop, server, std::move(pair.second), out));
    Result<void> all = co_await async::join_all(loop, std::move(tasks));
    CO_REQUIRE_OK(all);
}

Task<Result<void>> write_then_end(Stream& stream, std::string data) {
    Result<void> written = co_await stream.write(std::move(data));
    if (!written.ok()) co_return std::move(written);
    Result<void> ended = co_await stream.close_write();
    co_return std::move(ended);
}

Task<Result<void>> expect_size(Stream& stream, size_t size, size_t* received) {
    for (;;) {
        Result<std::string> piece = co_await stream.read(10'000);
        if (!piece.ok()) co_return std::move(piece).error();
        if (piece->empty()) break;
        *received += piece->size();
    }
    co_return *received == size ? Result<void>() : internal_error("wrong size");
}

std::vector<std::string> both_protocols() { return {"h2", "http/1.1"}; }

Task<void> mutual(async::Loop& loop, TestCa& ca) {
    Handshake hands;
    Context client =
        ca.client_context(test::CertSpec{.common_name = "node-1",
                                         .organization = "system:nodes",
                                         .names = "DNS:n1,URI:spiffe://x,IP:10.0.0.1"});
    Context server = ca.server_context(both_protocols(), ClientCertificates::kRequired);
    co_await shake_hands(loop, client, server, "localhost", &hands);
    CO_REQUIRE_OK(*hands.client);
    CO_REQUIRE_OK(*hands.server);
    Stream& a = ***hands.client;
    Stream& b = ***hands.server;
    CO_REQUIRE(b.info().identity.has_value());
    EXPECT_EQ(b.info().identity->common_name, "node-1");
    EXPECT_EQ(b.info().identity->organizations, std::vector<std::string>{"system:nodes"});
    EXPECT_EQ(b.info().identity->dns_names, std::vector<std::string>{"n1"});
    EXPECT_EQ(b.info().identity->uris, std::vector<std::string>{"spiffe://x"});
    EXPECT_EQ(b.info().identity->ip_addresses, std::vector<std::string>{"10.0.0.1"});
    EXPECT_EQ(b.info().identity->sha256.size(), 64U);
    CO_REQUIRE(a.info().identity.has_value());
    EXPECT_EQ(a.info().identity->common_name, "server");
    EXPECT_EQ(a.info().tls_version, "TLSv1.3");
    std::vector<Task<Result<void>>> tasks;
    size_t there = 0, back = 0;
    tasks.push_back(write_then_end(a, std::string(2'000'000, 'a')));
    tasks.push_back(write_then_end(b, std::string(1'500'000, 'b')));
    tasks.push_back(expect_size(b, 2'000'000, &there));
    tasks.push_back(expect_size(a, 1'500'000, &back));
    Result<void> all = co_await async::join_all(loop, std::move(tasks));
    CO_REQUIRE_OK(all);
}

TEST(Tls, MutualWithMegabytesBothWays) {
    async::RealLoop loop;
    TestCa ca;
    run(loop, mutual(loop, ca));
}

Task<void> refusals(async::Loop& loop, TestCa& ca, TestCa& other) {
    struct Case {
        const char* what;
        Context client, server;
        const char* name;
    };
    TlsConfig expired_config;
    Identity expired = ca.issue(
        {.common_name = "x", .organization = {}, .names = "DNS:localhost", .valid_seconds = -1});
    expired_config.cert_pem = expired.cert_pem;
    expired_config.key_pem = expired.key();
    std::vector<Case> cases{
        {"unknown CA", other.client_context(), ca.server_context({}), "localhost"},
        {"wrong name", ca.client_context(), ca.server_context({}), "example.org"},
        {"wrong address", ca.client_context(), ca.server_context({}), "127.0.0.2"},
        {"expired", ca.client_context(), make_tls_server(std::move(expired_config)).value(),
         "localhost"},
    };
    for (const Case& one : cases) {
        Handshake hands;
        co_await shake_hands(loop, one.client, one.server, one.name, &hands);
        EXPECT_FALSE(hands.client->ok()) << one.what;
        if (hands.client->ok()) continue;
        EXPECT_EQ(hands.client->error().code(), Code::kUnauthenticated) << one.what;
        EXPECT_EQ(hands.client->error().reason(), "TlsVerify") << one.what;
        EXPECT_FALSE(hands.server->ok()) << one.what;
    }
    Handshake good;
    co_await shake_hands(loop, ca.client_context(), ca.server_context({}), "127.0.0.1", &good);
    EXPECT_TRUE(good.client->ok());
    EXPECT_TRUE(good.server->ok());
}

TEST(Tls, RefusesServersThatDoNotConvince) {
    async::RealLoop loop;
    TestCa ca, other("other-ca");
    run(loop, refusals(loop, ca, other));
}

Task<void> client_refusals(async::Loop& loop, TestCa& ca, TestCa& other) {
    Context server = ca.server_context({}, ClientCertificates::kRequired);
    TlsConfig config;
    config.ca_pem = ca.ca_pem();
    Identity foreign = other.issue({.common_name = "intruder", .organization = {}, .names = {}});
    config.cert_pem = foreign.cert_pem;
    config.key_pem = foreign.key();
    Context intruder = make_tls_client(std::move(config)).value();
    for (const Context& client : {intruder, ca.client_context()}) {
        Handshake hands;
        co_await shake_hands(loop, client, server, "localhost", &hands);
        EXPECT_FALSE(hands.server->ok());
        EXPECT_EQ(hands.server->error().code(), Code::kUnauthenticated);
        CO_REQUIRE_OK(*hands.client);  // TLS 1.3: the client is done before the server has looked.
        Result<std::string> read = co_await (**hands.client)->read(100);
        CO_REQUIRE(!read.ok());
        EXPECT_EQ(read.error().code(), Code::kUnauthenticated);
        EXPECT_EQ(read.error().reason(), "TlsAlert");
    }
    Handshake hands;
    co_await shake_hands(loop, ca.client_context(),
                         ca.server_context({}, ClientCertificates::kOptional), "localhost", &hands);
    CO_REQUIRE_OK(*hands.server);
    EXPECT_FALSE((**hands.server)->info().identity.has_value());
}

TEST(Tls, MutualRefusesClients) {
    async::RealLoop loop;
    TestCa ca, other("other-ca");
    run(loop, client_refusals(loop, ca, other));
}

Task<void> resume(async::Loop& loop, TestCa& ca) {
    Context client =
        ca.client_context(test::CertSpec{.common_name = "me", .organization = {}, .names = {}});
    Context server = ca.server_context({}, ClientCertificates::kRequired);
    for (int round = 0; round < 3; ++round) {
        Handshake hands;
        co_await shake_hands(loop, client, server, "localhost", &hands);
        CO_REQUIRE_OK(*hands.client);
        CO_REQUIRE_OK(*hands.server);
        EXPECT_EQ((**hands.server)->info().tls_resumed, round > 0);
        CO_REQUIRE((**hands.server)->info().identity.has_value());
        EXPECT_EQ((**hands.server)->info().identity->common_name, "me");
        // The ticket comes with the first bytes after the handshake.
        Result<void> written = co_await (**hands.server)->write("x");
        CO_REQUIRE_OK(written);
        Result<std::string> read = co_await (**hands.client)->read(1);
        CO_REQUIRE_OK(read);
    }
}

TEST(Tls, ResumesSessionsWithIdentity) {
    async::RealLoop loop;
    TestCa ca;
    run(loop, resume(loop, ca));
}

Task<void> truncation(async::Loop& loop, TestCa& ca) {
    Handshake hands;
    co_await shake_hands(loop, ca.client_context(), ca.server_context({}), "localhost", &hands);
    CO_REQUIRE_OK(*hands.client);
    CO_REQUIRE_OK(*hands.server);
    Result<void> written = co_await (**hands.server)->write("half");
    CO_REQUIRE_OK(written);
    (**hands.server)->close();
    Result<std::string> read = co_await (**hands.client)->read(100);
    CO_REQUIRE_OK(read);
    EXPECT_EQ(*read, "half");
    Result<std::string> end = co_await (**hands.client)->read(100);
    CO_REQUIRE(!end.ok());
    EXPECT_EQ(end.error().reason(), "Truncated");
}

TEST(Tls, TellsTruncationFromTheEnd) {
    async::RealLoop loop;
    TestCa ca;
    run(loop, truncation(loop, ca));
}

TEST(TlsContext, RefusesUnusableConfigurations) {
    TestCa ca;
    Identity one = ca.server(), two = ca.server();
    TlsConfig mismatch;
    mismatch.cert_pem = one.cert_pem;
    mismatch.key_pem = two.key();
    EXPECT_EQ(make_tls_server(mismatch).error().code(), Code::kInvalidArgument);
    EXPECT_EQ(make_tls_server(TlsConfig()).error().code(), Code::kInvalidArgument);
    EXPECT_EQ(make_tls_client(TlsConfig()).error().code(), Code::kInvalidArgument);
    TlsConfig garbage;
    garbage.ca_pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    EXPECT_EQ(make_tls_client(garbage).error().code(), Code::kInvalidArgument);
    TlsConfig no_ca;
    no_ca.cert_pem = one.cert_pem;
    no_ca.key_pem = one.key();
    no_ca.client_certificates = ClientCertificates::kRequired;
    EXPECT_EQ(make_tls_server(no_ca).error().code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace basalt::net
