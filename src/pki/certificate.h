// X.509 certificates: reading them, a certificate authority, issuing and judging leaves.
//
// Problem: a control plane has three authorities and a dozen leaves that must be what kubeadm would
// have made, be renewed in time and be judged when a user or another program puts his own in place.
// Design: a Certificate is an immutable parsed value; an authority issues from a CertificateSpec;
// renewal_reason() compares a leaf with the spec it should follow and says in words why it has to
// be made anew, so that a controller decides by one call. Time comes by argument. Cost: an ECDSA
// leaf takes about 0.1 ms, reading one 0.2 ms (OpenSSL 3.0 looks for a decoder each time).
//
// Any thread. Errors that come from PEM name the block and what is wrong with it; they never quote
// its content.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "pki/key.h"

struct x509_st;  // OpenSSL's X509

namespace basalt::pki {

/// Certificates of one bundle; the public web's roots are about 150.
inline constexpr size_t kMaxCertificatesPerBundle = 1000;

inline constexpr Duration kDay = std::chrono::hours(24);
inline constexpr Duration kCaLifetime = 3650 * kDay;   // kubeadm's CACertificateValidity
inline constexpr Duration kLeafLifetime = 365 * kDay;  // kubeadm's CertificateValidity
/// For clocks that run late, as Kubernetes' own signer does.
inline constexpr Duration kBackdate = std::chrono::minutes(5);
/// How late this process's own clock may run before a certificate that begins in its future is
/// taken for bad. A clock that was put back (a machine that was resumed, a wrong time zone, NTP) is
/// likelier than an authority's that ran ahead, and others go on to accept the certificate.
inline constexpr Duration kClockTolerance = kDay;

class Certificate {
 public:
    /// The first certificate in the text; others that follow (a chain) are not looked at.
    static Result<Certificate> parse(std::string_view pem);
    /// All of a bundle or chain, in order; at least one. Blocks of other kinds are InvalidArgument.
    static Result<std::vector<Certificate>> parse_bundle(std::string_view pem);

    const std::string& common_name() const;
    const std::vector<std::string>& organizations() const;
    const std::string& issuer_common_name() const;
    const std::string& serial_hex() const;
    WallTime not_before() const;
    WallTime not_after() const;
    const std::vector<std::string>& dns_names() const;
    const std::vector<std::string>& ip_addresses() const;  ///< As inet_ntop writes them.
    bool is_ca() const;
    /// By extended key usage; a certificate without that extension allows both.
    bool allows_server() const;
    bool allows_client() const;

    bool matches(const PrivateKey& key) const;
    /// Name and signature fit; says nothing about time or usage.
    bool is_signed_by(const Certificate& issuer) const;
    /// A DNS name (wildcards count) or the text of an address.
    bool is_valid_for(std::string_view host) const;
    /// DER of exactly one certificate.
    static Result<Certificate> from_der(std::string_view der);

    bool is_valid_at(WallTime time) const { return not_before() <= time && time <= not_after(); }
    /// The same for a clock that may be late (kClockTolerance): whether it can stay in use.
    bool may_be_valid_at(WallTime time) const {
        return not_before() <= time + wall_duration(kClockTolerance) && time <= not_after();
    }

    std::string to_pem() const;
    const std::string& der() const;
    /// "sha256:<hex>" of the SubjectPublicKeyInfo: kubeadm's discovery-token-ca-cert-hash.
    std::string public_key_pin() const;

    friend bool operator==(const Certificate& a, const Certificate& b) {
        return a.der() == b.der();
    }
    x509_st* native() const;  ///< For pki/ only. Not owned by the caller.

 private:
    struct Data;
    explicit Certificate(std::shared_ptr<const Data> data) : data_(std::move(data)) {}
    std::shared_ptr<const Data> data_;
};

/// What a leaf should say.
struct CertificateSpec {
    std::string common_name;
    std::vector<std::string> organizations;
    std::vector<std::string> dns_names;
    std::vector<std::string> ip_addresses;  ///< IPv4 or IPv6 text.
    bool server = false;
    bool client = false;
    Duration lifetime = kLeafLifetime;
    Duration backdate = kBackdate;
};

struct KeyPair {
    Certificate certificate;
    PrivateKey key;
    std::string certificate_pem() const { return certificate.to_pem(); }
    Secret key_pem() const { return key.to_pem(); }
};

/// Reads both and checks that they belong together. The contexts of errors are `what` + "
/// certificate", " key".
Result<KeyPair> parse_key_pair(std::string_view certificate_pem, const Secret& key_pem);

class CertificateAuthority {
 public:
    /// A new self-signed one, with kubeadm's extensions (the common name is a DNS name of it, too).
    static CertificateAuthority create(KeySource& keys, std::string common_name, WallTime now,
                                       Duration lifetime = kCaLifetime);
    /// From PEM: the certificate must be a CA's (basic constraints), the key its own. A bundle is
    /// read as its first certificate that fits the key.
    static Result<CertificateAuthority> parse(std::string_view certificate_pem,
                                              const Secret& key_pem);

    const Certificate& certificate() const { return pair_.certificate; }
    const PrivateKey& key() const { return pair_.key; }

    /// A leaf with a new ECDSA P-256 key. Never outlives the authority. InvalidArgument names the
    /// field of a spec that no certificate can carry; FailedPrecondition when the authority has
    /// expired.
    Result<KeyPair> issue(const CertificateSpec& spec, KeySource& keys, WallTime now) const;
    /// The same for a key that stays.
    Result<Certificate> issue_for(const PrivateKey& subject_key, const CertificateSpec& spec,
                                  KeySource& keys, WallTime now) const;
    /// An authority below this one, for `subject_key`: it may issue what `spec` allows (client,
    /// server) and no further authority. Several authorities can sign for one key; what it issues
    /// is then trusted by whoever trusts any of them.
    Result<Certificate> issue_authority(const PrivateKey& subject_key, const CertificateSpec& spec,
                                        KeySource& keys, WallTime now) const;

 private:
    explicit CertificateAuthority(KeyPair pair) : pair_(std::move(pair)) {}
    Result<Certificate> sign(const PrivateKey& subject_key, const CertificateSpec& spec,
                             KeySource& keys, WallTime now, bool authority) const;
    KeyPair pair_;
};

enum class Purpose { kAny, kServer, kClient };
/// Chain, times and purpose. Unauthenticated says which certificate fails and why, with dates.
Result<void> verify(const Certificate& leaf, const std::vector<Certificate>& intermediates,
                    const std::vector<Certificate>& roots, WallTime now,
                    Purpose purpose = Purpose::kAny);

/// Why this pair has to be made anew, or nothing: its end is closer than `renew_before` (and not
/// that of the authority, which a new one could not outlive), it begins later than a clock that is
/// late explains (kClockTolerance), the key is another's, another authority signed it, or it lacks
/// something that `spec` asks for. Additional SANs are fine (adopted certificates), another common
/// name, organization or usage is not.
std::optional<std::string> renewal_reason(const Certificate& certificate, const PrivateKey& key,
                                          const CertificateSpec& spec, const Certificate& issuer,
                                          WallTime now, Duration renew_before);

}  // namespace basalt::pki
