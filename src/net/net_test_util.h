// Helpers of this folder's tests: running coroutines on a real loop, and certificates made on the
// spot.
#pragma once

#include <gtest/gtest.h>
#include <openssl/ec.h>

#include <string>

#include "async/real_loop.h"
#include "async/task_group.h"
#include "async/wait.h"
#include "net/openssl.h"

// ASSERT_* cannot leave a coroutine.
#define CO_REQUIRE(condition) \
    EXPECT_TRUE(condition);   \
    if (!(condition)) co_return
#define CO_REQUIRE_OK(result)                                                          \
    EXPECT_TRUE((result).ok()) << ((result).ok() ? "" : (result).error().to_string()); \
    if (!(result).ok()) co_return

namespace basalt::net::test {

using async::Task;

inline Task<void> run_body(async::RealLoop& loop, Task<void> body, bool* finished) {
    co_await body;
    *finished = true;
    loop.stop();
}

/// Runs `body` and then the loop until nothing is left on it: whatever the body made must have
/// ended by then.
inline void run(async::RealLoop& loop, Task<void> body, Duration limit = std::chrono::seconds(60)) {
    bool finished = false;
    async::TaskGroup group(loop);
    group.spawn(run_body(loop, std::move(body), &finished));
    async::Loop::TimerId watchdog = loop.call_at(loop.now() + limit, [&loop, &group] {
        ADD_FAILURE() << "the test took too long";
        group.cancel();
        loop.stop();
    });
    loop.run();
    loop.cancel_timer(watchdog);
    if (!finished) {
        watchdog = loop.call_at(loop.now() + std::chrono::seconds(5), [] { std::abort(); });
        while (group.size() > 0) loop.run();
        loop.cancel_timer(watchdog);
    }
    loop.keep_running(false);
    watchdog = loop.call_at(loop.now() + std::chrono::seconds(20), [] {
        fprintf(stderr, "something stays on the loop after the test\n");
        std::abort();
    });
    // The watchdog itself is the last thing that keeps the loop busy.
    loop.post([&loop, watchdog] { loop.cancel_timer(watchdog); });
    loop.run();
}

struct Identity {
    std::string cert_pem;
    std::string key_pem;
    Secret key() const { return Secret(std::string_view(key_pem)); }
};

struct CertSpec {
    std::string common_name;
    std::string organization;
    std::string names;  ///< "DNS:a,IP:127.0.0.1" or "".
    bool is_ca = false;
    int valid_seconds = 3600;
};

inline std::string pem_of(const std::function<void(BIO*)>& write) {
    internal::BioPtr bio(BIO_new(BIO_s_mem()));
    write(bio.get());
    std::string text(BIO_ctrl_pending(bio.get()), '\0');
    BIO_read(bio.get(), text.data(), static_cast<int>(text.size()));
    return text;
}

/// Certificates signed by an own CA.
class TestCa {
 public:
    explicit TestCa(std::string name = "test-ca") {
        self_ = issue({.common_name = name, .organization = {}, .names = {}, .is_ca = true});
    }
    const std::string& ca_pem() const { return self_.cert_pem; }

    Identity issue(const CertSpec& spec) {
        internal::KeyPtr key(EVP_EC_gen("P-256"));
        internal::X509Ptr cert(X509_new());
        X509_set_version(cert.get(), 2);
        ASN1_INTEGER_set(X509_get_serialNumber(cert.get()), ++serial_);
        X509_gmtime_adj(X509_getm_notBefore(cert.get()), -60);
        X509_gmtime_adj(X509_getm_notAfter(cert.get()), spec.valid_seconds);
        X509_set_pubkey(cert.get(), key.get());
        X509_NAME* subject = X509_get_subject_name(cert.get());
        add(subject, "CN", spec.common_name);
        if (!spec.organization.empty()) add(subject, "O", spec.organization);
        X509* issuer = spec.is_ca ? cert.get() : ca_cert_.get();
        X509_set_issuer_name(cert.get(), X509_get_subject_name(issuer));
        extend(cert.get(), issuer, NID_basic_constraints,
               spec.is_ca ? "critical,CA:TRUE" : "CA:FALSE");
        if (!spec.names.empty())
            extend(cert.get(), issuer, NID_subject_alt_name, spec.names.c_str());
        X509_sign(cert.get(), spec.is_ca ? key.get() : ca_key_.get(), EVP_sha256());
        Identity identity;
        identity.cert_pem = pem_of([&](BIO* bio) { PEM_write_bio_X509(bio, cert.get()); });
        identity.key_pem = pem_of([&](BIO* bio) {
            PEM_write_bio_PKCS8PrivateKey(bio, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
        });
        if (spec.is_ca) {
            ca_cert_ = std::move(cert);
            ca_key_ = std::move(key);
        }
        return identity;
    }

    Identity server(std::string names = "DNS:localhost,IP:127.0.0.1") {
        return issue({.common_name = "server", .organization = {}, .names = std::move(names)});
    }
    std::shared_ptr<const TlsContext> server_context(
        std::vector<std::string> alpn, ClientCertificates mode = ClientCertificates::kIgnored) {
        Identity identity = server();
        TlsConfig config;
        config.cert_pem = identity.cert_pem;
        config.key_pem = identity.key();
        config.alpn = std::move(alpn);
        config.client_certificates = mode;
        if (mode != ClientCertificates::kIgnored) config.ca_pem = ca_pem();
        return make_tls_server(std::move(config)).value();
    }
    std::shared_ptr<const TlsContext> client_context(std::optional<CertSpec> spec = std::nullopt) {
        TlsConfig config;
        config.ca_pem = ca_pem();
        if (spec) {
            Identity identity = issue(*spec);
            config.cert_pem = identity.cert_pem;
            config.key_pem = identity.key();
        }
        return make_tls_client(std::move(config)).value();
    }

 private:
    static void add(X509_NAME* name, const char* field, const std::string& value) {
        X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8,
                                   reinterpret_cast<const unsigned char*>(value.c_str()), -1, -1,
                                   0);
    }
    static void extend(X509* cert, X509* issuer, int kind, const char* value) {
        X509V3_CTX context;
        X509V3_set_ctx(&context, issuer, cert, nullptr, nullptr, 0);
        X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, kind, value);
        X509_add_ext(cert, extension, -1);
        X509_EXTENSION_free(extension);
    }

    long serial_ = 0;
    internal::X509Ptr ca_cert_;
    internal::KeyPtr ca_key_;
    Identity self_;
};

}  // namespace basalt::net::test
