// Owners of OpenSSL's objects and its error queue, for the TLS sources of this folder only.
#pragma once

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>

#include "net/tls.h"

namespace basalt::net::internal {

template <auto Free>
struct Freer {
    template <class T>
    void operator()(T* object) const {
        Free(object);
    }
};
using BioPtr = std::unique_ptr<BIO, Freer<BIO_free_all>>;
using X509Ptr = std::unique_ptr<X509, Freer<X509_free>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY_free>>;
using SslPtr = std::unique_ptr<SSL, Freer<SSL_free>>;
using SslCtxPtr = std::unique_ptr<SSL_CTX, Freer<SSL_CTX_free>>;
using SessionPtr = std::unique_ptr<SSL_SESSION, Freer<SSL_SESSION_free>>;
using NamesPtr = std::unique_ptr<GENERAL_NAMES, Freer<GENERAL_NAMES_free>>;

/// The first error in this thread's queue, which is emptied.
std::string take_openssl_error();

PeerIdentity identity_of(X509* certificate);

/// The OpenSSL side of a TlsContext; tls_stream.cc makes connections of it.
class TlsContextImpl final : public TlsContext {
 public:
    TlsContextImpl(TlsConfig config, bool server);
    ~TlsContextImpl() override;
    const TlsConfig& config() const override { return config_; }
    Result<void> load();
    SSL_CTX* native() const { return context_.get(); }
    bool is_server() const { return server_; }

    /// Client: the ticket of an earlier connection to that name, used once.
    SessionPtr take_session(const std::string& server_name) const;
    void keep_session(const std::string& server_name, SessionPtr session) const;

 private:
    Result<void> load_identity(std::string_view key_pem);
    Result<void> load_roots();
    Result<void> set_verification();

    struct Sessions;
    TlsConfig config_;
    Secret key_;
    bool server_;
    std::string alpn_wire_;
    SslCtxPtr context_;
    std::unique_ptr<Sessions> sessions_;
};

/// OpenSSL's callback for a client's new ticket.
int keep_new_session(SSL* ssl, SSL_SESSION* session);

/// Length-prefixed names, as ALPN wants them; InvalidArgument for empty or overlong ones.
Result<std::string> alpn_wire(const std::vector<std::string>& names);

}  // namespace basalt::net::internal
