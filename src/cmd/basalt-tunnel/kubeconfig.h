// As much of a kubeconfig as the tunnel server needs: the current context's API server, its CA, and
// a client certificate or token. Paths in it are relative to its folder.
#pragma once

#include <string>

#include "base/secret.h"
#include "cmd/basalt-tunnel/files.h"
#include "net/url.h"

namespace basalt::cmd {

struct Kubeconfig {
    net::Url server;
    /// For a TLS client; PEM inline in `base`, or paths.
    TlsPaths paths;
    net::TlsConfig tls;
    Secret token;
    std::string token_path;
};

/// InvalidArgument for YAML that is no kubeconfig, a missing context, or exec plugins, which a
/// server in a Pod does not need.
Result<Kubeconfig> parse_kubeconfig(std::string_view text, const std::string& folder);
Result<Kubeconfig> load_kubeconfig(const std::string& path);

}  // namespace basalt::cmd
