#include "controlplane/kubeconfig_generator.h"

#include <gtest/gtest.h>

#include "async/sim_loop.h"
#include "controller/conditions.h"
#include "controlplane/names.h"
#include "controlplane/testdata_test.h"
#include "data/base64.h"
#include "kube/test_server.h"
#include "pki/certificate.h"
#include "pki/kubeconfig.h"

namespace basalt::controlplane {
namespace {

using namespace std::chrono_literals;
using data::Value;

Value yaml(const std::string& text) { return data::parse_yaml(text).value(); }

TEST(CompoundValue, TakesTextsAndPaths) {
    Value plane = example_object();
    plane.at("metadata").set("labels", yaml("{app.kubernetes.io/owner: jane, plain: x}"));
    auto of = [&](const std::string& text) { return compound_value(yaml(text), plane); };
    EXPECT_EQ(of("{stringValue: admin}").value(), "admin");
    EXPECT_EQ(of("{fromDefinition: metadata.name}").value(), "tenant-a");
    EXPECT_EQ(of("{fromDefinition: metadata.labels.plain}").value(), "x");
    EXPECT_EQ(of("{fromDefinition: metadata.labels.app.kubernetes.io/owner}").value(), "jane");
    EXPECT_EQ(of("{fromDefinition: spec.controlPlane.deployment.replicas}").value(), "1");
    EXPECT_NE(of("{fromDefinition: metadata.nothing}")
                  .error()
                  .message()
                  .find("has no field metadata.nothing"),
              std::string::npos);
    EXPECT_NE(of("{fromDefinition: metadata}").error().message().find("name a field in it"),
              std::string::npos);
    EXPECT_FALSE(of("{}").ok());
    EXPECT_FALSE(of("{fromDefinition: metadata..name}").ok());
}

struct Tenant {
    pki::SimKeySource keys{3};
    WallTime now{std::chrono::seconds(1'767'225'600)};
    pki::CertificateAuthority ca = pki::CertificateAuthority::create(keys, "kubernetes", now);

    static Value secret(const std::string& name,
                        const std::map<std::string, std::string>& content) {
        Value object = kube::make_object(kube::resources::secrets(), kube::ObjectKey("team", name));
        kube::set_label(object, names::kProjectLabel, names::kProject);
        for (const auto& [key, text] : content)
            object.at("data").set(key, data::base64_encode(text));
        return object;
    }
    Value ca_secret() const {
        return secret("tenant-a-ca", {{"ca.crt", ca.certificate().to_pem()},
                                      {"ca.key", std::string(ca.key().to_pem().reveal())}});
    }
    Value admin_secret(const std::string& server = "https://tenant-a.team.svc:6443") {
        pki::CertificateSpec spec;
        spec.common_name = "kubernetes-admin";
        spec.client = true;
        pki::KeyPair pair = ca.issue(spec, keys, now).value();
        pki::Kubeconfig config;
        config.server = server;
        config.ca_pem = ca.certificate().to_pem();
        config.user = "kubernetes-admin";
        config.client_certificate_pem = pair.certificate_pem();
        config.client_key_pem = pair.key_pem();
        const std::string text(pki::to_yaml(config).reveal());
        config.server = "https://192.0.2.1:6443";
        return secret(
            "tenant-a-admin-kubeconfig",
            {{"admin.svc", text}, {"admin.conf", std::string(pki::to_yaml(config).reveal())}});
    }
};

Value generator(const std::string& spec) {
    Value object = kube::make_object(kubeconfig_generators(), kube::ObjectKey("viewers"));
    object.set("spec", yaml(spec));
    return object;
}

pki::Kubeconfig config_in(const Value& secret) {
    return pki::parse_kubeconfig(data::base64_decode(secret["data"]["value"].as_string()).value())
        .value();
}

class KubeconfigPlanTest : public ::testing::Test {
 protected:
    Tenant tenant;
    Value plane = example_object();
    Value object = generator(
        "{user: {fromDefinition: metadata.name}, groups: [{stringValue: view}, {stringValue: "
        "audit}, {stringValue: view}]}");
    KubeconfigInputs inputs() {
        KubeconfigInputs in;
        in.generator = &object;
        in.control_plane = &plane;
        in.user = generated_user(object, plane).value();
        in.ca_secret = std::make_shared<const Value>(tenant.ca_secret());
        in.admin_secret = admin;
        in.now = tenant.now;
        return in;
    }
    data::SharedValue admin = std::make_shared<const Value>(tenant.admin_secret());
};

TEST_F(KubeconfigPlanTest, IssuesForUserAndGroups) {
    Result<KubeconfigPlan> plan = plan_kubeconfig(inputs(), tenant.keys);
    ASSERT_TRUE(plan.ok()) << plan.error().message();
    EXPECT_EQ(plan->change, "missing");
    EXPECT_EQ(kube::key_of(plan->secret).to_string(), "team/tenant-a-viewers");
    EXPECT_TRUE(is_generated_by(plan->secret, "viewers", "tenant-a"));
    EXPECT_TRUE(kube::is_owned_by(plan->secret, kube::uid_of(plane)));
    pki::Kubeconfig config = config_in(plan->secret);
    EXPECT_EQ(config.server, "https://tenant-a.team.svc:6443");
    EXPECT_EQ(config.user, "viewers");
    pki::Certificate certificate = pki::Certificate::parse(config.client_certificate_pem).value();
    EXPECT_EQ(certificate.common_name(), "tenant-a");
    EXPECT_EQ(certificate.organizations(), (std::vector<std::string>{"audit", "view"}));
    EXPECT_TRUE(certificate.is_signed_by(tenant.ca.certificate()));
    EXPECT_FALSE(certificate.allows_server());
    EXPECT_EQ(plan->renew_at, tenant.now + 305 * std::chrono::hours(24));
}

TEST_F(KubeconfigPlanTest, LeavesAloneWhatIsGood) {
    Value first = plan_kubeconfig(inputs(), tenant.keys)->secret;
    KubeconfigInputs again = inputs();
    again.existing = std::make_shared<const Value>(first);
    again.now += std::chrono::hours(24 * 300);
    Result<KubeconfigPlan> plan = plan_kubeconfig(again, tenant.keys);
    EXPECT_EQ(plan->change, "");
    EXPECT_EQ(plan->secret, first);
    again.now += std::chrono::hours(24 * 6);
    EXPECT_NE(plan_kubeconfig(again, tenant.keys)->change, "") << "59 days are left";
}

TEST_F(KubeconfigPlanTest, KeepsTheKeyWhenOnlyTheAddressChanges) {
    Value first = plan_kubeconfig(inputs(), tenant.keys)->secret;
    object.at("spec").set("controlPlaneEndpointFrom", "admin.conf");
    KubeconfigInputs again = inputs();
    again.existing = std::make_shared<const Value>(first);
    Result<KubeconfigPlan> plan = plan_kubeconfig(again, tenant.keys);
    EXPECT_EQ(plan->change, "");
    EXPECT_EQ(config_in(plan->secret).server, "https://192.0.2.1:6443");
    EXPECT_EQ(config_in(plan->secret).client_certificate_pem,
              config_in(first).client_certificate_pem);
}

TEST_F(KubeconfigPlanTest, IssuesAnewForOtherNamesAndOnRequest) {
    Value first = plan_kubeconfig(inputs(), tenant.keys)->secret;
    auto change_with = [&](const std::string& spec) {
        object.set("spec", yaml(spec));
        KubeconfigInputs again = inputs();
        again.existing = std::make_shared<const Value>(first);
        return plan_kubeconfig(again, tenant.keys)->change;
    };
    EXPECT_NE(
        change_with(
            "{user: {stringValue: other}, groups: [{stringValue: view}, {stringValue: audit}]}"),
        "");
    EXPECT_EQ(change_with("{user: {fromDefinition: metadata.name}, groups: [{stringValue: view}]}"),
              "other groups");
    const std::string same =
        "{user: {fromDefinition: metadata.name}, groups: [{stringValue: view}, {stringValue: "
        "audit}]}";
    EXPECT_EQ(change_with(same), "");
    kube::set_annotation(first, names::kRotateAnnotation, "");
    EXPECT_EQ(change_with(same), "asked for");
    KubeconfigInputs asked = inputs();
    asked.existing = std::make_shared<const Value>(first);
    Value rotated = plan_kubeconfig(asked, tenant.keys)->secret;
    EXPECT_EQ(kube::annotation_of(rotated, names::kRotateAnnotation), "2026-01-01T00:00:00Z");
    asked.existing = std::make_shared<const Value>(rotated);
    EXPECT_EQ(plan_kubeconfig(asked, tenant.keys)->secret, rotated);
}

TEST_F(KubeconfigPlanTest, SaysWhatIsMissing) {
    KubeconfigInputs in = inputs();
    in.ca_secret = nullptr;
    EXPECT_NE(plan_kubeconfig(in, tenant.keys)
                  .error()
                  .message()
                  .find("Secret tenant-a-ca does not exist yet"),
              std::string::npos);
    in = inputs();
    in.admin_secret = nullptr;
    EXPECT_NE(plan_kubeconfig(in, tenant.keys)
                  .error()
                  .message()
                  .find("tenant-a-admin-kubeconfig does not exist"),
              std::string::npos);
    object.at("spec").set("controlPlaneEndpointFrom", "nothing");
    EXPECT_NE(plan_kubeconfig(inputs(), tenant.keys).error().message().find("has no key nothing"),
              std::string::npos);
}

class KubeconfigGeneratorTest : public ::testing::Test {
 protected:
    static constexpr const char* kPath =
        "/apis/kamaji.clastix.io/v1alpha1/kubeconfiggenerators/viewers";
    static constexpr const char* kSecret = "/api/v1/namespaces/team/secrets/tenant-a-viewers";
    static constexpr const char* kPlane =
        "/apis/kamaji.clastix.io/v1alpha1/namespaces/team/tenantcontrolplanes/tenant-a";

    KubeconfigGeneratorTest()
        : server(std::make_shared<kube::testing::TestServer>(loop)),
          client(loop, server),
          manager(client, client),
          events(client, {}),
          subject(manager, keys, events),
          group(loop) {
        Value ns = kube::make_object(kube::resources::namespaces(), kube::ObjectKey("team"));
        kube::set_label(ns, "env", "prod");
        server->put("/api/v1/namespaces/team", ns);
        server->put(kPlane, example_object());
        // An API server does not create what only its status was applied to.
        server->intercept =
            [this](const net::HttpRequest& request) -> std::optional<Result<net::HttpResponse>> {
            if (request.target.find("/status") == std::string::npos ||
                server->object(kPath) != nullptr)
                return {};
            return Result<net::HttpResponse>(kube::testing::respond(
                404, kube::testing::status_document(404, "NotFound", "not found")));
        };
    }
    ~KubeconfigGeneratorTest() override {
        group.cancel();
        loop.run_until([&] { return group.size() == 0; }, 1min);
    }
    void start() { group.spawn("manager", manager.run()); }
    void put_secrets() {
        server->put("/api/v1/namespaces/team/secrets/tenant-a-ca", tenant.ca_secret());
        server->put("/api/v1/namespaces/team/secrets/tenant-a-admin-kubeconfig",
                    tenant.admin_secret());
    }
    bool wait(const std::function<bool()>& done) { return loop.run_until(done, 1min); }
    Value status() {
        return server->object(kPath) == nullptr ? Value() : (*server->object(kPath))["status"];
    }
    bool wait_ready(std::string_view reason) {
        return wait([&] {
            return controller::find_condition(status(), "Ready")["reason"].as_string() == reason;
        });
    }

    async::SimLoop loop{1};
    Tenant tenant;
    pki::SimKeySource keys{5};
    std::shared_ptr<kube::testing::TestServer> server;
    kube::Client client;
    controller::Manager manager;
    controller::EventRecorder events;
    KubeconfigGeneratorController subject;
    async::TaskGroup group;
};

TEST_F(KubeconfigGeneratorTest, FollowsTheControlPlane) {
    server->put(kPath, generator("{user: {stringValue: viewer}}"));
    start();
    ASSERT_TRUE(wait_ready("NotAllAvailable"));
    EXPECT_EQ(status()["resources"].as_int(), 1);
    EXPECT_EQ(status()["availableResources"].as_int(), 0);
    EXPECT_EQ(status()["errors"][0]["resource"].as_string(), "team/tenant-a");
    put_secrets();
    ASSERT_TRUE(wait_ready("Available"));
    ASSERT_NE(server->object(kSecret), nullptr);
    EXPECT_EQ(config_in(*server->object(kSecret)).server, "https://tenant-a.team.svc:6443");
    EXPECT_EQ(status()["availableResources"].as_int(), 1);
    loop.run_for(10s);
    const size_t writes = server->count("PATCH");
    loop.run_for(2h);
    EXPECT_EQ(server->count("PATCH"), writes);
    // Somebody deletes it.
    server->erase(kSecret);
    EXPECT_TRUE(wait([&] { return server->object(kSecret) != nullptr; }));
}

TEST_F(KubeconfigGeneratorTest, OneThatFailsKeepsNoneWaiting) {
    put_secrets();
    const std::string base = "/api/v1/namespaces/team/secrets/";
    for (const char* secret : {"ca", "admin-kubeconfig"}) {
        Value copy = *server->object(base + "tenant-a-" + secret);
        copy.at("metadata").set("name", std::string("tenant-b-") + secret);
        server->put(base + "tenant-b-" + secret, copy);
    }
    Value plane = example_object();
    plane.at("metadata").set("name", "tenant-b").set("uid", "b-uid");
    server->put("/apis/kamaji.clastix.io/v1alpha1/namespaces/team/tenantcontrolplanes/tenant-b",
                plane);
    bool broken = true;
    server->intercept =
        [&](const net::HttpRequest& request) -> std::optional<Result<net::HttpResponse>> {
        if (!broken || request.target.find("/tenant-a-viewers") == std::string::npos) return {};
        return Result<net::HttpResponse>(unavailable("connection refused"));
    };
    server->put(kPath, generator("{user: {stringValue: viewer}}"));
    start();
    ASSERT_TRUE(wait_ready("NotAllAvailable"));
    EXPECT_NE(server->object(base + "tenant-b-viewers"), nullptr);
    EXPECT_EQ(status()["availableResources"].as_int(), 1);
    EXPECT_EQ(status()["errors"][0]["resource"].as_string(), "team/tenant-a");
    EXPECT_EQ(server->object(kSecret), nullptr);
    broken = false;
    EXPECT_TRUE(wait_ready("Available"));
    EXPECT_NE(server->object(kSecret), nullptr);
}

TEST_F(KubeconfigGeneratorTest, FollowsFieldsOfTheStatus) {
    put_secrets();
    auto set_user = [&](const char* user) {
        Value plane = *server->object(kPlane);
        plane.at("status").at("storage").at("setup").set("user", user);
        server->put(kPlane, plane);
    };
    auto wait_user = [&](const char* user) {
        return wait([&] {
            if (server->object(kSecret) == nullptr) return false;
            const std::string pem = config_in(*server->object(kSecret)).client_certificate_pem;
            return pki::Certificate::parse(pem).value().common_name() == user;
        });
    };
    server->put(kPath, generator("{user: {fromDefinition: status.storage.setup.user}}"));
    start();
    ASSERT_TRUE(wait_ready("NotAllAvailable"));
    set_user("one");
    EXPECT_TRUE(wait_user("one"));
    set_user("two");
    EXPECT_TRUE(wait_user("two"));
}

TEST_F(KubeconfigGeneratorTest, RenewsBeforeTheEnd) {
    put_secrets();
    server->put(kPath, generator("{user: {stringValue: viewer}}"));
    start();
    ASSERT_TRUE(wait_ready("Available"));
    const std::string first = config_in(*server->object(kSecret)).client_certificate_pem;
    loop.jump_wall_clock(std::chrono::hours(24 * 304));
    Value plane = *server->object(kPlane);
    kube::set_label(plane, "look", "again");
    server->put(kPlane, plane);
    loop.run_for(1h);
    EXPECT_EQ(config_in(*server->object(kSecret)).client_certificate_pem, first);
    loop.run_for(25h);
    EXPECT_NE(config_in(*server->object(kSecret)).client_certificate_pem, first);
}

TEST_F(KubeconfigGeneratorTest, RemovesWhatIsNoLongerSelected) {
    put_secrets();
    server->put(
        kPath,
        generator("{user: {stringValue: viewer}, namespaceSelector: {matchLabels: {env: prod}}}"));
    start();
    ASSERT_TRUE(wait([&] { return server->object(kSecret) != nullptr; }));
    Value ns = *server->object("/api/v1/namespaces/team");
    kube::set_label(ns, "env", "test");
    server->put("/api/v1/namespaces/team", ns);
    EXPECT_TRUE(wait([&] { return server->object(kSecret) == nullptr; }));
    EXPECT_TRUE(wait([&] { return status()["resources"].as_int(-1) == 0; }));
    server->put(kPath, generator("{user: {stringValue: viewer}, tenantControlPlaneSelector: "
                                 "{matchLabels: {tier: gold}}}"));
    Value plane = *server->object(kPlane);
    kube::set_label(plane, "tier", "gold");
    server->put(kPlane, plane);
    EXPECT_TRUE(wait([&] { return server->object(kSecret) != nullptr; }));
    server->erase(kPath);
    EXPECT_TRUE(wait([&] { return server->object(kSecret) == nullptr; }));
}

TEST_F(KubeconfigGeneratorTest, TouchesNoForeignSecret) {
    put_secrets();
    Value foreign = Tenant::secret("tenant-a-viewers", {{"password", "x"}});
    server->put(kSecret, foreign);
    const Value before = *server->object(kSecret);
    server->put(kPath, generator("{user: {stringValue: viewer}}"));
    start();
    ASSERT_TRUE(wait_ready("NotAllAvailable"));
    EXPECT_NE(status()["errors"][0]["message"].as_string().find("is not of this generator"),
              std::string_view::npos);
    server->erase(kPath);
    loop.run_for(10s);
    EXPECT_EQ(*server->object(kSecret), before);
}

/// As an API server tells of a Secret of which `field` was applied by `manager`.
Value applied_secret(Value secret, const char* manager, const char* field) {
    secret.at("metadata")
        .set("managedFields",
             Value::array({Value::object(
                 {{"manager", manager},
                  {"operation", "Apply"},
                  {"fieldsV1",
                   Value::object({{"f:data", Value::object({{field, Value::object()}})}})}})}));
    return secret;
}

TEST_F(KubeconfigPlanTest, KnowsItsSecretWithoutLabels) {
    Value secret = plan_kubeconfig(inputs(), tenant.keys)->secret;
    secret.at("metadata").erase("labels");
    EXPECT_FALSE(is_generated_by(secret, "viewers", "tenant-a"));
    EXPECT_TRUE(is_surely_ours(applied_secret(secret, "basalt-controller", "f:value"), plane));
    EXPECT_FALSE(is_surely_ours(applied_secret(secret, "somebody", "f:value"), plane));
    EXPECT_FALSE(is_surely_ours(applied_secret(secret, "basalt-controller", "f:ca.key"), plane))
        << "a generator called \"ca\" must not take the control plane's authority for its own";
    EXPECT_FALSE(is_surely_ours(secret, plane));
    Value other = plane;
    other.at("metadata").set("uid", "another");
    EXPECT_FALSE(is_surely_ours(applied_secret(secret, "basalt-controller", "f:value"), other));
    secret.at("metadata").erase("ownerReferences");
    EXPECT_FALSE(is_surely_ours(applied_secret(secret, "basalt-controller", "f:value"), plane));
}

TEST_F(KubeconfigGeneratorTest, MendsASecretThatLostItsLabels) {
    put_secrets();
    server->put(kPath, generator("{user: {stringValue: viewer}}"));
    start();
    ASSERT_TRUE(wait_ready("Available"));
    Value bare = applied_secret(*server->object(kSecret), "basalt-controller", "f:value");
    bare.at("metadata").erase("labels");
    server->put(kSecret, bare);
    EXPECT_TRUE(
        wait([&] { return is_generated_by(*server->object(kSecret), "viewers", "tenant-a"); }));
    EXPECT_EQ((*server->object(kSecret))["data"], bare["data"]) << "the certificate stays";
    EXPECT_TRUE(wait_ready("Available"));
}

}  // namespace
}  // namespace basalt::controlplane
