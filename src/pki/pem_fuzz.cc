// PEM, keys and certificates from outside: whatever the bytes are, the answer is a value or an
// Error.
#include <cstdint>
#include <string_view>

#include "pki/certificate.h"
#include "pki/key.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace basalt;
    const std::string_view input(reinterpret_cast<const char*>(data), size);

    Result<pki::PrivateKey> key = pki::PrivateKey::parse(input);
    if (key.ok()) {
        Result<pki::PrivateKey> again = pki::PrivateKey::parse(key->to_pem());
        if (!again.ok() || again->public_der() != key->public_der()) __builtin_trap();
    }
    (void)pki::parse_public_key(input);
    (void)pki::Certificate::from_der(input);
    Result<std::vector<pki::Certificate>> bundle = pki::Certificate::parse_bundle(input);
    if (bundle.ok()) {
        const WallTime now{std::chrono::seconds(1'900'000'000)};
        for (const pki::Certificate& certificate : *bundle) {
            Result<pki::Certificate> again = pki::Certificate::parse(certificate.to_pem());
            if (!again.ok() || !(*again == certificate)) __builtin_trap();
            (void)certificate.public_key_pin();
            (void)certificate.is_valid_for("kubernetes.default.svc");
            (void)certificate.is_signed_by(bundle->front());
            (void)pki::verify(certificate, *bundle, {bundle->front()}, now, pki::Purpose::kServer);
            if (key.ok()) (void)certificate.matches(*key);
        }
    }
    return 0;
}
