#include "pki/certificate.h"

#include <algorithm>
#include <ctime>

#include <fmt/format.h>
#include <openssl/err.h>

#include "base/ip.h"
#include "base/strings.h"
#include "pki/digest.h"
#include "pki/openssl.h"
#include "pki/pem.h"

namespace basalt::pki {

struct Certificate::Data {
    openssl::X509Ptr x509;
    std::string der;
    std::string common_name;
    std::vector<std::string> organizations;
    std::string issuer_common_name;
    std::string serial_hex;
    WallTime not_before;
    WallTime not_after;
    std::vector<std::string> dns_names;
    std::vector<std::string> ip_addresses;
    bool is_ca = false;
    bool allows_server = false;
    bool allows_client = false;
};

namespace {

std::string utf8(const ASN1_STRING* text) {
    unsigned char* raw = nullptr;
    const int size = ASN1_STRING_to_UTF8(&raw, text);
    if (size < 0) {
        ERR_clear_error();
        return {};
    }
    openssl::Text owner(raw);
    return std::string(reinterpret_cast<const char*>(raw), static_cast<size_t>(size));
}

std::vector<std::string> name_entries(const X509_NAME* name, int nid) {
    std::vector<std::string> values;
    for (int i = -1; (i = X509_NAME_get_index_by_NID(name, nid, i)) >= 0;) {
        values.push_back(utf8(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, i))));
    }
    return values;
}

/// The last, as Go reads it.
std::string common_name_of(const X509_NAME* name) {
    std::vector<std::string> names = name_entries(name, NID_commonName);
    return names.empty() ? std::string() : std::move(names.back());
}

Result<WallTime> time_of(const ASN1_TIME* time) {
    std::tm fields{};
    if (ASN1_TIME_to_tm(time, &fields) != 1) {
        ERR_clear_error();
        return invalid_argument("the certificate's validity does not parse");
    }
    return WallTime(std::chrono::seconds(::timegm(&fields)));
}

std::string address_text(const ASN1_OCTET_STRING* bytes) {
    const auto address = IpAddress::from_bytes(
        {ASN1_STRING_get0_data(bytes), static_cast<size_t>(ASN1_STRING_length(bytes))});
    return address ? address->to_string() : "";
}

void read_alternative_names(const X509* x509, std::vector<std::string>* dns,
                            std::vector<std::string>* addresses) {
    openssl::Names names(static_cast<GENERAL_NAMES*>(
        X509_get_ext_d2i(x509, NID_subject_alt_name, nullptr, nullptr)));
    if (!names) {
        ERR_clear_error();
        return;
    }
    for (int i = 0; i < sk_GENERAL_NAME_num(names.get()); ++i) {
        const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
        if (name->type == GEN_DNS) {
            dns->push_back(utf8(name->d.dNSName));
        } else if (name->type == GEN_IPADD) {
            std::string text = address_text(name->d.iPAddress);
            if (!text.empty()) addresses->push_back(std::move(text));
        }
    }
}

}  // namespace

Result<Certificate> Certificate::from_der(std::string_view der) {
    const auto* at = reinterpret_cast<const unsigned char*>(der.data());
    const auto* end = at + der.size();
    auto data = std::make_shared<Data>();
    data->x509.reset(d2i_X509(nullptr, &at, static_cast<long>(der.size())));
    X509* x509 = data->x509.get();
    if (x509 == nullptr) {
        return invalid_argument(
            fmt::format("not an X.509 certificate ({})", openssl::take_error()));
    }
    if (at != end) return invalid_argument("bytes follow the certificate");
    // Reads the extensions into OpenSSL's cache; the calls below give their flags.
    X509_check_purpose(x509, -1, 0);
    const uint32_t flags = X509_get_extension_flags(x509);
    if (X509_get0_pubkey(x509) == nullptr || (flags & EXFLAG_INVALID) != 0) {
        return invalid_argument(fmt::format(
            "the certificate's public key or extensions do not parse ({})", openssl::take_error()));
    }
    BASALT_ASSIGN(data->not_before, time_of(X509_get0_notBefore(x509)));
    BASALT_ASSIGN(data->not_after, time_of(X509_get0_notAfter(x509)));
    data->der = der;
    data->common_name = common_name_of(X509_get_subject_name(x509));
    data->organizations = name_entries(X509_get_subject_name(x509), NID_organizationName);
    data->issuer_common_name = common_name_of(X509_get_issuer_name(x509));
    const ASN1_INTEGER* serial = X509_get0_serialNumber(x509);
    data->serial_hex =
        to_hex(std::string_view(reinterpret_cast<const char*>(ASN1_STRING_get0_data(serial)),
                                static_cast<size_t>(ASN1_STRING_length(serial))));
    read_alternative_names(x509, &data->dns_names, &data->ip_addresses);
    data->is_ca = X509_check_ca(x509) == 1;
    const uint32_t usage = X509_get_extended_key_usage(x509);  // All bits without the extension.
    data->allows_server = (usage & (XKU_SSL_SERVER | XKU_ANYEKU)) != 0;
    data->allows_client = (usage & (XKU_SSL_CLIENT | XKU_ANYEKU)) != 0;
    ERR_clear_error();
    return Certificate(std::move(data));
}

namespace {

Result<std::vector<PemBlock>> certificate_blocks(std::string_view pem) {
    BASALT_ASSIGN(std::vector<PemBlock> blocks, parse_pem(pem));
    if (blocks.empty()) {
        return invalid_argument(
            fmt::format("{}; a certificate starts with \"-----BEGIN CERTIFICATE-----\"",
                        trim(pem).empty() ? "the text is empty" : "the text is not PEM"));
    }
    if (blocks.size() > kMaxCertificatesPerBundle) {
        return invalid_argument(
            fmt::format("more than {} certificates", kMaxCertificatesPerBundle));
    }
    return blocks;
}

Result<Certificate> from_block(const PemBlock& block, size_t number) {
    // The second is an old spelling of the first. (A TRUSTED CERTIFICATE carries more than X.509.)
    if (block.label != "CERTIFICATE" && block.label != "X509 CERTIFICATE") {
        return invalid_argument(
            fmt::format("PEM block {} is a {}, not a CERTIFICATE", number, block.label));
    }
    return Certificate::from_der(block.der.reveal()).context(fmt::format("PEM block {}", number));
}

}  // namespace

Result<Certificate> Certificate::parse(std::string_view pem) {
    BASALT_ASSIGN(std::vector<PemBlock> blocks, certificate_blocks(pem));
    return from_block(blocks.front(), 1);
}

Result<std::vector<Certificate>> Certificate::parse_bundle(std::string_view pem) {
    BASALT_ASSIGN(std::vector<PemBlock> blocks, certificate_blocks(pem));
    std::vector<Certificate> certificates;
    for (size_t i = 0; i < blocks.size(); ++i) {
        BASALT_ASSIGN(Certificate certificate, from_block(blocks[i], i + 1));
        certificates.push_back(std::move(certificate));
    }
    return certificates;
}

const std::string& Certificate::common_name() const { return data_->common_name; }
const std::vector<std::string>& Certificate::organizations() const { return data_->organizations; }
const std::string& Certificate::issuer_common_name() const { return data_->issuer_common_name; }
const std::string& Certificate::serial_hex() const { return data_->serial_hex; }
WallTime Certificate::not_before() const { return data_->not_before; }
WallTime Certificate::not_after() const { return data_->not_after; }
const std::vector<std::string>& Certificate::dns_names() const { return data_->dns_names; }
const std::vector<std::string>& Certificate::ip_addresses() const { return data_->ip_addresses; }
bool Certificate::is_ca() const { return data_->is_ca; }
bool Certificate::allows_server() const { return data_->allows_server; }
bool Certificate::allows_client() const { return data_->allows_client; }
const std::string& Certificate::der() const { return data_->der; }
x509_st* Certificate::native() const { return data_->x509.get(); }

bool Certificate::matches(const PrivateKey& key) const {
    const bool equal = X509_check_private_key(native(), key.native()) == 1;
    ERR_clear_error();
    return equal;
}

bool Certificate::is_signed_by(const Certificate& issuer) const {
    const bool is_signed = X509_check_issued(issuer.native(), native()) == X509_V_OK &&
                           X509_verify(native(), X509_get0_pubkey(issuer.native())) == 1;
    ERR_clear_error();
    return is_signed;
}

bool Certificate::is_valid_for(std::string_view host) const {
    const std::string name(host);
    if (is_ip_address(host)) return X509_check_ip_asc(native(), name.c_str(), 0) == 1;
    return X509_check_host(
               native(), name.data(), name.size(),
               X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS,
               nullptr) == 1;
}

std::string Certificate::to_pem() const {
    return std::string(pki::to_pem("CERTIFICATE", der()).reveal());
}

std::string Certificate::public_key_pin() const {
    unsigned char* raw = nullptr;
    const int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(native()), &raw);
    BASALT_ASSERT(size > 0);
    openssl::Text owner(raw);
    return "sha256:" + sha256_hex(std::string_view(reinterpret_cast<const char*>(raw),
                                                   static_cast<size_t>(size)));
}

Result<KeyPair> parse_key_pair(std::string_view certificate_pem, const Secret& key_pem) {
    BASALT_ASSIGN(Certificate certificate,
                  Certificate::parse(certificate_pem).context("certificate"));
    BASALT_ASSIGN(PrivateKey key, PrivateKey::parse(key_pem).context("private key"));
    if (!certificate.matches(key)) {
        return invalid_argument(
            fmt::format("the private key does not belong to the certificate \"{}\"",
                        certificate.common_name()));
    }
    return KeyPair{std::move(certificate), std::move(key)};
}

namespace {

/// OpenSSL's words, with the certificate and the date that matter.
std::string failure_text(X509_STORE_CTX* context) {
    const int code = X509_STORE_CTX_get_error(context);
    X509* failed = X509_STORE_CTX_get_current_cert(context);
    const std::string name = failed ? common_name_of(X509_get_subject_name(failed)) : std::string();
    const std::string issuer =
        failed ? common_name_of(X509_get_issuer_name(failed)) : std::string();
    if (failed && code == X509_V_ERR_CERT_HAS_EXPIRED) {
        Result<WallTime> end = time_of(X509_get0_notAfter(failed));
        if (end.ok())
            return fmt::format("certificate \"{}\" expired at {}", name, format_rfc3339(*end));
    }
    if (failed && code == X509_V_ERR_CERT_NOT_YET_VALID) {
        Result<WallTime> begin = time_of(X509_get0_notBefore(failed));
        if (begin.ok())
            return fmt::format("certificate \"{}\" is valid from {}", name, format_rfc3339(*begin));
    }
    if (code == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY ||
        code == X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT ||
        code == X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN ||
        code == X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE) {
        return fmt::format("certificate \"{}\" is signed by \"{}\", which is not a known authority",
                           name, issuer);
    }
    return fmt::format("certificate \"{}\": {}", name, X509_verify_cert_error_string(code));
}

}  // namespace

Result<void> verify(const Certificate& leaf, const std::vector<Certificate>& intermediates,
                    const std::vector<Certificate>& roots, WallTime now, Purpose purpose) {
    openssl::Store store(X509_STORE_new());
    for (const Certificate& root : roots) X509_STORE_add_cert(store.get(), root.native());
    openssl::X509Stack untrusted(sk_X509_new_null());
    for (const Certificate& certificate : intermediates)
        sk_X509_push(untrusted.get(), certificate.native());
    openssl::StoreContext context(X509_STORE_CTX_new());
    const int ok = X509_STORE_CTX_init(context.get(), store.get(), leaf.native(), untrusted.get());
    BASALT_ASSERT(ok == 1);
    X509_VERIFY_PARAM* params = X509_STORE_CTX_get0_param(context.get());
    X509_VERIFY_PARAM_set_time(
        params, std::chrono::floor<std::chrono::seconds>(now).time_since_epoch().count());
    // As in Go, any certificate among the roots is an anchor, self-signed or not.
    X509_VERIFY_PARAM_set_flags(params, X509_V_FLAG_PARTIAL_CHAIN);
    if (purpose == Purpose::kServer) X509_VERIFY_PARAM_set_purpose(params, X509_PURPOSE_SSL_SERVER);
    if (purpose == Purpose::kClient) X509_VERIFY_PARAM_set_purpose(params, X509_PURPOSE_SSL_CLIENT);
    if (X509_verify_cert(context.get()) == 1) return {};
    Error error(Code::kUnauthenticated, failure_text(context.get()));
    ERR_clear_error();
    return error;
}

namespace {

std::vector<std::string> sorted(std::vector<std::string> items) {
    std::sort(items.begin(), items.end());
    items.erase(std::unique(items.begin(), items.end()), items.end());
    return items;
}

std::optional<std::string> missing(const std::vector<std::string>& wanted,
                                   const std::vector<std::string>& present) {
    for (const std::string& item : wanted) {
        const std::optional<IpAddress> address = IpAddress::parse(item);
        const std::string canonical = address ? address->to_string() : item;
        if (std::find(present.begin(), present.end(), canonical) == present.end()) return item;
    }
    return std::nullopt;
}

}  // namespace

std::optional<std::string> renewal_reason(const Certificate& certificate, const PrivateKey& key,
                                          const CertificateSpec& spec, const Certificate& issuer,
                                          WallTime now, Duration renew_before) {
    if (!certificate.matches(key)) return "the private key does not belong to the certificate";
    if (!certificate.is_signed_by(issuer)) {
        return fmt::format("it is not signed by the present authority \"{}\"",
                           issuer.common_name());
    }
    if (certificate.not_before() > now + wall_duration(kClockTolerance)) {
        return "it is valid only from " + format_rfc3339(certificate.not_before());
    }
    // One that ends with its authority cannot be made to last longer.
    const bool could_last_longer = certificate.not_after() < issuer.not_after();
    if (certificate.not_after() <= now ||
        (could_last_longer && certificate.not_after() - now <= wall_duration(renew_before))) {
        return (certificate.not_after() <= now ? "it expired at " : "it expires at ") +
               format_rfc3339(certificate.not_after());
    }
    if (certificate.common_name() != spec.common_name) {
        return fmt::format("its common name is \"{}\", not \"{}\"", certificate.common_name(),
                           spec.common_name);
    }
    if (sorted(certificate.organizations()) != sorted(spec.organizations)) {
        return fmt::format("its organizations are \"{}\", not \"{}\"",
                           join(certificate.organizations(), ", "), join(spec.organizations, ", "));
    }
    if (certificate.allows_server() != spec.server || certificate.allows_client() != spec.client) {
        return "its extended key usage is another";
    }
    if (auto name = missing(spec.dns_names, certificate.dns_names()))
        return "it lacks the name " + *name;
    if (auto ip = missing(spec.ip_addresses, certificate.ip_addresses()))
        return "it lacks the address " + *ip;
    return std::nullopt;
}

}  // namespace basalt::pki
