// Kubeconfig files with everything inline, as kubeadm writes them. (kube/ reads those of users,
// with all that they may contain.) Pure functions, any thread.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "base/secret.h"
#include "data/value.h"

namespace basalt::pki {

struct Kubeconfig {
    std::string cluster = "kubernetes";  ///< kubeadm's clusterName.
    std::string server;                  ///< "https://10.0.0.1:6443"
    std::string ca_pem;                  ///< Empty: the reader's own roots.
    std::string tls_server_name;         ///< Optional.
    std::string user;                    ///< The context is "<user>@<cluster>".
    std::string client_certificate_pem;
    Secret client_key_pem;
    Secret token;            ///< Instead of, or besides, a certificate.
    std::string token_file;  ///< Optional.
    std::string namespace_;  ///< Of the context; optional.
};

/// apiVersion v1, kind Config. Holds the key: do not log it.
data::Value to_value(const Kubeconfig& config);
Secret to_yaml(const Kubeconfig& config);

/// What the current context names, from a file with inline data. InvalidArgument names the field
/// that is missing or broken; file references (client-certificate, …) are InvalidArgument, too.
Result<Kubeconfig> parse_kubeconfig(std::string_view yaml);

}  // namespace basalt::pki
