#include "controlplane/datastore_plan.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/strings.h"
#include "data/base64.h"
#include "etcd/version.h"
#include "pki/certificate.h"
#include "pki/digest.h"
#include "pki/key.h"

namespace basalt::controlplane {

using data::Value;

namespace {

// A message that lists more users than this says how many there are.
constexpr size_t kNamedUsersMax = 5;

/// One ContentRef: where its bytes are, in words.
struct Source {
    std::string field;
    std::string where;  ///< "spec.a.b: Secret ns/name, key k" or "spec.a.b.content"
    std::string bytes;
};

Error failure(Code code, const char* reason, std::string message) {
    return Error(code, std::move(message)).with_cause(0, reason);
}

bool has_content(const Value& reference) { return !reference["content"].as_string().empty(); }

kube::ObjectKey secret_key(const Value& reference) {
    const Value& secret = reference["secretReference"];
    return kube::ObjectKey(secret["namespace"].str(), secret["name"].str());
}

// What driver etcd needs, in the order in which it is looked at.
constexpr const char* kParts[][2] = {{"certificateAuthority", "certificate"},
                                     {"certificateAuthority", "privateKey"},
                                     {"clientCertificate", "certificate"},
                                     {"clientCertificate", "privateKey"}};

Result<Source> read_reference(const Value& reference, std::string field,
                              const SecretLookup& secrets) {
    Source source;
    source.field = std::move(field);
    if (has_content(reference)) {
        source.where = source.field + ".content";
        Result<std::string> decoded = data::base64_decode(reference["content"].as_string());
        if (!decoded.ok()) {
            return failure(Code::kInvalidArgument, "ContentMissing",
                           fmt::format("{}: {}: encode the PEM text in base64", source.where,
                                       decoded.error().message()));
        }
        source.bytes = *std::move(decoded);
        return source;
    }
    const Value& named = reference["secretReference"];
    if (!named.is_object()) {
        return failure(
            Code::kInvalidArgument, "ContentMissing",
            fmt::format(
                "{}: nothing is given: set content, or secretReference with namespace, name and "
                "keyPath",
                source.field));
    }
    const kube::ObjectKey key = secret_key(reference);
    const std::string entry = named["keyPath"].str();
    source.where = fmt::format("{}: Secret {}, key {}", source.field, key.to_string(), entry);
    data::SharedValue secret = secrets(key);
    if (secret == nullptr) {
        return failure(Code::kFailedPrecondition, "SecretNotFound",
                       fmt::format("{}: there is no Secret {}: create it, or name another one",
                                   source.field, key.to_string()));
    }
    const Value* found = (*secret)["data"].find(entry);
    Result<std::string> decoded = found == nullptr ? Result<std::string>(std::string())
                                                   : data::base64_decode(found->as_string());
    if (!decoded.ok() || decoded->empty()) {
        return failure(
            Code::kFailedPrecondition, "SecretKeyNotFound",
            fmt::format("{}: Secret {} has no key {}, or nothing in it: add it, or correct keyPath",
                        source.field, key.to_string(), entry));
    }
    source.bytes = *std::move(decoded);
    return source;
}

Result<void> check_endpoint(const std::string& endpoint) {
    const size_t colon = endpoint.rfind(':');
    const std::string_view text = endpoint;
    const auto port =
        colon == std::string::npos ? std::nullopt : parse_number<uint32_t>(text.substr(colon + 1));
    if (port && *port > 0 && *port <= 65535 && colon > 0 &&
        text.find("//") == std::string_view::npos)
        return {};
    return failure(Code::kInvalidArgument, "InvalidEndpoint",
                   fmt::format("spec.endpoints: \"{}\" is not host:port: correct it", endpoint));
}

Result<pki::Certificate> parse_certificate(const Source& source) {
    Result<std::vector<pki::Certificate>> parsed = pki::Certificate::parse_bundle(source.bytes);
    if (parsed.ok()) return parsed->front();
    return failure(Code::kFailedPrecondition, "InvalidCertificate",
                   fmt::format("{}: {}: put a certificate in PEM there", source.where,
                               parsed.error().message()));
}

Result<pki::PrivateKey> parse_key(const Source& source) {
    Result<pki::PrivateKey> parsed = pki::PrivateKey::parse(source.bytes);
    if (parsed.ok()) return parsed;
    return failure(Code::kFailedPrecondition, "InvalidKey",
                   fmt::format("{}: {}: put a private key in PEM there", source.where,
                               parsed.error().message()));
}

Result<void> check_times(const Source& source, const pki::Certificate& certificate, WallTime now) {
    if (certificate.is_valid_at(now)) return {};
    const bool ended = certificate.not_after() < now;
    return failure(
        Code::kFailedPrecondition, ended ? "CertificateExpired" : "InvalidCertificate",
        fmt::format("{}: the certificate {} {}: replace it", source.where,
                    ended ? "expired at" : "is not valid before",
                    format_rfc3339(ended ? certificate.not_after() : certificate.not_before())));
}

// A bundle is a CA when one of its certificates fits the key.
Result<pki::Certificate> check_authority(const Source& certificate, const Source& key,
                                         WallTime now) {
    BASALT_ASSIGN(pki::Certificate first, parse_certificate(certificate));
    BASALT_ASSIGN(pki::PrivateKey parsed_key, parse_key(key));
    Result<pki::CertificateAuthority> authority =
        pki::CertificateAuthority::parse(certificate.bytes, Secret(key.bytes));
    if (!authority.ok()) {
        const bool mismatch = !first.matches(parsed_key);
        return failure(
            Code::kFailedPrecondition, mismatch ? "KeyMismatch" : "InvalidCertificate",
            mismatch
                ? fmt::format(
                      "{}: the key is not that of the certificate in {}: put the right one there",
                      key.where, certificate.field)
                : fmt::format("{}: {}: put the certificate of an authority there",
                              certificate.where, authority.error().message()));
    }
    BASALT_TRY(check_times(certificate, authority->certificate(), now));
    return authority->certificate();
}

Result<pki::Certificate> check_client(const Source& certificate, const Source& key, WallTime now) {
    BASALT_ASSIGN(pki::Certificate parsed, parse_certificate(certificate));
    BASALT_ASSIGN(pki::PrivateKey parsed_key, parse_key(key));
    if (!parsed.matches(parsed_key)) {
        return failure(
            Code::kFailedPrecondition, "KeyMismatch",
            fmt::format("{}: the key is not that of the certificate in {}: put the right one there",
                        key.where, certificate.field));
    }
    if (!parsed.allows_client()) {
        return failure(Code::kFailedPrecondition, "InvalidCertificate",
                       fmt::format("{}: the certificate is not for clients: issue one with "
                                   "extended key usage clientAuth",
                                   certificate.where));
    }
    if (parsed.common_name().empty()) {
        return failure(Code::kFailedPrecondition, "InvalidCertificate",
                       fmt::format("{}: the certificate has no common name, which etcd takes for "
                                   "the user: issue one with "
                                   "that of the user root",
                                   certificate.where));
    }
    BASALT_TRY(check_times(certificate, parsed, now));
    return parsed;
}

void mention(const Source& source, const pki::Certificate& certificate, WallTime now,
             DataStoreMaterial& out) {
    if (out.ends_at == WallTime() || certificate.not_after() < out.ends_at)
        out.ends_at = certificate.not_after();
    if (certificate.not_after() - now > wall_duration(kMentionExpiry) || !out.notice.empty())
        return;
    out.notice = fmt::format("{}: the certificate expires at {}: replace it in time", source.where,
                             format_rfc3339(certificate.not_after()));
}

std::string identity_of(const DataStoreMaterial& material) {
    std::string text = join(material.endpoints, ",");
    for (std::string_view part :
         {std::string_view(material.ca_pem), material.ca_key_pem.reveal(),
          std::string_view(material.client_certificate_pem), material.client_key_pem.reveal()}) {
        text += fmt::format("|{}", pki::sha256_hex(part));
    }
    return pki::sha256_hex(text);
}

Verdict judge_silence(const Error& error) {
    Verdict verdict;
    verdict.resolved = true;
    verdict.message = error.message();
    switch (error.code()) {
        case Code::kUnauthenticated:
        case Code::kPermissionDenied:
            verdict.reason = "AccessDenied";
            verdict.message +=
                ": check that spec.tlsConfig fits the servers, and that the client certificate is "
                "that of "
                "the user root";
            break;
        case Code::kResourceExhausted:
            verdict.reason = error.reason() == "NoSpace" ? "NoSpace" : "Overloaded";
            break;
        default:
            verdict.reason = "Unreachable";
            verdict.message +=
                ": check spec.endpoints and whether the servers run; it is tried again by itself";
    }
    return verdict;
}

int64_t smallest_quota(const etcd::Health& health) {
    int64_t quota = 0;
    for (const etcd::EndpointHealth& endpoint : health.endpoints) {
        const int64_t own = endpoint.status.db_size_quota;
        if (own > 0 && (quota == 0 || own < quota)) quota = own;
    }
    return quota;
}

std::string no_space_message(const etcd::Health& health) {
    const int64_t quota = smallest_quota(health);
    return fmt::format(
        "etcd's space {}is used up and nothing can be written: delete objects of tenants, or raise "
        "--quota-backend-bytes of its servers; the alarm is cleared by itself once there is space",
        quota > 0 ? fmt::format("({}) ", format_size(quota)) : "");
}

std::string serving_message(const etcd::Health& health, const std::string& notice) {
    std::vector<std::string> parts = {fmt::format("etcd {} answers", health.oldest_version)};
    for (const etcd::EndpointHealth& endpoint : health.endpoints) {
        if (!endpoint.error.empty())
            parts.push_back(fmt::format("{} does not: {}", endpoint.endpoint, endpoint.error));
    }
    if (!notice.empty()) parts.push_back(notice);
    return join(parts, "; ");
}

void judge_answers(const etcd::Health& health, const std::string& notice, Verdict& verdict) {
    bool silent = false;
    for (const etcd::EndpointHealth& endpoint : health.endpoints) silent |= !endpoint.error.empty();
    if (!health.auth_enabled) {
        verdict.reason = "AuthenticationDisabled";
        verdict.message =
            "etcd does not authenticate its users, so that every tenant could read everything: "
            "create the "
            "user and the role root and run etcdctl auth enable";
    } else if (health.corrupt) {
        verdict.reason = "Corrupt";
        verdict.message =
            "etcd's members hold different data (alarm CORRUPT): replace the member that deviates, "
            "see "
            "etcd's documentation on data corruption";
    } else if (health.no_space) {
        verdict.reason = "NoSpace";
        verdict.message = no_space_message(health);
    } else {
        verdict.ready = true;
        verdict.reason = silent ? "Degraded" : "Ready";
        verdict.message = serving_message(health, notice);
    }
}

std::string users_message(const std::vector<std::string>& used_by) {
    std::vector<std::string> named(
        used_by.begin(),
        used_by.begin() + static_cast<ptrdiff_t>(std::min(used_by.size(), kNamedUsersMax)));
    std::string text = join(named, ", ");
    if (used_by.size() > kNamedUsersMax)
        text += fmt::format(" and {} more", used_by.size() - kNamedUsersMax);
    return text;
}

controller::Condition deletion_condition(const Value& object,
                                         const std::vector<std::string>& used_by) {
    const int64_t generation = kube::generation_of(object);
    if (!used_by.empty()) {
        return {kDataStoreAllowedDeletion, controller::kFalse, "DataStoreStillUsed",
                fmt::format("used by {}: delete them first", users_message(used_by)), generation};
    }
    return {kDataStoreAllowedDeletion, controller::kTrue, "DataStoreUnused", "", generation};
}

controller::Condition insecure_condition(const Verdict& verdict, int64_t generation) {
    if (!verdict.answered) {
        return {kInsecure, controller::kUnknown, "NotReached",
                "the servers did not tell their versions", generation};
    }
    if (verdict.insecure)
        return {kInsecure, controller::kTrue, "OldVersion", verdict.insecure_message, generation};
    return {kInsecure, controller::kFalse, "TenantsSeparated",
            fmt::format("etcd {}", verdict.version), generation};
}

}  // namespace

std::vector<kube::ObjectKey> referenced_secrets(const Value& datastore) {
    std::vector<kube::ObjectKey> keys;
    for (const auto& [part, item] : kParts) {
        const Value& reference = datastore["spec"]["tlsConfig"][part][item];
        if (has_content(reference) || !reference["secretReference"].is_object()) continue;
        kube::ObjectKey key = secret_key(reference);
        if (key.name.empty() || key.ns.empty()) continue;
        if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(std::move(key));
    }
    return keys;
}

Result<DataStoreMaterial> resolve_datastore(const Value& datastore, const SecretLookup& secrets,
                                            WallTime now) {
    const Value& spec = datastore["spec"];
    if (spec["driver"].as_string() != "etcd") {
        return failure(
            Code::kUnimplemented, "Unsupported",
            fmt::format("spec.driver: {} is not supported: create a DataStore with driver etcd",
                        spec["driver"].as_string()));
    }
    DataStoreMaterial material;
    material.endpoints = spec["endpoints"].as_string_list();
    if (material.endpoints.empty()) {
        return failure(Code::kInvalidArgument, "InvalidEndpoint",
                       "spec.endpoints: is empty: name etcd's members");
    }
    for (const std::string& endpoint : material.endpoints) {
        BASALT_TRY(check_endpoint(endpoint));
    }
    std::vector<Source> sources;
    for (const auto& [part, item] : kParts) {
        BASALT_ASSIGN(Source source,
                      read_reference(spec["tlsConfig"][part][item],
                                     fmt::format("spec.tlsConfig.{}.{}", part, item), secrets));
        sources.push_back(std::move(source));
    }
    BASALT_ASSIGN(pki::Certificate authority, check_authority(sources[0], sources[1], now));
    BASALT_ASSIGN(pki::Certificate client, check_client(sources[2], sources[3], now));
    mention(sources[0], authority, now, material);
    mention(sources[2], client, now, material);
    material.ca_pem = std::move(sources[0].bytes);
    material.ca_key_pem = Secret(std::move(sources[1].bytes));
    material.client_certificate_pem = std::move(sources[2].bytes);
    material.client_key_pem = Secret(std::move(sources[3].bytes));
    material.identity = identity_of(material);
    return material;
}

Verdict judge_unresolved(const Error& error) {
    Verdict verdict;
    verdict.reason = error.reason().empty() ? std::string(code_name(error.code())) : error.reason();
    verdict.message = error.message();
    return verdict;
}

Verdict judge_health(const Result<etcd::Health>& health, const std::string& notice) {
    if (!health.ok()) return judge_silence(health.error());
    Verdict verdict;
    verdict.resolved = true;
    verdict.answered = true;
    verdict.version = health->oldest_version;
    if (!health->keeps_tenants_apart) {
        verdict.insecure = true;
        verdict.insecure_message = fmt::format(
            "etcd {} lets one tenant read keys of another (CVE-2026-33343, CVE-2026-33413, "
            "CVE-2026-73499): "
            "upgrade all its servers to {} or later",
            health->oldest_version, etcd::kSecureVersions);
    }
    judge_answers(*health, notice, verdict);
    return verdict;
}

std::string format_size(int64_t bytes) {
    static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double amount = static_cast<double>(bytes);
    size_t unit = 0;
    while (amount >= 1024 && unit + 1 < std::size(kUnits)) {
        amount /= 1024;
        ++unit;
    }
    return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", amount, kUnits[unit]);
}

std::vector<std::string> used_datastores(const Value& control_plane,
                                         const SettingsDefaults& defaults) {
    const Value& spec = control_plane["spec"];
    std::string main = control_plane["status"]["storage"]["dataStoreName"].str();
    if (main.empty()) main = spec["dataStore"].str();
    if (main.empty()) main = defaults.datastore;
    std::vector<std::string> names = {main};
    for (const Value& item : spec["dataStoreOverrides"].items())
        names.push_back(item["dataStore"].str());
    // Those of before hold data until it is removed.
    for (const Value& item : control_plane["status"]["storage"]["overrides"].items())
        names.push_back(item["dataStoreName"].str());
    std::sort(names.begin(), names.end());
    names.erase(std::unique(names.begin(), names.end()), names.end());
    return names;
}

Value build_datastore_status(const DataStoreStatusInputs& inputs) {
    const Value& object = *inputs.object;
    const int64_t generation = kube::generation_of(object);
    const Verdict& verdict = inputs.verdict;
    Value status = Value::object({{"observedGeneration", generation},
                                  {"ready", verdict.ready},
                                  {"usedBy", Value::from(inputs.used_by)}});
    status.set("conditions", object["status"]["conditions"]);
    if (!status["conditions"].is_array()) status.set("conditions", Value::array());
    auto put = [&](const controller::Condition& condition) {
        controller::set_condition(status, condition, inputs.now);
    };
    put({"Ready", verdict.ready ? controller::kTrue : controller::kFalse, verdict.reason,
         verdict.message, generation});
    put(insecure_condition(verdict, generation));
    if (verdict.resolved) {
        put({kDataStoreValidation, controller::kTrue, "DataStoreIsValid", "", generation});
    } else {
        const bool unsupported = verdict.reason == "Unsupported";
        put({kDataStoreValidation, controller::kFalse,
             unsupported ? "Unsupported" : "TLSConfigurationValidationFailed", verdict.message,
             generation});
    }
    put(deletion_condition(object, inputs.used_by));
    return status;
}

}  // namespace basalt::controlplane
