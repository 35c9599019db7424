#include "controller/http_endpoint.h"

#include <gtest/gtest.h>

#include "controller/router_fixture_test.h"
#include "data/json.h"

namespace basalt::controller {
namespace {

using namespace std::chrono_literals;
using kube::Value;

using HttpEndpointTest = RouterFixture;

TEST_F(HttpEndpointTest, MetricsNeedPermission) {
    int asked = 0;
    auto transport = std::make_shared<kube::testing::ScriptedTransport>(
        loop, [&](const net::HttpRequest& request) {
            ++asked;
            const Value body = data::parse_json(request.body).value();
            Value result = body;
            if (body["kind"].as_string() == "TokenReview") {
                const std::string token = body["spec"]["token"].str();
                result.at("status").set("authenticated", token != "unknown");
                result.at("status").at("user").set("username", token);
            } else {
                EXPECT_EQ(body["spec"]["nonResourceAttributes"]["path"].as_string(), "/metrics");
                result.at("status").set("allowed",
                                        body["spec"]["user"].as_string() == "prometheus");
            }
            return kube::testing::respond(201, result);
        });
    kube::Client reviewer(loop, transport);
    Metrics metrics;
    metrics.gauge("a", "A.").set(1);
    RequestAuthorizer authorizer(reviewer);
    add_metrics_route(router, metrics, &authorizer);
    EXPECT_EQ(send("/metrics", "")->status, 401);
    EXPECT_EQ(send("/metrics", "", "unknown")->status, 401);
    EXPECT_EQ(send("/metrics", "", "someone")->status, 403);
    EXPECT_EQ(send("/metrics", "", "prometheus")->status, 200);
    const int before = asked;
    EXPECT_EQ(send("/metrics", "", "prometheus")->body, "# HELP a A.\n# TYPE a gauge\na 1\n");
    EXPECT_EQ(asked, before) << "the answer is kept for a while";
    loop.run_for(2min);
    EXPECT_EQ(send("/metrics", "", "prometheus")->status, 200);
    EXPECT_GT(asked, before);
}

async::Task<void> check_one(RequestAuthorizer* authorizer, std::string token,
                            std::map<Code, int>* outcomes) {
    Result<void> allowed = co_await authorizer->check(std::move(token), "get", "/metrics");
    ++(*outcomes)[allowed.ok() ? Code::kOk : allowed.error().code()];
}

TEST_F(HttpEndpointTest, StrangersCannotFloodTheApiServerWithReviews) {
    int asked = 0;
    auto transport = std::make_shared<kube::testing::ScriptedTransport>(
        loop, [&](const net::HttpRequest& request) {
            ++asked;
            return kube::testing::respond(201, data::parse_json(request.body).value());
        });
    kube::ClientOptions slow;
    slow.qps = 1;
    slow.burst = 1;
    kube::Client reviewer(loop, transport, slow);
    RequestAuthorizer authorizer(reviewer);
    std::map<Code, int> outcomes;
    for (int i = 0; i < 100; ++i)
        group.spawn(check_one(&authorizer, "random-" + std::to_string(i), &outcomes));
    loop.run_for(1min);
    const int most = RequestAuthorizer::kMaxQuestions;
    EXPECT_EQ(asked, most);
    EXPECT_EQ(outcomes[Code::kUnauthenticated], most);
    EXPECT_EQ(outcomes[Code::kResourceExhausted], 100 - most);
    group.spawn(check_one(&authorizer, "later", &outcomes));
    loop.run_for(1min);
    EXPECT_EQ(outcomes[Code::kUnauthenticated], most + 1) << "the places are free again";
}

TEST_F(HttpEndpointTest, HealthRoutes) {
    Health health;
    bool well = true;
    health.add_live_check("ping", [] { return Result<void>(); });
    health.add_ready_check(
        "etcd", [&] { return well ? Result<void>() : Result<void>(unavailable("gone")); });
    add_health_routes(router, health);
    EXPECT_EQ(send("/readyz", "")->body, "ok");
    EXPECT_EQ(send("/readyz?verbose", "")->body, "[+]etcd ok\nok\n");
    well = false;
    EXPECT_EQ(send("/readyz", "")->status, 500);
    EXPECT_EQ(send("/readyz", "")->body, "[-]etcd failed: gone\ncheck failed\n");
    EXPECT_EQ(send("/healthz", "")->status, 200);
}

}  // namespace
}  // namespace basalt::controller
