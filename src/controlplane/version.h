// Kubernetes versions, as far as a control plane cares: order, skew, what is supported.
#pragma once

#include <compare>
#include <string>
#include <string_view>

#include "base/result.h"

namespace basalt::controlplane {

struct Version {
    int major = 0;
    int minor = 0;
    int patch = 0;
    std::string pre_release;  ///< "rc.1"; sorts before the release.

    /// "v1.36.3" or "1.36.3", with an optional pre-release and build suffix (semver 2.0).
    static Result<Version> parse(std::string_view text);
    std::string to_string() const;  ///< "v1.36.3"

    friend bool operator==(const Version&, const Version&) = default;
    friend std::strong_ordering operator<=>(const Version& a, const Version& b);
};

/// Minors of Kubernetes 1.x whose control planes can be run.
inline constexpr int kOldestMinor = 31;
inline constexpr int kNewestMinor = 36;

/// InvalidArgument, naming spec.kubernetes.version and the remedy, when `version` cannot be run.
Result<void> check_supported(const Version& version);
/// The same when a control plane of version `from` cannot become `to`: an older minor, or more than
/// one newer. Patch versions are free in both directions: a bad one has to be left.
Result<void> check_upgrade(const Version& from, const Version& to);

}  // namespace basalt::controlplane
