#include "pki/digest.h"

#include <openssl/evp.h>

#include "base/assert.h"

namespace basalt::pki {
namespace {

std::string digest(const EVP_MD* algorithm, std::string_view bytes) {
    unsigned char out[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    const int ok = EVP_Digest(bytes.data(), bytes.size(), out, &size, algorithm, nullptr);
    BASALT_ASSERT(ok == 1);
    return std::string(reinterpret_cast<const char*>(out), size);
}

}  // namespace

std::string to_hex(std::string_view bytes) {
    static constexpr std::string_view kDigits = "0123456789abcdef";
    std::string hex;
    hex.reserve(bytes.size() * 2);
    for (char c : bytes) {
        auto byte = static_cast<unsigned char>(c);
        hex.push_back(kDigits[byte >> 4]);
        hex.push_back(kDigits[byte & 15]);
    }
    return hex;
}

std::string md5_hex(std::string_view bytes) { return to_hex(digest(EVP_md5(), bytes)); }
std::string sha256(std::string_view bytes) { return digest(EVP_sha256(), bytes); }
std::string sha256_hex(std::string_view bytes) { return to_hex(sha256(bytes)); }

}  // namespace basalt::pki
