#include "local/storage.h"

#include <fmt/format.h>

#include "base/strings.h"
#include "linux/file.h"
#include "local/template.h"

namespace basalt::local {
namespace {

constexpr const char* kVolumesInside = "/var/lib/basalt/volumes";

}  // namespace

Result<std::string> make_volumes(const Node& node, const std::string& volume_template) {
    std::string manifests;
    for (int volume = 1; volume <= kVolumesPerNode; ++volume) {
        BASALT_TRY(linux::make_directories(
            fmt::format("{}/lib/basalt/volumes/{}", node.spec().var(), volume)));
        BASALT_ASSIGN(
            std::string manifest,
            render_template(volume_template,
                            {{"VOLUME_NAME", fmt::format("{}-{}", node.name(), volume)},
                             {"VOLUME_PATH", fmt::format("{}/{}", kVolumesInside, volume)},
                             {"NODE_NAME", node.name()}}));
        manifests += "---\n" + manifest;
    }
    return manifests;
}

Result<void> recycle_volumes(const Kubectl& kubectl, const Node& node) {
    constexpr const char* kReleased =
        R"(jsonpath={range .items[?(@.status.phase=="Released")]}{.metadata.name}{"\n"}{end})";
    BASALT_ASSIGN(std::string text,
                  kubectl.run({"get", "persistentvolumes", "-l", "basalt.local/node=" + node.name(),
                               "-o", kReleased}));
    for (std::string_view name : split(text, '\n')) {
        const std::string prefix = node.name() + "-";
        if (!name.starts_with(prefix) || !parse_number<int>(name.substr(prefix.size()))) continue;
        const std::string directory =
            fmt::format("{}/lib/basalt/volumes/{}", node.spec().var(), name.substr(prefix.size()));
        for (const std::string& entry : linux::list_directory(directory)) {
            BASALT_TRY(linux::remove_tree(directory + "/" + entry));
        }
        BASALT_TRY(kubectl.run({"patch", "persistentvolume", std::string(name), "--type=json", "-p",
                                R"([{"op":"remove","path":"/spec/claimRef"}])"}));
    }
    return {};
}

}  // namespace basalt::local
