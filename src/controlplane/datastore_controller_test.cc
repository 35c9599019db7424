#include "controlplane/datastore_controller.h"

#include <gtest/gtest.h>

#include "async/sim_loop.h"
#include "controlplane/names.h"
#include "controlplane/testdata_test.h"
#include "data/base64.h"
#include "data/patch.h"
#include "kube/test_server.h"
#include "pki/certificate.h"

namespace basalt::controlplane {
namespace {

using namespace std::chrono_literals;
using data::Value;

Value yaml(const std::string& text) { return data::parse_yaml(text).value(); }

// An etcd that says what a test wants.
class ModelEtcd final : public etcd::Client {
 public:
    explicit ModelEtcd(std::vector<std::string> endpoints) : endpoints_(std::move(endpoints)) {}
    std::optional<Error> failure;
    std::vector<std::optional<Error>> member_failures;
    etcd::MemberStatus member;
    bool authenticates = true;
    std::vector<etcd::Alarm> raised;
    int statuses_count = 0, defragments_count = 0;
    int64_t size_after_defragment = 0;

    Answer<etcd::RangeResult> range(etcd::KeyRange, int64_t, bool) override {
        if (failure) co_return *failure;
        co_return etcd::RangeResult();
    }
    Answer<void> put(std::string, std::string) override { co_return Result<void>(); }
    Answer<int64_t> delete_range(etcd::KeyRange) override { co_return int64_t{0}; }
    Answer<void> compact(int64_t) override { co_return Result<void>(); }
    Answer<bool> auth_enabled() override {
        if (failure) co_return *failure;
        co_return bool(authenticates);
    }
    Answer<void> auth_enable() override {
        authenticates = true;
        co_return Result<void>();
    }
    Answer<void> user_add(std::string) override { co_return Result<void>(); }
    Answer<std::vector<std::string>> user_get(std::string) override {
        co_return std::vector<std::string>();
    }
    Answer<void> user_delete(std::string) override { co_return Result<void>(); }
    Answer<std::vector<std::string>> user_list() override { co_return std::vector<std::string>(); }
    Answer<void> user_grant_role(std::string, std::string) override { co_return Result<void>(); }
    Answer<void> user_revoke_role(std::string, std::string) override { co_return Result<void>(); }
    Answer<void> role_add(std::string) override { co_return Result<void>(); }
    Answer<std::vector<etcd::Permission>> role_get(std::string) override {
        co_return std::vector<etcd::Permission>();
    }
    Answer<void> role_delete(std::string) override { co_return Result<void>(); }
    Answer<std::vector<std::string>> role_list() override { co_return std::vector<std::string>(); }
    Answer<void> role_grant_permission(std::string, etcd::Permission) override {
        co_return Result<void>();
    }
    Answer<void> role_revoke_permission(std::string, etcd::KeyRange) override {
        co_return Result<void>();
    }
    Answer<std::vector<etcd::Alarm>> alarms() override {
        co_return std::vector<etcd::Alarm>(raised);
    }
    Answer<void> disarm(etcd::Alarm) override {
        raised.clear();
        co_return Result<void>();
    }
    Answer<std::vector<etcd::Member>> members() override { co_return std::vector<etcd::Member>(); }
    Answer<etcd::MemberStatus> status(size_t endpoint) override {
        ++statuses_count;
        if (endpoint < member_failures.size() && member_failures[endpoint])
            co_return *member_failures[endpoint];
        if (failure) co_return *failure;
        co_return etcd::MemberStatus(member);
    }
    Answer<void> defragment(size_t) override {
        ++defragments_count;
        if (size_after_defragment > 0) member.db_size = size_after_defragment;
        co_return Result<void>();
    }
    const std::vector<std::string>& endpoints() const override { return endpoints_; }
    Result<void> set_tls(std::shared_ptr<const net::TlsContext>) override { return {}; }
    void set_write_guard(std::function<Result<void>()> guard) override {
        write_guard = std::move(guard);
    }
    std::function<Result<void>()> write_guard;

 private:
    std::vector<std::string> endpoints_;
};

// Two authorities that do not know each other, as PEM.
struct Pki {
    pki::SimKeySource keys{7};
    WallTime now{std::chrono::seconds(1'767'225'600)};
    pki::CertificateAuthority ca = pki::CertificateAuthority::create(keys, "etcd", now);
    pki::KeyPair root = client("root");

    pki::KeyPair client(const std::string& name, Duration lifetime = pki::kLeafLifetime) {
        pki::CertificateSpec spec;
        spec.common_name = name;
        spec.client = !name.empty();
        spec.lifetime = lifetime;
        return ca.issue(spec, keys, now).value();
    }
};

Value secret(const std::string& name,
             const std::vector<std::pair<std::string, std::string>>& content) {
    Value object = kube::make_object(kube::resources::secrets(), kube::ObjectKey("etcd", name));
    for (const auto& [key, text] : content) object.at("data").set(key, data::base64_encode(text));
    return object;
}
Value ca_secret(const Pki& pki) {
    return secret("etcd-ca", {{"tls.crt", pki.ca.certificate().to_pem()},
                              {"tls.key", std::string(pki.ca.key().to_pem().reveal())}});
}
Value client_secret(const pki::KeyPair& pair) {
    return secret("etcd-root", {{"tls.crt", pair.certificate_pem()},
                                {"tls.key", std::string(pair.key_pem().reveal())}});
}

Value datastore_object() {
    return yaml(R"(
apiVersion: kamaji.clastix.io/v1alpha1
kind: DataStore
metadata: {name: default}
spec:
  driver: etcd
  endpoints: ['etcd-0:2379', 'etcd-1:2379']
  tlsConfig:
    certificateAuthority:
      certificate: {secretReference: {name: etcd-ca, namespace: etcd, keyPath: tls.crt}}
      privateKey: {secretReference: {name: etcd-ca, namespace: etcd, keyPath: tls.key}}
    clientCertificate:
      certificate: {secretReference: {name: etcd-root, namespace: etcd, keyPath: tls.crt}}
      privateKey: {secretReference: {name: etcd-root, namespace: etcd, keyPath: tls.key}}
)");
}

// ---- the plan
// ---------------------------------------------------------------------------------------------------

class DataStorePlan : public ::testing::Test {
 protected:
    Pki pki;
    std::map<kube::ObjectKey, Value> secrets = {
        {kube::ObjectKey("etcd", "etcd-ca"), ca_secret(pki)},
        {kube::ObjectKey("etcd", "etcd-root"), client_secret(pki.root)}};
    Result<DataStoreMaterial> resolve(const Value& object) {
        auto lookup = [this](const kube::ObjectKey& key) -> data::SharedValue {
            auto found = secrets.find(key);
            return found == secrets.end() ? nullptr : std::make_shared<const Value>(found->second);
        };
        return resolve_datastore(object, lookup, pki.now);
    }
    void expect_failure(const Value& object, std::string_view reason, std::string_view message) {
        Result<DataStoreMaterial> material = resolve(object);
        ASSERT_FALSE(material.ok()) << message;
        EXPECT_EQ(material.error().reason(), reason) << material.error().message();
        EXPECT_NE(material.error().message().find(message), std::string::npos)
            << material.error().message();
        EXPECT_EQ(material.error().message().find('\n'), std::string::npos) << "quotes a PEM text";
    }
    Value& entry(const std::string& name, const std::string& key) {
        return secrets.at(kube::ObjectKey("etcd", name)).at("data").at(key);
    }
};

TEST_F(DataStorePlan, ResolvesSecretsAndInlineContent) {
    Result<DataStoreMaterial> from_secrets = resolve(datastore_object());
    ASSERT_TRUE(from_secrets.ok()) << from_secrets.error().message();
    EXPECT_EQ(from_secrets->endpoints.size(), 2u);
    EXPECT_EQ(from_secrets->ca_pem, pki.ca.certificate().to_pem());
    EXPECT_EQ(from_secrets->notice, "");
    EXPECT_EQ(referenced_secrets(datastore_object()).size(), 2u);

    Value object = datastore_object();
    Value& authority = object.at("spec").at("tlsConfig").at("certificateAuthority");
    authority.at("certificate").set("content", data::base64_encode(pki.ca.certificate().to_pem()));
    authority.set(
        "privateKey",
        Value::object({{"content", data::base64_encode(pki.ca.key().to_pem().reveal())}}));
    EXPECT_EQ(referenced_secrets(object).size(), 1u);
    Result<DataStoreMaterial> inlined = resolve(object);
    ASSERT_TRUE(inlined.ok()) << inlined.error().message();
    EXPECT_EQ(inlined->identity, from_secrets->identity);
}

TEST_F(DataStorePlan, SaysWhatIsWrongAndWhere) {
    Value object = datastore_object();
    object.at("spec").set("driver", "MySQL");
    expect_failure(object, "Unsupported",
                   "spec.driver: MySQL is not supported: create a DataStore with driver etcd");
    object = datastore_object();
    object.at("spec").set("endpoints", Value::array({"etcd-0"}));
    expect_failure(object, "InvalidEndpoint", "\"etcd-0\" is not host:port");
    object = datastore_object();
    object.at("spec").at("tlsConfig").at("clientCertificate").set("privateKey", Value::object());
    expect_failure(object, "ContentMissing",
                   "spec.tlsConfig.clientCertificate.privateKey: nothing is given");

    const Value good = entry("etcd-root", "tls.key");
    entry("etcd-root", "tls.key") = Value(data::base64_encode("-----BEGIN PRIVATE KEY-----\nx\n"));
    expect_failure(
        datastore_object(), "InvalidKey",
        "spec.tlsConfig.clientCertificate.privateKey: Secret etcd/etcd-root, key tls.key: ");
    entry("etcd-root", "tls.key") = entry("etcd-ca", "tls.key");
    expect_failure(datastore_object(), "KeyMismatch",
                   "Secret etcd/etcd-root, key tls.key: the key is not that of the certificate");
    entry("etcd-root", "tls.key") = Value();
    expect_failure(datastore_object(), "SecretKeyNotFound",
                   "Secret etcd/etcd-root has no key tls.key");
    entry("etcd-root", "tls.key") = good;

    const Value authority = entry("etcd-ca", "tls.crt");
    entry("etcd-ca", "tls.crt") = Value(data::base64_encode("nothing"));
    expect_failure(
        datastore_object(), "InvalidCertificate",
        "spec.tlsConfig.certificateAuthority.certificate: Secret etcd/etcd-ca, key tls.crt: ");
    entry("etcd-ca", "tls.crt") = entry("etcd-root", "tls.crt");
    expect_failure(datastore_object(), "KeyMismatch",
                   "Secret etcd/etcd-ca, key tls.key: the key is not");
    entry("etcd-ca", "tls.crt") = authority;

    secrets.erase(kube::ObjectKey("etcd", "etcd-root"));
    expect_failure(datastore_object(), "SecretNotFound",
                   "there is no Secret etcd/etcd-root: create it");
    EXPECT_TRUE(secrets.contains(kube::ObjectKey("etcd", "etcd-ca")));
}

TEST_F(DataStorePlan, LooksAtTimesAndUsage) {
    const kube::ObjectKey key("etcd", "etcd-root");
    secrets[key] = client_secret(pki.client("root", 10 * pki::kDay));
    Result<DataStoreMaterial> soon = resolve(datastore_object());
    ASSERT_TRUE(soon.ok());
    EXPECT_NE(soon->notice.find("key tls.crt: the certificate expires at 2026-01-11T"),
              std::string::npos)
        << soon->notice;
    pki.now += std::chrono::hours(24 * 11);
    expect_failure(datastore_object(), "CertificateExpired",
                   "the certificate expired at 2026-01-11T");

    pki::CertificateSpec server;
    server.common_name = "etcd";
    server.server = true;
    secrets[key] = client_secret(pki.ca.issue(server, pki.keys, pki.now).value());
    expect_failure(datastore_object(), "InvalidCertificate", "not for clients");
    secrets[key] = client_secret(pki.root);
    secrets[kube::ObjectKey("etcd", "etcd-ca")] =
        secret("etcd-ca", {{"tls.crt", pki.root.certificate_pem()},
                           {"tls.key", std::string(pki.root.key_pem().reveal())}});
    expect_failure(datastore_object(), "InvalidCertificate",
                   "put the certificate of an authority there");
}

TEST_F(DataStorePlan, ChangesIdentityWithEveryPart) {
    const std::string before = resolve(datastore_object())->identity;
    secrets[kube::ObjectKey("etcd", "etcd-root")] = client_secret(pki.client("root"));
    const std::string rotated = resolve(datastore_object())->identity;
    EXPECT_NE(before, rotated);
    Value object = datastore_object();
    object.at("spec").set("endpoints", Value::array({"etcd-0:2379"}));
    EXPECT_NE(resolve(object)->identity, rotated);
}

etcd::Health healthy() {
    etcd::Health health;
    etcd::EndpointHealth endpoint;
    endpoint.endpoint = "etcd-0:2379";
    endpoint.status.version = "3.6.16";
    endpoint.status.db_size_quota = int64_t{2} << 30;
    health.endpoints = {endpoint, endpoint};
    health.oldest_version = "3.6.16";
    health.keeps_tenants_apart = true;
    health.auth_enabled = true;
    return health;
}

TEST(DataStoreVerdict, FollowsFromHealth) {
    Verdict verdict = judge_health(healthy(), "");
    EXPECT_TRUE(verdict.ready);
    EXPECT_EQ(verdict.reason, "Ready");
    EXPECT_FALSE(verdict.insecure);

    etcd::Health health = healthy();
    health.endpoints[1].error = "Unavailable: refused";
    EXPECT_EQ(judge_health(health, "").reason, "Degraded");
    EXPECT_TRUE(judge_health(health, "").ready);

    health = healthy();
    health.oldest_version = "3.5.9";
    health.keeps_tenants_apart = false;
    verdict = judge_health(health, "");
    EXPECT_TRUE(verdict.ready);
    EXPECT_TRUE(verdict.insecure);
    EXPECT_NE(verdict.insecure_message.find("upgrade all its servers to 3.6.14 or 3.7.1 or later"),
              std::string::npos);

    health = healthy();
    health.no_space = true;
    verdict = judge_health(health, "");
    EXPECT_FALSE(verdict.ready);
    EXPECT_EQ(verdict.reason, "NoSpace");
    EXPECT_NE(verdict.message.find("(2.0 GiB)"), std::string::npos);

    health = healthy();
    health.auth_enabled = false;
    EXPECT_EQ(judge_health(health, "").reason, "AuthenticationDisabled");
    health = healthy();
    health.corrupt = true;
    EXPECT_EQ(judge_health(health, "").reason, "Corrupt");
}

TEST(DataStoreVerdict, FollowsFromErrors) {
    EXPECT_EQ(judge_health(unavailable("refused"), "").reason, "Unreachable");
    EXPECT_EQ(judge_health(deadline_exceeded("slow"), "").reason, "Unreachable");
    EXPECT_EQ(judge_health(permission_denied("no"), "").reason, "AccessDenied");
    EXPECT_EQ(judge_health(Error(Code::kUnauthenticated, "who"), "").reason, "AccessDenied");
    EXPECT_FALSE(judge_health(unavailable("refused"), "").answered);
}

TEST(DataStoreStatus, HasKamajisConditionsAndSettles) {
    DataStoreStatusInputs inputs;
    Value object = datastore_object();
    object.at("metadata").set("generation", 4);
    inputs.object = &object;
    inputs.verdict = judge_health(healthy(), "");
    inputs.used_by = {"team/a"};
    inputs.now = WallTime(std::chrono::seconds(1'767'225'600));
    Value status = build_datastore_status(inputs);
    EXPECT_EQ(status["observedGeneration"].as_int(), 4);
    EXPECT_TRUE(status["ready"].as_bool());
    EXPECT_TRUE(controller::is_condition_true(status, "Ready"));
    EXPECT_TRUE(controller::is_condition_true(status, kDataStoreValidation));
    EXPECT_EQ(controller::find_condition(status, kInsecure)["status"].as_string(), "False");
    EXPECT_EQ(controller::find_condition(status, kDataStoreAllowedDeletion)["reason"].as_string(),
              "DataStoreStillUsed");
    object.set("status", status);
    inputs.now += 1h;
    EXPECT_EQ(build_datastore_status(inputs), status);

    inputs.verdict = judge_unresolved(
        Error(Code::kUnimplemented, "spec.driver: no").with_cause(0, "Unsupported"));
    status = build_datastore_status(inputs);
    EXPECT_FALSE(status["ready"].as_bool());
    EXPECT_EQ(controller::find_condition(status, "Ready")["reason"].as_string(), "Unsupported");
    EXPECT_EQ(controller::find_condition(status, kInsecure)["status"].as_string(), "Unknown");
}

// ---- the controller
// ---------------------------------------------------------------------------------------------

constexpr const char* kPath = "/apis/kamaji.clastix.io/v1alpha1/datastores/default";

class DataStoreControllerTest : public ::testing::Test {
 protected:
    DataStoreControllerTest()
        : server(std::make_shared<kube::testing::TestServer>(loop)),
          client(loop, server),
          manager(client, client),
          events(client, event_options()),
          group(loop) {
        // An API server does not create what only its status was applied to.
        server->intercept =
            [this](const net::HttpRequest& request) -> std::optional<Result<net::HttpResponse>> {
            if (request.target.find("/status") == std::string::npos ||
                server->object(kPath) != nullptr)
                return {};
            return Result<net::HttpResponse>(kube::testing::respond(
                404, kube::testing::status_document(404, "NotFound", "not found")));
        };
        etcd->member.version = "3.6.16";
        etcd->member.db_size_quota = 1000;
        etcd->member.db_size = 100;
        subject = std::make_unique<DataStoreController>(
            manager, registry, events, [this](const DataStoreMaterial&) { return connect(); },
            DataStoreOptions(), [this](const std::string& name) { changes.push_back(name); });
    }
    ~DataStoreControllerTest() override {
        group.cancel();
        loop.run_until([&] { return group.size() == 0; }, 1min);
        async::TaskGroup last(loop);
        last.spawn(subject->stop());
        loop.run_until([&] { return last.size() == 0; }, 1min);
    }
    static controller::EventRecorder::Options event_options() {
        controller::EventRecorder::Options options;
        options.controller = "basalt.dev/test";
        return options;
    }
    Result<std::shared_ptr<etcd::Client>> connect() {
        ++connections_count;
        return std::shared_ptr<etcd::Client>(etcd);
    }
    void start() {
        events.start(group);
        group.spawn("manager", manager.run());
    }
    void put_all() {
        server->put("/api/v1/namespaces/etcd/secrets/etcd-ca", ca_secret(pki));
        server->put("/api/v1/namespaces/etcd/secrets/etcd-root", client_secret(pki.root));
        server->put(kPath, datastore_object());
    }
    void put_control_plane(const std::string& name, const std::string& datastore) {
        Value object = example_object();
        object.at("metadata").set("name", name);
        object.at("spec").set("dataStore", datastore);
        server->put("/apis/kamaji.clastix.io/v1alpha1/namespaces/team/tenantcontrolplanes/" + name,
                    object);
    }
    Value condition(std::string_view type) {
        const Value* object = server->object(kPath);
        return object == nullptr ? Value() : controller::find_condition((*object)["status"], type);
    }
    bool wait_reason(std::string_view reason, Duration limit = 2min) {
        return loop.run_until([&] { return condition("Ready")["reason"].as_string() == reason; },
                              limit);
    }
    bool has_event(std::string_view reason) {
        for (const net::HttpRequest& request : server->requests) {
            if (request.method == "POST" && request.target.find("/events") != std::string::npos &&
                request.body.find("\"" + std::string(reason) + "\"") != std::string::npos) {
                return true;
            }
        }
        return false;
    }

    async::SimLoop loop{1};
    Pki pki;
    std::shared_ptr<kube::testing::TestServer> server;
    kube::Client client;
    controller::Manager manager;
    DataStoreRegistry registry;
    controller::EventRecorder events;
    std::shared_ptr<ModelEtcd> etcd =
        std::make_shared<ModelEtcd>(std::vector<std::string>{"etcd-0:2379", "etcd-1:2379"});
    int connections_count = 0;
    std::vector<std::string> changes;
    std::unique_ptr<DataStoreController> subject;
    async::TaskGroup group;
};

TEST_F(DataStoreControllerTest, BecomesReadyAndThenWritesNothing) {
    put_all();
    put_control_plane("a", "default");
    put_control_plane("b", "other");
    start();
    ASSERT_TRUE(wait_reason("Ready"));
    const Value& object = *server->object(kPath);
    EXPECT_TRUE(object["status"]["ready"].as_bool());
    EXPECT_EQ(object["status"]["usedBy"].as_string_list(), std::vector<std::string>{"team/a"});
    EXPECT_TRUE(kube::has_finalizer(object, names::kDataStoreFinalizer));
    ASSERT_NE(registry.find("default"), nullptr);
    EXPECT_TRUE(registry.find("default")->ready);
    EXPECT_EQ(registry.find("default")->view->client, etcd);
    EXPECT_TRUE(etcd->write_guard && etcd->write_guard().ok()) << "it is behind the leader's fence";
    EXPECT_EQ(changes, std::vector<std::string>{"default"});

    loop.run_for(10s);
    const size_t patches = server->count("PATCH");
    const int statuses = etcd->statuses_count;
    loop.run_for(20min);
    EXPECT_EQ(server->count("PATCH"), patches);
    EXPECT_EQ(connections_count, 1);
    // Two members, one look every half minute.
    EXPECT_LE(etcd->statuses_count - statuses, 2 * 41);
}

TEST_F(DataStoreControllerTest, WatchesOnlySecretsThatAreNamed) {
    put_all();
    start();
    ASSERT_TRUE(wait_reason("Ready"));
    EXPECT_EQ(subject->watched_secrets_count(), 2u);
    for (const net::HttpRequest& request : server->requests) {
        if (request.target.find("/secrets") == std::string::npos) continue;
        EXPECT_NE(request.target.find("metadata.name%3Detcd-"), std::string::npos)
            << request.target;
    }
    // Inline content: one Secret is of no interest any more.
    Value object = *server->object(kPath);
    Value& part = object.at("spec").at("tlsConfig").at("clientCertificate");
    part.at("certificate").set("content", data::base64_encode(pki.root.certificate_pem()));
    part.at("privateKey").set("content", data::base64_encode(pki.root.key_pem().reveal()));
    server->put(kPath, object);
    EXPECT_TRUE(loop.run_until([&] { return subject->watched_secrets_count() == 1; }, 1min));
    server->erase(kPath);
    EXPECT_TRUE(loop.run_until([&] { return subject->watched_secrets_count() == 0; }, 1min));
    EXPECT_EQ(registry.find("default"), nullptr);
}

TEST_F(DataStoreControllerTest, RecoversFromABrokenSecretByItself) {
    put_all();
    server->put("/api/v1/namespaces/etcd/secrets/etcd-root",
                secret("etcd-root", {{"tls.crt", "broken"}, {"tls.key", "broken"}}));
    start();
    ASSERT_TRUE(wait_reason("InvalidCertificate"));
    EXPECT_EQ(condition(kDataStoreValidation)["reason"].as_string(),
              "TLSConfigurationValidationFailed");
    EXPECT_EQ(registry.find("default")->view, nullptr);
    EXPECT_TRUE(loop.run_until([&] { return has_event("InvalidCertificate"); }, 1min));
    server->put("/api/v1/namespaces/etcd/secrets/etcd-root", client_secret(pki.root));
    EXPECT_TRUE(wait_reason("Ready", 5s));
    EXPECT_TRUE(condition(kDataStoreValidation)["status"].as_string() == "True");
}

TEST_F(DataStoreControllerTest, UsesRotatedSecrets) {
    put_all();
    start();
    ASSERT_TRUE(wait_reason("Ready"));
    std::shared_ptr<const DataStoreView> before = registry.find("default")->view;
    server->put("/api/v1/namespaces/etcd/secrets/etcd-root", client_secret(pki.client("root")));
    EXPECT_TRUE(loop.run_until([&] { return connections_count == 2; }, 5s));
    EXPECT_TRUE(loop.run_until([&] { return registry.find("default")->view != before; }, 5s));
    EXPECT_TRUE(registry.find("default")->ready);
    EXPECT_EQ(changes.size(), 2u);
}

TEST_F(DataStoreControllerTest, RetriesWithBackOffWhileUnreachable) {
    put_all();
    etcd->failure = unavailable("connection refused");
    start();
    ASSERT_TRUE(wait_reason("Unreachable"));
    EXPECT_NE(registry.find("default")->view, nullptr);
    loop.run_for(2min);
    const int statuses = etcd->statuses_count;
    const size_t patches = server->count("PATCH");
    loop.run_for(10min);
    EXPECT_LE(etcd->statuses_count - statuses, 2 * 21);
    EXPECT_GE(etcd->statuses_count - statuses, 2 * 15);
    EXPECT_EQ(server->count("PATCH"), patches);
    etcd->failure.reset();
    EXPECT_TRUE(wait_reason("Ready", 40s));
    EXPECT_EQ(changes.size(), 2u);
}

TEST_F(DataStoreControllerTest, LooksAtOnceWhenAControlPlaneReportsAFailure) {
    put_all();
    start();
    ASSERT_TRUE(wait_reason("Ready"));
    loop.run_for(20s);
    const int statuses = etcd->statuses_count;
    subject->report_failure("default", invalid_argument("a spec, not a server"));
    subject->report_failure("nowhere", unavailable("x"));
    loop.run_for(1s);
    EXPECT_EQ(etcd->statuses_count, statuses);
    etcd->failure = unavailable("connection refused");
    subject->report_failure("default", unavailable("connection refused"));
    EXPECT_TRUE(wait_reason("Unreachable", 1s));
    // Hundreds of control planes report at the same time.
    const int after = etcd->statuses_count;
    for (int i = 0; i < 500; ++i)
        subject->report_failure("default", unavailable("connection refused"));
    loop.run_for(500ms);
    EXPECT_LE(etcd->statuses_count - after, 2);
}

TEST_F(DataStoreControllerTest, TellsThatItWasAway) {
    put_all();
    start();
    ASSERT_TRUE(wait_reason("Ready"));
    const uint64_t before = registry.find("default")->epoch;
    loop.run_until([] { return false; }, 10min);
    EXPECT_EQ(registry.find("default")->epoch, before) << "nothing happened";
    // A control plane that cannot use it says so through the registry.
    etcd->failure = unavailable("connection refused");
    registry.report_failure("default", *etcd->failure);
    ASSERT_TRUE(wait_reason("Unreachable"));
    etcd->failure.reset();
    ASSERT_TRUE(wait_reason("Ready"));
    EXPECT_NE(registry.find("default")->epoch, before);
}

TEST_F(DataStoreControllerTest, FreesSpaceAndClearsTheAlarm) {
    put_all();
    etcd->raised = {{1, etcd::AlarmType::kNoSpace}};
    etcd->member.db_size = 1000;
    etcd->member.db_size_in_use = 990;
    start();
    ASSERT_TRUE(wait_reason("NoSpace"));
    EXPECT_FALSE(registry.find("default")->ready);
    EXPECT_EQ(registry.find("default")->reason, "NoSpace");
    loop.run_for(10min);
    // Defragmentation stops the servers for a moment: not at every look.
    EXPECT_LE(etcd->defragments_count, 2 * 6);
    const int before = etcd->defragments_count;
    etcd->member.db_size_in_use = 200;  // Somebody deleted things.
    etcd->size_after_defragment = 220;
    EXPECT_TRUE(wait_reason("Ready", 40s));
    EXPECT_EQ(etcd->defragments_count, before + 2);
    EXPECT_TRUE(etcd->raised.empty());
    EXPECT_TRUE(loop.run_until([&] { return has_event("SpaceFreed"); }, 1min));
    EXPECT_TRUE(registry.find("default")->ready);
}

TEST_F(DataStoreControllerTest, AnAlarmThatComesBackAtOnceStaysVisible) {
    put_all();
    etcd->member.db_size = 1000;
    etcd->member.db_size_in_use = 880;
    etcd->size_after_defragment = 890;
    start();
    ASSERT_TRUE(wait_reason("Ready"));
    const auto fill = [&] {
        etcd->raised = {{1, etcd::AlarmType::kNoSpace}};
        etcd->member.db_size = 1000;
        registry.report_failure("default", resource_exhausted("database space exceeded"));
    };
    loop.run_for(1min);
    fill();
    ASSERT_TRUE(loop.run_until([&] { return etcd->raised.empty(); }, 30s));
    loop.run_for(6s);
    fill();
    EXPECT_TRUE(wait_reason("NoSpace", 10s));
    EXPECT_EQ(registry.find("default")->reason, "NoSpace");
    EXPECT_TRUE(wait_reason("Ready", 1min));
    // Each time that it is full again soon it stays so for longer.
    const int before = etcd->defragments_count;
    for (TimePoint end = loop.now() + 1h; loop.now() < end;) {
        if (etcd->raised.empty()) fill();
        loop.run_for(5s);
    }
    EXPECT_LE(etcd->defragments_count - before, 2 * 10);
    // After a long time without, it is another alarm and mended at once.
    etcd->raised.clear();
    loop.run_for(1h);
    ASSERT_TRUE(wait_reason("Ready", 1min));
    fill();
    ASSERT_TRUE(loop.run_until([&] { return etcd->raised.empty(); }, 6s));
}

TEST_F(DataStoreControllerTest, ReportsInsecureVersionsAndStaysReady) {
    put_all();
    etcd->member.version = "3.5.21";
    start();
    ASSERT_TRUE(wait_reason("Ready"));
    EXPECT_EQ(condition(kInsecure)["status"].as_string(), "True");
    EXPECT_TRUE(loop.run_until([&] { return has_event("Insecure"); }, 1min));
    etcd->member.version = "3.6.16";
    EXPECT_TRUE(loop.run_until(
        [&] { return condition(kInsecure)["status"].as_string() == "False"; }, 3min));
}

TEST_F(DataStoreControllerTest, IsKeptWhileControlPlanesUseIt) {
    put_all();
    put_control_plane("a", "default");
    start();
    ASSERT_TRUE(wait_reason("Ready"));
    Value object = *server->object(kPath);
    object.at("metadata").set("deletionTimestamp", "2026-01-01T00:00:00Z");
    server->put(kPath, object);
    EXPECT_TRUE(loop.run_until([&] { return has_event("DataStoreStillUsed"); }, 1min));
    EXPECT_TRUE(kube::has_finalizer(*server->object(kPath), names::kDataStoreFinalizer));
    EXPECT_NE(condition(kDataStoreAllowedDeletion)["message"].as_string().find("team/a"),
              std::string_view::npos);
    EXPECT_TRUE(registry.find("default")->ready) << "its control planes still need it to end";
    server->erase("/apis/kamaji.clastix.io/v1alpha1/namespaces/team/tenantcontrolplanes/a");
    EXPECT_TRUE(loop.run_until(
        [&] { return !kube::has_finalizer(*server->object(kPath), names::kDataStoreFinalizer); },
        1min));
    EXPECT_EQ(registry.find("default"), nullptr);
}

TEST_F(DataStoreControllerTest, SaysThatOtherDriversAreUnsupported) {
    Value object = datastore_object();
    object.at("spec").set("driver", "PostgreSQL");
    server->put(kPath, object);
    start();
    ASSERT_TRUE(wait_reason("Unsupported"));
    EXPECT_EQ(connections_count, 0);
    EXPECT_EQ(registry.find("default")->reason, "Unsupported");
}

}  // namespace
}  // namespace basalt::controlplane
