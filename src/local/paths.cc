#include "local/paths.h"

#include <cstdlib>
#include <filesystem>
#include <vector>

#include <fmt/format.h>

#include "base/strings.h"
#include "linux/file.h"

namespace basalt::local {
namespace {

std::string environment_or(const char* name, const char* fallback) {
    const char* value = std::getenv(name);
    return value != nullptr && *value != '\0' ? value : fallback;
}

std::string absolute(const std::string& path) {
    std::string whole = std::filesystem::absolute(path).lexically_normal().string();
    while (whole.size() > 1 && whole.ends_with('/')) whole.pop_back();
    return whole;
}

}  // namespace

Result<Paths> find_paths(const std::string& share_dir_option) {
    Paths paths;
    // Absolute: nodes and links that are made from them do not know where this was called.
    paths.state = absolute(environment_or("BASALT_STATE", "/var/lib/basalt"));
    paths.cache = absolute(environment_or("BASALT_CACHE", "/var/cache/basalt"));
    std::error_code error;
    const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
    if (error) return internal_error("cannot read /proc/self/exe");
    paths.program = program.string();

    std::vector<std::string> candidates;
    if (!share_dir_option.empty()) {
        candidates = {share_dir_option};
    } else {
        candidates = {environment_or("BASALT_SHARE_DIR", ""),
                      (program.parent_path().parent_path() / "share/basalt").string(),
                      BASALT_SOURCE_DIR};
    }
    for (const std::string& candidate : candidates) {
        if (!candidate.empty() && linux::exists(candidate + "/deploy/local")) {
            paths.share = absolute(candidate);
            return paths;
        }
    }
    return not_found(fmt::format("no deploy/local below {}; name the place with --share-dir",
                                 join(candidates, ", ")));
}

}  // namespace basalt::local
