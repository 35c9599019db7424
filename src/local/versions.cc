#include "local/versions.h"

#include <fmt/format.h>

#include "base/strings.h"
#include "linux/process.h"

namespace basalt::local {
namespace {

std::string_view without_v(std::string_view version) {
    return version.starts_with('v') ? version.substr(1) : version;
}

std::string_view minor_of(std::string_view version) {
    return version.substr(0, version.rfind('.'));
}

}  // namespace

Result<std::vector<std::string>> known_kubernetes_versions(const Paths& paths) {
    BASALT_ASSIGN(std::string text, linux::run_ok({paths.recipes() + "/build", "versions"}));
    std::vector<std::string> versions;
    for (std::string_view line : split(text, '\n')) {
        if (!trim(line).empty()) versions.emplace_back(trim(line));
    }
    if (versions.empty()) return internal_error(paths.recipes() + "/build names no Kubernetes");
    return versions;
}

bool names_version(const std::string& version, const std::string& wanted) {
    const std::string_view plain = without_v(version);
    return without_v(wanted) == plain || without_v(wanted) == minor_of(plain);
}

Result<std::string> choose_kubernetes_version(const std::vector<std::string>& known,
                                              const std::optional<std::string>& wanted) {
    if (!wanted) return known.front();
    for (const std::string& version : known) {
        if (names_version(version, *wanted)) return version;
    }
    return invalid_argument(fmt::format("there is no recipe for Kubernetes {}; use one of: {}",
                                        *wanted, join(known, ", ")));
}

}  // namespace basalt::local
