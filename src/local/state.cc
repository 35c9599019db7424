#include "local/state.h"

#include <filesystem>

#include <fmt/format.h>

#include "base/strings.h"
#include "linux/file.h"

namespace basalt::local {
namespace {

constexpr const char* kStateFile = "/cluster";
constexpr size_t kNameSizeMax = 30;  // "<name>-32" has to stay a short host name

/// The state is root's: an error that tells so, for one about permissions.
Error needs_root(Error error) {
    if (error.code() != Code::kPermissionDenied) return error;
    return permission_denied(fmt::format("{}: clusters are root's; try sudo", error.message()));
}

Result<void> assign(ClusterState& state, std::string_view key, std::string_view value) {
    if (key == "name") {
        state.name = value;
    } else if (key == "kubernetes-version") {
        state.kubernetes_version = value;
    } else if (key == "index" || key == "nodes") {
        std::optional<int> number = parse_number<int>(value);
        if (!number) return invalid_argument(fmt::format("{} is no number: {}", key, value));
        (key == "index" ? state.plan.index : state.nodes) = *number;
    }
    return {};  // a later version's keys are none of our business
}

}  // namespace

std::string render_state(const ClusterState& state) {
    return fmt::format("name={}\nindex={}\nnodes={}\nkubernetes-version={}\n", state.name,
                       state.plan.index, state.nodes, state.kubernetes_version);
}

Result<ClusterState> parse_state(const std::string& text) {
    ClusterState state;
    for (std::string_view line : split(text, '\n')) {
        if (trim(line).empty()) continue;
        auto parts = cut(line, "=");
        if (!parts) return invalid_argument(fmt::format("not key=value: {}", line));
        BASALT_TRY(assign(state, parts->first, parts->second));
    }
    BASALT_TRY(check_cluster_name(state.name));
    if (state.plan.index < 0 || state.plan.index >= kClustersMax)
        return invalid_argument("index is out of range");
    if (state.nodes < 1 || state.nodes > kNodesMax)
        return invalid_argument("nodes is out of range");
    return state;
}

Result<void> check_cluster_name(const std::string& name) {
    bool good =
        !name.empty() && name.size() <= kNameSizeMax && name.front() != '-' && name.back() != '-';
    for (char c : name)
        good = good && ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-');
    if (good) return {};
    return invalid_argument(
        fmt::format("cluster name \"{}\" must be 1 to {} of a-z, 0-9 and -, without - at its ends",
                    name, kNameSizeMax));
}

Result<std::optional<ClusterState>> load_state(const std::string& cluster_directory) {
    const std::string path = cluster_directory + kStateFile;
    Result<std::string> text = linux::read_file(path);
    if (!text.ok() && text.error().code() == Code::kNotFound) return std::optional<ClusterState>();
    if (!text.ok()) return needs_root(std::move(text).error());
    Result<ClusterState> state = parse_state(*text);
    if (!state.ok()) return std::move(state).error().context(path);
    return std::optional<ClusterState>(std::move(state).value());
}

Result<void> save_state(const std::string& cluster_directory, const ClusterState& state) {
    return linux::write_file_atomically(cluster_directory + kStateFile, render_state(state));
}

Result<std::vector<std::string>> list_clusters(const std::string& state_directory) {
    std::error_code error;
    const std::filesystem::directory_iterator entries(state_directory, error);
    if (error == std::errc::permission_denied)
        return needs_root(errno_error(error.value(), fmt::format("read {}", state_directory)));
    std::vector<std::string> names;
    for (const std::string& name : linux::list_directory(state_directory)) {
        if (linux::exists(fmt::format("{}/{}{}", state_directory, name, kStateFile)))
            names.push_back(name);
    }
    return names;
}

}  // namespace basalt::local
