#include "pki/key.h"

#include <fmt/format.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/rand.h>

#include "base/strings.h"
#include "pki/digest.h"
#include "pki/openssl.h"
#include "pki/pem.h"

namespace basalt::pki {

namespace openssl {

std::string take_error() {
    const unsigned long code = ERR_get_error();
    ERR_clear_error();
    const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
    return reason == nullptr ? "unknown reason" : reason;
}

}  // namespace openssl

namespace {

/// Go's crypto/rsa, which serves with these keys, refuses shorter ones.
constexpr int kMinRsaBits = 1024;
constexpr unsigned kNewRsaBits = 2048;

std::shared_ptr<EVP_PKEY> own(EVP_PKEY* key) {
    BASALT_ASSERT(key != nullptr);
    return std::shared_ptr<EVP_PKEY>(key, EVP_PKEY_free);
}

Result<KeyType> type_of(const EVP_PKEY* key) {
    if (EVP_PKEY_is_a(key, "RSA")) {
        if (EVP_PKEY_get_bits(key) < kMinRsaBits) {
            return invalid_argument(
                fmt::format("an RSA key of {} bits is too short; use {} or more",
                            EVP_PKEY_get_bits(key), kNewRsaBits));
        }
        return KeyType::kRsa;
    }
    if (EVP_PKEY_is_a(key, "ED25519")) return KeyType::kEd25519;
    if (EVP_PKEY_is_a(key, "EC")) {
        int is_explicit = 0;
        EVP_PKEY_get_int_param(key, OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS, &is_explicit);
        if (is_explicit != 0) {
            return invalid_argument(
                "an elliptic-curve key must name its curve instead of spelling it out");
        }
        char name[64] = {};
        size_t size = 0;
        const bool named = EVP_PKEY_get_group_name(key, name, sizeof name, &size) == 1;
        const std::string_view group = named ? std::string_view(name, size) : std::string_view();
        if (group == SN_X9_62_prime256v1) return KeyType::kEcdsaP256;
        if (group == SN_secp384r1) return KeyType::kEcdsaP384;
        if (group == SN_secp521r1) return KeyType::kEcdsaP521;
        ERR_clear_error();
        return invalid_argument("an elliptic-curve key must be on P-256, P-384 or P-521");
    }
    return invalid_argument("the kind of key is not supported; use ECDSA, RSA or Ed25519");
}

const char* key_labels_hint() {
    return "a private key starts with \"-----BEGIN PRIVATE KEY-----\", \"-----BEGIN EC PRIVATE "
           "KEY-----\" or "
           "\"-----BEGIN RSA PRIVATE KEY-----\"";
}

bool is_key_label(std::string_view label) {
    return label == "PRIVATE KEY" || label == "EC PRIVATE KEY" || label == "RSA PRIVATE KEY";
}

EVP_PKEY* parse_der(std::string_view label, std::string_view der) {
    const auto* begin = reinterpret_cast<const unsigned char*>(der.data());
    const auto* at = begin;
    const auto size = static_cast<long>(der.size());
    EVP_PKEY* key = nullptr;
    if (label == "EC PRIVATE KEY") {
        key = d2i_PrivateKey(EVP_PKEY_EC, nullptr, &at, size);
    } else if (label == "RSA PRIVATE KEY") {
        key = d2i_PrivateKey(EVP_PKEY_RSA, nullptr, &at, size);
    } else {
        openssl::Pkcs8 info(d2i_PKCS8_PRIV_KEY_INFO(nullptr, &at, size));
        if (info) key = EVP_PKCS82PKEY(info.get());
    }
    if (key != nullptr && at != begin + size) {
        EVP_PKEY_free(key);
        return nullptr;
    }
    return key;
}

template <class Encode>
std::string encode_der(Encode encode) {
    const int size = encode(nullptr);
    BASALT_ASSERT(size > 0);
    std::string der(static_cast<size_t>(size), '\0');
    auto* at = reinterpret_cast<unsigned char*>(der.data());
    const int written = encode(&at);
    BASALT_ASSERT(written == size);
    return der;
}

}  // namespace

std::string_view key_type_name(KeyType type) {
    switch (type) {
        case KeyType::kEcdsaP256: return "ECDSA P-256";
        case KeyType::kEcdsaP384: return "ECDSA P-384";
        case KeyType::kEcdsaP521: return "ECDSA P-521";
        case KeyType::kRsa: return "RSA";
        case KeyType::kEd25519: return "Ed25519";
    }
    return "unknown";
}

Result<PrivateKey> PrivateKey::parse(std::string_view pem) {
    BASALT_ASSIGN(std::vector<PemBlock> blocks, parse_pem(pem));
    if (blocks.empty()) {
        return invalid_argument(
            fmt::format("{}; {}", trim(pem).empty() ? "the text is empty" : "the text is not PEM",
                        key_labels_hint()));
    }
    for (const PemBlock& block : blocks) {
        if (block.encrypted || block.label == "ENCRYPTED PRIVATE KEY") {
            return invalid_argument("the private key is encrypted; store it without a passphrase");
        }
        if (!is_key_label(block.label)) continue;
        EVP_PKEY* parsed = parse_der(block.label, block.der.reveal());
        if (parsed == nullptr) {
            return invalid_argument(fmt::format("the {} block does not hold a valid key ({})",
                                                block.label, openssl::take_error()));
        }
        std::shared_ptr<EVP_PKEY> key = own(parsed);
        BASALT_ASSIGN(KeyType type, type_of(key.get()));
        (void)type;
        return PrivateKey(std::move(key));
    }
    return invalid_argument(fmt::format("the text holds a {}, not a private key; {}",
                                        blocks.front().label, key_labels_hint()));
}

KeyType PrivateKey::type() const {
    Result<KeyType> type = type_of(key_.get());
    BASALT_ASSERT(type.ok());
    return *type;
}

int PrivateKey::bits() const { return EVP_PKEY_get_bits(key_.get()); }

Secret PrivateKey::to_pem() const {
    const KeyType key_type = type();
    std::string der;
    std::string_view label;
    if (key_type == KeyType::kEd25519) {
        openssl::Pkcs8 info(EVP_PKEY2PKCS8(key_.get()));
        BASALT_ASSERT(info != nullptr);
        label = "PRIVATE KEY";
        der =
            encode_der([&](unsigned char** at) { return i2d_PKCS8_PRIV_KEY_INFO(info.get(), at); });
    } else {
        label = key_type == KeyType::kRsa ? "RSA PRIVATE KEY" : "EC PRIVATE KEY";
        der = encode_der([&](unsigned char** at) { return i2d_PrivateKey(key_.get(), at); });
    }
    Secret pem = pki::to_pem(label, der);
    secure_wipe(der.data(), der.size());
    return pem;
}

std::string PrivateKey::public_der() const {
    return encode_der([&](unsigned char** at) { return i2d_PUBKEY(key_.get(), at); });
}

std::string PrivateKey::public_pem() const {
    return std::string(pki::to_pem("PUBLIC KEY", public_der()).reveal());
}

Result<std::string> parse_public_key(std::string_view pem) {
    BASALT_ASSIGN(std::vector<PemBlock> blocks, parse_pem(pem));
    if (blocks.empty()) {
        return invalid_argument(
            "the text is not PEM; a public key starts with \"-----BEGIN PUBLIC KEY-----\"");
    }
    const PemBlock& block = blocks.front();
    if (block.label != "PUBLIC KEY") {
        return invalid_argument(fmt::format("the text holds a {}, not a PUBLIC KEY", block.label));
    }
    const auto* at = reinterpret_cast<const unsigned char*>(block.der.reveal().data());
    const auto* end = at + block.der.size();
    EVP_PKEY* parsed = d2i_PUBKEY(nullptr, &at, static_cast<long>(block.der.size()));
    if (parsed == nullptr || at != end) {
        EVP_PKEY_free(parsed);
        return invalid_argument(fmt::format("the PUBLIC KEY block does not hold a valid key ({})",
                                            openssl::take_error()));
    }
    std::shared_ptr<EVP_PKEY> key = own(parsed);
    return encode_der([&](unsigned char** out) { return i2d_PUBKEY(key.get(), out); });
}

std::string KeySource::new_serial() {
    std::string serial = random_bytes(16);
    serial[0] =
        static_cast<char>((serial[0] & 0x7f) | 0x40);  // Positive, not zero, always 16 bytes.
    return serial;
}

Secret KeySource::random_text(size_t length, std::string_view alphabet) {
    BASALT_ASSERT(alphabet.size() >= 2 && alphabet.size() <= 256);
    // Bytes above the last full multiple would make the first characters likelier.
    const size_t fair_limit = 256 / alphabet.size() * alphabet.size();
    std::string text;
    text.reserve(length);
    while (text.size() < length) {
        for (char c : random_bytes(length - text.size())) {
            const size_t value = static_cast<unsigned char>(c);
            if (value < fair_limit) text.push_back(alphabet[value % alphabet.size()]);
        }
    }
    return Secret(std::move(text));
}

PrivateKey SystemKeySource::new_key(KeyType type) {
    EVP_PKEY* key = nullptr;
    switch (type) {
        case KeyType::kEcdsaP256: key = EVP_EC_gen("P-256"); break;
        case KeyType::kEcdsaP384: key = EVP_EC_gen("P-384"); break;
        case KeyType::kEcdsaP521: key = EVP_EC_gen("P-521"); break;
        case KeyType::kRsa: key = EVP_RSA_gen(kNewRsaBits); break;
        case KeyType::kEd25519: key = EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"); break;
    }
    return PrivateKey(own(key));
}

std::string SystemKeySource::random_bytes(size_t count) {
    std::string bytes(count, '\0');
    const int ok =
        RAND_bytes(reinterpret_cast<unsigned char*>(bytes.data()), static_cast<int>(count));
    BASALT_ASSERT(ok == 1);
    return bytes;
}

std::string SimKeySource::random_bytes(size_t count) {
    std::string bytes;
    while (bytes.size() < count)
        bytes += sha256(fmt::format("basalt sim {} {}", seed_, counter_++));
    bytes.resize(count);
    return bytes;
}

PrivateKey SimKeySource::new_key(KeyType) {
    openssl::Group group(EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1));
    openssl::Point point(EC_POINT_new(group.get()));
    openssl::Bignum scalar;
    do {
        const std::string bytes = random_bytes(32);
        scalar.reset(BN_bin2bn(reinterpret_cast<const unsigned char*>(bytes.data()), 32, nullptr));
    } while (BN_is_zero(scalar.get()) ||
             BN_cmp(scalar.get(), EC_GROUP_get0_order(group.get())) >= 0);
    int ok = EC_POINT_mul(group.get(), point.get(), scalar.get(), nullptr, nullptr, nullptr);
    BASALT_ASSERT(ok == 1);
    unsigned char encoded[65];
    const size_t size = EC_POINT_point2oct(group.get(), point.get(), POINT_CONVERSION_UNCOMPRESSED,
                                           encoded, sizeof encoded, nullptr);
    BASALT_ASSERT(size == sizeof encoded);

    openssl::ParamBuilder builder(OSSL_PARAM_BLD_new());
    ok = OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, "P-256", 0) &&
         OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, encoded, size) &&
         OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_PRIV_KEY, scalar.get());
    BASALT_ASSERT(ok == 1);
    openssl::Params params(OSSL_PARAM_BLD_to_param(builder.get()));
    openssl::KeyContext context(EVP_PKEY_CTX_new_from_name(nullptr, "EC", nullptr));
    EVP_PKEY* key = nullptr;
    ok = EVP_PKEY_fromdata_init(context.get()) == 1 &&
         EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_KEYPAIR, params.get()) == 1;
    BASALT_ASSERT(ok == 1);
    return PrivateKey(own(key));
}

}  // namespace basalt::pki
