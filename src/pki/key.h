// Private keys, and the only place where keys and unguessable bytes come from.
//
// Nothing calls the system's random generator by itself: whoever makes a key, a serial number or a
// token is given a KeySource. In production that is SystemKeySource; the simulator's is a function
// of a seed, so that a run replays with the same keys and tokens (ECDSA signatures differ, OpenSSL
// blinds them).
//
// Keys are immutable and cheap to copy (shared). Any thread.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/secret.h"

struct evp_pkey_st;  // OpenSSL's EVP_PKEY

namespace basalt::pki {

enum class KeyType { kEcdsaP256, kEcdsaP384, kEcdsaP521, kRsa, kEd25519 };
/// "ECDSA P-256", "RSA", …
std::string_view key_type_name(KeyType type);

/// One PEM text with a key, a bundle of certificates at most: outside input is refused above this.
inline constexpr size_t kMaxPemSize = 1024 * 1024;

class PrivateKey {
 public:
    /// The first key in the text: PKCS#8 ("PRIVATE KEY"), SEC1 ("EC PRIVATE KEY") or PKCS#1 ("RSA
    /// PRIVATE KEY"). InvalidArgument says what is wrong and never quotes the input: no PEM, a
    /// certificate instead, encrypted, broken base64, an unsupported kind of key. Blocks of other
    /// kinds beside the key are skipped.
    static Result<PrivateKey> parse(std::string_view pem);
    static Result<PrivateKey> parse(const Secret& pem) { return parse(pem.reveal()); }

    KeyType type() const;
    int bits() const;
    /// As kubeadm writes keys: SEC1 for ECDSA, PKCS#1 for RSA, PKCS#8 for Ed25519.
    Secret to_pem() const;
    /// "PUBLIC KEY" (SubjectPublicKeyInfo), the format of sa.pub.
    std::string public_pem() const;
    /// DER of SubjectPublicKeyInfo.
    std::string public_der() const;

    evp_pkey_st* native() const { return key_.get(); }  ///< For pki/ only. Not owned by the caller.

 private:
    friend class SystemKeySource;
    friend class SimKeySource;
    explicit PrivateKey(std::shared_ptr<evp_pkey_st> key) : key_(std::move(key)) {}
    std::shared_ptr<evp_pkey_st> key_;
};

/// The block "PUBLIC KEY" as DER of SubjectPublicKeyInfo; for comparing sa.pub with sa.key.
Result<std::string> parse_public_key(std::string_view pem);

class KeySource {
 public:
    virtual ~KeySource() = default;
    /// RSA (2048 bits) takes 50–500 ms: offload() it. The others take less than a millisecond.
    virtual PrivateKey new_key(KeyType type = KeyType::kEcdsaP256) = 0;
    /// Unguessable (in production).
    virtual std::string random_bytes(size_t count) = 0;

    /// Of a certificate: 16 bytes, positive, never zero (RFC 5280 section 4.1.2.2).
    std::string new_serial();
    /// Characters of `alphabet` (2 to 256 different ones), each equally likely.
    Secret random_text(size_t length, std::string_view alphabet);
    /// A bootstrap token's halves: "[a-z0-9]{6}" and "[a-z0-9]{16}".
    static constexpr std::string_view kTokenAlphabet = "abcdefghijklmnopqrstuvwxyz0123456789";
};

/// The system's generator. Safe from any thread. A machine without randomness ends the process.
class SystemKeySource final : public KeySource {
 public:
    PrivateKey new_key(KeyType type = KeyType::kEcdsaP256) override;
    std::string random_bytes(size_t count) override;
};

/// Everything follows from the seed and the order of calls. Its keys protect nothing. One thread.
class SimKeySource final : public KeySource {
 public:
    explicit SimKeySource(uint64_t seed) : seed_(seed) {}
    /// Always ECDSA P-256, whatever type is asked for.
    PrivateKey new_key(KeyType type = KeyType::kEcdsaP256) override;
    std::string random_bytes(size_t count) override;

 private:
    uint64_t seed_;
    uint64_t counter_ = 0;
};

}  // namespace basalt::pki
