// Versions of etcd servers, and which of them keep tenants apart.
#pragma once

#include <compare>
#include <string>
#include <string_view>

#include "base/result.h"

namespace basalt::etcd {

struct Version {
    int major = 0;
    int minor = 0;
    int patch = 0;
    bool prerelease = false;  ///< "-rc.0", "-pre": before the release of that number.
    std::string to_string() const;
};

/// "3.6.16", "v3.7.1", "3.7.0-rc.0", "3.6.16+build".
Result<Version> parse_version(std::string_view text);

/// 3.6.14 and later, 3.7.1 and later, and what follows 3.7. Earlier servers let one user read or
/// change what belongs to another: CVE-2026-33343, CVE-2026-33413, CVE-2026-73499.
bool keeps_tenants_apart(const Version& version);
inline constexpr std::string_view kSecureVersions = "3.6.14 or 3.7.1";

}  // namespace basalt::etcd
