// Connections to tenants' API servers.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "async/loop.h"
#include "controlplane/certificates.h"
#include "net/http_client.h"

namespace basalt::controlplane {

/// Makes a transport to a tenant's API server at `server` ("https://host:port") that has a
/// certificate for `tls_server_name`, with the identity in `admin`, the data of the control plane's
/// Secret of administrators' kubeconfigs.
using TenantConnector = std::function<Result<std::shared_ptr<net::HttpTransport>>(
    const std::string& server, const std::string& tls_server_name, const SecretData& admin)>;

/// As the tenant's super-admin: that right no RBAC rule of the tenant can take away.
/// FailedPrecondition without its kubeconfig ("super-admin.svc"). Connects when it is first used.
TenantConnector tenant_connector(async::Loop& loop);

}  // namespace basalt::controlplane
