#include "controlplane/version.h"

#include <charconv>
#include <utility>

#include <fmt/format.h>

namespace basalt::controlplane {
namespace {

bool take_number(std::string_view& text, int& number) {
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end == text.data() || number < 0 || text.front() == '+')
        return false;
    text.remove_prefix(static_cast<size_t>(end - text.data()));
    return true;
}

bool take(std::string_view& text, char expected) {
    if (text.empty() || text.front() != expected) return false;
    text.remove_prefix(1);
    return true;
}

}  // namespace

Result<Version> Version::parse(std::string_view text) {
    std::string_view rest = text;
    take(rest, 'v');
    Version version;
    bool valid = take_number(rest, version.major) && take(rest, '.') &&
                 take_number(rest, version.minor) && take(rest, '.') &&
                 take_number(rest, version.patch);
    if (valid && take(rest, '-')) {
        version.pre_release = std::string(rest.substr(0, rest.find('+')));
        valid = !version.pre_release.empty();
        rest.remove_prefix(version.pre_release.size());
    }
    if (!valid || (!rest.empty() && rest.front() != '+')) {
        return invalid_argument(
            fmt::format("\"{}\" is not a version: write it like v1.36.3", text));
    }
    return version;
}

std::string Version::to_string() const {
    std::string text = fmt::format("v{}.{}.{}", major, minor, patch);
    if (!pre_release.empty()) text += "-" + pre_release;
    return text;
}

std::strong_ordering operator<=>(const Version& a, const Version& b) {
    if (auto order = a.major <=> b.major; order != 0) return order;
    if (auto order = a.minor <=> b.minor; order != 0) return order;
    if (auto order = a.patch <=> b.patch; order != 0) return order;
    if (a.pre_release.empty() != b.pre_release.empty()) {
        return a.pre_release.empty() ? std::strong_ordering::greater : std::strong_ordering::less;
    }
    return a.pre_release.compare(b.pre_release) <=> 0;
}

Result<void> check_supported(const Version& version) {
    if (version.major == 1 && version.minor >= kOldestMinor && version.minor <= kNewestMinor)
        return {};
    return invalid_argument(
        fmt::format("spec.kubernetes.version: {} is not supported, use one from v1.{} to v1.{}",
                    version.to_string(), kOldestMinor, kNewestMinor));
}

Result<void> check_upgrade(const Version& from, const Version& to) {
    if (std::pair(to.major, to.minor) < std::pair(from.major, from.minor)) {
        return invalid_argument(fmt::format(
            "spec.kubernetes.version: {} is a minor version older than the current {}, and "
            "control planes cannot be downgraded",
            to.to_string(), from.to_string()));
    }
    if (to.major != from.major || to.minor > from.minor + 1) {
        return invalid_argument(fmt::format(
            "spec.kubernetes.version: {} to {} skips a minor version, upgrade to v{}.{} first",
            from.to_string(), to.to_string(), from.major, from.minor + 1));
    }
    return {};
}

}  // namespace basalt::controlplane
