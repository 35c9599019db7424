// CertificateAuthority: building and signing certificates.
#include <algorithm>
#include <cctype>
#include <set>

#include <fmt/format.h>
#include <openssl/err.h>

#include "base/strings.h"
#include "pki/certificate.h"
#include "pki/openssl.h"

namespace basalt::pki {
namespace {

/// Beyond them OpenSSL, Go and Kubernetes stop agreeing on what is legal; real names are far
/// shorter.
constexpr size_t kMaxNameSize = 1024;
constexpr size_t kMaxAlternativeNames = 1000;

Result<void> check_text(std::string_view field, std::string_view text) {
    if (text.size() > kMaxNameSize) {
        return invalid_argument(fmt::format("{}: longer than {} bytes", field, kMaxNameSize));
    }
    for (char c : text) {
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
            return invalid_argument(fmt::format("{}: contains a control character", field));
        }
    }
    const auto* at = reinterpret_cast<const unsigned char*>(text.data());
    for (auto left = static_cast<int>(text.size()); left > 0;) {
        unsigned long code_point = 0;
        const int used = UTF8_getc(at, left, &code_point);
        if (used <= 0) return invalid_argument(fmt::format("{}: is not UTF-8", field));
        at += used;
        left -= used;
    }
    return {};
}

Result<void> check_dns_name(std::string_view name) {
    const bool fits =
        !name.empty() && name.size() <= 253 && std::all_of(name.begin(), name.end(), [](char c) {
            return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '.' ||
                   c == '_' || c == '*';
        });
    const size_t star = name.find('*');
    if (!fits || (star != std::string_view::npos &&
                  (star != 0 || !name.starts_with("*.") || name.size() < 3 ||
                   name.find('*', 1) != std::string_view::npos))) {
        return invalid_argument(fmt::format("dns_names: \"{}\" is not a DNS name", name));
    }
    return {};
}

void add_general_name(GENERAL_NAMES* names, int type, ASN1_STRING* value) {
    BASALT_ASSERT(value != nullptr);
    GENERAL_NAME* name = GENERAL_NAME_new();
    GENERAL_NAME_set0_value(name, type, value);
    sk_GENERAL_NAME_push(names, name);
}

Result<openssl::Names> alternative_names(const CertificateSpec& spec) {
    if (spec.dns_names.size() + spec.ip_addresses.size() > kMaxAlternativeNames) {
        return invalid_argument(
            fmt::format("more than {} alternative names", kMaxAlternativeNames));
    }
    openssl::Names names(GENERAL_NAMES_new());
    std::set<std::string> seen;
    for (const std::string& dns_name : spec.dns_names) {
        BASALT_TRY(check_dns_name(dns_name));
        if (!seen.insert(dns_name).second) continue;
        ASN1_IA5STRING* text = ASN1_IA5STRING_new();
        ASN1_STRING_set(text, dns_name.data(), static_cast<int>(dns_name.size()));
        add_general_name(names.get(), GEN_DNS, text);
    }
    for (const std::string& address : spec.ip_addresses) {
        ASN1_OCTET_STRING* bytes = a2i_IPADDRESS(address.c_str());
        if (bytes == nullptr) {
            ERR_clear_error();
            return invalid_argument(
                fmt::format("ip_addresses: \"{}\" is not an IP address", address));
        }
        if (!seen.insert(std::string(reinterpret_cast<const char*>(ASN1_STRING_get0_data(bytes)),
                                     static_cast<size_t>(ASN1_STRING_length(bytes))))
                 .second) {
            ASN1_OCTET_STRING_free(bytes);
            continue;
        }
        add_general_name(names.get(), GEN_IPADD, bytes);
    }
    return names;
}

Result<void> add_name_entry(X509_NAME* name, int nid, std::string_view field,
                            std::string_view text) {
    BASALT_TRY(check_text(field, text));
    // A plain UTF8String: the MBSTRING_* forms refuse names over X.520's 64 characters, which
    // Kubernetes has.
    const int ok = X509_NAME_add_entry_by_NID(name, nid, V_ASN1_UTF8STRING,
                                              reinterpret_cast<const unsigned char*>(text.data()),
                                              static_cast<int>(text.size()), -1, 0);
    BASALT_ASSERT(ok == 1);
    return {};
}

void add_extension(X509* x509, X509V3_CTX* context, int nid, const std::string& value) {
    openssl::Extension extension(X509V3_EXT_conf_nid(nullptr, context, nid, value.c_str()));
    BASALT_ASSERT(extension != nullptr);
    X509_add_ext(x509, extension.get(), -1);
}

void set_times(X509* x509, WallTime not_before, WallTime not_after) {
    auto to_seconds = [](WallTime time) {
        return std::chrono::floor<std::chrono::seconds>(time).time_since_epoch().count();
    };
    BASALT_ASSERT(ASN1_TIME_set(X509_getm_notBefore(x509), to_seconds(not_before)) != nullptr);
    BASALT_ASSERT(ASN1_TIME_set(X509_getm_notAfter(x509), to_seconds(not_after)) != nullptr);
}

void set_serial(X509* x509, const std::string& serial) {
    openssl::Bignum number(BN_bin2bn(reinterpret_cast<const unsigned char*>(serial.data()),
                                     static_cast<int>(serial.size()), nullptr));
    openssl::Integer integer(BN_to_ASN1_INTEGER(number.get(), nullptr));
    X509_set_serialNumber(x509, integer.get());
}

/// Ed25519 has its digest built in.
const EVP_MD* digest_for(KeyType type) {
    switch (type) {
        case KeyType::kEd25519: return nullptr;
        case KeyType::kEcdsaP384: return EVP_sha384();
        case KeyType::kEcdsaP521: return EVP_sha512();
        default: return EVP_sha256();
    }
}

struct Draft {
    const CertificateSpec& spec;
    const PrivateKey& subject_key;
    const PrivateKey& signing_key;
    X509* issuer;  ///< Null: self-signed authority.
    std::string serial;
    WallTime not_before;
    WallTime not_after;
    bool authority = false;  ///< With an issuer: one below it.
};

void add_extensions(X509* x509, const Draft& draft, const GENERAL_NAMES* names) {
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, draft.issuer ? draft.issuer : x509, x509, nullptr, nullptr, 0);
    if (draft.issuer == nullptr) {
        add_extension(x509, &context, NID_key_usage,
                      "critical,digitalSignature,keyEncipherment,keyCertSign");
        add_extension(x509, &context, NID_basic_constraints, "critical,CA:TRUE");
        add_extension(x509, &context, NID_subject_key_identifier, "hash");
    } else {
        // Only RSA keys can be encrypted to.
        const bool rsa = draft.subject_key.type() == KeyType::kRsa;
        const char* usage =
            rsa ? "critical,digitalSignature,keyEncipherment" : "critical,digitalSignature";
        add_extension(x509, &context, NID_key_usage,
                      draft.authority ? "critical,digitalSignature,keyCertSign" : usage);
        std::vector<std::string> usages;
        if (draft.spec.server) usages.push_back("serverAuth");
        if (draft.spec.client) usages.push_back("clientAuth");
        if (!usages.empty()) add_extension(x509, &context, NID_ext_key_usage, join(usages, ","));
        add_extension(x509, &context, NID_basic_constraints,
                      draft.authority ? "critical,CA:TRUE,pathlen:0" : "critical,CA:FALSE");
        if (draft.authority) add_extension(x509, &context, NID_subject_key_identifier, "hash");
        if (X509_get_ext_by_NID(draft.issuer, NID_subject_key_identifier, -1) >= 0) {
            add_extension(x509, &context, NID_authority_key_identifier, "keyid:always");
        }
    }
    if (sk_GENERAL_NAME_num(names) > 0) {
        const int critical =
            draft.spec.common_name.empty() && draft.spec.organizations.empty() ? 1 : 0;
        const int ok = X509_add1_ext_i2d(x509, NID_subject_alt_name,
                                         const_cast<GENERAL_NAMES*>(names), critical, 0);
        BASALT_ASSERT(ok == 1);
    }
}

Result<Certificate> build(const Draft& draft) {
    const CertificateSpec& spec = draft.spec;
    BASALT_ASSIGN(openssl::Names names, alternative_names(spec));
    if (spec.common_name.empty() && sk_GENERAL_NAME_num(names.get()) == 0) {
        return invalid_argument("a certificate needs a common name or an alternative name");
    }
    openssl::X509Ptr x509(X509_new());
    X509_set_version(x509.get(), X509_VERSION_3);
    set_serial(x509.get(), draft.serial);
    set_times(x509.get(), draft.not_before, draft.not_after);
    X509_NAME* subject = X509_get_subject_name(x509.get());
    for (const std::string& organization : spec.organizations) {
        BASALT_TRY(add_name_entry(subject, NID_organizationName, "organizations", organization));
    }
    if (!spec.common_name.empty()) {
        BASALT_TRY(add_name_entry(subject, NID_commonName, "common_name", spec.common_name));
    }
    X509_set_issuer_name(x509.get(), draft.issuer ? X509_get_subject_name(draft.issuer) : subject);
    X509_set_pubkey(x509.get(), draft.subject_key.native());
    add_extensions(x509.get(), draft, names.get());
    const int size =
        X509_sign(x509.get(), draft.signing_key.native(), digest_for(draft.signing_key.type()));
    if (size <= 0) return internal_error("signing failed: " + openssl::take_error());

    unsigned char* raw = nullptr;
    const int der_size = i2d_X509(x509.get(), &raw);
    BASALT_ASSERT(der_size > 0);
    openssl::Text owner(raw);
    return Certificate::from_der(
        std::string_view(reinterpret_cast<const char*>(raw), static_cast<size_t>(der_size)));
}

WallTime add(WallTime time, Duration by) {
    return time + std::chrono::floor<WallTime::duration>(by);
}

}  // namespace

CertificateAuthority CertificateAuthority::create(KeySource& keys, std::string common_name,
                                                  WallTime now, Duration lifetime) {
    PrivateKey key = keys.new_key();
    CertificateSpec spec;
    spec.common_name = common_name;
    if (check_dns_name(common_name).ok()) spec.dns_names.push_back(std::move(common_name));
    Result<Certificate> certificate = build(
        {spec, key, key, nullptr, keys.new_serial(), add(now, -spec.backdate), add(now, lifetime)});
    BASALT_ASSERT(certificate.ok());
    return CertificateAuthority(KeyPair{std::move(*certificate), std::move(key)});
}

Result<CertificateAuthority> CertificateAuthority::parse(std::string_view certificate_pem,
                                                         const Secret& key_pem) {
    BASALT_ASSIGN(std::vector<Certificate> bundle,
                  Certificate::parse_bundle(certificate_pem).context("certificate"));
    BASALT_ASSIGN(PrivateKey key, PrivateKey::parse(key_pem).context("private key"));
    for (Certificate& certificate : bundle) {
        if (!certificate.matches(key)) continue;
        if (!certificate.is_ca()) {
            return invalid_argument(
                fmt::format("the certificate \"{}\" is not an authority's (basic constraints and "
                            "key usage do not allow signing)",
                            certificate.common_name()));
        }
        return CertificateAuthority(KeyPair{std::move(certificate), std::move(key)});
    }
    return invalid_argument(fmt::format("the private key does not belong to the certificate \"{}\"",
                                        bundle.front().common_name()));
}

Result<Certificate> CertificateAuthority::issue_for(const PrivateKey& subject_key,
                                                    const CertificateSpec& spec, KeySource& keys,
                                                    WallTime now) const {
    return sign(subject_key, spec, keys, now, false);
}

Result<Certificate> CertificateAuthority::issue_authority(const PrivateKey& subject_key,
                                                          const CertificateSpec& spec,
                                                          KeySource& keys, WallTime now) const {
    return sign(subject_key, spec, keys, now, true);
}

Result<Certificate> CertificateAuthority::sign(const PrivateKey& subject_key,
                                               const CertificateSpec& spec, KeySource& keys,
                                               WallTime now, bool authority) const {
    const Certificate& issuer = certificate();
    if (spec.lifetime <= Duration::zero()) return invalid_argument("lifetime: must be positive");
    if (issuer.not_after() <= now) {
        return failed_precondition(fmt::format("the authority \"{}\" expired at {}",
                                               issuer.common_name(),
                                               format_rfc3339(issuer.not_after())));
    }
    return build({spec, subject_key, key(), issuer.native(), keys.new_serial(),
                  add(now, -spec.backdate), std::min(add(now, spec.lifetime), issuer.not_after()),
                  authority});
}

Result<KeyPair> CertificateAuthority::issue(const CertificateSpec& spec, KeySource& keys,
                                            WallTime now) const {
    PrivateKey subject_key = keys.new_key();
    BASALT_ASSIGN(Certificate leaf, issue_for(subject_key, spec, keys, now));
    return KeyPair{std::move(leaf), std::move(subject_key)};
}

}  // namespace basalt::pki
