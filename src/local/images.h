// Images and binaries of what a cluster runs: which there are (distribution/build says), whether
// the cache has them, and how they get into a node.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "local/node.h"
#include "local/paths.h"

namespace basalt::local {

struct Image {
    std::string name;       ///< "kube-apiserver-v1.36.3", "pause", … unique
    std::string reference;  ///< "registry.k8s.io/pause:3.10"
    std::string archive;    ///< Path of the tar on the host.
};

/// One line an image: name, reference, archive, separated by white space.
Result<std::vector<Image>> parse_image_list(const std::string& text);

/// The images that nodes get: those of the recipes, whether in the cache or not, and Basalt's own,
/// if built.
Result<std::vector<Image>> list_images(const Paths& paths);

/// First image whose reference is "<anything>/<repository>:<tag>"; `tag` may be empty for any.
/// Errors: NotFound.
Result<Image> find_image(const std::vector<Image>& images, const std::string& repository,
                         const std::string& tag = {});

/// Path and change time of an archive, to tell whether it is the one that was used last time.
Result<std::string> archive_stamp(const Image& image);

/// Tag of Basalt's own image on local clusters, ghcr.io/basalt/basalt.
inline constexpr const char* kBasaltTag = "dev";
/// Makes Basalt's own image from the programs that lie beside this one, if they do.
Result<void> build_own_image(const Paths& paths);

struct ArtifactSource {
    bool pull = false;       ///< Else build.
    std::string registry{};  ///< HOST:PORT to pull from; empty: from where an image's name says.
};
/// Builds or pulls what the cache lacks; `line` gets what the recipes print.
Result<void> ensure_artifacts(const Paths& paths, const std::string& kubernetes_version,
                              const ArtifactSource& source,
                              const std::function<void(std::string_view)>& line);

/// Imports archives that the node does not have yet (or has in an older build).
Result<void> import_images(const Node& node, const std::vector<Image>& images,
                           const std::function<void(std::string_view)>& line);

/// "registry.k8s.io/coredns/coredns:v1.12.0" -> repository "registry.k8s.io/coredns", name, tag.
struct ImageName {
    std::string repository;
    std::string name;
    std::string tag;
};
ImageName split_reference(const std::string& reference);

}  // namespace basalt::local
