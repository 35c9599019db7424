#include "tunnel/authenticator.h"

#include <algorithm>

namespace basalt::tunnel {

namespace {

class ByCertificate final : public Authenticator {
 public:
    explicit ByCertificate(CertificateRule rule) : rule_(std::move(rule)) {}
    async::Task<Result<void>> authenticate(AgentCredentials credentials) override {
        if (!credentials.identity) co_return Error(Code::kUnauthenticated, "no client certificate");
        if (!rule_.matches(credentials.identity)) {
            co_return permission_denied("the client certificate is not an agent's");
        }
        co_return Result<void>();
    }

 private:
    CertificateRule rule_;
};

class Any final : public Authenticator {
 public:
    Any(std::shared_ptr<Authenticator> first, std::shared_ptr<Authenticator> second)
        : first_(std::move(first)), second_(std::move(second)) {}
    async::Task<Result<void>> authenticate(AgentCredentials credentials) override {
        Result<void> accepted = co_await first_->authenticate(credentials);
        if (accepted.ok()) co_return accepted;
        Result<void> second = co_await second_->authenticate(std::move(credentials));
        co_return second;
    }

 private:
    std::shared_ptr<Authenticator> first_;
    std::shared_ptr<Authenticator> second_;
};

}  // namespace

bool CertificateRule::matches(const std::optional<net::PeerIdentity>& identity) const {
    if (!identity || common_name.empty() || identity->common_name != common_name) return false;
    const auto& all = identity->organizations;
    return organization.empty() || std::find(all.begin(), all.end(), organization) != all.end();
}

std::shared_ptr<Authenticator> make_certificate_authenticator(CertificateRule rule) {
    return std::make_shared<ByCertificate>(std::move(rule));
}

std::shared_ptr<Authenticator> make_any_authenticator(std::shared_ptr<Authenticator> first,
                                                      std::shared_ptr<Authenticator> second) {
    if (!first) return second;
    if (!second) return first;
    return std::make_shared<Any>(std::move(first), std::move(second));
}

}  // namespace basalt::tunnel
