#include "kube/client.h"

#include <gtest/gtest.h>

#include "async/sim_loop.h"
#include "async/task_group.h"
#include "kube/test_server.h"
#include "kube/watch.h"

namespace basalt::kube {
namespace {

using namespace std::chrono_literals;
using testing::respond;
using testing::status_document;

class ClientTest : public ::testing::Test {
 protected:
    template <class T>
    T run(async::Task<T> task) {
        std::optional<T> slot;
        async::TaskGroup group(loop);
        group.spawn(testing::capture(std::move(task), &slot));
        loop.run_until([&] { return group.size() == 0; }, 1h);
        EXPECT_TRUE(slot.has_value());
        return std::move(*slot);
    }
    std::shared_ptr<testing::ScriptedTransport> script(testing::ScriptedTransport::Answer answer) {
        return std::make_shared<testing::ScriptedTransport>(loop, std::move(answer));
    }

    async::SimLoop loop{1};
};

TEST_F(ClientTest, BuildsRequests) {
    auto transport = script(
        [](const net::HttpRequest&) { return respond(200, Value::object({{"kind", "Pod"}})); });
    Client client(loop, transport);
    const ObjectKey key("n s", "a/b");
    EXPECT_TRUE(run(client.get(resources::pods(), key)).ok());
    WriteOptions write;
    write.subresource = "status";
    write.dry_run = true;
    EXPECT_TRUE(run(client.apply(resources::deployments(),
                                 make_object(resources::deployments(), ObjectKey("n", "d")), write))
                    .ok());
    DeleteOptions remove;
    remove.uid = "u1";
    remove.propagation = Propagation::kForeground;
    EXPECT_TRUE(run(client.remove(resources::pods(), ObjectKey("n", "p"), remove)).ok());
    ListOptions list;
    list.label_selector = "a=b,c in (d)";
    EXPECT_TRUE(run(client.list(resources::pods(), "", list)).ok());

    ASSERT_EQ(transport->requests.size(), 4u);
    EXPECT_EQ(transport->requests[0].target, "/api/v1/namespaces/n%20s/pods/a%2Fb");
    EXPECT_EQ(transport->requests[1].method, "PATCH");
    EXPECT_EQ(transport->requests[1].target,
              "/apis/apps/v1/namespaces/n/deployments/d/"
              "status?dryRun=All&fieldManager=basalt&force=true");
    EXPECT_EQ(transport->requests[1].headers.get("content-type"), "application/apply-patch+yaml");
    EXPECT_EQ(transport->requests[2].body,
              R"({"apiVersion":"v1","kind":"DeleteOptions","preconditions":{"uid":"u1"},)"
              R"("propagationPolicy":"Foreground"})");
    EXPECT_EQ(transport->requests[3].target,
              "/api/v1/pods?labelSelector=a%3Db%2Cc%20in%20%28d%29&limit=500");
}

TEST_F(ClientTest, MapsStatuses) {
    struct Case {
        int http;
        const char* reason;
        Code code;
    };
    const Case cases[] = {{404, "NotFound", Code::kNotFound},
                          {409, "AlreadyExists", Code::kAlreadyExists},
                          {409, "Conflict", Code::kAborted},
                          {410, "Expired", Code::kOutOfRange},
                          {422, "Invalid", Code::kInvalidArgument},
                          {403, "Forbidden", Code::kPermissionDenied},
                          {401, "Unauthorized", Code::kUnauthenticated},
                          {500, "InternalError", Code::kInternal},
                          {503, "ServiceUnavailable", Code::kUnavailable},
                          {504, "Timeout", Code::kDeadlineExceeded}};
    for (const Case& each : cases) {
        auto transport = script([&](const net::HttpRequest&) {
            return respond(each.http, status_document(each.http, each.reason, "m"));
        });
        Client client(loop, transport);
        Value failure;
        GetOptions get;
        get.failure = &failure;
        const Result<Value> result = run(client.get(resources::pods(), ObjectKey("n", "a"), get));
        ASSERT_FALSE(result.ok());
        EXPECT_EQ(result.error().code(), each.code) << each.reason;
        EXPECT_EQ(result.error().reason(), each.reason);
        EXPECT_EQ(result.error().cause_code(), each.http);
        EXPECT_EQ(failure["reason"].as_string(), each.reason);
        EXPECT_EQ(result.error().message(), "GET pods n/a: m");
    }
}

TEST_F(ClientTest, WaitsOutTooManyRequests) {
    int calls = 0;
    auto transport = script([&](const net::HttpRequest&) {
        if (++calls < 3)
            return respond(429, std::string("slow down"), net::Headers{{"retry-after", "2"}});
        return respond(200, Value::object({{"kind", "Pod"}}));
    });
    Client client(loop, transport);
    const TimePoint start = loop.now();
    EXPECT_TRUE(
        run(client.create(resources::pods(), make_object(resources::pods(), ObjectKey("n", "a"))))
            .ok());
    EXPECT_EQ(calls, 3);
    EXPECT_GE(loop.now() - start, 4s);
}

TEST_F(ClientTest, RepeatsWritesOnlyWhenCertainlyNotSent) {
    int calls = 0;
    bool sent = true;
    auto transport = script([&](const net::HttpRequest&) -> Result<net::HttpResponse> {
        if (++calls == 1) {
            Error error = unavailable("connection lost");
            if (!sent) error.with_cause(0, "NotSent");
            return error;
        }
        return respond(200, Value::object({{"kind", "Pod"}}));
    });
    Client client(loop, transport);
    const Value pod = make_object(resources::pods(), ObjectKey("n", "a"));
    EXPECT_EQ(run(client.create(resources::pods(), pod)).error().code(), Code::kUnavailable);
    EXPECT_EQ(calls, 1);
    calls = 0;
    sent = false;
    EXPECT_TRUE(run(client.create(resources::pods(), pod)).ok());
    EXPECT_EQ(calls, 2);
    calls = 0;
    sent = true;
    EXPECT_TRUE(run(client.get(resources::pods(), ObjectKey("n", "a"))).ok())
        << "reads are always repeated";
}

TEST_F(ClientTest, DeadlineEndsACall) {
    auto transport = script([&](const net::HttpRequest&) { return respond(200, Value()); });
    transport->latency = 1h;
    Client client(loop, transport);
    GetOptions get;
    get.timeout = 3s;
    const TimePoint start = loop.now();
    EXPECT_EQ(run(client.get(resources::pods(), ObjectKey("n", "a"), get)).error().code(),
              Code::kDeadlineExceeded);
    EXPECT_EQ(loop.now() - start, 3s);
}

TEST_F(ClientTest, LimitsItself) {
    auto transport =
        script([&](const net::HttpRequest&) { return respond(200, Value::object({})); });
    Client::Options options;
    options.qps = 10;
    options.burst = 5;
    Client client(loop, transport, options);
    const TimePoint start = loop.now();
    for (int i = 0; i < 25; ++i)
        EXPECT_TRUE(run(client.get(resources::pods(), ObjectKey("n", "a"))).ok());
    EXPECT_GE(loop.now() - start, 1900ms);
    EXPECT_LE(loop.now() - start, 2200ms);
}

TEST_F(ClientTest, WriteGuardStopsWritesNotReads) {
    auto transport =
        script([&](const net::HttpRequest&) { return respond(200, Value::object({})); });
    Client client(loop, transport);
    client.set_write_guard([] { return Result<void>(failed_precondition("no leader")); });
    EXPECT_TRUE(run(client.get(resources::pods(), ObjectKey("n", "a"))).ok());
    EXPECT_EQ(run(client.remove(resources::pods(), ObjectKey("n", "a"))).error().code(),
              Code::kFailedPrecondition);
    EXPECT_EQ(transport->requests.size(), 1u);
}

TEST_F(ClientTest, ListsInPagesAndSurvivesCompaction) {
    auto server = std::make_shared<testing::TestServer>(loop);
    for (int i = 0; i < 25; ++i) {
        const std::string name = "c" + std::to_string(100 + i);
        server->put(testing::config_map_path("n", name), testing::config_map("n", name, "x"));
    }
    Client client(loop, server);
    ListOptions list;
    list.page_size = 10;
    Result<ObjectList> all = run(client.list(resources::config_maps(), "n", list));
    ASSERT_TRUE(all.ok());
    EXPECT_EQ(all->items.size(), 25u);
    EXPECT_EQ(all->items[3]["kind"].as_string(), "ConfigMap");
    EXPECT_EQ(server->requests.size(), 3u);

    server->intercept =
        [&](const net::HttpRequest& request) -> std::optional<Result<net::HttpResponse>> {
        if (request.target.find("continue") == std::string::npos) return std::nullopt;
        server->advance(1);
        server->compact();
        return std::nullopt;
    };
    all = run(client.list(resources::config_maps(), "n", list));
    ASSERT_TRUE(all.ok()) << all.error().to_string();
    EXPECT_EQ(all->items.size(), 25u);
}

TEST_F(ClientTest, DiscoversAggregatedAndPlain) {
    const Value aggregated =
        data::parse_json(R"({"kind":"APIGroupDiscoveryList","items":[{"metadata":{"name":"g.io"},
        "versions":[{"version":"v1","resources":[{"resource":"things","responseKind":{"kind":"Thing"},
        "scope":"Cluster","singularResource":"thing","shortNames":["th"],"verbs":["get"],
        "subresources":[{"subresource":"status"}]}]}]}]})")
            .value();
    auto transport = script([&](const net::HttpRequest& request) {
        if (request.target == "/apis") return respond(200, aggregated);
        return respond(200, Value::object({{"kind", "APIGroupDiscoveryList"}}));
    });
    Client client(loop, transport);
    const Result<Resource> found = run(client.resource_for(Gvk("g.io", "v1", "Thing")));
    ASSERT_TRUE(found.ok());
    EXPECT_EQ(found->plural, "things");
    EXPECT_FALSE(found->namespaced);
    // A miss asks again, but not at once.
    const size_t before = transport->requests.size();
    EXPECT_EQ(run(client.resource_for(Gvk("g.io", "v1", "Other"))).error().code(), Code::kNotFound);
    EXPECT_EQ(transport->requests.size(), before);
    loop.run_for(6s);
    EXPECT_EQ(run(client.resource_for(Gvk("g.io", "v1", "Other"))).error().code(), Code::kNotFound);
    EXPECT_GT(transport->requests.size(), before);

    auto plain = script([&](const net::HttpRequest& request) {
        if (request.target == "/api/v1") {
            return respond(200, data::parse_json(R"({"groupVersion":"v1","resources":[
                {"name":"pods","kind":"Pod","namespaced":true,"shortNames":["po"]},{"name":"pods/log","kind":"Pod"}]})")
                                    .value());
        }
        return respond(200, Value::object({{"kind", "APIVersions"}}));
    });
    Client old(loop, plain);
    const Result<std::shared_ptr<const Discovery>> discovery = run(old.discover());
    ASSERT_TRUE(discovery.ok());
    const Discovery::Entry* entry = (*discovery)->find_name("po");
    ASSERT_NE(entry, nullptr);
    EXPECT_EQ(entry->resource.kind, "Pod");
    EXPECT_EQ(entry->subresources, std::vector<std::string>{"log"});
}

TEST(WatchDecoder, DecodesEvents) {
    WatchDecoder decoder;
    const std::string text = R"({"type":"ADDED","object":{"metadata":{"name":"a"}}}
{"type":"NEW","object":{}}
{"type":"BOOKMARK","object":{"metadata":{"annotations":{"k8s.io/initial-events-end":"true"}}}})";
    for (const char c : text) decoder.feed(std::string_view(&c, 1));
    Result<std::optional<WatchEvent>> event = decoder.next();
    ASSERT_TRUE(event.ok() && event->has_value());
    EXPECT_EQ((*event)->type, EventType::kAdded);
    event = decoder.next();
    ASSERT_TRUE(event.ok() && event->has_value());
    EXPECT_TRUE(is_initial_events_end(**event));
    EXPECT_FALSE(decoder.next()->has_value());
    EXPECT_TRUE(decoder.idle());
    decoder.feed(
        R"({"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}})");
    event = decoder.next();
    ASSERT_FALSE(event.ok());
    EXPECT_TRUE(is_expired(event.error()));
    WatchDecoder other;
    other.feed(R"({"object":{}})");
    EXPECT_EQ(other.next().error().code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace basalt::kube
