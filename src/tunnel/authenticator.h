// Who may connect as an agent. tunnel/ knows certificates; tokens are checked by whoever runs the
// server.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "async/task.h"
#include "base/secret.h"
#include "net/stream.h"

namespace basalt::tunnel {

struct AgentCredentials {
    Secret token;                               ///< Bearer token, or empty.
    std::optional<net::PeerIdentity> identity;  ///< Of a verified client certificate.
    std::string address;                        ///< For logs.
};

class Authenticator {
 public:
    virtual ~Authenticator() = default;
    /// OK, Unauthenticated (who is it?), PermissionDenied (known, but not an agent), or
    /// Unavailable.
    virtual async::Task<Result<void>> authenticate(AgentCredentials credentials) = 0;
};

/// A client certificate that the server's CA signed, with this name and, unless empty, this
/// organization.
struct CertificateRule {
    std::string common_name;
    std::string organization;
    bool matches(const std::optional<net::PeerIdentity>& identity) const;
};
std::shared_ptr<Authenticator> make_certificate_authenticator(CertificateRule rule);
/// The first that accepts; the last error when none does.
std::shared_ptr<Authenticator> make_any_authenticator(std::shared_ptr<Authenticator> first,
                                                      std::shared_ptr<Authenticator> second);

}  // namespace basalt::tunnel
