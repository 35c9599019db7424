#include <fmt/format.h>

#include "controller/events.h"
#include "controller/http_endpoint.h"
#include "controller/leader.h"
#include "controller/manager.h"
#include "controller/webhook.h"
#include "controller/webhook_certificate.h"
#include "data/json.h"
#include "net/http_client.h"
#include "pki/key.h"
#include "tests/integration/kube_server.h"

namespace basalt::integration {
namespace {

using namespace std::chrono_literals;
using namespace controller;
using kube::ObjectKey;
using kube::Value;
namespace resources = kube::resources;

Value parse(std::string_view text) { return data::parse_json(text).value(); }

async::Task<Result<AdmissionResponse>> answer(AdmissionResponse response) {
    co_return std::move(response);
}

class ControllerTest : public KubeTest {
 protected:
    bool stop(async::TaskGroup& tasks) {
        tasks.cancel();
        return wait_until([&] { return tasks.size() == 0; }, 30s);
    }
};

TEST_P(ControllerTest, LeadershipPassesOn) {
    const std::string ns = make_namespace();
    const auto make = [&](const char* identity) {
        LeaderElector::Options options;
        options.ns = ns;
        options.name = "lock";
        options.identity = identity;
        options.lease_duration = 3s;
        options.renew_deadline = 2s;
        options.retry_period = 300ms;
        return std::make_unique<LeaderElector>(*client, options);
    };
    auto first = make("first");
    auto second = make("second");
    ASSERT_TRUE(run(first->acquire()).ok());
    async::TaskGroup holding(*loop);
    std::optional<Result<void>> ended;
    holding.spawn(capture(first->hold(), &ended));
    async::TaskGroup waiting(*loop);
    std::optional<Result<void>> acquired;
    waiting.spawn(capture(second->acquire(), &acquired));
    EXPECT_FALSE(wait_until([&] { return acquired.has_value(); }, 5s)) << "renewed meanwhile";
    EXPECT_TRUE(first->check().ok());
    ASSERT_TRUE(stop(holding));
    ASSERT_TRUE(run(first->release()).ok());
    ASSERT_TRUE(wait_until([&] { return acquired.has_value(); }, 3s))
        << "released, so taken at once";
    EXPECT_TRUE(second->check().ok());
    const Value lease = run(client->get(resources::leases(), ObjectKey(ns, "lock"))).value();
    EXPECT_EQ(lease["spec"]["holderIdentity"].as_string(), "second");
    EXPECT_EQ(lease["spec"]["leaseTransitions"].as_int(), 1);
    // The second one is silent now: the third takes over when the lease has run out.
    auto third = make("third");
    const TimePoint start = loop->now();
    ASSERT_TRUE(run(third->acquire()).ok());
    EXPECT_GE(loop->now() - start, 2500ms);
    EXPECT_FALSE(second->check().ok());
}

TEST_P(ControllerTest, EventsAreAccepted) {
    const std::string ns = make_namespace();
    Value object = kube::make_object(resources::config_maps(), ObjectKey(ns, "a"));
    object = run(client->create(resources::config_maps(), object)).value();
    object.set("apiVersion", "v1").set("kind", "ConfigMap");
    EventRecorder::Options options;
    options.controller = "basalt.dev/test";
    options.instance = "test-1";
    options.series_interval = 100ms;
    EventRecorder recorder(*client, options);
    async::TaskGroup writing(*loop);
    recorder.start(writing);
    const auto list = [&] { return run(client->list(resources::events(), ns)).value().items; };
    recorder.record(object, Severity::kWarning, "Broken", "it broke");
    ASSERT_TRUE(wait_until([&] { return list().size() == 1; }, 10s));
    for (int i = 0; i < 5; ++i) recorder.record(object, Severity::kWarning, "Broken", "it broke");
    ASSERT_TRUE(wait_until([&] { return list()[0]["series"]["count"].as_int() == 6; }, 10s));
    recorder.record(object, Severity::kNormal, "Mended", "works again", "Repairing");
    ASSERT_TRUE(wait_until([&] { return list().size() == 2; }, 10s));
    EXPECT_EQ(recorder.dropped_count(), 0u);
    ASSERT_TRUE(stop(writing));
}

TEST_P(ControllerTest, ManagerReconciles) {
    const std::string ns = make_namespace();
    Manager manager(*client, *client);
    kube::CacheOptions options(resources::config_maps(), ns);
    options.label_selector = "watched=yes";
    kube::Cache& cache = manager.cache(options);
    std::vector<std::string> seen;
    Controller::Options controller_options;
    controller_options.name = "test";
    manager
        .add_controller(controller_options,
                        [&](Key key) {
                            seen.push_back(key.name);
                            return [](Outcome outcome) -> async::Task<Result<Outcome>> {
                                co_return outcome;
                            }(Outcome());
                        })
        .watch(cache);
    std::optional<Result<void>> ended;
    async::TaskGroup running(*loop);
    running.spawn(capture(manager.run(), &ended));
    Value object = kube::make_object(resources::config_maps(), ObjectKey(ns, "a"));
    ASSERT_TRUE(run(client->create(resources::config_maps(), object)).ok());
    object.at("metadata").set("name", "b").set("labels", Value::object({{"watched", "yes"}}));
    ASSERT_TRUE(run(client->create(resources::config_maps(), object)).ok());
    ASSERT_TRUE(wait_until([&] { return !seen.empty(); }, 10s));
    EXPECT_EQ(seen[0], "b");
    EXPECT_TRUE(manager.health().ready().ok);
    EXPECT_NE(
        manager.metrics().to_text().find("controller_runtime_reconcile_total{controller=\"test\""),
        std::string::npos);
    ASSERT_TRUE(stop(running));
    EXPECT_TRUE(ended.has_value() && ended->ok());
}

/// Everything that a controller program serves, on loopback, called by the real API server.
class WebhookServerTest : public ControllerTest {
 protected:
    void start(const std::string& ns) {
        router = std::make_shared<Router>();
        HttpEndpoint::Options options;
        options.tls = true;
        endpoint = std::make_unique<HttpEndpoint>(*loop, net::Endpoint::tcp("127.0.0.1", 0), router,
                                                  options);
        caches = std::make_unique<kube::CacheSet>(*client);
        WebhookCertificate::Options certificate_options;
        certificate_options.ns = ns;
        certificate_options.secret_name = "webhook-certificate";
        certificate_options.dns_names = {"localhost"};
        certificate_options.ip_addresses = {"127.0.0.1"};
        certificate_options.selector = "inject-ca=" + ns;
        certificate = std::make_unique<WebhookCertificate>(
            *client, *caches, keys, certificate_options,
            [this](std::shared_ptr<const net::TlsContext> tls) {
                endpoint->set_tls(std::move(tls));
            });
        caches->start(*group);
        group->spawn("certificate", certificate->run());
        group->spawn("endpoint", endpoint->run());
        ASSERT_TRUE(wait_until([&] { return endpoint->endpoint().has_value(); }, 20s));
        base = fmt::format("https://127.0.0.1:{}", endpoint->endpoint()->port);
    }
    void TearDown() override {
        if (group) {
            caches->stop();
            ASSERT_TRUE(stop(*group));
        }
        certificate.reset();
        endpoint.reset();
        caches.reset();
        KubeTest::TearDown();
    }
    bool has_bundle(const kube::Resource& resource, const std::string& name) {
        const Result<Value> object = run(client->get(resource, ObjectKey(name)));
        if (!object.ok()) return false;
        const Value& config = resource == resources::custom_resource_definitions()
                                  ? (*object)["spec"]["conversion"]["webhook"]["clientConfig"]
                                  : (*object)["webhooks"][0]["clientConfig"];
        return !config["caBundle"].as_string().empty();
    }
    Value webhook_configuration(const kube::Resource& resource, const std::string& ns,
                                const std::string& path) {
        Value object = kube::make_object(resource, ObjectKey(ns + path.substr(1)));
        object.at("metadata").set("labels", Value::object({{"inject-ca", ns}}));
        Value hook = parse(
            R"({"name":"test.basalt.dev","admissionReviewVersions":["v1"],"sideEffects":"None",
            "failurePolicy":"Fail","timeoutSeconds":5,
            "rules":[{"apiGroups":[""],"apiVersions":["v1"],"operations":["CREATE","UPDATE"],
                      "resources":["configmaps"]}]})");
        hook.set("clientConfig", Value::object({{"url", base + path}}));
        hook.at("namespaceSelector").at("matchLabels").set("kubernetes.io/metadata.name", ns);
        object.set("webhooks", Value::array({hook}));
        return object;
    }

    pki::SystemKeySource keys;
    std::shared_ptr<Router> router;
    std::unique_ptr<HttpEndpoint> endpoint;
    std::unique_ptr<kube::CacheSet> caches;
    std::unique_ptr<WebhookCertificate> certificate;
    std::string base;
};

TEST_P(WebhookServerTest, AdmissionIsCalled) {
    const std::string ns = make_namespace();
    start(ns);
    add_admission_route(*router, "/validate", [](AdmissionRequest request) {
        if (request.object["data"]["value"].as_string() != "bad")
            return answer(admit({"mind the gap"}));
        FieldError error;
        error.field = "data.value";
        error.message = "must not be bad";
        return answer(deny_invalid(request, {error}));
    });
    add_admission_route(*router, "/mutate", [](AdmissionRequest request) {
        Value object = request.object;
        object.at("data").set("added", "by webhook");
        return answer(admit_as(std::move(object)));
    });
    const kube::Resource& validating = resources::validating_webhook_configurations();
    const kube::Resource& mutating = resources::mutating_webhook_configurations();
    ASSERT_TRUE(
        run(client->create(validating, webhook_configuration(validating, ns, "/validate"))).ok());
    ASSERT_TRUE(run(client->create(mutating, webhook_configuration(mutating, ns, "/mutate"))).ok());
    ASSERT_TRUE(wait_until(
        [&] {
            return has_bundle(validating, ns + "validate") && has_bundle(mutating, ns + "mutate");
        },
        10s));

    Value object = kube::make_object(resources::config_maps(), ObjectKey(ns, "a"));
    object.set("data", Value::object({{"value", "good"}}));
    Result<Value> created(Value{});
    // The API server learns the configurations within a moment; until then objects pass untouched.
    int tries = 0;
    ASSERT_TRUE(wait_until(
        [&] {
            object.at("metadata").set("name", fmt::format("a{}", tries++));
            created = run(client->create(resources::config_maps(), object));
            return created.ok() && (*created)["data"]["added"].as_string() == "by webhook";
        },
        20s))
        << (created.ok() ? data::to_json(*created) : created.error().to_string());
    object.at("metadata").set("name", "b");
    object.at("data").set("value", "bad");
    Result<Value> refused(Value{});
    ASSERT_TRUE(wait_until(
        [&] {
            object.at("metadata").set("name", fmt::format("b{}", tries++));
            refused = run(client->create(resources::config_maps(), object));
            return !refused.ok() && refused.error().code() == Code::kInvalidArgument;
        },
        20s));
    EXPECT_NE(refused.error().message().find("data.value: must not be bad"), std::string::npos)
        << refused.error().to_string();
    for (const kube::Resource* resource : {&validating, &mutating}) {
        const std::string name = ns + (resource == &validating ? "validate" : "mutate");
        EXPECT_TRUE(run(client->remove(*resource, ObjectKey(name))).ok());
    }
}

TEST_P(WebhookServerTest, ConversionIsCalled) {
    const std::string ns = make_namespace();
    start(ns);
    add_conversion_route(*router, "/convert",
                         [](const Value& object, const std::string& version) -> Result<Value> {
                             Value converted = object;
                             Value& spec = converted.at("spec");
                             if (version.ends_with("/v2")) {
                                 spec.set("size", std::to_string(spec["count"].as_int()));
                                 spec.erase("count");
                             } else {
                                 spec.set("count", std::stoi("0" + spec["size"].str()));
                                 spec.erase("size");
                             }
                             return converted;
                         });
    const std::string api_group = ns + ".basalt.dev";
    Value crd = kube::make_object(resources::custom_resource_definitions(),
                                  ObjectKey("things." + api_group));
    crd.at("metadata").set("labels", Value::object({{"inject-ca", ns}}));
    crd.set("spec",
            parse(R"({"scope":"Namespaced","names":{"plural":"things","kind":"Thing"},"versions":[
        {"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","properties":{
          "spec":{"type":"object","properties":{"count":{"type":"integer"}}}}}}},
        {"name":"v2","served":true,"storage":false,"schema":{"openAPIV3Schema":{"type":"object","properties":{
          "spec":{"type":"object","properties":{"size":{"type":"string"}}}}}}}],
        "conversion":{"strategy":"Webhook","webhook":{"conversionReviewVersions":["v1"],"clientConfig":{}}}})"));
    crd.at("spec").set("group", api_group);
    crd.at("spec").at("conversion").at("webhook").at("clientConfig").set("url", base + "/convert");
    ASSERT_TRUE(run(client->create(resources::custom_resource_definitions(), crd)).ok());
    ASSERT_TRUE(wait_until(
        [&] { return has_bundle(resources::custom_resource_definitions(), "things." + api_group); },
        10s));
    const kube::Resource v1(api_group + "/v1", "things", "Thing");
    const kube::Resource v2(api_group + "/v2", "things", "Thing");
    Value thing = kube::make_object(v1, ObjectKey(ns, "a"));
    thing.at("spec").set("count", 7);
    ASSERT_TRUE(wait_until([&] { return run(client->create(v1, thing)).ok(); }, 30s));
    Result<Value> read(Value{});
    ASSERT_TRUE(wait_until(
        [&] {
            read = run(client->get(v2, ObjectKey(ns, "a")));
            return read.ok();
        },
        20s))
        << read.error().to_string();
    EXPECT_EQ((*read)["spec"]["size"].as_string(), "7");
    const Result<kube::Resource> found =
        run(client->resource_for(kube::Gvk(api_group, "v2", "Thing")));
    EXPECT_TRUE(found.ok() && *found == v2);
    EXPECT_TRUE(run(client->remove(resources::custom_resource_definitions(),
                                   ObjectKey("things." + api_group)))
                    .ok());
}

TEST_P(WebhookServerTest, MetricsAreForThoseWhoMay) {
    const std::string ns = make_namespace();
    start(ns);
    Metrics metrics;
    metrics.gauge("test_gauge", "A gauge.").set(1);
    RequestAuthorizer authorizer(*client);
    add_metrics_route(*router, metrics, &authorizer);
    Result<net::Url> url = net::parse_url(base);
    net::TlsConfig tls;
    tls.ca_pem = certificate->ca_bundle();
    net::HttpClientOptions options;
    options.tls = net::make_tls_client(std::move(tls)).value();
    auto scraper = net::make_http_client(*loop, *url, std::move(options));
    const auto scrape = [&](const std::string& token) {
        net::HttpRequest request;
        request.target = "/metrics";
        if (!token.empty()) request.headers.set("authorization", "Bearer " + token);
        Result<net::HttpResponse> response = run(scraper->send(std::move(request)));
        return response.ok() ? response->status : 0;
    };
    const auto token_of = [&](const std::string& name) {
        Value account = kube::make_object(resources::service_accounts(), ObjectKey(ns, name));
        EXPECT_TRUE(run(client->create(resources::service_accounts(), account)).ok());
        kube::WriteOptions write;
        write.subresource = "token";
        Value request = account;
        request.set("apiVersion", "authentication.k8s.io/v1").set("kind", "TokenRequest");
        request.set("spec", parse(R"({"expirationSeconds":600})"));
        return run(client->create(resources::service_accounts(), request, write))
            .value()["status"]["token"]
            .str();
    };
    EXPECT_EQ(scrape(""), 401);
    EXPECT_EQ(scrape("nonsense"), 401);
    EXPECT_EQ(scrape(token_of("stranger")), 403);
    Value role = kube::make_object(resources::cluster_roles(), ObjectKey(ns));
    role.set("rules", parse(R"([{"nonResourceURLs":["/metrics"],"verbs":["get"]}])"));
    ASSERT_TRUE(run(client->create(resources::cluster_roles(), role)).ok());
    Value binding = kube::make_object(resources::cluster_role_bindings(), ObjectKey(ns));
    binding.set("roleRef", Value::object({{"apiGroup", "rbac.authorization.k8s.io"},
                                          {"kind", "ClusterRole"},
                                          {"name", ns}}));
    binding.set("subjects",
                Value::array({Value::object(
                    {{"kind", "ServiceAccount"}, {"namespace", ns}, {"name", "prometheus"}})}));
    ASSERT_TRUE(run(client->create(resources::cluster_role_bindings(), binding)).ok());
    const std::string token = token_of("prometheus");
    EXPECT_TRUE(wait_until([&] { return scrape(token) == 200; }, 20s));
    scraper.reset();
}

INSTANTIATE_TEST_SUITE_P(Kubernetes, ControllerTest, ::testing::Values(BASALT_KUBE_VERSIONS),
                         version_name);
INSTANTIATE_TEST_SUITE_P(Kubernetes, WebhookServerTest, ::testing::Values(BASALT_KUBE_VERSIONS),
                         version_name);

}  // namespace
}  // namespace basalt::integration
