#include "controller/webhook_certificate.h"

#include <gtest/gtest.h>

#include "async/sim_loop.h"
#include "data/base64.h"
#include "data/json.h"
#include "kube/test_server.h"

namespace basalt::controller {
namespace {

using namespace std::chrono_literals;
using kube::Value;

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

// Neither an authority nor a certificate is made because this process's clock was put back.
TEST_F(WebhookSecretTest, AClockThatIsPutBackChangesNothing) {
    const WebhookSecretPlan first = plan({});
    now -= 12h;
    const WebhookSecretPlan second = plan(first.secret);
    EXPECT_EQ(second.reason, "");
    EXPECT_EQ(second.secret.ca_bundle, first.secret.ca_bundle);
    EXPECT_EQ(second.secret.certificate, first.secret.certificate);
    EXPECT_GT(second.look_again, now);
    now -= 24h;
    EXPECT_FALSE(plan(first.secret).reason.empty()) << "no clock is as late as that";
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
    configuration.set(
        "webhooks",
        data::parse_json(R"([{"clientConfig":{}},{"clientConfig":{"caBundle":"old"}}])").value());
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
