// Who a tenant is comes from its certificate and from nothing else, what is open to everybody tells
// nothing, and the JSON gateway is no other way in. On real servers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "data/base64.h"
#include "etcd/isolation_fixture.h"

namespace basalt::etcd {
namespace {

using async::Task;
using testing::HasSubstr;
using testing::Not;

class IdentityTest : public IsolationTest {};

TEST_P(IdentityTest, NamesThatAreNotInTheCertificateDoNotCount) {
    const Call read = call("read", "KV/Range", range_request("/b/", "/b0"));
    for (const auto& [name, value] : std::vector<std::pair<std::string, std::string>>{
             {"token", "b-user"},
             {"token", "root"},
             {"token", ""},
             {"authorization", "Bearer root"},
             {"authorization", "Basic cm9vdDo="},
             {"grpcgateway-accept", "application/json"},
             {"x-forwarded-user", "root"},
             {"username", "root"}}) {
        net::GrpcMetadata metadata;
        metadata.add(name, value);
        Result<std::string> answer = unary(channel_, read, metadata);
        EXPECT_FALSE(answer.ok()) << name << "=" << value;
    }
}

TEST_P(IdentityTest, StrangersGetNothing) {
    const Call read = call("read", "KV/Range", range_request("/b/", "/b0"));
    // Certificates of the right authority whose name is unknown, empty, or almost one that exists.
    for (const char* user : {"stranger", "", "b-user0", "B-USER", "Root"}) {
        std::shared_ptr<net::GrpcChannel> channel = etcd_->channel(loop_, user);
        Result<std::string> answer = unary(channel, read);
        EXPECT_FALSE(answer.ok()) << "\"" << user << "\"";
    }
    // The right name from another authority.
    std::shared_ptr<net::GrpcChannel> forged = etcd_->channel(loop_, "root", "other");
    Result<std::string> answer = unary(forged, read);
    ASSERT_FALSE(answer.ok());
    EXPECT_EQ(answer.error().reason(), "TlsAlert")
        << "refused before HTTP: " << answer.error().to_string();
}

// What tenancy.h says is open to every user, and no more: the answers tell nothing of other
// tenants' data.
TEST_P(IdentityTest, WhatIsOpenTellsNothing) {
    pb::NameRequest self, own_role;
    self.set_name("a-user");
    own_role.set_name("a");
    pb::LeaseGrantRequest grant;
    grant.set_ttl(600);
    for (const Call& open :
         {call("status", "Maintenance/Status", pb::Empty()),
          call("alarms", "Maintenance/Alarm", pb::Empty()),
          call("members", "Cluster/MemberList", pb::Empty()), call("self", "Auth/UserGet", self),
          call("own role", "Auth/RoleGet", own_role), call("lease", "Lease/LeaseGrant", grant)}) {
        Result<std::string> answer = unary(channel_, open);
        if (!answer.ok()) {
            EXPECT_EQ(map_error(answer.error()).reason(), "PermissionDenied") << open.name;
            continue;
        }
        EXPECT_THAT(*answer, Not(HasSubstr("/b/"))) << open.name;
        EXPECT_THAT(*answer, Not(HasSubstr("b-user"))) << open.name;
        EXPECT_THAT(*answer, Not(HasSubstr(kSecret))) << open.name;
        RecordProperty("open: " + open.name, "yes");
    }
    // A lease that holds nothing yet belongs to nobody: whoever puts the first key into it shuts
    // the others out.
    pb::LeaseGrantRequest empty;
    empty.set_ttl(600);
    empty.set_id(96);
    ASSERT_TRUE(
        unary(victim_channel_, call("victim's empty lease", "Lease/LeaseGrant", empty)).ok());
    pb::PutRequest put;
    put.set_key("/a/squatter");
    put.set_lease(96);
    if (unary(channel_, call("squat", "KV/Put", put)).ok()) {
        put.set_key("/b/new");
        EXPECT_FALSE(unary(victim_channel_, call("shut out", "KV/Put", put)).ok());
        RecordProperty("open: empty leases", "yes");
    }
    expect_untouched();
}

TEST_P(IdentityTest, ARemovedTenantsConnectionIsWorthless) {
    ASSERT_TRUE(unary(channel_, call("own", "KV/Range", range_request("/a/mine", ""))).ok());
    ASSERT_TRUE(run(remove_tenant(*root_, attacker_)).ok());
    Result<std::string> answer =
        unary(channel_, call("own", "KV/Range", range_request("/a/mine", "")));
    EXPECT_FALSE(answer.ok());
    pb::PutRequest put;
    put.set_key("/a/late");
    EXPECT_FALSE(unary(channel_, call("late write", "KV/Put", put)).ok());
    EXPECT_EQ(run(root_->range(attacker_.range, 1, true))->count, 0);
}

// --- The JSON gateway (grpc-gateway), served on the same port to HTTP/1.1

struct GatewayAnswer {
    int status = 0;
    std::string body;
};

Task<Result<GatewayAnswer>> ask_gateway(std::shared_ptr<net::HttpClient> client,
                                        net::HttpRequest request) {
    Result<net::HttpResponse> response = co_await client->send(std::move(request));
    if (!response.ok()) co_return std::move(response).error();
    GatewayAnswer answer;
    answer.status = response->status;
    while (true) {  // Up to the first pieces: the stream of a watch does not end.
        Result<std::optional<std::string>> piece = co_await response->body->read();
        if (!piece.ok() || !piece->has_value()) break;
        answer.body += **piece;
        if (answer.body.size() > 64 * 1024 || answer.body.find("\n") != std::string::npos) break;
    }
    co_return std::move(answer);
}

class GatewayTest : public IdentityTest {
 protected:
    /// HTTP/1.1, with the certificate of `user`.
    std::shared_ptr<net::HttpClient> http_as(const std::string& user) {
        net::HttpClientOptions options;
        options.tls = net::make_tls_client(etcd_->tls_config(user)).value();
        options.version = net::HttpVersion::kHttp1;
        return net::make_http_client(loop_, net::parse_url("https://" + etcd_->endpoint()).value(),
                                     std::move(options));
    }
    Result<GatewayAnswer> ask(const std::shared_ptr<net::HttpClient>& http, const std::string& path,
                              const std::string& body, const std::string& authorization) {
        net::HttpRequest request;
        request.method = "POST";
        request.target = path;
        request.headers.add("content-type", "application/json");
        if (!authorization.empty()) request.headers.add("authorization", authorization);
        request.body = body;
        return run(async::with_timeout(loop_, std::chrono::seconds(5),
                                       ask_gateway(http, std::move(request))));
    }
    static std::vector<std::pair<std::string, std::string>> attempts();
    static bool tells(const GatewayAnswer& answer, std::string_view text) {
        return answer.body.find(text) != std::string::npos;
    }
    /// Streams answer 200 and tell the refusal in the body.
    static bool is_refused(const GatewayAnswer& answer) {
        return answer.status >= 400 || tells(answer, "\"error\"") ||
               tells(answer, "permission denied") || tells(answer, "user name is empty") ||
               tells(answer, "invalid auth token");
    }
    /// By the gateway's table of paths. What etcd itself does not find it names.
    static bool is_unknown_path(const GatewayAnswer& answer) {
        return answer.status == 404 && !tells(answer, "etcdserver:");
    }
    void expect_nothing_told(const GatewayAnswer& answer, const std::string& path) {
        EXPECT_THAT(answer.body, Not(HasSubstr(data::base64_encode(kSecret)))) << path;
        EXPECT_THAT(answer.body, Not(HasSubstr(data::base64_encode("/b/one")))) << path;
    }
};

std::vector<std::pair<std::string, std::string>> GatewayTest::attempts() {
    const std::string begin = data::base64_encode("/b/"), end = data::base64_encode("/b0"),
                      one = data::base64_encode("/b/one"),
                      value = data::base64_encode("overwritten");
    const std::string range = "{\"key\":\"" + begin + "\",\"range_end\":\"" + end + "\"}";
    const std::string put = "{\"key\":\"" + one + "\",\"value\":\"" + value + "\"}";
    const std::string user = "{\"name\":\"b-user\"}";
    return {
        {"/v3/kv/range", range},
        {"/v3/kv/put", put},
        {"/v3/kv/deleterange", range},
        {"/v3/kv/txn", "{\"success\":[{\"request_range\":" + range + "}]}"},
        {"/v3/kv/txn", "{\"success\":[{\"request_put\":" + put + "}]}"},
        {"/v3/kv/compaction", "{\"revision\":\"3\"}"},
        {"/v3/watch", "{\"create_request\":{\"key\":\"" + begin + "\",\"range_end\":\"" + end +
                          "\",\"start_revision\":\"1\"}}"},
        {"/v3/lease/grant", "{\"TTL\":\"60\",\"ID\":\"97\"}"},
        {"/v3/lease/revoke", "{\"ID\":\"4711\"}"},
        {"/v3/kv/lease/revoke", "{\"ID\":\"4711\"}"},
        {"/v3/lease/keepalive", "{\"ID\":\"4711\"}"},
        {"/v3/lease/timetolive", "{\"ID\":\"4711\",\"keys\":true}"},
        {"/v3/kv/lease/timetolive", "{\"ID\":\"4711\",\"keys\":true}"},
        {"/v3/lease/leases", "{}"},
        {"/v3/kv/lease/leases", "{}"},
        {"/v3/cluster/member/add", "{\"peerURLs\":[\"http://127.0.0.1:1\"]}"},
        {"/v3/cluster/member/remove", "{\"ID\":\"1\"}"},
        {"/v3/cluster/member/update", "{\"ID\":\"1\",\"peerURLs\":[\"http://127.0.0.1:1\"]}"},
        {"/v3/cluster/member/promote", "{\"ID\":\"1\"}"},
        {"/v3/cluster/member/list", "{}"},
        {"/v3/maintenance/alarm", "{\"action\":\"ACTIVATE\",\"alarm\":\"NOSPACE\"}"},
        {"/v3/maintenance/alarm", "{}"},
        {"/v3/maintenance/status", "{}"},
        {"/v3/maintenance/defragment", "{}"},
        {"/v3/maintenance/hash", "{}"},
        {"/v3/maintenance/hashkv", "{}"},
        {"/v3/maintenance/snapshot", "{}"},
        {"/v3/maintenance/transfer-leadership", "{\"targetID\":\"1\"}"},
        {"/v3/maintenance/downgrade", "{\"action\":\"CANCEL\"}"},
        {"/v3/auth/enable", "{}"},
        {"/v3/auth/disable", "{}"},
        {"/v3/auth/status", "{}"},
        {"/v3/auth/authenticate", "{\"name\":\"root\",\"password\":\"\"}"},
        {"/v3/auth/user/add", "{\"name\":\"c\",\"password\":\"p\"}"},
        {"/v3/auth/user/get", user},
        {"/v3/auth/user/list", "{}"},
        {"/v3/auth/user/delete", user},
        {"/v3/auth/user/changepw", "{\"name\":\"b-user\",\"password\":\"p\"}"},
        {"/v3/auth/user/grant", "{\"user\":\"a-user\",\"role\":\"root\"}"},
        {"/v3/auth/user/revoke", "{\"name\":\"b-user\",\"role\":\"b\"}"},
        {"/v3/auth/role/add", "{\"name\":\"c\"}"},
        {"/v3/auth/role/get", "{\"role\":\"b\"}"},
        {"/v3/auth/role/list", "{}"},
        {"/v3/auth/role/delete", "{\"role\":\"b\"}"},
        {"/v3/auth/role/grant", "{\"name\":\"a\",\"perm\":{\"permType\":\"READWRITE\",\"key\":\"" +
                                    begin + "\",\"range_end\":\"" + end + "\"}}"},
        {"/v3/auth/role/revoke",
         "{\"role\":\"b\",\"key\":\"" + begin + "\",\"range_end\":\"" + end + "\"}"},
        {"/v3/lock/lock", "{\"name\":\"" + one + "\"}"},
        {"/v3/lock/unlock", "{\"key\":\"" + one + "\"}"},
        {"/v3/election/campaign", "{\"name\":\"" + one + "\",\"value\":\"" + value + "\"}"},
        {"/v3/election/leader", "{\"name\":\"" + one + "\"}"},
        {"/v3/election/observe", "{\"name\":\"" + one + "\"}"},
    };
}

// The only certificates that a tenant has carry its name, and those the gateway does not let in.
TEST_P(GatewayTest, LetsNoTenantIn) {
    std::shared_ptr<net::HttpClient> http = http_as(attacker_.user);
    for (const auto& [path, body] : attempts()) {
        for (const char* authorization : {"", "root", "Bearer b-user"}) {
            Result<GatewayAnswer> answer = ask(http, path, body, authorization);
            ASSERT_TRUE(answer.ok()) << path << ": " << answer.error().to_string();
            EXPECT_TRUE(is_refused(*answer))
                << path << ": " << answer->status << " " << answer->body;
            EXPECT_FALSE(is_unknown_path(*answer)) << path;
            expect_nothing_told(*answer, path);
        }
    }
    expect_untouched();
}

// A certificate without a name gets behind that door: what is there is worth nothing without a
// user. This also shows that all these paths exist.
TEST_P(GatewayTest, IsWorthNothingWithoutAUser) {
    std::shared_ptr<net::HttpClient> http = http_as("");
    Result<GatewayAnswer> mistyped = ask(http, "/v3/kv/rangee", "{}", "");
    ASSERT_TRUE(mistyped.ok()) << mistyped.error().to_string();
    EXPECT_TRUE(is_unknown_path(*mistyped)) << mistyped->status << " " << mistyped->body;
    // What is open to everybody, and a stream that says nothing.
    const std::set<std::string> open = {"/v3/lease/grant", "/v3/cluster/member/list",
                                        "/v3/maintenance/alarm", "/v3/maintenance/status",
                                        "/v3/election/observe"};
    for (const auto& [path, body] : attempts()) {
        for (const char* authorization : {"", "root", "Bearer b-user"}) {
            Result<GatewayAnswer> answer = ask(http, path, body, authorization);
            ASSERT_TRUE(answer.ok()) << path << ": " << answer.error().to_string();
            EXPECT_TRUE(open.contains(path) || is_refused(*answer))
                << path << ": " << answer->status << " " << answer->body;
            EXPECT_FALSE(is_unknown_path(*answer)) << path;
            expect_nothing_told(*answer, path);
        }
    }
    expect_untouched();
}

TEST_P(GatewayTest, OtherPagesTellNothing) {
    std::shared_ptr<net::HttpClient> http = http_as(attacker_.user);
    for (const char* path : {"/metrics", "/version", "/health", "/v2/keys/", "/debug/requests",
                             "/debug/pprof/heap", "/debug/vars", "/config/local/log"}) {
        net::HttpRequest request;
        request.target = path;
        Result<net::HttpResponse> response = run(http->send(std::move(request)));
        ASSERT_TRUE(response.ok()) << path;
        Result<std::string> body = run(net::read_all(*response->body, 16 * 1024 * 1024));
        ASSERT_TRUE(body.ok()) << path;
        EXPECT_THAT(*body, Not(HasSubstr("/b/"))) << path;
        EXPECT_THAT(*body, Not(HasSubstr(kSecret))) << path;
    }
    http.reset();
}

INSTANTIATE_TEST_SUITE_P(Real, IdentityTest, testing::ValuesIn(isolation_programs()),
                         isolation_name);
INSTANTIATE_TEST_SUITE_P(Real, GatewayTest, testing::ValuesIn(isolation_programs()),
                         isolation_name);

}  // namespace
}  // namespace basalt::etcd
