// The step of a pass for Secrets with key material: certificates, keys, kubeconfigs.
#include <algorithm>

#include <fmt/format.h>

#include "base/log.h"
#include "controlplane/names.h"
#include "controlplane/pass.h"
#include "pki/digest.h"

namespace basalt::controlplane {

namespace {

constexpr Duration kRenewalRetry = std::chrono::hours(1);

bool same_names(const std::map<std::string, data::SharedValue>& live,
                const std::map<std::string, std::string>& wanted) {
    return std::equal(live.begin(), live.end(), wanted.begin(), wanted.end(),
                      [](const auto& a, const auto& b) { return a.first == b.first; });
}

}  // namespace

// Before all steps: it is said whichever of them has to wait.
void ControlPlaneController::note_rotations(Pass* pass) const {
    const kube::Cache& secrets = *owned_.at("Secret");
    std::vector<std::string> asked =
        unsupported_rotations(pass->settings, [&](const std::string& secret) {
            return secrets.get(kube::ObjectKey(pass->settings.namespace_name, secret));
        });
    pass->settings.unsupported.insert(pass->settings.unsupported.end(), asked.begin(), asked.end());
}

async::Task<Result<void>> ControlPlaneController::collect_secrets(Pass* pass) {
    for (const names::SecretName& known : names::kSecrets) {
        const std::string secret = known(pass->settings.name);
        kube::ObjectKey key(pass->settings.namespace_name, secret);
        Result<data::SharedValue> live =
            co_await find_owned(kube::resources::secrets(), std::move(key));
        if (!live.ok()) co_return std::move(live).error();
        if (*live != nullptr) pass->live_secrets[secret] = *live;
    }
    co_return Result<void>();
}

// Everything that decides about certificates but the time: the spec by its generation, what the
// status keeps, the address, the DataStores, the Secrets as they are.
std::string ControlPlaneController::certificates_stamp(const Pass& pass) const {
    const Settings& settings = pass.settings;
    std::string stamp = fmt::format("{}|{}|{}|{}|{}|{}|{}", settings.generation, settings.datastore,
                                    settings.schema, settings.user, pass.endpoint->host_port(),
                                    pass.endpoint->advertise_host_port(),
                                    (*pass.service)["spec"]["clusterIP"].as_string());
    for (const Pass::Store& store : pass.stores)
        stamp += fmt::format("|{}#{}", store.name, store.epoch);
    for (const auto& [name, secret] : pass.live_secrets) {
        stamp += fmt::format("|{} {} {}", name, kube::uid_of(*secret),
                             kube::resource_version_of(*secret));
    }
    return pki::sha256(stamp);
}

// Reads what there is and plans what there is not.
Result<void> ControlPlaneController::plan_key_material(Pass* pass) {
    CertificateInputs inputs;
    inputs.settings = &pass->settings;
    inputs.endpoint = *pass->endpoint;
    inputs.cluster_ip = (*pass->service)["spec"]["clusterIP"].str();
    inputs.secrets = pass->live_secrets;
    inputs.datastore_ca_pem = pass->datastore->ca_pem;
    inputs.datastore_ca_key_pem = pass->datastore->ca_key_pem;
    inputs.datastore_endpoints = pass->datastore->endpoints;
    for (size_t i = 1; i < pass->stores.size(); ++i) {
        const DataStoreView& view = *pass->stores[i].view;
        inputs.override_authorities.push_back({view.name, view.ca_pem, view.ca_key_pem});
    }
    inputs.now = manager_.loop().wall_now();
    ++certificate_readings_;
    BASALT_ASSIGN(pass->certificates, plan_certificates(inputs, keys_));
    for (const std::string& change : pass->certificates.changes) {
        log_info("certificate issued", {{"control_plane", pass->settings.key()}, {"what", change}});
    }
    for (const auto& [secret, content] : pass->certificates.secrets) {
        pass->checksums[secret] = checksum(content);
    }
    return {};
}

ControlPlaneController::Step ControlPlaneController::ensure_certificates(Pass* pass) {
    Result<void> collected = co_await collect_secrets(pass);
    if (!collected.ok()) co_return std::move(collected).error();
    const WallTime now = manager_.loop().wall_now();
    const std::string stamp = certificates_stamp(*pass);
    CertificatesDone done = certificates_done_[pass->settings.uid];
    const bool known = done.stamp == stamp && now < done.renew_at;
    std::vector<async::Task<Result<void>>> work;
    if (known) {
        for (const auto& [secret, live] : pass->live_secrets) {
            pass->checksums[secret] =
                (*live)["metadata"]["annotations"][names::kChecksumAnnotation].str();
        }
    } else {
        Result<void> planned = plan_key_material(pass);
        if (!planned.ok()) {
            co_return pass->stop(kCertificatesReady, "InvalidCertificate",
                                 planned.error().message());
        }
        done = {stamp, pass->certificates.renew_at};
    }
    // In the past where an authority ends soon, and its certificates with it: nothing helps there.
    pass->again = std::max<Duration>(done.renew_at - now, kRenewalRetry);
    Result<void> recorded = co_await record_datastores(pass);
    if (!recorded.ok()) co_return std::move(recorded).error();
    if (!known) work.push_back(apply_all(pass, build_secrets(pass->settings, pass->certificates)));
    work.push_back(ensure_storage(pass));
    Result<void> finished = co_await async::join_all(manager_.loop(), std::move(work));
    if (!finished.ok()) co_return std::move(finished).error();
    // What was written just now has another version and is read once more.
    if (pass->certificates.changes.empty() && same_names(pass->live_secrets, pass->checksums))
        certificates_done_[pass->settings.uid] = std::move(done);
    pass->progress.done(kCertificatesReady, "Valid");
    co_return true;
}

}  // namespace basalt::controlplane
