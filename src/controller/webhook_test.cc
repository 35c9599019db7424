#include "controller/webhook.h"

#include <gtest/gtest.h>

#include "async/sim_loop.h"
#include "controller/webhook_certificate.h"
#include "data/base64.h"
#include "data/json.h"
#include "data/patch.h"
#include "kube/test_server.h"

namespace basalt::controller {
namespace {

using namespace std::chrono_literals;
using kube::Value;

Value parse(std::string_view text) { return data::parse_json(text).value(); }

async::Task<Result<AdmissionResponse>> answer(Result<AdmissionResponse> response) {
    co_return std::move(response);
}

class WebhookTest : public ::testing::Test {
 protected:
    template <class T>
    T run(async::Task<T> task) {
        std::optional<T> slot;
        async::TaskGroup own(loop);
        own.spawn(kube::testing::capture(std::move(task), &slot));
        loop.run_until([&] { return own.size() == 0; }, 1h);
        return std::move(*slot);
    }
    Result<net::HttpServerResponse> send(const std::string& path, const std::string& body,
                                         const std::string& token = {}) {
        net::ServerRequest request;
        request.method = body.empty() ? "GET" : "POST";
        request.target = path;
        request.body = body;
        if (!token.empty()) request.headers.set("authorization", "Bearer " + token);
        return run(router.handle(std::move(request)));
    }
    Value review(const std::string& path, const Value& object) {
        Value document =
            parse(R"({"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{
            "uid":"u1","operation":"CREATE","kind":{"group":"g.io","version":"v1","kind":"Thing"},
            "resource":{"group":"g.io","version":"v1","resource":"things"},"namespace":"n","name":"a",
            "userInfo":{"username":"me"}}})");
        document.at("request").set("object", object);
        Result<net::HttpServerResponse> response = send(path, data::to_json(document));
        EXPECT_TRUE(response.ok());
        EXPECT_EQ(response->status, 200) << response->body;
        return parse(response->body)["response"];
    }
    async::SimLoop loop{9};
    Router router;
};

TEST_F(WebhookTest, IsCountedAndTimed) {
    Metrics metrics;
    add_admission_route(router, "/yes", [](const AdmissionRequest&) { return answer(admit()); });
    add_admission_route(router, "/broken",
                        [](const AdmissionRequest&) { return answer(unavailable("away")); });
    measure_webhooks(router, loop, metrics);
    EXPECT_TRUE(review("/yes", parse("{}"))["allowed"].as_bool());
    EXPECT_TRUE(send("/yes", "not a review").error().code() == Code::kInvalidArgument);
    const std::string text = metrics.to_text();
    for (const char* line :
         {"controller_runtime_webhook_requests_total{webhook=\"/yes\",code=\"200\"} 1",
          "controller_runtime_webhook_requests_total{webhook=\"/yes\",code=\"400\"} 1",
          "controller_runtime_webhook_latency_seconds_count{webhook=\"/yes\"} 2",
          "controller_runtime_webhook_latency_seconds_count{webhook=\"/broken\"} 0",
          "controller_runtime_webhook_requests_in_flight{webhook=\"/yes\"} 0"}) {
        EXPECT_NE(text.find(line), std::string::npos) << line << " in\n" << text;
    }
}

TEST_F(WebhookTest, MutatesByTheDifference) {
    add_admission_route(router, "/mutate", [](AdmissionRequest request) {
        Value object = request.object;
        object.at("spec").set("replicas", 3);
        AdmissionResponse response = admit_as(std::move(object));
        response.warnings.push_back("careful, " + request.user_info["username"].str());
        return answer(std::move(response));
    });
    const Value object =
        parse(R"({"kind":"Thing","metadata":{"name":"a"},"spec":{"replicas":1,"x":"y"}})");
    const Value response = review("/mutate", object);
    EXPECT_TRUE(response["allowed"].as_bool());
    EXPECT_EQ(response["uid"].as_string(), "u1");
    EXPECT_EQ(response["patchType"].as_string(), "JSONPatch");
    EXPECT_EQ(response["warnings"][0].as_string(), "careful, me");
    const Value patch = parse(data::base64_decode(response["patch"].as_string()).value());
    const Value patched = data::apply_json_patch(object, patch).value();
    EXPECT_EQ(patched["spec"]["replicas"].as_int(), 3);
    EXPECT_EQ(patched["spec"]["x"].as_string(), "y");
    // Nothing to change, no patch.
    EXPECT_FALSE(review("/mutate", patched).contains("patch"));
}

TEST_F(WebhookTest, DenialsNameFields) {
    add_admission_route(router, "/validate", [](AdmissionRequest request) {
        FieldError error;
        error.field = "spec.replicas";
        error.message = "must not be negative";
        return answer(deny_invalid(request, {error}));
    });
    const Value response = review("/validate", parse("{}"));
    EXPECT_FALSE(response["allowed"].as_bool());
    EXPECT_EQ(response["status"]["code"].as_int(), 422);
    EXPECT_EQ(response["status"]["message"].as_string(),
              "Thing.g.io \"a\" is invalid: spec.replicas: must not be negative");
    EXPECT_EQ(response["status"]["details"]["causes"][0]["field"].as_string(), "spec.replicas");
}

TEST_F(WebhookTest, ErrorsDenyOrLeaveItToThePolicy) {
    add_admission_route(router, "/bad",
                        [](AdmissionRequest) { return answer(invalid_argument("no")); });
    add_admission_route(router, "/down",
                        [](AdmissionRequest) { return answer(unavailable("down")); });
    EXPECT_FALSE(review("/bad", parse("{}"))["allowed"].as_bool());
    const std::string body =
        R"({"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u"}})";
    EXPECT_EQ(send("/down", body)->status, 500);
    for (const char* malformed :
         {"{", "[]", "{}", R"({"kind":"AdmissionReview","request":{"uid":"u"}})"}) {
        const Result<net::HttpServerResponse> response = send("/bad", malformed);
        ASSERT_FALSE(response.ok()) << malformed;
        EXPECT_EQ(response.error().code(), Code::kInvalidArgument);
    }
    EXPECT_EQ(send("/none", body)->status, 404);
}

TEST_F(WebhookTest, Converts) {
    add_conversion_route(router, "/convert",
                         [](const Value& object, const std::string& version) -> Result<Value> {
                             if (object["bad"].as_bool()) return invalid_argument("cannot");
                             Value converted = object;
                             converted.set("converted", version);
                             return converted;
                         });
    const auto convert = [&](const char* objects) {
        const Result<net::HttpServerResponse> response =
            send("/convert",
                 std::string(R"({"apiVersion":"apiextensions.k8s.io/v1","kind":"ConversionReview",
                 "request":{"uid":"u","desiredAPIVersion":"g.io/v2","objects":)") +
                     objects + "}}");
        return parse(response->body)["response"];
    };
    const Value good = convert(R"([{"apiVersion":"g.io/v1"},{"apiVersion":"g.io/v2"}])");
    EXPECT_EQ(good["result"]["status"].as_string(), "Success");
    EXPECT_EQ(good["convertedObjects"][0]["apiVersion"].as_string(), "g.io/v2");
    EXPECT_EQ(good["convertedObjects"][0]["converted"].as_string(), "g.io/v2");
    EXPECT_FALSE(good["convertedObjects"][1].contains("converted"));
    const Value bad =
        convert(R"([{"apiVersion":"g.io/v1","bad":true,"kind":"T","metadata":{"name":"x"}}])");
    EXPECT_EQ(bad["result"]["status"].as_string(), "Failed");
    EXPECT_EQ(bad["result"]["message"].as_string(), "T x: cannot");
}

TEST_F(WebhookTest, MetricsNeedPermission) {
    int asked = 0;
    auto transport = std::make_shared<kube::testing::ScriptedTransport>(
        loop, [&](const net::HttpRequest& request) {
            ++asked;
            const Value body = parse(request.body);
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
    kube::Client client(loop, transport);
    Metrics metrics;
    metrics.gauge("a", "A.").set(1);
    RequestAuthorizer authorizer(client);
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

TEST_F(WebhookTest, HealthRoutes) {
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

class WebhookSecretTest : public ::testing::Test {
 protected:
    WebhookSecretTest() {
        spec.common_name = "w.n.svc";
        spec.dns_names = {"w.n.svc"};
        spec.server = true;
        spec.lifetime = pki::kDay * 90;
    }
    WebhookSecretPlan plan(const WebhookSecret& present) {
        Result<WebhookSecretPlan> made = plan_webhook_secret(present, spec, keys, now);
        EXPECT_TRUE(made.ok()) << made.error().to_string();
        return std::move(*made);
    }
    /// Does a client that trusts the bundle accept the certificate?
    bool is_trusted(const WebhookSecret& secret, const std::string& bundle) {
        const auto leaf = pki::Certificate::parse(secret.certificate);
        const auto roots = pki::Certificate::parse_bundle(bundle);
        return leaf.ok() && roots.ok() &&
               pki::verify(*leaf, {}, *roots, now, pki::Purpose::kServer).ok();
    }
    static std::chrono::milliseconds days(int n) { return std::chrono::hours(24) * n; }

    pki::SimKeySource keys{1};
    pki::CertificateSpec spec;
    WallTime now{1'800'000'000s};
};

TEST_F(WebhookSecretTest, MadeOnceAndRenewedInTime) {
    const WebhookSecretPlan first = plan({});
    EXPECT_FALSE(first.reason.empty());
    EXPECT_TRUE(is_trusted(first.secret, first.secret.ca_bundle));
    EXPECT_EQ(plan(first.secret).reason, "");
    now += days(59);
    EXPECT_EQ(plan(first.secret).reason, "");
    now += days(2);
    const WebhookSecretPlan second = plan(first.secret);
    EXPECT_FALSE(second.reason.empty());
    EXPECT_EQ(second.secret.ca_bundle, first.secret.ca_bundle);
    EXPECT_NE(second.secret.certificate, first.secret.certificate);
    spec.dns_names.push_back("other");
    EXPECT_FALSE(plan(second.secret).reason.empty()) << "names changed";
}

TEST_F(WebhookSecretTest, NewAuthorityIsAnnouncedBeforeItSigns) {
    WebhookSecret secret = plan({}).secret;
    std::string known = secret.ca_bundle;
    int authorities_changed = 0;
    // The last years of an authority, a pass every nine days; clients learn a bundle within the
    // hour.
    now += days(3650 - 500);
    for (int step = 0; step < 55; ++step) {
        now += days(9);
        const WebhookSecretPlan next = plan(secret);
        EXPECT_TRUE(is_trusted(next.secret, known)) << step << ": " << next.reason;
        if (next.secret.ca_bundle != known) ++authorities_changed;
        secret = next.secret;
        known = secret.ca_bundle;
        EXPECT_GT(next.look_again, now);
    }
    EXPECT_GE(authorities_changed, 1);
    EXPECT_LE(pki::Certificate::parse_bundle(secret.ca_bundle)->size(), 2u);
}

TEST_F(WebhookSecretTest, BrokenContentIsReplaced) {
    WebhookSecret secret = plan({}).secret;
    WebhookSecret broken = secret;
    broken.ca_bundle = "nonsense";
    const WebhookSecretPlan anew = plan(broken);
    EXPECT_TRUE(is_trusted(anew.secret, anew.secret.ca_bundle));
    broken = secret;
    broken.key = Secret("nonsense");
    const WebhookSecretPlan mended = plan(broken);
    EXPECT_EQ(mended.secret.ca_bundle, secret.ca_bundle);
    EXPECT_TRUE(is_trusted(mended.secret, secret.ca_bundle));
}

TEST(WebhookCertificate, ReplicasAgreeAndInject) {
    async::SimLoop loop(21);
    auto server = std::make_shared<kube::testing::TestServer>(loop);
    const std::string path =
        "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/w";
    Value configuration = kube::make_object(kube::resources::validating_webhook_configurations(),
                                            kube::ObjectKey("w"));
    configuration.set("webhooks",
                      parse(R"([{"clientConfig":{}},{"clientConfig":{"caBundle":"old"}}])"));
    server->put(path, configuration);
    struct Replica {
        Replica(async::Loop& loop, const std::shared_ptr<net::HttpTransport>& transport,
                uint64_t seed)
            : client(loop, transport), caches(client), keys(seed), group(loop) {
            WebhookCertificate::Options options;
            options.ns = "system";
            options.secret_name = "webhook";
            options.dns_names = {"w.system.svc"};
            options.selector = "inject=yes";
            certificate = std::make_unique<WebhookCertificate>(
                client, caches, keys, options, [this](std::shared_ptr<const net::TlsContext> tls) {
                    ++changes;
                    in_use = tls->config().cert_pem;
                });
            caches.start(group);
            group.spawn("certificate", certificate->run());
        }
        kube::Client client;
        kube::CacheSet caches;
        pki::SimKeySource keys;
        async::TaskGroup group;
        std::unique_ptr<WebhookCertificate> certificate;
        int changes = 0;
        std::string in_use;
    };
    Replica one(loop, server, 1);
    Replica two(loop, server, 2);
    const auto settled = [&] {
        return !one.in_use.empty() && one.in_use == two.in_use && server->object(path) != nullptr &&
               (*server->object(path))["webhooks"][1]["clientConfig"]["caBundle"].as_string() ==
                   data::base64_encode(one.certificate->ca_bundle());
    };
    ASSERT_TRUE(loop.run_until(settled, 1min));
    // Calm: no requests for an hour but the watches'.
    loop.run_for(1min);
    const size_t writes = server->count("PATCH") + server->count("PUT") + server->count("POST");
    loop.run_for(1h);
    EXPECT_EQ(server->count("PATCH") + server->count("PUT") + server->count("POST"), writes);
    // A restored configuration is completed again, a deleted Secret made again.
    server->put(path, configuration);
    ASSERT_TRUE(loop.run_until(settled, 1min));
    server->erase("/api/v1/namespaces/system/secrets/webhook");
    const std::string before = one.in_use;
    ASSERT_TRUE(loop.run_until([&] { return one.in_use != before && settled(); }, 2min));
    // Rotation.
    const int changes = one.changes;
    loop.jump_wall_clock(61 * 24h);
    loop.run_for(7h);
    EXPECT_GT(one.changes, changes);
    EXPECT_TRUE(settled());
    for (Replica* replica : {&one, &two}) {
        replica->caches.stop();
        replica->group.cancel();
        ASSERT_TRUE(loop.run_until([&] { return replica->group.size() == 0; }, 1min));
    }
}

}  // namespace
}  // namespace basalt::controller
