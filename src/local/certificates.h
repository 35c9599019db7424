// The certificate authority of the default DataStore and what it signs, as PEM files in one
// directory. Made by the openssl program once and kept: running again changes nothing.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace basalt::local {

/// <directory>/ca.crt and ca.key.
Result<void> ensure_authority(const std::string& directory, const std::string& common_name);

struct CertificateRequest {
    std::string name;  ///< Files <name>.crt and <name>.key.
    std::string common_name;
    std::vector<std::string>
        alternative_names{};  ///< As openssl writes them: "DNS:a.b", "IP:127.0.0.1".
    bool server = false;      ///< Client authentication is always allowed.
};
Result<void> ensure_certificate(const std::string& directory, const CertificateRequest& request);

}  // namespace basalt::local
