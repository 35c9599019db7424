#include "controlplane/tenant_connector.h"

#include "pki/kubeconfig.h"

namespace basalt::controlplane {
namespace {

constexpr const char* kIdentity = "super-admin.svc";
// A tenant's API server that takes longer is treated as not there.
constexpr Duration kConnectTimeout = std::chrono::seconds(5);

Result<std::shared_ptr<net::HttpTransport>> connect(async::Loop& loop, const std::string& server,
                                                    const std::string& tls_server_name,
                                                    const SecretData& admin) {
    auto file = admin.find(kIdentity);
    if (file == admin.end())
        return failed_precondition(std::string("the admin kubeconfig lacks ") + kIdentity);
    BASALT_ASSIGN(pki::Kubeconfig config, pki::parse_kubeconfig(file->second).context(kIdentity));
    BASALT_ASSIGN(net::Url url, net::parse_url(server));
    net::TlsConfig tls;
    tls.ca_pem = config.ca_pem;
    tls.cert_pem = config.client_certificate_pem;
    tls.key_pem = config.client_key_pem;
    tls.server_name = tls_server_name;
    tls.alpn = {"h2", "http/1.1"};
    net::HttpClientOptions options;
    options.connect_timeout = kConnectTimeout;
    BASALT_ASSIGN(options.tls, net::make_tls_client(std::move(tls)));
    return std::shared_ptr<net::HttpTransport>(
        net::make_http_client(loop, std::move(url), std::move(options)));
}

}  // namespace

TenantConnector tenant_connector(async::Loop& loop) {
    return
        [&loop](const std::string& server, const std::string& tls_server_name,
                const SecretData& admin) { return connect(loop, server, tls_server_name, admin); };
}

}  // namespace basalt::controlplane
