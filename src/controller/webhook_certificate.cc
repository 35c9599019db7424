#include "controller/webhook_certificate.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/log.h"
#include "data/base64.h"

namespace basalt::controller {

using kube::Value;

namespace {

constexpr Duration kAuthorityLifetime = pki::kDay * 3650;
constexpr Duration kAuthorityRenewBefore = pki::kDay * 400;
constexpr Duration kCertificateLifetime = pki::kDay * 90;
constexpr Duration kCertificateRenewBefore = pki::kDay * 30;
/// A new authority signs only when every API server has heard of it.
constexpr Duration kAnnounceTime = std::chrono::hours(1);
/// Wall clocks jump: looked at this often at least.
constexpr Duration kLookInterval = std::chrono::hours(6);
constexpr Duration kRetryInterval = std::chrono::seconds(10);

/// Authorities of the bundle that still count, the signing one first.
std::string join_bundle(const pki::Certificate& signer, const std::vector<pki::Certificate>& others,
                        WallTime now) {
    std::string bundle = signer.to_pem();
    for (const pki::Certificate& other : others) {
        if (!(other == signer) && other.not_after() > now) bundle += other.to_pem();
    }
    return bundle;
}

struct PresentAuthority {
    std::optional<pki::CertificateAuthority> authority;
    std::vector<pki::Certificate> bundle;
};

PresentAuthority read_authority(const WebhookSecret& present, WallTime now) {
    PresentAuthority result;
    Result<std::vector<pki::Certificate>> bundle =
        pki::Certificate::parse_bundle(present.ca_bundle);
    if (!bundle.ok()) return result;
    result.bundle = std::move(*bundle);
    Result<pki::CertificateAuthority> authority =
        pki::CertificateAuthority::parse(result.bundle.front().to_pem(), present.ca_key);
    if (authority.ok() && authority->certificate().may_be_valid_at(now))
        result.authority = std::move(*authority);
    return result;
}

/// Nothing when the serving certificate can stay.
std::optional<std::string> certificate_reason(const WebhookSecret& present,
                                              const pki::CertificateSpec& spec,
                                              const PresentAuthority& authority, bool announced,
                                              WallTime now) {
    Result<pki::KeyPair> pair = pki::parse_key_pair(present.certificate, present.key);
    if (!pair.ok()) return "there is none: " + pair.error().message();
    const pki::Certificate& signer = authority.bundle.front();
    std::optional<std::string> reason = pki::renewal_reason(pair->certificate, pair->key, spec,
                                                            signer, now, kCertificateRenewBefore);
    if (!reason || announced) return reason;
    // Signed by the former authority, which everybody still knows: good until the new one is known
    // as well.
    for (const pki::Certificate& former : authority.bundle) {
        if (!pki::renewal_reason(pair->certificate, pair->key, spec, former, now, Duration(0)))
            return std::nullopt;
    }
    return reason;
}

}  // namespace

Result<WebhookSecretPlan> plan_webhook_secret(const WebhookSecret& present,
                                              const pki::CertificateSpec& spec,
                                              pki::KeySource& keys, WallTime now) {
    WebhookSecretPlan plan;
    plan.secret = present;
    PresentAuthority found = read_authority(present, now);
    std::optional<pki::CertificateAuthority> authority = found.authority;
    const bool ends_soon =
        authority &&
        authority->certificate().not_after() - wall_duration(kAuthorityRenewBefore) <= now;
    if (!authority || ends_soon) {
        plan.reason = authority ? "the authority ends soon" : "there is no usable authority";
        authority =
            pki::CertificateAuthority::create(keys, "basalt-webhook-ca", now, kAuthorityLifetime);
        found.bundle.insert(found.bundle.begin(), authority->certificate());
    }
    plan.secret.ca_bundle = join_bundle(authority->certificate(), found.bundle, now);
    plan.secret.ca_key = authority->key().to_pem();

    const WallTime announced_at =
        authority->certificate().not_before() + wall_duration(pki::kBackdate + kAnnounceTime);
    const bool announced = now >= announced_at;
    if (const auto reason = certificate_reason(present, spec, found, announced, now)) {
        plan.reason +=
            (plan.reason.empty() ? "serving certificate: " : "; serving certificate: ") + *reason;
        BASALT_ASSIGN(const pki::KeyPair pair, authority->issue(spec, keys, now));
        plan.secret.certificate = pair.certificate_pem();
        plan.secret.key = pair.key_pem();
    }
    BASALT_ASSIGN(const pki::Certificate serving, pki::Certificate::parse(plan.secret.certificate));
    plan.look_again = serving.not_after() - wall_duration(kCertificateRenewBefore);
    if (!announced) plan.look_again = std::min(plan.look_again, announced_at);
    return plan;
}

namespace {

kube::CacheOptions secret_cache_options(const WebhookCertificate::Options& options) {
    kube::CacheOptions cache(kube::resources::secrets(), options.ns);
    cache.field_selector = "metadata.name=" + options.secret_name;
    return cache;
}

/// Of a CRD only the conversion is of interest, and the schema is large.
kube::CacheOptions target_cache_options(const kube::Resource& resource,
                                        const std::string& selector) {
    kube::CacheOptions cache(resource);
    cache.label_selector = selector;
    cache.variant = "webhook-ca";
    if (resource == kube::resources::custom_resource_definitions()) {
        cache.transform = [](Value& object) {
            Value conversion = object["spec"]["conversion"];
            object.erase("status");
            object.set("spec", Value::object({{"conversion", std::move(conversion)}}));
        };
    }
    return cache;
}

Result<std::string> secret_text(const Value& object, std::string_view key) {
    return data::base64_decode(object["data"][key].as_string());
}

WebhookSecret secret_of(const kube::SharedValue& object) {
    WebhookSecret secret;
    if (!object) return secret;
    secret.ca_bundle = secret_text(*object, "ca.crt").value_or("");
    secret.ca_key = Secret(secret_text(*object, "ca.key").value_or(""));
    secret.certificate = secret_text(*object, "tls.crt").value_or("");
    secret.key = Secret(secret_text(*object, "tls.key").value_or(""));
    return secret;
}

}  // namespace

WebhookCertificate::WebhookCertificate(
    kube::Client& client, kube::CacheSet& caches, pki::KeySource& keys, Options options,
    std::function<void(std::shared_ptr<const net::TlsContext>)> on_change)
    : client_(client),
      secrets_(caches.get(secret_cache_options(options))),
      keys_(keys),
      options_(std::move(options)),
      on_change_(std::move(on_change)) {
    for (const kube::Resource* resource : {&kube::resources::validating_webhook_configurations(),
                                           &kube::resources::mutating_webhook_configurations(),
                                           &kube::resources::custom_resource_definitions()}) {
        targets_.push_back(&caches.get(target_cache_options(*resource, options_.selector)));
    }
    const auto wake = [this](const kube::Change&) {
        dirty_ = true;
        changed_.notify_all();
    };
    handlers_.emplace_back(&secrets_, secrets_.add_handler(wake));
    for (kube::Cache* cache : targets_) handlers_.emplace_back(cache, cache->add_handler(wake));
}

WebhookCertificate::~WebhookCertificate() {
    for (const auto& [cache, id] : handlers_) cache->remove_handler(id);
}

Result<void> WebhookCertificate::use(const WebhookSecret& secret) {
    ca_bundle_ = secret.ca_bundle;
    if (secret.certificate == certificate_in_use_) return {};
    net::TlsConfig config;
    config.cert_pem = secret.certificate;
    config.key_pem = secret.key;
    config.alpn = {"http/1.1"};
    BASALT_ASSIGN(std::shared_ptr<const net::TlsContext> context,
                  net::make_tls_server(std::move(config)));
    certificate_in_use_ = secret.certificate;
    on_change_(std::move(context));
    return {};
}

async::Task<Result<void>> WebhookCertificate::ensure_secret() {
    const kube::ObjectKey key(options_.ns, options_.secret_name);
    const kube::SharedValue present = secrets_.get(key);
    pki::CertificateSpec spec;
    spec.common_name =
        options_.dns_names.empty() ? options_.secret_name : options_.dns_names.front();
    spec.dns_names = options_.dns_names;
    spec.ip_addresses = options_.ip_addresses;
    spec.server = true;
    spec.lifetime = kCertificateLifetime;
    Result<WebhookSecretPlan> plan =
        plan_webhook_secret(secret_of(present), spec, keys_, client_.loop().wall_now());
    if (!plan.ok()) co_return std::move(plan).error();
    look_again_ = plan->look_again;
    if (plan->reason.empty()) co_return use(plan->secret);

    log_info("webhook certificate changes",
             {{"secret", key.to_string()}, {"reason", plan->reason}});
    Value object = present ? *present : kube::make_object(kube::resources::secrets(), key);
    if (!present) object.set("type", "Opaque");
    Value& content = object.at("data");
    content.set("ca.crt", data::base64_encode(plan->secret.ca_bundle));
    content.set("ca.key", data::base64_encode(plan->secret.ca_key.reveal()));
    content.set("tls.crt", data::base64_encode(plan->secret.certificate));
    content.set("tls.key", data::base64_encode(plan->secret.key.reveal()));
    Result<Value> written(Value{});
    if (present) {
        written = co_await client_.replace(kube::resources::secrets(), std::move(object));
    } else {
        written = co_await client_.create(kube::resources::secrets(), std::move(object));
    }
    // Another replica was faster: its Secret arrives by the watch.
    if (!written.ok()) co_return std::move(written).error();
    secrets_.observe_write(*written);
    co_return use(plan->secret);
}

async::Task<Result<void>> WebhookCertificate::inject_into(kube::Resource resource,
                                                          kube::SharedValue object) {
    const std::string bundle = data::base64_encode(ca_bundle_);
    Value patch = Value::array();
    const auto complete = [&](const Value& client_config, const std::string& path) {
        if (client_config["caBundle"].as_string() == bundle) return;
        Value operation = Value::object({{"op", "add"}, {"path", path + "/caBundle"}});
        operation.set("value", bundle);
        patch.push_back(std::move(operation));
    };
    const data::Array& webhooks = (*object)["webhooks"].items();
    for (size_t i = 0; i < webhooks.size(); ++i) {
        complete(webhooks[i]["clientConfig"], fmt::format("/webhooks/{}/clientConfig", i));
    }
    const Value& conversion = (*object)["spec"]["conversion"]["webhook"]["clientConfig"];
    if (conversion.is_object()) complete(conversion, "/spec/conversion/webhook/clientConfig");
    if (patch.empty()) co_return Result<void>();
    Value test = Value::object({{"op", "test"}, {"path", "/metadata/resourceVersion"}});
    test.set("value", (*object)["metadata"]["resourceVersion"]);
    data::Array& operations = patch.mutable_items();
    operations.insert(operations.begin(), std::move(test));
    const kube::ObjectKey key = kube::key_of(*object);
    Result<Value> patched = co_await client_.json_patch(resource, key, patch);
    if (!patched.ok()) co_return std::move(patched).error();
    co_return Result<void>();
}

async::Task<Result<void>> WebhookCertificate::inject() {
    Result<void> all;
    for (kube::Cache* cache : targets_) {
        const std::vector<kube::SharedValue> objects = cache->list();
        for (const kube::SharedValue& object : objects) {
            Result<void> one = co_await inject_into(cache->options().resource, object);
            if (!one.ok() && all.ok()) all = std::move(one);
        }
    }
    co_return std::move(all);
}

async::Task<Result<void>> WebhookCertificate::pass() {
    Result<void> ready = co_await secrets_.wait_synced();
    if (!ready.ok()) co_return std::move(ready);
    Result<void> ensured = co_await ensure_secret();
    if (!ensured.ok()) co_return std::move(ensured);
    for (kube::Cache* cache : targets_) {
        Result<void> synced = co_await cache->wait_synced();
        if (!synced.ok()) co_return std::move(synced);
    }
    Result<void> injected = co_await inject();
    co_return std::move(injected);
}

async::Task<Result<void>> WebhookCertificate::wait_for_work(bool failed) {
    async::Loop& loop = client_.loop();
    const Duration until_due = look_again_ - loop.wall_now();
    Duration limit = std::clamp(until_due, Duration(std::chrono::seconds(1)), kLookInterval);
    if (failed) limit = kRetryInterval;
    const TimePoint deadline = loop.now() + limit;
    while (!dirty_ && loop.now() < deadline) {
        async::Task<Result<void>> waiting = changed_.wait();
        Result<void> woken = co_await async::with_deadline(loop, deadline, std::move(waiting));
        if (!woken.ok() && woken.error().code() == Code::kCancelled) co_return std::move(woken);
    }
    co_return Result<void>();
}

async::Task<Result<void>> WebhookCertificate::run() {
    for (;;) {
        dirty_ = false;
        Result<void> done = co_await pass();
        if (!done.ok()) {
            if (done.error().code() == Code::kCancelled) co_return std::move(done);
            // Conflicts end with the news that the watch brings.
            log_debug("webhook certificate", {{"error", done.error()}});
        }
        Result<void> woken = co_await wait_for_work(!done.ok());
        if (!woken.ok()) co_return std::move(woken);
    }
}

}  // namespace basalt::controller
