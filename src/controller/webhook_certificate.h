// The certificate of our webhooks: made, kept in a Secret, rotated, and known to the API server.
//
// Why not cert-manager: a control plane for others must start without them. All replicas share one
// Secret with an authority and a serving certificate; whoever comes first makes it (optimistic
// writes decide). A certificate is renewed when a third of its life is left. A new authority is
// announced first (caBundle holds both) and signs only an hour later, so that no API server meets a
// certificate whose authority it does not know yet.
//
// The bundle is put into every webhook of the Validating- and MutatingWebhookConfigurations and
// into the conversion of the CustomResourceDefinitions that carry the label `selector`, and kept
// there. Everything by watch: an idle process sends nothing. One loop; a Manager's runnable that
// needs no leadership.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "async/wait.h"
#include "kube/cache.h"
#include "net/tls.h"
#include "pki/certificate.h"
#include "pki/key.h"

namespace basalt::controller {

/// The Secret's content. Keys: ca.crt (the signing authority first, then former ones), ca.key,
/// tls.crt, tls.key.
struct WebhookSecret {
    std::string ca_bundle;
    Secret ca_key;
    std::string certificate;
    Secret key;
};

struct WebhookSecretPlan {
    WebhookSecret secret;
    std::string reason;   ///< Why it changed; "" when it did not.
    WallTime look_again;  ///< When the next change may be due.
};

/// What the Secret should be at `now`. Pure but for the keys.
Result<WebhookSecretPlan> plan_webhook_secret(const WebhookSecret& present,
                                              const pki::CertificateSpec& spec,
                                              pki::KeySource& keys, WallTime now);

class WebhookCertificate {
 public:
    struct Options {
        Options() = default;
        std::string ns;
        std::string secret_name;
        /// service.ns.svc and the like.
        std::vector<std::string> dns_names;
        std::vector<std::string> ip_addresses;
        /// Label selector of the configurations and CRDs to complete.
        std::string selector;
    };
    /// `on_change` gets a context for the server at first and after each rotation.
    WebhookCertificate(kube::Client& client, kube::CacheSet& caches, pki::KeySource& keys,
                       Options options,
                       std::function<void(std::shared_ptr<const net::TlsContext>)> on_change);
    ~WebhookCertificate();
    WebhookCertificate(const WebhookCertificate&) = delete;
    WebhookCertificate& operator=(const WebhookCertificate&) = delete;

    /// Until cancelled.
    async::Task<Result<void>> run();
    const std::string& ca_bundle() const { return ca_bundle_; }

 private:
    async::Task<Result<void>> pass();
    async::Task<Result<void>> ensure_secret();
    async::Task<Result<void>> inject();
    async::Task<Result<void>> inject_into(kube::Resource resource, kube::SharedValue object);
    async::Task<Result<void>> wait_for_work(bool failed);
    Result<void> use(const WebhookSecret& secret);

    kube::Client& client_;
    kube::Cache& secrets_;
    std::vector<kube::Cache*> targets_;
    std::vector<std::pair<kube::Cache*, kube::Cache::HandlerId>> handlers_;
    pki::KeySource& keys_;
    Options options_;
    std::function<void(std::shared_ptr<const net::TlsContext>)> on_change_;
    std::string ca_bundle_;
    std::string certificate_in_use_;
    WallTime look_again_{};
    bool dirty_ = true;
    async::Condition changed_;
};

}  // namespace basalt::controller
