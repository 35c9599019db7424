#include "controlplane/webhooks.h"

#include <gtest/gtest.h>

#include "async/sim_loop.h"
#include "controlplane/testdata_test.h"
#include "data/json.h"
#include "data/patch.h"
#include "kube/test_server.h"

namespace basalt::controlplane {
namespace {

using namespace std::chrono_literals;
using data::Value;

Value yaml(const std::string& text) { return data::parse_yaml(text).value(); }

constexpr const char* kDeployment = "/apis/apps/v1/namespaces/team/deployments/tenant-a";

class WebhooksTest : public ::testing::Test {
 protected:
    WebhooksTest()
        : server(std::make_shared<kube::testing::TestServer>(loop)),
          client(loop, server),
          manager(client, client),
          webhooks(manager, client, SettingsDefaults()),
          group(loop) {
        webhooks.add_routes(*router);
        Value store = yaml(
            "{apiVersion: kamaji.clastix.io/v1alpha1, kind: DataStore, metadata: {name: default}, "
            "spec: {driver: etcd}}");
        server->put("/apis/kamaji.clastix.io/v1alpha1/datastores/default", store);
        group.spawn("manager", manager.run());
    }
    ~WebhooksTest() override {
        group.cancel();
        loop.run_until([&] { return group.size() == 0; }, 1min);
    }
    async::Task<void> send(std::string path, Value review) {
        net::ServerRequest request;
        request.method = "POST";
        request.target = std::move(path);
        request.headers.add("content-type", "application/json");
        request.body = data::to_json(review);
        Result<net::HttpServerResponse> answered = co_await router->handle(std::move(request));
        if (answered.ok())
            response = data::parse_json(answered->body).value_or(Value())["response"];
        done = true;
    }
    /// The AdmissionReview's response.
    Value review(const std::string& path, const std::string& operation, Value object,
                 Value old = {}) {
        Value request = Value::object({{"uid", "u"}, {"operation", operation}});
        request.set(
            "kind",
            yaml("{group: kamaji.clastix.io, version: v1alpha1, kind: TenantControlPlane}"));
        request.set(
            "resource",
            yaml("{group: kamaji.clastix.io, version: v1alpha1, resource: tenantcontrolplanes}"));
        request.set("name", object["metadata"]["name"]);
        request.set("namespace", object["metadata"]["namespace"]);
        request.set("object", std::move(object));
        request.set("oldObject", std::move(old));
        Value body = Value::object({{"apiVersion", "admission.k8s.io/v1"},
                                    {"kind", "AdmissionReview"},
                                    {"request", request}});
        done = false;
        response = Value();
        group.spawn(send(path, std::move(body)));
        EXPECT_TRUE(loop.run_until([&] { return done; }, 1min));
        return response;
    }
    static Value patched(const std::string& patch) {
        return data::apply_merge_patch(example_object(), yaml(patch));
    }

    async::SimLoop loop{1};
    std::shared_ptr<kube::testing::TestServer> server;
    kube::Client client;
    controller::Manager manager;
    Webhooks webhooks;
    std::shared_ptr<controller::Router> router = std::make_shared<controller::Router>();
    async::TaskGroup group;
    Value response;
    bool done = false;
};

TEST_F(WebhooksTest, AcceptsAndTriesTheDeployment) {
    Value answer = review(kControlPlaneWebhook, "CREATE", example_object());
    EXPECT_TRUE(answer["allowed"].as_bool()) << data::to_json(answer);
    ASSERT_EQ(server->count("PATCH", kDeployment), 1u);
    EXPECT_NE(server->requests.back().target.find("dryRun=All"), std::string::npos);
    // The API server's answer to a scale is not asked for again when nothing of the Pods changes.
    Value other = patched("{spec: {networkProfile: {certSANs: [a.example]}}}");
    EXPECT_TRUE(
        review(kControlPlaneWebhook, "UPDATE", other, example_object())["allowed"].as_bool());
    EXPECT_EQ(server->count("PATCH", kDeployment), 1u);
    EXPECT_NE(manager.metrics().to_text().find(
                  "kamaji_handler_time_seconds_count{handler=\"webhook-tenantcontrolplane\"} 2"),
              std::string::npos);
}

TEST_F(WebhooksTest, RefusesWithFieldsAndRemedies) {
    Value answer = review(kControlPlaneWebhook, "CREATE",
                          patched("{spec: {dataStore: nowhere, kubernetes: {version: v1.30.0}}}"));
    EXPECT_FALSE(answer["allowed"].as_bool(true));
    EXPECT_EQ(answer["status"]["code"].as_int(), 422);
    EXPECT_EQ(answer["status"]["details"]["causes"].size(), 2u) << data::to_json(answer);
    EXPECT_NE(answer["status"]["message"].as_string().find(
                  "there is no DataStore \"nowhere\": create it"),
              std::string_view::npos);
    EXPECT_EQ(server->count("PATCH", kDeployment), 0u);
}

TEST_F(WebhooksTest, RefusesWhatKubernetesRefusesInTheDeployment) {
    server->intercept =
        [](const net::HttpRequest& request) -> std::optional<Result<net::HttpResponse>> {
        if (request.method != "PATCH") return {};
        Value status = kube::testing::status_document(422, "Invalid", "Deployment is invalid");
        status.set(
            "details",
            yaml("{causes: [{reason: FieldValueInvalid, field: "
                 "'spec.template.spec.tolerations[0].operator', message: 'Unsupported value'}]}"));
        return Result<net::HttpResponse>(kube::testing::respond(422, status));
    };
    Value answer = review(kControlPlaneWebhook, "CREATE", example_object());
    EXPECT_FALSE(answer["allowed"].as_bool(true));
    EXPECT_EQ(answer["status"]["details"]["causes"][0]["field"].as_string(),
              "spec.controlPlane.deployment");
    EXPECT_NE(answer["status"]["message"].as_string().find(
                  "spec.template.spec.tolerations[0].operator: Unsupported value"),
              std::string_view::npos);
}

// Which ports nodes have, and which are taken, only the API server knows.
TEST_F(WebhooksTest, RefusesPortsThatNodesDoNotHave) {
    const char* service_path = "/api/v1/namespaces/team/services/tenant-a";
    server->intercept =
        [&](const net::HttpRequest& request) -> std::optional<Result<net::HttpResponse>> {
        if (request.method != "PATCH" || request.target.find(service_path) != 0) return {};
        EXPECT_NE(request.target.find("dryRun=All"), std::string::npos);
        EXPECT_NE(request.body.find("\"nodePort\":8132"), std::string::npos) << request.body;
        Value status = kube::testing::status_document(422, "Invalid", "Service is invalid");
        status.set("details",
                   yaml("{causes: [{reason: FieldValueInvalid, field: 'spec.ports[1].nodePort', "
                        "message: 'Invalid value: 8132: provided port is not in the valid range. "
                        "The range of valid ports is 30000-32767'}]}"));
        return Result<net::HttpResponse>(kube::testing::respond(422, status));
    };
    const Value object = patched(
        "{spec: {networkProfile: {address: 192.0.2.1, port: 31443}, controlPlane: {service: "
        "{serviceType: NodePort}}}}");
    Value answer = review(kControlPlaneWebhook, "CREATE", object);
    EXPECT_FALSE(answer["allowed"].as_bool(true));
    const Value& causes = answer["status"]["details"]["causes"];
    ASSERT_EQ(causes.size(), 1u) << data::to_json(answer);
    EXPECT_EQ(causes[0]["field"].as_string(), "spec.addons.konnectivity.server.port");
    EXPECT_NE(causes[0]["message"].as_string().find("30000-32767"), std::string_view::npos);
    // Nothing of it changes.
    const Value scaled = data::apply_merge_patch(
        object, yaml("{spec: {controlPlane: {deployment: {replicas: 3}}}}"));
    EXPECT_TRUE(review(kControlPlaneWebhook, "UPDATE", scaled, object)["allowed"].as_bool());
}

TEST_F(WebhooksTest, AcceptsWhenTheDryRunCannotBeMade) {
    server->intercept =
        [](const net::HttpRequest& request) -> std::optional<Result<net::HttpResponse>> {
        if (request.method != "PATCH") return {};
        return Result<net::HttpResponse>(kube::testing::respond(
            403, kube::testing::status_document(403, "Forbidden", "exceeded quota")));
    };
    EXPECT_TRUE(review(kControlPlaneWebhook, "CREATE", example_object())["allowed"].as_bool());
}

TEST_F(WebhooksTest, WarnsOfWhatIsNotInForce) {
    Value answer = review(kControlPlaneWebhook, "CREATE",
                          patched("{spec: {controlPlane: {ingress: {hostname: a.example}}}}"));
    EXPECT_TRUE(answer["allowed"].as_bool());
    EXPECT_NE(answer["warnings"][0].as_string().find("spec.controlPlane.ingress"),
              std::string_view::npos);
}

TEST_F(WebhooksTest, RefusesKeysOfAnotherControlPlane) {
    Value victim =
        patched("{metadata: {name: victim, uid: victim}, spec: {dataStoreSchema: theirs}}");
    server->put("/apis/kamaji.clastix.io/v1alpha1/namespaces/other/tenantcontrolplanes/victim",
                data::apply_merge_patch(victim, yaml("{metadata: {namespace: other}}")));
    loop.run_for(1s);
    Value answer =
        review(kControlPlaneWebhook, "CREATE", patched("{spec: {dataStoreSchema: theirs}}"));
    EXPECT_FALSE(answer["allowed"].as_bool(true));
    EXPECT_NE(answer["status"]["message"].as_string().find("spec.dataStoreSchema"),
              std::string_view::npos);
    EXPECT_EQ(answer["status"]["message"].as_string().find("victim"), std::string_view::npos)
        << "tells who else is there";
}

TEST_F(WebhooksTest, ChecksTheOtherKinds) {
    Value store = yaml("{metadata: {name: a}, spec: {driver: etcd, endpoints: ['etcd:99999']}}");
    EXPECT_FALSE(review(kDataStoreWebhook, "CREATE", store)["allowed"].as_bool(true));
    Value generator = yaml("{metadata: {name: ca}, spec: {user: {stringValue: a}}}");
    EXPECT_FALSE(review(kGeneratorWebhook, "CREATE", generator)["allowed"].as_bool(true));
    EXPECT_TRUE(review(kGeneratorWebhook, "DELETE", Value(), generator)["allowed"].as_bool());
}

}  // namespace
}  // namespace basalt::controlplane
