#include "controlplane/metrics.h"

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

class MetricsTest : public ::testing::Test {
 protected:
    MetricsTest()
        : server(std::make_shared<kube::testing::TestServer>(loop)),
          client(loop, server),
          manager(client, client),
          metrics(manager, BuildInfo()),
          group(loop) {
        group.spawn("manager", manager.run());
    }
    ~MetricsTest() override {
        group.cancel();
        loop.run_until([&] { return group.size() == 0; }, 1min);
    }
    void put_certificate(const std::string& name, Duration lifetime,
                         std::string_view label = names::kCertificateLifecycleLabel,
                         std::string_view value = "x509") {
        pki::CertificateSpec spec;
        spec.common_name = "kube-apiserver";
        spec.server = true;
        spec.lifetime = lifetime;
        Value secret = kube::make_object(kube::resources::secrets(), kube::ObjectKey("team", name));
        kube::set_label(secret, names::kProjectLabel, names::kProject);
        kube::set_label(secret, names::kNameLabel, "tenant-a");
        kube::set_label(secret, label, value);
        secret.at("data").set(
            "apiserver.crt",
            data::base64_encode(ca.issue(spec, keys, loop.wall_now()).value().certificate_pem()));
        server->put("/api/v1/namespaces/team/secrets/" + name, secret);
    }
    bool has(const std::string& line) {
        return manager.metrics().to_text().find(line + "\n") != std::string::npos;
    }

    async::SimLoop loop{1};
    pki::SimKeySource keys{1};
    pki::CertificateAuthority ca = pki::CertificateAuthority::create(keys, "ca", loop.wall_now());
    std::shared_ptr<kube::testing::TestServer> server;
    kube::Client client;
    controller::Manager manager;
    ControlPlaneMetrics metrics;
    async::TaskGroup group;
};

TEST_F(MetricsTest, CountAuthoritiesWithoutALifecycleLabel) {
    put_certificate("tenant-a-ca", 20 * pki::kDay, names::kComponentLabel, names::ca.component);
    put_certificate("other", 20 * pki::kDay, names::kComponentLabel, "something-else");
    loop.run_for(1s);
    EXPECT_TRUE(
        has("kamaji_certificates_current{tcp_namespace=\"team\",tcp_name=\"tenant-a\",status="
            "\"expiring\",strategy=\"x509\"} 1"))
        << manager.metrics().to_text();
}

TEST_F(MetricsTest, HaveKamajisNamesAndLabels) {
    Value plane = data::apply_merge_patch(
        example_object(),
        data::parse_yaml("{status: {controlPlaneEndpoint: '192.0.2.1:6443', storage: {driver: "
                         "etcd}, kubernetesResources: "
                         "{service: {name: tenant-a}, version: {status: Ready}}}}")
            .value());
    const std::string path =
        "/apis/kamaji.clastix.io/v1alpha1/namespaces/team/tenantcontrolplanes/tenant-a";
    server->put(path, plane);
    server->put(
        "/apis/kamaji.clastix.io/v1alpha1/datastores/default",
        data::parse_yaml(
            "{metadata: {name: default}, spec: {driver: etcd}, status: {ready: true, conditions: "
            "[{type: Ready, status: 'True'}]}}")
            .value());
    put_certificate("good", pki::kLeafLifetime);
    put_certificate("late", 20 * pki::kDay);
    loop.run_for(1s);
    EXPECT_TRUE(
        has("kamaji_tenant_control_plane_status{tcp_namespace=\"team\",tcp_name=\"tenant-a\","
            "status=\"Ready\",ready=\"true\"} 1"))
        << manager.metrics().to_text();
    EXPECT_TRUE(
        has("kamaji_tenant_control_plane_info{tcp_namespace=\"team\",tcp_name=\"tenant-a\","
            "kubernetes_version=\"v1.36.3\","
            "datastore_driver=\"etcd\",address=\"https://"
            "192.0.2.1:6443\",exposure_strategy=\"service\"} 1"));
    EXPECT_TRUE(has("kamaji_tenant_control_planes_current{ready=\"true\"} 1"));
    EXPECT_TRUE(has("kamaji_datastore_info{datastore_name=\"default\",driver=\"etcd\"} 1"));
    EXPECT_TRUE(has(
        "kamaji_datastore_status{datastore_name=\"default\",status=\"True\",ready=\"true\"} 1"));
    EXPECT_TRUE(has(
        "kamaji_datastores_current{datastore_name=\"default\",ready=\"false\",driver=\"etcd\"} 0"));
    EXPECT_TRUE(
        has("kamaji_certificates_current{tcp_namespace=\"team\",tcp_name=\"tenant-a\",status="
            "\"valid\",strategy=\"x509\"} 1"));
    EXPECT_TRUE(
        has("kamaji_certificates_current{tcp_namespace=\"team\",tcp_name=\"tenant-a\",status="
            "\"expiring\",strategy=\"x509\"} 1"));
    EXPECT_TRUE(
        has("kamaji_certificates_current{tcp_namespace=\"team\",tcp_name=\"tenant-a\",status="
            "\"invalid\",strategy=\"x509\"} 0"));
    // Scrapes do not add up, and what is gone is gone.
    server->erase(path);
    server->erase("/api/v1/namespaces/team/secrets/late");
    loop.run_for(1s);
    EXPECT_TRUE(has("kamaji_tenant_control_planes_current{ready=\"true\"} 0"));
    EXPECT_EQ(manager.metrics().to_text().find("kamaji_tenant_control_plane_info{"),
              std::string::npos);
    EXPECT_TRUE(
        has("kamaji_certificates_current{tcp_namespace=\"team\",tcp_name=\"tenant-a\",status="
            "\"expiring\",strategy=\"x509\"} 0"));
}

TEST(CertificateStatus, HoldsForTheLastDate) {
    const WallTime now = parse_rfc3339("2026-01-01T00:00:00Z").value();
    EXPECT_EQ(certificate_status(parse_rfc3339("9999-12-31T23:59:59Z").value(), now), "valid");
    EXPECT_EQ(certificate_status(parse_rfc3339("2026-01-02T00:00:00Z").value(), now), "expiring");
    EXPECT_EQ(certificate_status(now, now), "invalid");
}

}  // namespace
}  // namespace basalt::controlplane
