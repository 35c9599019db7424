#include "controlplane/certificates.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "controlplane/names.h"
#include "controlplane/testdata_test.h"
#include "data/base64.h"
#include "kube/object.h"
#include "pki/kubeconfig.h"

namespace basalt::controlplane {
namespace {

using data::Value;

class Certificates : public testing::Test {
 protected:
    Certificates() : keys_(7) {
        now_ = WallTime(std::chrono::seconds(1'767'225'600));
        settings_ = settings_of(example_object());
        auto ca = pki::CertificateAuthority::create(keys_, "etcd", now_);
        inputs_.settings = &settings_;
        inputs_.endpoint = example_endpoint();
        inputs_.cluster_ip = "10.96.4.4";
        inputs_.datastore_ca_pem = ca.certificate().to_pem();
        inputs_.datastore_ca_key_pem = ca.key().to_pem();
        inputs_.datastore_endpoints = {"etcd:2379"};
        inputs_.now = now_;
    }

    CertificateSet plan() { return plan_certificates(inputs_, keys_).value(); }

    /// Makes the planned Secrets the live ones.
    void store(const CertificateSet& set) {
        for (const Value& secret : build_secrets(settings_, set)) {
            inputs_.secrets[secret["metadata"]["name"].str()] =
                std::make_shared<const Value>(secret);
        }
    }

    void edit(const std::string& secret, const std::string& key, const std::string& content) {
        Value changed = *inputs_.secrets.at(secret);
        changed.at("data").set(key, data::base64_encode(content));
        inputs_.secrets[secret] = std::make_shared<const Value>(changed);
    }

    pki::Certificate leaf(const CertificateSet& set, const std::string& secret,
                          const std::string& key) {
        return pki::Certificate::parse(set.secrets.at(secret).at(key)).value();
    }

    pki::SimKeySource keys_;
    Settings settings_;
    CertificateInputs inputs_;
    WallTime now_;
};

TEST_F(Certificates, AreLabelledAsKamajiDoes) {
    for (const Value& secret : build_secrets(settings_, plan())) {
        const std::string name = secret["metadata"]["name"].str();
        EXPECT_EQ("tenant-a-" + secret["metadata"]["labels"]["kamaji.clastix.io/component"].str(),
                  name);
    }
}

TEST_F(Certificates, AreAllMadeAtFirst) {
    CertificateSet set = plan();
    EXPECT_EQ(set.secrets.size(), 13u);
    const SecretData& ca = set.secrets.at("tenant-a-ca");
    EXPECT_EQ(ca.at("ca.crt"), ca.at("tls.crt"));
    EXPECT_EQ(ca.at("ca.key"), ca.at("tls.key"));
    pki::Certificate server = leaf(set, "tenant-a-api-server-certificate", "apiserver.crt");
    for (const char* host : {"127.0.0.1", "localhost", "tenant-a", "tenant-a.team.svc",
                             "tenant-a.team.svc.cluster.local", "172.18.0.10", "10.96.4.4",
                             "10.96.0.1", "kubernetes.default.svc.cluster.local"}) {
        EXPECT_TRUE(server.is_valid_for(host)) << host;
    }
    EXPECT_EQ(leaf(set, "tenant-a-datastore-certificate", "server.crt").common_name(),
              settings_.user);
    EXPECT_EQ(set.secrets.at("tenant-a-datastore-config").at("DB_CONNECTION_STRING"),
              "https://etcd:2379");
}

// Controller managers and schedulers had none before, and their users' certificates stay.
TEST_F(Certificates, OfCompanionsAreAddedToTheirSecrets) {
    CertificateSet before = plan();
    for (const char* name :
         {"tenant-a-controller-manager-kubeconfig", "tenant-a-scheduler-kubeconfig"}) {
        EXPECT_TRUE(leaf(before, name, "serving.crt").is_valid_for("127.0.0.1")) << name;
        before.secrets.at(name).erase("serving.crt");
        before.secrets.at(name).erase("serving.key");
    }
    store(before);
    CertificateSet after = plan();
    EXPECT_EQ(after.changes,
              (std::vector<std::string>{"tenant-a-controller-manager-kubeconfig: missing",
                                        "tenant-a-scheduler-kubeconfig: missing"}));
    for (const auto& [name, content] : before.secrets) {
        for (const auto& [key, bytes] : content) EXPECT_EQ(after.secrets.at(name).at(key), bytes);
    }
}

TEST_F(Certificates, StayWhenNothingChanges) {
    CertificateSet first = plan();
    store(first);
    CertificateSet second = plan();
    EXPECT_TRUE(second.changes.empty()) << second.changes.front();
    EXPECT_EQ(first.secrets, second.secrets);
}

// New keys would replace all Pods; whoever has the right time accepts what there is.
TEST_F(Certificates, StayWhenTheClockIsPutBack) {
    const WallTime made_at = now_ + 30 * std::chrono::hours(24);
    for (bool two : {false, true}) {
        if (two) {
            auto other = pki::CertificateAuthority::create(keys_, "events-etcd", now_);
            inputs_.override_authorities.push_back(
                {"events", other.certificate().to_pem(), other.key().to_pem()});
        }
        inputs_.secrets.clear();
        inputs_.now = made_at;
        const CertificateSet first = plan();
        store(first);
        for (auto late : {std::chrono::minutes(6), std::chrono::minutes(23 * 60)}) {
            inputs_.now = made_at - late;
            const CertificateSet second = plan();
            EXPECT_TRUE(second.changes.empty()) << second.changes.front();
            EXPECT_EQ(second.secrets, first.secrets);
            EXPECT_EQ(second.renew_at, first.renew_at) << "renewed in time all the same";
        }
        // No clock is as late as that: they come from one that was ahead.
        inputs_.now = made_at - std::chrono::hours(48);
        const CertificateSet third = plan();
        EXPECT_NE(third.secrets.at("tenant-a-api-server-certificate"),
                  first.secrets.at("tenant-a-api-server-certificate"));
        EXPECT_NE(third.secrets.at("tenant-a-datastore-certificate"),
                  first.secrets.at("tenant-a-datastore-certificate"));
        EXPECT_EQ(third.secrets.at("tenant-a-ca"), first.secrets.at("tenant-a-ca"));
    }
}

TEST_F(Certificates, AreRenewedBeforeTheirEndButAuthoritiesAreNot) {
    CertificateSet first = plan();
    store(first);
    inputs_.now = first.renew_at + std::chrono::hours(1);
    CertificateSet second = plan();
    EXPECT_FALSE(second.changes.empty());
    EXPECT_EQ(first.secrets.at("tenant-a-ca"), second.secrets.at("tenant-a-ca"));
    EXPECT_EQ(first.secrets.at("tenant-a-sa-certificate"),
              second.secrets.at("tenant-a-sa-certificate"));
    EXPECT_NE(first.secrets.at("tenant-a-api-server-certificate"),
              second.secrets.at("tenant-a-api-server-certificate"));
    store(second);
    EXPECT_TRUE(plan().changes.empty());
}

TEST_F(Certificates, FollowTheSans) {
    store(plan());
    settings_.network.cert_sans = {"api.example.org", "192.0.2.9"};
    CertificateSet set = plan();
    ASSERT_EQ(set.changes.size(), 1u);
    EXPECT_EQ(set.changes[0].rfind("tenant-a-api-server-certificate:", 0), 0u);
    pki::Certificate server = leaf(set, "tenant-a-api-server-certificate", "apiserver.crt");
    EXPECT_TRUE(server.is_valid_for("api.example.org"));
    EXPECT_TRUE(server.is_valid_for("192.0.2.9"));
}

TEST_F(Certificates, FollowTheEndpointInKubeconfigsWithoutNewKeys) {
    CertificateSet first = plan();
    store(first);
    inputs_.endpoint = {"172.18.0.11", "172.18.0.11", 6443};
    CertificateSet set = plan();
    auto before =
        pki::parse_kubeconfig(first.secrets.at("tenant-a-admin-kubeconfig").at("admin.conf"))
            .value();
    auto after =
        pki::parse_kubeconfig(set.secrets.at("tenant-a-admin-kubeconfig").at("admin.conf")).value();
    EXPECT_EQ(after.server, "https://172.18.0.11:6443");
    EXPECT_EQ(before.client_key_pem, after.client_key_pem);
    EXPECT_EQ(first.secrets.at("tenant-a-scheduler-kubeconfig"),
              set.secrets.at("tenant-a-scheduler-kubeconfig"));
}

TEST_F(Certificates, ReplaceBrokenLeaves) {
    store(plan());
    edit("tenant-a-front-proxy-client-certificate", "front-proxy-client.crt", "garbage");
    CertificateSet set = plan();
    ASSERT_EQ(set.changes.size(), 1u);
    EXPECT_EQ(set.changes[0].rfind("tenant-a-front-proxy-client-certificate:", 0), 0u);
}

TEST_F(Certificates, NeverReplaceABrokenAuthority) {
    store(plan());
    edit("tenant-a-ca", "ca.crt", "garbage");
    auto refused = plan_certificates(inputs_, keys_);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code(), Code::kFailedPrecondition);
    EXPECT_NE(refused.error().message().find("Secret tenant-a-ca"), std::string::npos);
}

TEST_F(Certificates, TakeACaThatSomebodyBrought) {
    auto ca = pki::CertificateAuthority::create(keys_, "mine", now_);
    Value secret = Value::object({{"metadata", Value::object({{"name", "tenant-a-ca"}})}});
    secret.at("data").set("tls.crt", data::base64_encode(ca.certificate().to_pem()));
    secret.at("data").set("tls.key", data::base64_encode(ca.key().to_pem().reveal()));
    inputs_.secrets["tenant-a-ca"] = std::make_shared<const Value>(secret);
    CertificateSet set = plan();
    EXPECT_EQ(set.secrets.at("tenant-a-ca").at("ca.crt"), ca.certificate().to_pem());
    EXPECT_TRUE(leaf(set, "tenant-a-api-server-certificate", "apiserver.crt")
                    .is_signed_by(ca.certificate()));
}

TEST_F(Certificates, OneClientCertificateFitsDataStoresOfSeveralAuthorities) {
    store(plan());
    auto other = pki::CertificateAuthority::create(keys_, "events-etcd", now_);
    inputs_.override_authorities.push_back(
        {"events", other.certificate().to_pem(), other.key().to_pem()});
    CertificateSet set = plan();
    ASSERT_FALSE(set.changes.empty());
    const SecretData& secret = set.secrets.at("tenant-a-datastore-certificate");
    auto chain = pki::Certificate::parse_bundle(secret.at("server.crt")).value();
    ASSERT_EQ(chain.size(), 3u);
    const pki::Certificate leaf_one = chain.front();
    EXPECT_EQ(leaf_one.common_name(), settings_.user);
    EXPECT_TRUE(leaf_one.matches(pki::PrivateKey::parse(secret.at("server.key")).value()));
    auto main = pki::Certificate::parse(inputs_.datastore_ca_pem).value();
    for (const pki::Certificate& root : {main, other.certificate()}) {
        std::vector<pki::Certificate> between;  // OpenSSL goes no second way, Go does.
        for (size_t i = 1; i < chain.size(); ++i)
            if (chain[i].is_signed_by(root)) between.push_back(chain[i]);
        ASSERT_EQ(between.size(), 1u);
        auto trusted = pki::verify(leaf_one, between, {root}, now_, pki::Purpose::kClient);
        EXPECT_TRUE(trusted.ok()) << trusted.error().to_string();
        EXPECT_FALSE(pki::verify(leaf_one, between, {root}, now_, pki::Purpose::kServer).ok());
    }
    EXPECT_EQ(pki::Certificate::parse_bundle(secret.at("ca.crt"))->size(), 2u);
    store(set);
    EXPECT_TRUE(plan().changes.empty()) << plan().changes.front();
    inputs_.now = set.renew_at + std::chrono::hours(1);
    EXPECT_NE(plan().secrets.at("tenant-a-datastore-certificate").at("server.crt"),
              secret.at("server.crt"));
    inputs_.now = now_;

    // With one authority again, the plain certificate is enough.
    inputs_.override_authorities.clear();
    CertificateSet plain = plan();
    EXPECT_TRUE(leaf(plain, "tenant-a-datastore-certificate", "server.crt").is_signed_by(main));
    EXPECT_EQ(plain.secrets.at("tenant-a-datastore-certificate").at("ca.crt"),
              inputs_.datastore_ca_pem);
}

// Making it anew in every pass would replace all Pods in every pass.
TEST_F(Certificates, ThatEndWithTheirAuthorityAreNotMadeAnewAgainAndAgain) {
    auto brief = pki::CertificateAuthority::create(keys_, "etcd", now_, 30 * pki::kDay);
    inputs_.datastore_ca_pem = brief.certificate().to_pem();
    inputs_.datastore_ca_key_pem = brief.key().to_pem();
    for (bool two : {false, true}) {
        if (two) {
            auto other = pki::CertificateAuthority::create(keys_, "events", now_);
            inputs_.override_authorities.push_back(
                {"events", other.certificate().to_pem(), other.key().to_pem()});
        }
        store(plan());
        CertificateSet again = plan();
        EXPECT_TRUE(again.changes.empty()) << again.changes.front();
    }
}

TEST_F(Certificates, OverridesWithTheSameAuthorityChangeNothing) {
    CertificateSet first = plan();
    store(first);
    inputs_.override_authorities.push_back(
        {"events", inputs_.datastore_ca_pem, inputs_.datastore_ca_key_pem});
    EXPECT_EQ(plan().secrets, first.secrets);
}

TEST_F(Certificates, RotateWhenAskedOnce) {
    CertificateSet first = plan();
    store(first);
    Value asked = *inputs_.secrets.at("tenant-a-api-server-certificate");
    asked.at("metadata").at("annotations").set(names::kRotateAnnotation, "");
    inputs_.secrets["tenant-a-api-server-certificate"] = std::make_shared<const Value>(asked);
    CertificateSet second = plan();
    EXPECT_EQ(second.changes,
              std::vector<std::string>{"tenant-a-api-server-certificate: asked for"});
    store(second);
    const Value& stored = *inputs_.secrets.at("tenant-a-api-server-certificate");
    EXPECT_EQ(stored["metadata"]["annotations"][names::kRotateAnnotation].as_string(),
              format_rfc3339(now_));
    EXPECT_TRUE(plan().changes.empty());
}

// An annotation that cannot be followed must not keep anything else from being done.
TEST_F(Certificates, AuthoritiesStayWhenTheirRotationIsAskedFor) {
    CertificateSet first = plan();
    store(first);
    auto find = [&](const std::string& secret) { return inputs_.secrets.at(secret); };
    EXPECT_TRUE(unsupported_rotations(settings_, find).empty());
    const std::vector<std::string> kept = {"tenant-a-ca", "tenant-a-front-proxy-ca-certificate",
                                           "tenant-a-sa-certificate"};
    for (const std::string& name : kept) {
        EXPECT_EQ(kube::label_of(*inputs_.secrets.at(name), names::kCertificateLifecycleLabel), "");
        Value asked = *inputs_.secrets.at(name);
        asked.at("metadata").at("annotations").set(names::kRotateAnnotation, "");
        inputs_.secrets[name] = std::make_shared<const Value>(asked);
    }
    edit("tenant-a-api-server-certificate", "apiserver.crt", "garbage");
    CertificateSet second = plan();
    EXPECT_EQ(second.changes.size(), 1U) << "a leaf is mended";
    for (const std::string& name : kept)
        EXPECT_EQ(second.secrets.at(name), first.secrets.at(name)) << name;
    std::vector<std::string> said = unsupported_rotations(settings_, find);
    ASSERT_EQ(said.size(), kept.size());
    for (size_t i = 0; i < kept.size(); ++i)
        EXPECT_TRUE(said[i].starts_with("Secret " + kept[i] + ": ")) << said[i];
}

TEST_F(Certificates, RepairThePublicHalf) {
    CertificateSet first = plan();
    store(first);
    edit("tenant-a-sa-certificate", "sa.pub", "garbage");
    CertificateSet second = plan();
    EXPECT_EQ(second.secrets.at("tenant-a-sa-certificate"),
              first.secrets.at("tenant-a-sa-certificate"));
    EXPECT_EQ(second.changes.size(), 1u);
}

}  // namespace
}  // namespace basalt::controlplane
