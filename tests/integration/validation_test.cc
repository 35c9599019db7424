// What a real API server accepts and refuses of our kinds: the schema alone, then with our
// admission webhook behind it.
#include <fstream>
#include <sstream>

#include <fmt/format.h>

#include "controller/http_endpoint.h"
#include "controller/manager.h"
#include "controller/webhook_certificate.h"
#include "controlplane/names.h"
#include "controlplane/webhooks.h"
#include "data/json.h"
#include "data/patch.h"
#include "data/yaml.h"
#include "tests/integration/control_plane_world.h"

namespace basalt::integration {
namespace {

using namespace std::chrono_literals;
namespace resources = kube::resources;

Value read_yaml(const std::string& path) {
    std::ifstream file(std::string(BASALT_SOURCE_DIR) + "/" + path);
    std::stringstream text;
    text << file.rdbuf();
    return data::parse_yaml(text.str()).value();
}

const kube::Resource& resource_of(const Value& object) {
    static const kube::Resource generators("kamaji.clastix.io/v1alpha1", "kubeconfiggenerators",
                                           "KubeconfigGenerator", false);
    if (object["kind"].as_string() == "TenantControlPlane")
        return controlplane::tenant_control_planes();
    return object["kind"].as_string() == "DataStore" ? controlplane::data_stores() : generators;
}

class ValidationTest : public ControlPlaneTest {
 protected:
    /// The answer to the case's last step.
    Result<Value> play(const Value& base, const Value& one) {
        Value object = base;
        if (one.contains("set")) object = data::apply_merge_patch(std::move(object), one["set"]);
        const kube::Resource& resource = resource_of(base);
        Result<Value> answer = run(client->create(resource, object));
        if (!answer.ok()) return answer;
        const ObjectKey key = kube::key_of(*answer);
        if (one.contains("status")) {
            kube::WriteOptions options;
            options.subresource = "status";
            Value patch = Value::object({{"status", one["status"]}});
            Result<Value> patched = run(client->merge_patch(resource, key, patch, options));
            EXPECT_TRUE(patched.ok()) << one["name"].as_string();
        }
        if (one.contains("update")) answer = run(client->merge_patch(resource, key, one["update"]));
        EXPECT_TRUE(run(client->remove(resource, key)).ok());
        return answer;
    }
};

TEST_P(ValidationTest, TheApiServerFollowsTheSchema) {
    const Value all = read_yaml("api/testdata/kamaji/validation.yaml");
    ASSERT_GE(all["cases"].size(), 140u);
    const kube::Resource& generators = resource_of(all["base"]["KubeconfigGenerator"]);
    ASSERT_TRUE(wait_until([&] { return run(client->list(generators)).ok(); }, 30s));
    for (const Value& one : all["cases"].items()) {
        SCOPED_TRACE(one["name"].as_string());
        const Value& base = all["base"][one["kind"].as_string()];
        Result<Value> answer = play(base, one);
        if (one["refused"].is_null()) {
            EXPECT_TRUE(answer.ok()) << answer.error().to_string();
            continue;
        }
        if (answer.ok()) {
            ADD_FAILURE() << "was accepted";
            continue;
        }
        EXPECT_NE(answer.error().message().find(one["refused"].as_string()), std::string::npos)
            << answer.error().message();
    }
}

/// Our webhooks, called by the API server.
class AdmissionTest : public ValidationTest {
 protected:
    void SetUp() override {
        ValidationTest::SetUp();
        if (IsSkipped() || HasFatalFailure()) return;
        main = add_datastore("main");
        manager = std::make_unique<controller::Manager>(*client, *client);
        controlplane::SettingsDefaults defaults;
        defaults.datastore = "none";
        webhooks = std::make_unique<controlplane::Webhooks>(*manager, *client, defaults);
        router = std::make_shared<controller::Router>();
        webhooks->add_routes(*router);
        controller::HttpEndpoint::Options options;
        options.tls = true;
        endpoint = std::make_unique<controller::HttpEndpoint>(
            *loop, net::Endpoint::tcp("127.0.0.1", 0), router, options);
        controller::WebhookCertificate::Options certificate_options;
        certificate_options.ns = ns_;
        certificate_options.secret_name = "webhook-certificate";
        certificate_options.dns_names = {"localhost"};
        certificate_options.ip_addresses = {"127.0.0.1"};
        certificate_options.selector = "basalt.dev/webhook=basalt-controller";
        certificate = std::make_unique<controller::WebhookCertificate>(
            *client, manager->caches(), keys, certificate_options,
            [this](std::shared_ptr<const net::TlsContext> tls) {
                endpoint->set_tls(std::move(tls));
            });
        group->spawn("manager", manager->run());
        group->spawn("certificate", certificate->run());
        group->spawn("endpoint", endpoint->run());
        ASSERT_TRUE(wait_until([&] { return endpoint->endpoint().has_value(); }, 20s));
        Value configuration = read_yaml("deploy/controller/30-webhooks.yaml");
        for (Value& hook : configuration.at("webhooks").mutable_items()) {
            const std::string path = hook["clientConfig"]["service"]["path"].str();
            hook.set("clientConfig",
                     Value::object({{"url", fmt::format("https://127.0.0.1:{}{}",
                                                        endpoint->endpoint()->port, path)}}));
        }
        Result<Value> created =
            run(client->create(resources::validating_webhook_configurations(), configuration));
        ASSERT_TRUE(created.ok()) << created.error().to_string();
    }
    void TearDown() override {
        if (endpoint) {
            (void)run(client->remove(resources::validating_webhook_configurations(),
                                     ObjectKey("basalt-controller")));
            group->cancel();
            EXPECT_TRUE(wait_until([&] { return group->size() == 0; }, 30s));
        }
        certificate.reset();
        endpoint.reset();
        webhooks.reset();
        manager.reset();
        ValidationTest::TearDown();
    }

    std::string main;
    std::unique_ptr<controller::Manager> manager;
    std::unique_ptr<controlplane::Webhooks> webhooks;
    std::shared_ptr<controller::Router> router;
    std::unique_ptr<controller::HttpEndpoint> endpoint;
    std::unique_ptr<controller::WebhookCertificate> certificate;
    pki::SystemKeySource keys;
};

TEST_P(AdmissionTest, TheWebhookRefusesWhatTheSchemaCannot) {
    const Value base = data::apply_merge_patch(
        read_yaml("api/testdata/kamaji/validation.yaml")["base"]["TenantControlPlane"],
        data::parse_yaml(
            fmt::format("{{metadata: {{namespace: {}}}, spec: {{dataStore: {}}}}}", ns_, main))
            .value());
    const auto on = [&](const std::string& text) {
        return play(base, data::parse_yaml("{set: " + text + "}").value());
    };
    // The API server learns the configuration, and its authority, within a moment.
    ASSERT_TRUE(wait_until(
        [&] {
            Result<Value> answer = on("{spec: {dataStore: nowhere}}");
            return !answer.ok() && answer.error().code() == Code::kInvalidArgument;
        },
        30s));
    const struct {
        const char* set;
        const char* refused;
    } cases[] = {
        {"{}", nullptr},
        {"{spec: {dataStore: nowhere}}", "there is no DataStore \"nowhere\""},
        {"{spec: {kubernetes: {version: v1.30.0}}}", "use one from v1.31 to v1.36"},
        {"{spec: {kubernetes: {version: v1.37.0}}}", "use one from v1.31 to v1.36"},
        {"{spec: {dataStoreOverrides: [{resource: /events, dataStore: nowhere}]}}",
         "spec.dataStoreOverrides[0].dataStore"},
        {"{spec: {kubernetes: {version: v1.31.4, admissionControllers: "
         "[MutatingAdmissionPolicy]}}}",
         "Kubernetes 1.31 has no admission plugin"},
        {"{spec: {networkProfile: {dnsServiceIPs: [10.97.0.10]}}}", "outside"},
        {"{spec: {controlPlane: {deployment: {additionalContainers: [{name: kube-apiserver, "
         "image: a}]}}}}",
         "the name is taken by a container of the control plane"},
        {"{spec: {controlPlane: {deployment: {tolerations: [{key: a, operator: Sometimes}]}}}}",
         "Kubernetes refuses the Deployment"},
        {"{spec: {writePermissions: {blockCreation: true}}}", nullptr},
    };
    for (const auto& one : cases) {
        SCOPED_TRACE(one.set);
        Result<Value> answer = on(one.set);
        if (one.refused == nullptr) {
            EXPECT_TRUE(answer.ok()) << answer.error().to_string();
            continue;
        }
        ASSERT_FALSE(answer.ok()) << "was accepted";
        EXPECT_NE(answer.error().message().find(one.refused), std::string::npos)
            << answer.error().message();
    }
}

INSTANTIATE_TEST_SUITE_P(Kube, ValidationTest, testing::Values(BASALT_KUBE_VERSIONS), version_name);
INSTANTIATE_TEST_SUITE_P(Kube, AdmissionTest, testing::Values(BASALT_KUBE_VERSIONS), version_name);

}  // namespace
}  // namespace basalt::integration
