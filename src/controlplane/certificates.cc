#include "controlplane/certificates.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/ip.h"
#include "base/strings.h"
#include "controlplane/names.h"
#include "data/base64.h"
#include "pki/digest.h"
#include "pki/kubeconfig.h"

namespace basalt::controlplane {

using data::Value;
using pki::Certificate;
using pki::CertificateAuthority;
using pki::CertificateSpec;
using pki::KeyPair;
using pki::PrivateKey;

namespace {

// A kubeconfig file in a Secret: one user, one server.
struct KubeconfigFile {
    std::string file;
    std::string server;
};

bool asks_for_rotation(const Value& secret) {
    // Once it is done the annotation carries the time: only an empty value asks.
    const Value* asked = secret["metadata"]["annotations"].find(names::kRotateAnnotation);
    return asked != nullptr && asked->as_string().empty();
}

class Planner {
 public:
    Planner(const CertificateInputs& inputs, pki::KeySource& keys)
        : in_(inputs), settings_(*inputs.settings), keys_(keys) {
        set_.renew_at =
            inputs.now + std::chrono::duration_cast<WallTime::duration>(pki::kLeafLifetime);
    }

    Result<CertificateSet> run() {
        const std::string& name = settings_.name;
        for (const auto& [secret, object] : in_.secrets) {
            const Value& at = (*object)["metadata"]["annotations"][names::kRotateAnnotation];
            if (!at.empty()) set_.rotated_at[secret] = at.str();
        }
        BASALT_ASSIGN(CertificateAuthority ca,
                      authority(names::ca(name), "ca.crt", "ca.key", "kubernetes"));
        SecretData& ca_data = set_.secrets[names::ca(name)];
        // The same under the names that Cluster API looks for.
        ca_data["tls.crt"] = ca_data["ca.crt"];
        ca_data["tls.key"] = ca_data["ca.key"];
        BASALT_ASSIGN(CertificateAuthority front_proxy,
                      authority(names::front_proxy_ca(name), "front-proxy-ca.crt",
                                "front-proxy-ca.key", "front-proxy-ca"));
        BASALT_TRY(service_account());
        BASALT_TRY(leaves(ca, front_proxy));
        BASALT_TRY(kubeconfigs(ca));
        BASALT_TRY(datastore());
        return std::move(set_);
    }

 private:
    const Value* live(const std::string& secret) const {
        auto found = in_.secrets.find(secret);
        return found == in_.secrets.end() ? nullptr : found->second.get();
    }

    /// A key's bytes; "" when missing or not base64.
    std::string bytes(const std::string& secret, const std::string& key) const {
        const Value* object = live(secret);
        if (object == nullptr) return "";
        auto decoded = data::base64_decode((*object)["data"][key].as_string());
        return decoded.ok() ? *std::move(decoded) : "";
    }

    bool rotation_asked(const std::string& secret) const {
        const Value* object = live(secret);
        return object != nullptr && asks_for_rotation(*object);
    }

    void changed(const std::string& secret, std::string_view reason) {
        set_.changes.push_back(fmt::format("{}: {}", secret, reason));
    }

    Result<CertificateAuthority> authority(const std::string& secret, const std::string& crt,
                                           const std::string& key, const char* common_name) {
        SecretData& out = set_.secrets[secret];
        std::string crt_pem = bytes(secret, crt);
        std::string key_pem = bytes(secret, key);
        if (crt_pem.empty() && key_pem.empty() && crt == "ca.crt") {
            // As Cluster API users bring a CA along.
            crt_pem = bytes(secret, "tls.crt");
            key_pem = bytes(secret, "tls.key");
        }
        if (crt_pem.empty() && key_pem.empty()) {
            CertificateAuthority made = CertificateAuthority::create(keys_, common_name, in_.now);
            out[crt] = made.certificate().to_pem();
            out[key] = std::string(made.key().to_pem().reveal());
            changed(secret, "missing");
            return made;
        }
        auto parsed = CertificateAuthority::parse(crt_pem, Secret(key_pem));
        if (!parsed.ok()) {
            return failed_precondition(
                fmt::format("Secret {}: {}. Put the right certificate and key back; deleting the "
                            "Secret makes a new CA, "
                            "and every node has to join anew",
                            secret, parsed.error().message()));
        }
        out[crt] = std::move(crt_pem);
        out[key] = std::move(key_pem);
        return parsed;
    }

    Result<void> service_account() {
        const std::string secret = names::service_account(settings_.name);
        SecretData& out = set_.secrets[secret];
        std::string key_pem = bytes(secret, "sa.key");
        std::string public_pem = bytes(secret, "sa.pub");
        if (key_pem.empty()) {
            PrivateKey key = keys_.new_key();
            out["sa.key"] = std::string(key.to_pem().reveal());
            out["sa.pub"] = key.public_pem();
            changed(secret, "missing");
            return {};
        }
        auto key = PrivateKey::parse(key_pem);
        if (!key.ok()) {
            return failed_precondition(fmt::format(
                "Secret {}, key sa.key: {}. Put the right key back; a new one invalidates every "
                "service account's token",
                secret, key.error().message()));
        }
        auto public_der = pki::parse_public_key(public_pem);
        if (!public_der.ok() || *public_der != key->public_der()) {
            public_pem = key->public_pem();
            changed(secret, "sa.pub does not belong to sa.key");
        }
        out["sa.key"] = std::move(key_pem);
        out["sa.pub"] = std::move(public_pem);
        return {};
    }

    /// The pair found if it is good, else a new one.
    Result<KeyPair> leaf(const std::string& secret, const std::string& crt_pem,
                         const std::string& key_pem, const CertificateSpec& spec,
                         const CertificateAuthority& issuer) {
        std::optional<std::string> reason;
        Result<KeyPair> found = pki::parse_key_pair(crt_pem, Secret(key_pem));
        if (crt_pem.empty() || key_pem.empty()) {
            reason = "missing";
        } else if (!found.ok()) {
            reason = found.error().message();
        } else if (rotation_asked(secret)) {
            reason = "asked for";
            set_.rotated_at[secret] = format_rfc3339(in_.now);
        } else {
            reason = pki::renewal_reason(found->certificate, found->key, spec, issuer.certificate(),
                                         in_.now, kRenewBefore);
        }
        if (!reason) {
            note_end(found->certificate);
            return found;
        }
        changed(secret, *reason);
        auto issued = issuer.issue(spec, keys_, in_.now);
        if (!issued.ok()) return std::move(issued).error().context(secret);
        note_end(issued->certificate);
        return issued;
    }

    void note_end(const Certificate& certificate) {
        WallTime renew = certificate.not_after() - wall_duration(kRenewBefore);
        set_.renew_at = std::min(set_.renew_at, renew);
    }

    Result<void> leaf_secret(const std::string& secret, const std::string& stem,
                             const CertificateSpec& spec, const CertificateAuthority& issuer) {
        std::string crt_pem = bytes(secret, stem + ".crt");
        std::string key_pem = bytes(secret, stem + ".key");
        BASALT_ASSIGN(KeyPair pair, leaf(secret, crt_pem, key_pem, spec, issuer));
        bool kept = pair.certificate.to_pem() == crt_pem || !is_changed(secret);
        set_.secrets[secret][stem + ".crt"] = kept ? crt_pem : pair.certificate_pem();
        set_.secrets[secret][stem + ".key"] = kept ? key_pem : std::string(pair.key_pem().reveal());
        return {};
    }

    bool is_changed(const std::string& secret) const {
        return std::any_of(
            set_.changes.begin(), set_.changes.end(),
            [&](const std::string& change) { return change.starts_with(secret + ":"); });
    }

    CertificateSpec server_spec() const {
        const std::string& name = settings_.name;
        const std::string& ns = settings_.namespace_name;
        CertificateSpec spec;
        spec.common_name = "kube-apiserver";
        spec.server = true;
        spec.dns_names = {"localhost",
                          name,
                          fmt::format("{}.{}", name, ns),
                          fmt::format("{}.{}.svc", name, ns),
                          fmt::format("{}.{}.svc.cluster.local", name, ns),
                          "kubernetes",
                          "kubernetes.default",
                          "kubernetes.default.svc",
                          "kubernetes.default.svc." + settings_.network.cluster_domain};
        spec.ip_addresses = {"127.0.0.1"};
        std::vector<std::string> more = settings_.network.cert_sans;
        more.push_back(in_.endpoint.address);
        more.push_back(in_.endpoint.advertise_address);
        more.push_back(in_.cluster_ip);
        for (const std::string& cidr : settings_.network.service_cidrs) {
            auto network = IpNetwork::parse(cidr);
            auto first = network.ok() ? network->address_at(1) : Result<std::string>(std::string());
            if (first.ok()) more.push_back(*first);
        }
        for (const std::string& san : more) {
            auto& list = is_ip_address(san) ? spec.ip_addresses : spec.dns_names;
            if (!san.empty() && std::find(list.begin(), list.end(), san) == list.end())
                list.push_back(san);
        }
        return spec;
    }

    /// For the port of metrics and health. Without one the component makes an RSA key at each
    /// start, a fifth of the processor time that its start takes.
    static CertificateSpec companion_spec(std::string name) {
        CertificateSpec spec;
        spec.common_name = std::move(name);
        spec.server = true;
        spec.dns_names = {"localhost"};
        spec.ip_addresses = {"127.0.0.1"};
        return spec;
    }

    static CertificateSpec client_spec(std::string user, std::string group = {}) {
        CertificateSpec spec;
        spec.common_name = std::move(user);
        if (!group.empty()) spec.organizations = {std::move(group)};
        spec.client = true;
        return spec;
    }

    Result<void> leaves(const CertificateAuthority& ca, const CertificateAuthority& front_proxy) {
        const std::string& name = settings_.name;
        BASALT_TRY(leaf_secret(names::api_server(name), "apiserver", server_spec(), ca));
        BASALT_TRY(leaf_secret(
            names::kubelet_client(name), "apiserver-kubelet-client",
            client_spec("kube-apiserver-kubelet-client", "kubeadm:cluster-admins"), ca));
        BASALT_TRY(leaf_secret(names::front_proxy_client(name), "front-proxy-client",
                               client_spec("front-proxy-client"), front_proxy));
        return {};
    }

    /// Files of one user in one Secret share a certificate.
    Result<void> kubeconfig(const std::string& secret, const std::string& user,
                            const std::string& group, const std::vector<KubeconfigFile>& files,
                            const CertificateAuthority& ca) {
        std::string crt_pem;
        std::string key_pem;
        auto old = pki::parse_kubeconfig(bytes(secret, files.front().file));
        if (old.ok()) {
            crt_pem = old->client_certificate_pem;
            key_pem = std::string(old->client_key_pem.reveal());
        }
        BASALT_ASSIGN(KeyPair pair, leaf(secret, crt_pem, key_pem, client_spec(user, group), ca));
        for (const KubeconfigFile& file : files) {
            pki::Kubeconfig config;
            config.cluster = settings_.name;
            config.server = file.server;
            config.ca_pem = ca.certificate().to_pem();
            config.user = user;
            config.client_certificate_pem = pair.certificate_pem();
            config.client_key_pem = pair.key_pem();
            std::string present = bytes(secret, file.file);
            auto parsed = pki::parse_kubeconfig(present);
            bool same = parsed.ok() && parsed->server == config.server &&
                        parsed->ca_pem == config.ca_pem &&
                        same_certificate(parsed->client_certificate_pem, pair.certificate) &&
                        parsed->client_key_pem == old->client_key_pem;
            if (!same && !is_changed(secret)) changed(secret, file.file + " differs");
            set_.secrets[secret][file.file] =
                same ? present : std::string(pki::to_yaml(config).reveal());
        }
        return {};
    }

    static bool same_certificate(const std::string& pem, const Certificate& certificate) {
        auto parsed = Certificate::parse(pem);
        return parsed.ok() && *parsed == certificate;
    }

    Result<void> kubeconfigs(const CertificateAuthority& ca) {
        const std::string& name = settings_.name;
        const std::string endpoint = "https://" + in_.endpoint.host_port();
        const std::string own_pod = fmt::format("https://127.0.0.1:{}", settings_.network.port);
        const std::string service = fmt::format("https://{}.{}.svc:{}", name,
                                                settings_.namespace_name, settings_.network.port);
        BASALT_TRY(kubeconfig(names::admin_kubeconfig(name), "kubernetes-admin",
                              "kubeadm:cluster-admins",
                              {{"admin.conf", endpoint}, {"admin.svc", service}}, ca));
        BASALT_TRY(kubeconfig(names::admin_kubeconfig(name), "kubernetes-super-admin",
                              "system:masters",
                              {{"super-admin.conf", endpoint}, {"super-admin.svc", service}}, ca));
        BASALT_TRY(kubeconfig(names::controller_manager_kubeconfig(name),
                              "system:kube-controller-manager", "",
                              {{"controller-manager.conf", own_pod}}, ca));
        BASALT_TRY(kubeconfig(names::scheduler_kubeconfig(name), "system:kube-scheduler", "",
                              {{"scheduler.conf", own_pod}}, ca));
        BASALT_TRY(leaf_secret(names::controller_manager_kubeconfig(name), "serving",
                               companion_spec("kube-controller-manager"), ca));
        BASALT_TRY(leaf_secret(names::scheduler_kubeconfig(name), "serving",
                               companion_spec("kube-scheduler"), ca));
        if (settings_.tunnel) {
            BASALT_TRY(kubeconfig(names::tunnel_kubeconfig(name), "system:konnectivity-server", "",
                                  {{"konnectivity-server.conf", own_pod}}, ca));
            CertificateSpec spec = client_spec("system:konnectivity-server");
            BASALT_TRY(leaf_secret(names::tunnel_certificate(name), "tls", spec, ca));
        }
        return {};
    }

    /// The authorities that the client certificate has to satisfy: the main DataStore's first.
    Result<std::vector<CertificateAuthority>> datastore_authorities() const {
        std::vector<CertificateAuthority> authorities;
        auto add = [&](const std::string& name, const std::string& pem,
                       const Secret& key) -> Result<void> {
            auto parsed = CertificateAuthority::parse(pem, key);
            if (!parsed.ok()) return std::move(parsed).error().context("DataStore " + name);
            for (const CertificateAuthority& known : authorities) {
                if (known.certificate() == parsed->certificate()) return {};
            }
            authorities.push_back(*std::move(parsed));
            return {};
        };
        BASALT_TRY(add(settings_.datastore, in_.datastore_ca_pem, in_.datastore_ca_key_pem));
        for (const CertificateInputs::Authority& more : in_.override_authorities) {
            BASALT_TRY(add(more.datastore, more.ca_pem, more.ca_key_pem));
        }
        return authorities;
    }

    /// What the API server trusts its etcd servers by.
    std::string datastore_bundle() const {
        std::vector<std::string> parts = {in_.datastore_ca_pem};
        for (const CertificateInputs::Authority& more : in_.override_authorities) {
            if (std::find(parts.begin(), parts.end(), more.ca_pem) == parts.end())
                parts.push_back(more.ca_pem);
        }
        std::string bundle;
        for (const std::string& part : parts) {
            if (!bundle.empty() && bundle.back() != '\n') bundle += '\n';
            bundle += part;
        }
        return bundle;
    }

    /// Whether the servers of an authority accept the leaf. OpenSSL, unlike Go and so etcd, takes
    /// the first intermediate that fits, wherever it leads: it is shown those of this authority.
    static Result<void> verify_for(const CertificateAuthority& authority, const Certificate& leaf,
                                   const std::vector<Certificate>& intermediates, WallTime when) {
        std::vector<Certificate> own;
        for (const Certificate& one : intermediates) {
            if (one.is_signed_by(authority.certificate())) own.push_back(one);
        }
        return pki::verify(leaf, own, {authority.certificate()}, when, pki::Purpose::kClient);
    }

    /// Why a chain (leaf, then intermediates) does not do; nothing when it does.
    std::optional<std::string> chain_reason(const std::string& secret,
                                            const std::vector<CertificateAuthority>& authorities,
                                            const CertificateSpec& spec) {
        const std::string key_pem = bytes(secret, "server.key");
        auto chain = Certificate::parse_bundle(bytes(secret, "server.crt"));
        auto key = PrivateKey::parse(key_pem);
        if (key_pem.empty() || !chain.ok()) return "missing";
        if (!key.ok()) return key.error().message();
        if (rotation_asked(secret)) {
            set_.rotated_at[secret] = format_rfc3339(in_.now);
            return "asked for";
        }
        const Certificate leaf = chain->front();
        chain->erase(chain->begin());
        if (chain->empty()) return "it is not signed for all DataStores";
        // A clock that was put back is no reason (pki::kClockTolerance): all begin together.
        const bool late = leaf.not_before() > in_.now && leaf.may_be_valid_at(in_.now);
        const WallTime when = late ? leaf.not_before() : in_.now;
        for (const CertificateAuthority& authority : authorities) {
            auto trusted = verify_for(authority, leaf, *chain, when);
            if (!trusted.ok()) return trusted.error().message();
        }
        WallTime bound = authorities.front().certificate().not_after();
        for (const CertificateAuthority& authority : authorities)
            bound = std::min(bound, authority.certificate().not_after());
        // One that ends with the first of the authorities cannot be made to last longer. (The
        // intermediates end with the leaf: they say nothing.)
        const WallTime end = leaf.not_after();
        if (end < bound && end - in_.now <= wall_duration(kRenewBefore))
            return "it expires at " + format_rfc3339(end);
        auto reason = pki::renewal_reason(leaf, *key, spec, chain->front(), in_.now, Duration(0));
        if (!reason) note_end(leaf);
        return reason;
    }

    /// One client certificate that servers of several authorities accept: it is signed by an
    /// authority of its own, which all of them have signed and whose key exists only here. The
    /// servers find the way to theirs among the certificates that follow the leaf.
    Result<void> client_chain(const std::string& secret,
                              const std::vector<CertificateAuthority>& authorities,
                              const CertificateSpec& spec) {
        SecretData& out = set_.secrets[secret];
        auto reason = chain_reason(secret, authorities, spec);
        if (!reason) {
            out["server.crt"] = bytes(secret, "server.crt");
            out["server.key"] = bytes(secret, "server.key");
            return {};
        }
        changed(secret, *reason);
        const PrivateKey between = keys_.new_key();
        const CertificateSpec own = client_spec("datastores of " + settings_.user);
        std::vector<Certificate> intermediates;
        WallTime end = in_.now + wall_duration(spec.lifetime);
        for (const CertificateAuthority& authority : authorities) {
            BASALT_ASSIGN(Certificate signed_one,
                          authority.issue_authority(between, own, keys_, in_.now));
            end = std::min(end, signed_one.not_after());
            intermediates.push_back(std::move(signed_one));
        }
        BASALT_ASSIGN(
            CertificateAuthority issuer,
            CertificateAuthority::parse(intermediates.front().to_pem(), between.to_pem()));
        CertificateSpec bounded = spec;
        bounded.lifetime = end - in_.now;
        BASALT_ASSIGN(KeyPair pair, issuer.issue(bounded, keys_, in_.now));
        std::string chain = pair.certificate_pem();
        for (const Certificate& one : intermediates) chain += one.to_pem();
        for (const CertificateAuthority& authority : authorities) {
            auto trusted = verify_for(authority, pair.certificate, intermediates, in_.now);
            if (trusted.ok()) continue;
            return failed_precondition(fmt::format(
                "DataStores with different authorities need such that allow another below them, "
                "\"{}\" does not ({}): use DataStores with the same authority",
                authority.certificate().common_name(), trusted.error().message()));
        }
        note_end(pair.certificate);
        out["server.crt"] = std::move(chain);
        out["server.key"] = std::string(pair.key_pem().reveal());
        return {};
    }

    Result<void> datastore() {
        const std::string secret = names::datastore_certificate(settings_.name);
        BASALT_ASSIGN(std::vector<CertificateAuthority> authorities, datastore_authorities());
        // etcd takes the common name as the user: no group, for no right comes from one.
        CertificateSpec spec = client_spec(settings_.user);
        auto old = Certificate::parse(bytes(secret, "server.crt"));
        // Kamaji put a group in. It does no harm, and a credential that works is not replaced.
        if (old.ok()) spec.organizations = old->organizations();
        if (authorities.size() == 1) {
            BASALT_TRY(leaf_secret(secret, "server", spec, authorities.front()));
        } else {
            BASALT_TRY(client_chain(secret, authorities, spec));
        }
        const std::string bundle = datastore_bundle();
        set_.secrets[secret]["ca.crt"] = bundle;
        if (!live(secret) || bytes(secret, "ca.crt") != bundle) changed(secret, "CA differs");
        const std::string config = names::datastore_config(settings_.name);
        SecretData& out = set_.secrets[config];
        std::vector<std::string> urls;
        for (const std::string& endpoint : in_.datastore_endpoints)
            urls.push_back("https://" + endpoint);
        out["DB_CONNECTION_STRING"] = fmt::format("{}", fmt::join(urls, ","));
        out["DB_SCHEMA"] = settings_.schema;
        out["DB_USER"] = settings_.user;
        out["DB_PASSWORD"] = bytes(config, "DB_PASSWORD");
        return {};
    }

    const CertificateInputs& in_;
    const Settings& settings_;
    pki::KeySource& keys_;
    CertificateSet set_;
};

const names::SecretName& name_of(const Settings& settings, const std::string& secret) {
    for (const names::SecretName& known : names::kSecrets) {
        if (secret == known(settings.name)) return known;
    }
    BASALT_ASSERT(false);
    return names::kSecrets[0];
}

}  // namespace

std::vector<std::string> unsupported_rotations(
    const Settings& settings,
    const std::function<data::SharedValue(const std::string& secret)>& find) {
    std::vector<std::string> found;
    for (const names::SecretName& known :
         {names::ca, names::front_proxy_ca, names::service_account}) {
        const std::string name = known(settings.name);
        const data::SharedValue secret = find(name);
        if (secret == nullptr || !asks_for_rotation(*secret)) continue;
        found.push_back(fmt::format(
            "Secret {}: it is not replaced, for everything in the cluster trusts it; remove the "
            "annotation {}",
            name, names::kRotateAnnotation));
    }
    return found;
}

Result<CertificateSet> plan_certificates(const CertificateInputs& inputs, pki::KeySource& keys) {
    return Planner(inputs, keys).run();
}

SecretData read_secret(const Value& secret) {
    SecretData content;
    for (const data::Member& member : secret["data"].members()) {
        auto decoded = data::base64_decode(member.value.as_string());
        if (decoded.ok()) content[std::string(member.key())] = *std::move(decoded);
    }
    return content;
}

std::string checksum(const SecretData& secret) {
    std::string all;
    for (const auto& [key, bytes] : secret) {
        // Sizes keep {"a": "bc"} and {"ab": "c"} apart.
        all += fmt::format("{}:{}:{}:", key, bytes.size(), bytes);
    }
    return pki::md5_hex(all);
}

std::vector<Value> build_secrets(const Settings& settings, const CertificateSet& set) {
    std::vector<Value> secrets;
    for (const auto& [name, content] : set.secrets) {
        const names::SecretName& known = name_of(settings, name);
        Value meta = object_meta(settings, name, known.component);
        if (!known.lifecycle.empty())
            meta.at("labels").set(names::kCertificateLifecycleLabel, known.lifecycle);
        meta.at("annotations").set(names::kChecksumAnnotation, checksum(content));
        auto rotated = set.rotated_at.find(name);
        if (rotated != set.rotated_at.end()) {
            meta.at("annotations").set(names::kRotateAnnotation, rotated->second);
        }
        Value object =
            Value::object({{"apiVersion", "v1"}, {"kind", "Secret"}, {"metadata", meta}});
        if (name == names::tunnel_certificate(settings.name))
            object.set("type", "kubernetes.io/tls");
        Value& encoded = object.at("data") = Value::object();
        for (const auto& [key, bytes] : content) encoded.set(key, data::base64_encode(bytes));
        secrets.push_back(std::move(object));
    }
    return secrets;
}

}  // namespace basalt::controlplane
