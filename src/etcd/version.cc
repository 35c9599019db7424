#include "etcd/version.h"

#include <fmt/format.h>

#include "base/strings.h"

namespace basalt::etcd {

std::string Version::to_string() const {
    return fmt::format("{}.{}.{}{}", major, minor, patch, prerelease ? " (pre-release)" : "");
}

Result<Version> parse_version(std::string_view text) {
    std::string_view rest = text;
    if (rest.starts_with('v')) rest.remove_prefix(1);
    rest = rest.substr(0, rest.find('+'));
    Version version;
    if (size_t dash = rest.find('-'); dash != std::string_view::npos) {
        version.prerelease = true;
        rest = rest.substr(0, dash);
    }
    std::vector<std::string_view> parts = split(rest, '.');
    int* fields[] = {&version.major, &version.minor, &version.patch};
    bool fits = parts.size() == 3;
    for (size_t i = 0; fits && i < parts.size(); ++i) {
        auto number = parse_number<int>(parts[i]);
        fits = number && *number >= 0;
        if (fits) *fields[i] = *number;
    }
    if (!fits)
        return invalid_argument(fmt::format("\"{}\" is not a version of etcd", text.substr(0, 64)));
    return version;
}

bool keeps_tenants_apart(const Version& version) {
    auto at_least = [&](int patch) {
        return version.patch > patch || (version.patch == patch && !version.prerelease);
    };
    if (version.major != 3) return version.major > 3;
    if (version.minor == 6) return at_least(14);
    if (version.minor == 7) return at_least(1);
    return version.minor > 7;
}

}  // namespace basalt::etcd
