#include "local/images.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include <fmt/format.h>

#include "base/strings.h"
#include "linux/file.h"
#include "linux/process.h"

namespace basalt::local {
namespace {

/// Compiling Kubernetes takes minutes on a small machine; beyond this something hangs.
constexpr auto kBuildLimit = std::chrono::minutes(60);

std::vector<std::string_view> words(std::string_view line) {
    std::vector<std::string_view> found;
    size_t at = 0;
    while (at < line.size()) {
        const size_t start = line.find_first_not_of(" \t", at);
        if (start == std::string_view::npos) break;
        const size_t end = std::min(line.find_first_of(" \t", start), line.size());
        found.push_back(line.substr(start, end - start));
        at = end;
    }
    return found;
}

linux::Command recipes(const Paths& paths, std::vector<std::string> arguments) {
    linux::Command command;
    command.argv = {paths.recipes() + "/build"};
    command.argv.insert(command.argv.end(), arguments.begin(), arguments.end());
    command.env = {"BASALT_CACHE=" + paths.cache};
    return command;
}

bool have_all(const Paths& paths, const std::string& kubernetes_version) {
    const std::string binaries =
        fmt::format("{}/bin/kubernetes-{}", paths.cache, kubernetes_version);
    for (const char* name : {"kubelet", "kubeadm", "kubectl"}) {
        if (!linux::exists(fmt::format("{}/{}", binaries, name))) return false;
    }
    Result<std::vector<Image>> images = list_images(paths);
    if (!images.ok()) return false;
    return std::all_of(images->begin(), images->end(),
                       [](const Image& image) { return linux::exists(image.archive); });
}

}  // namespace

Result<std::vector<Image>> parse_image_list(const std::string& text) {
    std::vector<Image> images;
    for (std::string_view line : split(text, '\n')) {
        const auto fields = words(line);
        if (fields.empty() || fields[0].starts_with('#')) continue;
        if (fields.size() < 3)
            return invalid_argument(
                fmt::format("image list: not name, reference, archive: {}", line));
        images.push_back({std::string(fields[0]), std::string(fields[1]), std::string(fields[2])});
    }
    return images;
}

Result<std::vector<Image>> list_images(const Paths& paths) {
    BASALT_ASSIGN(std::string text, linux::run_ok(recipes(paths, {"list"})).context("list images"));
    BASALT_ASSIGN(std::vector<Image> images, parse_image_list(text));
    const std::string own = fmt::format("{}/images/basalt-{}.tar", paths.cache, kBasaltTag);
    if (linux::exists(own)) {
        images.push_back({"basalt", fmt::format("ghcr.io/basalt/basalt:{}", kBasaltTag), own});
    }
    return images;
}

Result<void> build_own_image(const Paths& paths) {
    const std::string directory = std::filesystem::path(paths.program).parent_path().string();
    if (!linux::exists(directory + "/basalt-controller") ||
        !linux::exists(directory + "/basalt-tunnel"))
        return {};
    linux::Command command = recipes(paths, {"image-basalt", directory, kBasaltTag});
    command.timeout = std::chrono::minutes(10);
    BASALT_TRY(linux::run_ok(command).context("image of basalt"));
    return {};
}

ImageName split_reference(const std::string& reference) {
    ImageName name;
    const size_t slash = reference.rfind('/');
    const size_t start = slash == std::string::npos ? 0 : slash + 1;
    if (slash != std::string::npos) name.repository = reference.substr(0, slash);
    const size_t colon = reference.find(':', start);
    name.name = reference.substr(start, colon == std::string::npos ? colon : colon - start);
    if (colon != std::string::npos) name.tag = reference.substr(colon + 1);
    return name;
}

Result<Image> find_image(const std::vector<Image>& images, const std::string& repository,
                         const std::string& tag) {
    for (const Image& image : images) {
        const ImageName name = split_reference(image.reference);
        const std::string full = name.repository + "/" + name.name;
        if (full.ends_with("/" + repository) && (tag.empty() || tag == name.tag)) return image;
    }
    return not_found(fmt::format("no image {}{}{} among those of distribution/build list",
                                 repository, tag.empty() ? "" : ":", tag));
}

Result<std::string> archive_stamp(const Image& image) {
    struct stat status{};
    if (::stat(image.archive.c_str(), &status) != 0) return errno_error(errno, image.archive);
    return fmt::format("{} {}.{:09} {}", image.reference, status.st_mtim.tv_sec,
                       status.st_mtim.tv_nsec, status.st_size);
}

Result<void> ensure_artifacts(const Paths& paths, const std::string& kubernetes_version,
                              const ArtifactSource& source,
                              const std::function<void(std::string_view)>& line) {
    if (have_all(paths, kubernetes_version)) return {};
    linux::Command command = recipes(paths, {source.pull ? "pull" : "all"});
    if (source.pull && !source.registry.empty()) command.argv.push_back(source.registry);
    command.timeout = kBuildLimit;
    command.on_line = line;
    BASALT_TRY(linux::run_ok(command).context(source.pull ? "pull images" : "build images"));
    if (have_all(paths, kubernetes_version)) return {};
    return failed_precondition(
        fmt::format("{} made no Kubernetes {}", paths.recipes() + "/build", kubernetes_version));
}

Result<void> import_images(const Node& node, const std::vector<Image>& images,
                           const std::function<void(std::string_view)>& line) {
    const std::string marks = node.spec().directory + "/images";
    size_t done = 0;
    for (const Image& image : images) {
        ++done;
        BASALT_ASSIGN(std::string stamp, archive_stamp(image));
        const std::string mark =
            fmt::format("{}/{}", marks, replace_all(image.reference, "/", "_"));
        Result<std::string> imported = linux::read_file(mark);
        if (imported.ok() && *imported == stamp) continue;
        line(fmt::format("{}: {} ({} of {})", node.name(), image.reference, done, images.size()));
        linux::Command command;
        BASALT_ASSIGN(command.argv, node.ctr({"images", "import", image.archive}));
        command.timeout = std::chrono::minutes(5);
        BASALT_TRY(linux::run_ok(command).context(
            fmt::format("import {} on {}", image.reference, node.name())));
        BASALT_TRY(linux::write_file_atomically(mark, stamp));
    }
    return {};
}

}  // namespace basalt::local
