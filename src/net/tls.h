// TLS 1.2 and 1.3 over any Stream, with OpenSSL.
//
// A TlsContext is built once per identity and shared by all its connections: it holds the parsed
// certificates and the session tickets that make reconnecting cheap. It never changes; to rotate a
// certificate make a new one and hand it to the server or client (set_tls there). Any thread.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/secret.h"
#include "net/stream.h"

namespace basalt::net {

enum class ClientCertificates {
    kIgnored,   ///< Not asked for.
    kOptional,  ///< Verified when the client sends one.
    kRequired,  ///< mTLS: the handshake fails without.
};

struct TlsConfig {
    std::string ca_pem;             ///< One or more certificates that the peer's chain must end in.
    bool use_system_roots = false;  ///< Trust the machine's roots, too.
    std::string cert_pem;           ///< Own certificate, then intermediates. Needed for servers.
    Secret key_pem;                 ///< PKCS#8, SEC1 or PKCS#1, not encrypted.
    std::vector<std::string> alpn;  ///< By preference: "h2", "http/1.1".
    /// Servers only. Verified against ca_pem.
    ClientCertificates client_certificates = ClientCertificates::kIgnored;
    /// Clients only: the name or address to verify instead of the one that is dialled.
    std::string server_name;
    /// Clients only: a kubeconfig's insecure-skip-tls-verify. The server may then be anyone.
    bool insecure_skip_verify = false;
};

class TlsContext {
 public:
    virtual ~TlsContext() = default;
    virtual const TlsConfig& config() const = 0;  ///< Without the key.
};

/// InvalidArgument for PEM that does not parse, a key that does not fit, or no way to verify the
/// peer.
Result<std::shared_ptr<const TlsContext>> make_tls_client(TlsConfig config);
Result<std::shared_ptr<const TlsContext>> make_tls_server(TlsConfig config);

/// Where a handshake's time ends, both sides (Go's TLSHandshakeTimeout).
inline constexpr Duration kTlsHandshakeTimeout = std::chrono::seconds(10);

/// Handshakes over `stream`. `server_name` is verified and sent as SNI unless the configuration
/// names another. `alpn`, when not empty, replaces the configuration's. Unauthenticated (reason
/// "TlsVerify") when the peer's certificate does not convince, Unavailable when the connection
/// broke, DeadlineExceeded. With TLS 1.3 a server's refusal of our certificate shows at the first
/// read: Unauthenticated (reason "TlsAlert").
async::Task<Result<std::unique_ptr<Stream>>> tls_connect(async::Loop& loop,
                                                         std::shared_ptr<const TlsContext> context,
                                                         std::unique_ptr<Stream> stream,
                                                         std::string server_name,
                                                         std::vector<std::string> alpn = {});
async::Task<Result<std::unique_ptr<Stream>>> tls_accept(async::Loop& loop,
                                                        std::shared_ptr<const TlsContext> context,
                                                        std::unique_ptr<Stream> stream);

}  // namespace basalt::net
