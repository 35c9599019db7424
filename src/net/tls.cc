#include "net/tls.h"

#include <array>
#include <map>
#include <mutex>

#include "base/ip.h"
#include "net/openssl.h"

namespace basalt::net {
namespace internal {

namespace {

/// Tickets kept by one client context: one a server name suffices, few names are in use.
constexpr size_t kMaxKeptSessions = 256;

std::string text_of(const ASN1_STRING* text) {
    if (text == nullptr) return {};
    unsigned char* utf8 = nullptr;
    int size = ASN1_STRING_to_UTF8(&utf8, text);
    if (size < 0) return {};
    std::string out(reinterpret_cast<char*>(utf8), static_cast<size_t>(size));
    OPENSSL_free(utf8);
    return out;
}

std::string raw_text_of(const ASN1_STRING* text) {
    return std::string(reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
                       static_cast<size_t>(ASN1_STRING_length(text)));
}

std::string ip_text(const ASN1_OCTET_STRING* address) {
    const auto parsed = IpAddress::from_bytes(
        {ASN1_STRING_get0_data(address), static_cast<size_t>(ASN1_STRING_length(address))});
    return parsed ? parsed->to_string() : "";
}

void add_alternative_names(X509* certificate, PeerIdentity& identity) {
    NamesPtr names(static_cast<GENERAL_NAMES*>(
        X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
    if (!names) return;
    for (int i = 0; i < sk_GENERAL_NAME_num(names.get()); ++i) {
        const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
        if (name->type == GEN_DNS) identity.dns_names.push_back(raw_text_of(name->d.dNSName));
        if (name->type == GEN_URI)
            identity.uris.push_back(raw_text_of(name->d.uniformResourceIdentifier));
        if (name->type == GEN_IPADD) identity.ip_addresses.push_back(ip_text(name->d.iPAddress));
    }
}

Result<X509Ptr> next_certificate(BIO* bio) {
    ERR_clear_error();
    X509Ptr certificate(PEM_read_bio_X509(bio, nullptr, nullptr, nullptr));
    if (certificate) return certificate;
    unsigned long error = ERR_peek_last_error();
    if (ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE) {
        ERR_clear_error();
        return X509Ptr();
    }
    return invalid_argument("a certificate does not parse: " + take_openssl_error());
}

Result<std::vector<X509Ptr>> parse_certificates(std::string_view pem) {
    BioPtr bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
    std::vector<X509Ptr> certificates;
    for (;;) {
        BASALT_ASSIGN(X509Ptr certificate, next_certificate(bio.get()));
        if (!certificate) break;
        certificates.push_back(std::move(certificate));
    }
    if (certificates.empty()) return invalid_argument("no certificate in the PEM text");
    return certificates;
}

int select_alpn(SSL*, const unsigned char** out, unsigned char* out_size, const unsigned char* in,
                unsigned in_size, void* argument) {
    const auto* ours = static_cast<const std::string*>(argument);
    unsigned char* chosen = nullptr;
    int result = SSL_select_next_proto(&chosen, out_size,
                                       reinterpret_cast<const unsigned char*>(ours->data()),
                                       static_cast<unsigned>(ours->size()), in, in_size);
    if (result != OPENSSL_NPN_NEGOTIATED) return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

}  // namespace

std::string take_openssl_error() {
    unsigned long error = ERR_get_error();
    ERR_clear_error();
    if (error == 0) return "unknown error";
    std::array<char, 256> text{};
    const char* reason = ERR_reason_error_string(error);
    if (reason != nullptr) return reason;
    ERR_error_string_n(error, text.data(), text.size());
    return text.data();
}

PeerIdentity identity_of(X509* certificate) {
    PeerIdentity identity;
    X509_NAME* subject = X509_get_subject_name(certificate);
    for (int i = 0; i < X509_NAME_entry_count(subject); ++i) {
        X509_NAME_ENTRY* entry = X509_NAME_get_entry(subject, i);
        int kind = OBJ_obj2nid(X509_NAME_ENTRY_get_object(entry));
        if (kind == NID_commonName) identity.common_name = text_of(X509_NAME_ENTRY_get_data(entry));
        if (kind == NID_organizationName)
            identity.organizations.push_back(text_of(X509_NAME_ENTRY_get_data(entry)));
    }
    add_alternative_names(certificate, identity);
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned size = 0;
    if (X509_digest(certificate, EVP_sha256(), digest.data(), &size) == 1) {
        static constexpr char kDigits[] = "0123456789abcdef";
        for (unsigned i = 0; i < size; ++i) {
            identity.sha256 += kDigits[digest[i] >> 4];
            identity.sha256 += kDigits[digest[i] & 15];
        }
    }
    return identity;
}

Result<std::string> alpn_wire(const std::vector<std::string>& names) {
    std::string wire;
    for (const std::string& name : names) {
        if (name.empty() || name.size() > 255)
            return invalid_argument("an ALPN name has 1 to 255 bytes");
        wire += static_cast<char>(name.size());
        wire += name;
    }
    return wire;
}

struct TlsContextImpl::Sessions {
    std::mutex mutex;
    std::map<std::string, SessionPtr> by_name;
};

TlsContextImpl::TlsContextImpl(TlsConfig config, bool server)
    : config_(std::move(config)),
      key_(std::move(config_.key_pem)),
      server_(server),
      sessions_(std::make_unique<Sessions>()) {
    config_.key_pem = Secret();
}

TlsContextImpl::~TlsContextImpl() = default;

SessionPtr TlsContextImpl::take_session(const std::string& server_name) const {
    std::lock_guard lock(sessions_->mutex);
    auto found = sessions_->by_name.find(server_name);
    if (found == sessions_->by_name.end()) return {};
    SessionPtr session = std::move(found->second);
    sessions_->by_name.erase(found);
    return session;
}

void TlsContextImpl::keep_session(const std::string& server_name, SessionPtr session) const {
    std::lock_guard lock(sessions_->mutex);
    if (sessions_->by_name.size() >= kMaxKeptSessions &&
        !sessions_->by_name.contains(server_name)) {
        sessions_->by_name.erase(sessions_->by_name.begin());
    }
    sessions_->by_name[server_name] = std::move(session);
}

Result<void> TlsContextImpl::load_identity(std::string_view key_pem) {
    if (config_.cert_pem.empty()) {
        if (server_) return invalid_argument("a TLS server needs a certificate");
        return {};
    }
    Result<std::vector<X509Ptr>> chain = parse_certificates(config_.cert_pem);
    if (!chain.ok()) return std::move(chain).error();
    if (SSL_CTX_use_certificate(context_.get(), chain->front().get()) != 1) {
        return invalid_argument("the certificate is refused: " + take_openssl_error());
    }
    for (size_t i = 1; i < chain->size(); ++i) {
        if (SSL_CTX_add1_chain_cert(context_.get(), (*chain)[i].get()) != 1)
            return internal_error(take_openssl_error());
    }
    BioPtr bio(BIO_new_mem_buf(key_pem.data(), static_cast<int>(key_pem.size())));
    // An encrypted key must not ask for a passphrase on the terminal.
    pem_password_cb* no_passphrase = [](char*, int, int, void*) { return -1; };
    KeyPtr key(PEM_read_bio_PrivateKey(bio.get(), nullptr, no_passphrase, nullptr));
    if (!key) return invalid_argument("the private key does not parse: " + take_openssl_error());
    if (SSL_CTX_use_PrivateKey(context_.get(), key.get()) != 1) {
        return invalid_argument("the private key is refused: " + take_openssl_error());
    }
    if (SSL_CTX_check_private_key(context_.get()) != 1) {
        return invalid_argument("the private key does not fit the certificate: " +
                                take_openssl_error());
    }
    return {};
}

Result<void> TlsContextImpl::load_roots() {
    if (config_.use_system_roots && SSL_CTX_set_default_verify_paths(context_.get()) != 1) {
        return internal_error("the system's root certificates: " + take_openssl_error());
    }
    if (config_.ca_pem.empty()) return {};
    Result<std::vector<X509Ptr>> roots = parse_certificates(config_.ca_pem);
    if (!roots.ok()) return std::move(roots).error();
    X509_STORE* store = SSL_CTX_get_cert_store(context_.get());
    // Any certificate of the bundle ends a chain, as in Go: bundles may hold intermediates or leafs
    // only.
    X509_VERIFY_PARAM_set_flags(X509_STORE_get0_param(store), X509_V_FLAG_PARTIAL_CHAIN);
    for (const X509Ptr& root : *roots) {
        if (X509_STORE_add_cert(store, root.get()) != 1)
            return internal_error(take_openssl_error());
        if (server_ && SSL_CTX_add_client_CA(context_.get(), root.get()) != 1)
            return internal_error(take_openssl_error());
    }
    return {};
}

Result<void> TlsContextImpl::set_verification() {
    SSL_CTX* context = context_.get();
    if (!server_) {
        bool verifies = !config_.insecure_skip_verify;
        if (verifies && config_.ca_pem.empty() && !config_.use_system_roots) {
            return invalid_argument("a TLS client needs roots to verify the server with");
        }
        SSL_CTX_set_verify(context, verifies ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
        return {};
    }
    int mode = SSL_VERIFY_NONE;
    if (config_.client_certificates == ClientCertificates::kOptional) mode = SSL_VERIFY_PEER;
    if (config_.client_certificates == ClientCertificates::kRequired) {
        mode = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    }
    if (mode != SSL_VERIFY_NONE && config_.ca_pem.empty()) {
        return invalid_argument("client certificates need a CA to verify them with");
    }
    SSL_CTX_set_verify(context, mode, nullptr);
    return {};
}

Result<void> TlsContextImpl::load() {
    ERR_clear_error();
    context_.reset(SSL_CTX_new(server_ ? TLS_server_method() : TLS_client_method()));
    if (!context_) return internal_error(take_openssl_error());
    SSL_CTX* context = context_.get();
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    static constexpr unsigned char kSessionContext[] = "basalt";
    SSL_CTX_set_session_id_context(context, kSessionContext, sizeof(kSessionContext) - 1);
    if (server_) {
        // Tickets only: no server-side cache that grows with clients.
        SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_num_tickets(context, 1);
    } else {
        SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(context, &keep_new_session);
    }
    BASALT_TRY(load_identity(key_.reveal()));
    key_ = Secret();
    BASALT_TRY(load_roots());
    BASALT_TRY(set_verification());
    BASALT_ASSIGN(alpn_wire_, alpn_wire(config_.alpn));
    if (alpn_wire_.empty()) return {};
    if (server_) {
        SSL_CTX_set_alpn_select_cb(context, &select_alpn, &alpn_wire_);
    } else {
        SSL_CTX_set_alpn_protos(context, reinterpret_cast<const unsigned char*>(alpn_wire_.data()),
                                static_cast<unsigned>(alpn_wire_.size()));
    }
    return {};
}

}  // namespace internal

namespace {

Result<std::shared_ptr<const TlsContext>> make_context(TlsConfig config, bool server) {
    auto context = std::make_shared<internal::TlsContextImpl>(std::move(config), server);
    Result<void> loaded = context->load();
    if (!loaded.ok())
        return std::move(loaded).error().context(server ? "TLS server identity"
                                                        : "TLS client identity");
    return std::shared_ptr<const TlsContext>(std::move(context));
}

}  // namespace

Result<std::shared_ptr<const TlsContext>> make_tls_client(TlsConfig config) {
    return make_context(std::move(config), false);
}

Result<std::shared_ptr<const TlsContext>> make_tls_server(TlsConfig config) {
    return make_context(std::move(config), true);
}

}  // namespace basalt::net
