// Where things lie on the host.
//
//   state   $BASALT_STATE or /var/lib/basalt: one directory a cluster; `basalt down` removes it
//   cache   $BASALT_CACHE or /var/cache/basalt: binaries, images and the registry's blobs; kept
//   share   manifests and recipes (deploy/, distribution/): --share-dir, $BASALT_SHARE_DIR,
//           <prefix>/share/basalt beside the program, or the source tree it was built from
#pragma once

#include <string>

#include "base/result.h"

namespace basalt::local {

struct Paths {
    std::string state;
    std::string cache;
    std::string share;
    std::string program;  ///< This executable.

    std::string cluster(const std::string& name) const { return state + "/" + name; }
    std::string node(const std::string& name, const std::string& node) const {
        return state + "/" + name + "/nodes/" + node;
    }
    std::string deploy() const { return share + "/deploy"; }
    std::string recipes() const { return share + "/distribution"; }
};

/// Errors: NotFound when no share directory is found, with the places that were tried.
Result<Paths> find_paths(const std::string& share_dir_option);

}  // namespace basalt::local
