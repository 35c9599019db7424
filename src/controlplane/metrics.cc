#include "controlplane/metrics.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "controlplane/cache_options.h"
#include "controlplane/certificates.h"
#include "controlplane/names.h"
#include "controlplane/resources.h"
#include "controlplane/status.h"
#include "data/base64.h"
#include "pki/kubeconfig.h"

namespace basalt::controlplane {

using controller::Labels;
using data::Value;

namespace {

// A renewal that is this late does not happen.
constexpr Duration kRenewalOverdue = pki::kDay;

constexpr const char* kControlPlaneInfo = "kamaji_tenant_control_plane_info";
constexpr const char* kControlPlaneStatus = "kamaji_tenant_control_plane_status";
constexpr const char* kControlPlanesCurrent = "kamaji_tenant_control_planes_current";
constexpr const char* kDataStoreInfo = "kamaji_datastore_info";
constexpr const char* kDataStoreStatus = "kamaji_datastore_status";
constexpr const char* kDataStoresCurrent = "kamaji_datastores_current";
constexpr const char* kCertificatesCurrent = "kamaji_certificates_current";

constexpr std::string_view kStatuses[] = {
    "Unknown",   "Provisioning", "CertificateAuthorityRotating",
    "Upgrading", "Migrating",    "Ready",
    "NotReady",  "Sleeping",     "WriteLimited"};
constexpr std::string_view kDrivers[] = {"etcd", "MySQL", "PostgreSQL", "NATS"};

template <size_t N>
std::string one_of(const std::string_view (&known)[N], std::string_view value,
                   std::string_view otherwise) {
    const bool is_known = std::find(std::begin(known), std::end(known), value) != std::end(known);
    return std::string(is_known ? value : otherwise);
}

std::string truth(bool value) { return value ? "true" : "false"; }

std::string address_of(const Value& control_plane) {
    const std::string_view endpoint = control_plane["status"]["controlPlaneEndpoint"].as_string();
    return endpoint.empty() ? "" : fmt::format("https://{}", endpoint);
}

// "x509", "kubeconfig", or "" for a Secret without certificates.
std::string_view strategy_of(const Value& secret) {
    const std::string_view component = kube::label_of(secret, names::kComponentLabel);
    const bool authority =
        component == names::ca.component || component == names::front_proxy_ca.component;
    return authority ? "x509" : kube::label_of(secret, names::kCertificateLifecycleLabel);
}

void shorten(std::optional<WallTime>& ends_at, WallTime other) {
    if (!ends_at || other < *ends_at) ends_at = other;
}

}  // namespace

HandlerTimer::HandlerTimer(controller::Manager& manager, const char* handler)
    : manager_(manager), handler_(handler), began_(manager.loop().now()) {}

HandlerTimer::~HandlerTimer() {
    manager_.metrics()
        .histogram("kamaji_handler_time_seconds",
                   "Seconds that a step of reconciling a control plane, or a webhook, took.",
                   controller::reconcile_time_bounds(), {{"handler", handler_}})
        .observe(std::chrono::duration<double>(manager_.loop().now() - began_).count());
}

std::string_view certificate_status(std::optional<WallTime> ends_at, WallTime now) {
    if (!ends_at || *ends_at <= now) return "invalid";
    return *ends_at - now < wall_duration(kRenewBefore - kRenewalOverdue) ? "expiring" : "valid";
}

std::optional<WallTime> certificates_end(const Value& secret) {
    std::optional<WallTime> ends_at;
    const bool kubeconfigs = strategy_of(secret) == "kubeconfig";
    for (const data::Member& member : secret["data"].members()) {
        if (!kubeconfigs && !member.key().ends_with(".crt")) continue;
        Result<std::string> text = data::base64_decode(member.value.as_string());
        if (!text.ok()) return std::nullopt;
        std::string pem = *std::move(text);
        if (kubeconfigs) {
            Result<pki::Kubeconfig> config = pki::parse_kubeconfig(pem);
            if (!config.ok()) return std::nullopt;
            pem = config->client_certificate_pem;
        }
        Result<pki::Certificate> certificate = pki::Certificate::parse(pem);
        if (!certificate.ok()) return std::nullopt;
        shorten(ends_at, certificate->not_after());
    }
    return ends_at;
}

ControlPlaneMetrics::ControlPlaneMetrics(controller::Manager& manager, const BuildInfo& build)
    : manager_(manager),
      control_planes_(manager.cache(applied_options(tenant_control_planes()))),
      data_stores_(manager.cache(applied_options(controlplane::data_stores()))),
      secrets_(manager.cache(owned_options(kube::resources::secrets()))) {
    handler_ =
        secrets_.add_handler([this](const kube::Change& change) { read_certificate(change); });
    manager_.metrics()
        .gauge("kamaji_build_info", "The program that runs.",
               {{"version", build.version},
                {"commit", build.commit},
                {"dirty", build.dirty},
                {"repo", build.repo},
                {"build_time", build.build_time}})
        .set(1);
    scrape_ = manager_.metrics().on_scrape([this] { update(); });
}

ControlPlaneMetrics::~ControlPlaneMetrics() {
    secrets_.remove_handler(handler_);
    manager_.metrics().remove_scrape(scrape_);
}

void ControlPlaneMetrics::read_certificate(const kube::Change& change) {
    const Value& secret = change.object();
    const kube::ObjectKey key = kube::key_of(secret);
    const std::string_view strategy = strategy_of(secret);
    if (!change.after || strategy.empty()) {
        certificates_.erase(key);
        return;
    }
    if (change.before && (*change.before)["data"] == secret["data"] && certificates_.contains(key))
        return;
    Certificate certificate;
    certificate.namespace_name = key.ns;
    certificate.control_plane = std::string(kube::label_of(secret, names::kNameLabel));
    certificate.strategy = std::string(strategy);
    certificate.ends_at = certificates_end(secret);
    certificates_[key] = std::move(certificate);
}

void ControlPlaneMetrics::update() {
    update_control_planes();
    update_data_stores();
    update_certificates();
}

void ControlPlaneMetrics::update_control_planes() {
    controller::Metrics& metrics = manager_.metrics();
    metrics.remove(kControlPlaneInfo, {});
    metrics.remove(kControlPlaneStatus, {});
    std::map<std::string, double> counts = {{"true", 0}, {"false", 0}};
    control_planes_.for_each([&](const data::SharedValue& object) {
        const Value& status = (*object)["status"];
        const kube::ObjectKey key = kube::key_of(*object);
        const std::string word = one_of(
            kStatuses, status["kubernetesResources"]["version"]["status"].as_string(), "Unknown");
        const std::string ready = truth(word == "Ready");
        counts[ready] += 1;
        const std::string version = (*object)["spec"]["kubernetes"]["version"].str();
        metrics
            .gauge(kControlPlaneStatus, "State of each control plane.",
                   {{"tcp_namespace", key.ns},
                    {"tcp_name", key.name},
                    {"status", word},
                    {"ready", ready}})
            .set(1);
        metrics
            .gauge(kControlPlaneInfo, "What each control plane is.",
                   {{"tcp_namespace", key.ns},
                    {"tcp_name", key.name},
                    {"kubernetes_version", version.empty() ? "unknown" : version},
                    {"datastore_driver",
                     one_of(kDrivers, status["storage"]["driver"].as_string(), "unknown")},
                    {"address", address_of(*object)},
                    {"exposure_strategy", status["kubernetesResources"]["service"]["name"].empty()
                                              ? "unknown"
                                              : "service"}})
            .set(1);
    });
    for (const auto& [ready, count] : counts) {
        metrics.gauge(kControlPlanesCurrent, "Number of control planes.", {{"ready", ready}})
            .set(count);
    }
}

void ControlPlaneMetrics::update_data_stores() {
    controller::Metrics& metrics = manager_.metrics();
    for (const char* name : {kDataStoreInfo, kDataStoreStatus, kDataStoresCurrent})
        metrics.remove(name, {});
    data_stores_.for_each([&](const data::SharedValue& object) {
        const std::string name(kube::name_of(*object));
        const std::string driver =
            one_of(kDrivers, (*object)["spec"]["driver"].as_string(), "unknown");
        const bool ready = (*object)["status"]["ready"].as_bool();
        const Value& condition = controller::find_condition((*object)["status"], kReady);
        const std::string word = condition.is_null() ? "Unknown" : condition["status"].str();
        metrics
            .gauge(kDataStoreInfo, "What each DataStore is.",
                   {{"datastore_name", name}, {"driver", driver}})
            .set(1);
        metrics
            .gauge(kDataStoreStatus, "State of each DataStore.",
                   {{"datastore_name", name}, {"status", word}, {"ready", truth(ready)}})
            .set(1);
        for (const bool value : {true, false}) {
            metrics
                .gauge(kDataStoresCurrent, "Number of DataStores.",
                       {{"datastore_name", name}, {"ready", truth(value)}, {"driver", driver}})
                .set(value == ready ? 1 : 0);
        }
    });
}

void ControlPlaneMetrics::update_certificates() {
    static constexpr std::array<const char*, 3> kWords = {"valid", "expiring", "invalid"};
    static constexpr std::array<const char*, 2> kStrategies = {"x509", "kubeconfig"};
    controller::Metrics& metrics = manager_.metrics();
    metrics.remove(kCertificatesCurrent, {});
    const WallTime now = manager_.loop().wall_now();
    for (const auto& [key, certificate] : certificates_) {
        const std::string word(certificate_status(certificate.ends_at, now));
        for (const char* status : kWords) {
            for (const char* strategy : kStrategies) {
                controller::Gauge& gauge =
                    metrics.gauge(kCertificatesCurrent, "Number of Secrets with certificates.",
                                  {{"tcp_namespace", certificate.namespace_name},
                                   {"tcp_name", certificate.control_plane},
                                   {"status", status},
                                   {"strategy", strategy}});
                if (status == word && strategy == certificate.strategy) gauge.add(1);
            }
        }
    }
}

}  // namespace basalt::controlplane
