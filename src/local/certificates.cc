#include "local/certificates.h"

#include <fmt/format.h>

#include "linux/file.h"

namespace basalt::local {
namespace {

constexpr Duration kRenewBefore = 60 * pki::kDay;

// The certificate is written last: when it is there, all is.
Result<void> write_pair(const std::string& base, const pki::Certificate& certificate,
                        const pki::PrivateKey& key) {
    BASALT_TRY(linux::write_file_atomically(base + ".key", key.to_pem().reveal(), 0600));
    return linux::write_file_atomically(base + ".crt", certificate.to_pem());
}

bool is_good(const std::string& base, const pki::CertificateSpec& spec,
             const pki::CertificateAuthority& authority, WallTime now) {
    Result<std::string> certificate = linux::read_file(base + ".crt");
    Result<std::string> key = linux::read_file(base + ".key");
    if (!certificate.ok() || !key.ok()) return false;
    Result<pki::KeyPair> pair = pki::parse_key_pair(*certificate, Secret(*std::move(key)));
    // Whoever looks at it does so by this machine's clock.
    return pair.ok() && pair->certificate.is_valid_at(now) &&
           !pki::renewal_reason(pair->certificate, pair->key, spec, authority.certificate(), now,
                                kRenewBefore);
}

}  // namespace

Result<pki::CertificateAuthority> ensure_authority(const std::string& directory,
                                                   const std::string& common_name,
                                                   pki::KeySource& keys, WallTime now) {
    const std::string base = directory + "/ca";
    if (!linux::exists(base + ".crt")) {
        BASALT_TRY(linux::make_directories(directory, 0700));
        auto made = pki::CertificateAuthority::create(keys, common_name, now);
        BASALT_TRY(write_pair(base, made.certificate(), made.key()));
        return made;
    }
    BASALT_ASSIGN(std::string certificate, linux::read_file(base + ".crt"));
    BASALT_ASSIGN(std::string key, linux::read_file(base + ".key"));
    auto parsed = pki::CertificateAuthority::parse(certificate, Secret(std::move(key)));
    if (!parsed.ok()) {
        return failed_precondition(
            fmt::format("{0}.crt and {0}.key: {1}. Put the right files back, or remove the cluster "
                        "(basalt down) and begin anew",
                        base, parsed.error().message()));
    }
    return parsed;
}

Result<void> ensure_certificate(const std::string& directory, const std::string& name,
                                const pki::CertificateSpec& spec,
                                const pki::CertificateAuthority& authority, pki::KeySource& keys,
                                WallTime now) {
    const std::string base = directory + "/" + name;
    if (is_good(base, spec, authority, now)) return {};
    BASALT_ASSIGN(pki::KeyPair pair, authority.issue(spec, keys, now));
    return write_pair(base, pair.certificate, pair.key);
}

}  // namespace basalt::local
