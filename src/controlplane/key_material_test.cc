// When the certificates of a control plane are read again, and when not.
#include <gtest/gtest.h>

#include "controlplane/control_plane_fixture_test.h"
#include "controlplane/names.h"
#include "data/base64.h"

namespace basalt::controlplane {
namespace {

using data::Value;
using namespace std::chrono_literals;

class KeyMaterialTest : public ControlPlaneFixture {
 protected:
    static std::string path(const std::string& secret) {
        return "/api/v1/namespaces/team/secrets/" + secret;
    }
    std::string content(const std::string& secret, const std::string& key) {
        const Value* object = server->object(path(secret));
        return object == nullptr
                   ? std::string()
                   : data::base64_decode((*object)["data"][key].as_string()).value_or("");
    }
    /// A control plane whose certificates are good and were read for the last time.
    void settle() {
        put_plane("a", "main");
        start();
        ASSERT_TRUE(wait_condition("a", kCertificatesReady, "Valid"));
        loop.run_for(10s);
        readings = subject.certificate_readings();
    }
    uint64_t read_since() { return subject.certificate_readings() - readings; }

    uint64_t readings = 0;
};

TEST_F(KeyMaterialTest, IsNotReadAgainWhenNothingChanged) {
    settle();
    ASSERT_GE(readings, 2U) << "once to make it, once to find it good";
    const Value before = *server->object(kDeployments + "a");
    serve("a");
    ASSERT_TRUE(wait_condition("a", kPodsReady, "Serving"));
    loop.run_for(1min);
    EXPECT_EQ(read_since(), 0U);
    EXPECT_EQ((*server->object(kDeployments + "a"))["spec"], before["spec"])
        << "the checksums in it are the same";
    EXPECT_EQ(admin.at("admin.svc"), content(names::admin_kubeconfig("a"), "admin.svc"))
        << "the tenant is spoken to with what lies in the Secret";
}

TEST_F(KeyMaterialTest, IsReadAgainWhenASecretChanges) {
    settle();
    const std::string name = names::api_server("a");
    const std::string before = content(name, "apiserver.crt");
    Value secret = *server->object(path(name));
    secret.at("data").set("apiserver.crt", data::base64_encode("no certificate"));
    server->put(path(name), secret);
    ASSERT_TRUE(loop.run_until(
        [&] { return pki::Certificate::parse(content(name, "apiserver.crt")).ok(); }, 10s));
    EXPECT_NE(content(name, "apiserver.crt"), before);
    loop.run_for(10s);
    EXPECT_GE(read_since(), 2U);
}

// The tunnel's server reads its kubeconfig once: without new Pods it would use the old certificate
// until that ends.
TEST_F(KeyMaterialTest, ReachesTheTunnelsServer) {
    settle();
    auto in_pods = [&] {
        const Value& deployment = *server->object(kDeployments + "a");
        return deployment["spec"]["template"]["metadata"]["annotations"]
                         [names::kTunnelKubeconfigAnnotation]
                             .str();
    };
    const std::string before = in_pods();
    EXPECT_FALSE(before.empty());
    const std::string name = names::tunnel_kubeconfig("a");
    Value secret = *server->object(path(name));
    secret.at("metadata").at("annotations").set(names::kRotateAnnotation, "");
    server->put(path(name), secret);
    ASSERT_TRUE(loop.run_until([&] { return in_pods() != before; }, 10s));
    EXPECT_EQ(
        in_pods(),
        (*server->object(path(name)))["metadata"]["annotations"][names::kChecksumAnnotation].str());
}

TEST_F(KeyMaterialTest, IsMadeAgainWhenASecretGoes) {
    settle();
    for (const std::string& name : {names::front_proxy_client("a"), names::datastore_config("a")}) {
        server->erase(path(name));
        EXPECT_TRUE(loop.run_until([&] { return server->object(path(name)) != nullptr; }, 10s))
            << name;
    }
}

TEST_F(KeyMaterialTest, IsReadAgainWhenTheSpecChanges) {
    settle();
    Value plane = *server->object(kPlanes + "a");
    plane.at("spec").at("networkProfile").set("certSANs", Value::array({Value("api.example.org")}));
    plane.at("metadata").set("generation", plane["metadata"]["generation"].as_int() + 1);
    server->put(kPlanes + "a", plane);
    EXPECT_TRUE(loop.run_until(
        [&] {
            auto leaf = pki::Certificate::parse(content(names::api_server("a"), "apiserver.crt"));
            return leaf.ok() && leaf->is_valid_for("api.example.org");
        },
        10s));
}

TEST_F(KeyMaterialTest, IsReadAgainWhenItsDataStoreBecomesAnother) {
    settle();
    add_datastore("main");
    subject.datastore_changed("main");
    const std::string ca = registry.find("main")->view->ca_pem;
    EXPECT_TRUE(loop.run_until(
        [&] { return content(names::datastore_certificate("a"), "ca.crt") == ca; }, 10s));
}

// Kamaji's command for all certificates of a namespace once reached the authorities, too.
TEST_F(KeyMaterialTest, AskingForAnotherAuthorityStopsNothing) {
    settle();
    Value secret = *server->object(path(names::ca("a")));
    const Value data = secret["data"];
    kube::set_annotation(secret, names::kRotateAnnotation, "");
    server->put(path(names::ca("a")), secret);
    ASSERT_TRUE(wait_condition("a", kUnsupportedCondition, "NotInForce"));
    EXPECT_NE(condition("a", kUnsupportedCondition)["message"].as_string().find("Secret a-ca: "),
              std::string_view::npos);
    loop.run_for(10s);
    EXPECT_EQ((*server->object(path(names::ca("a"))))["data"], data);
    EXPECT_EQ(condition("a", kCertificatesReady)["reason"].as_string(), "Valid");
    serve("a");
    EXPECT_TRUE(wait_condition("a", kPodsReady, "Serving"));
    EXPECT_EQ(condition("a", kUnsupportedCondition)["reason"].as_string(), "NotInForce");
}

TEST_F(KeyMaterialTest, IsRenewedInTime) {
    settle();
    const std::string name = names::api_server("a");
    auto leaf = [&] { return pki::Certificate::parse(content(name, "apiserver.crt")).value(); };
    // One that somebody else made, for two days more than we renew before the end.
    pki::CertificateSpec spec;
    spec.common_name = leaf().common_name();
    spec.server = true;
    spec.dns_names = leaf().dns_names();
    spec.ip_addresses = leaf().ip_addresses();
    spec.lifetime = kRenewBefore + 48h;
    auto ca = pki::CertificateAuthority::parse(content(names::ca("a"), "ca.crt"),
                                               Secret(content(names::ca("a"), "ca.key")));
    const pki::KeyPair brief = ca.value().issue(spec, keys, loop.wall_now()).value();
    Value secret = *server->object(path(name));
    secret.at("data").set("apiserver.crt", data::base64_encode(brief.certificate_pem()));
    secret.at("data").set("apiserver.key",
                          data::base64_encode(std::string(brief.key_pem().reveal())));
    server->put(path(name), secret);
    loop.run_for(10s);
    readings = subject.certificate_readings();
    loop.run_for(47h);
    EXPECT_EQ(leaf(), brief.certificate);
    EXPECT_EQ(read_since(), 0U);
    loop.run_for(2h);
    EXPECT_GT(leaf().not_after(), brief.certificate.not_after());
    EXPECT_EQ(read_since(), 2U) << "once to make it, once to find it good";
}

}  // namespace
}  // namespace basalt::controlplane
