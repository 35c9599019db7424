// mount(2) and friends with Errors that say what was mounted where. They act on the caller's mount
// namespace.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace basalt::linux {

/// A new file system at `target`; the directory is made. `data` as in mount(8)'s -o without generic
/// flags.
Result<void> mount_new(const std::string& type, const std::string& target,
                       const std::string& data = {}, const std::string& source = {});
/// The tree (or file) at `source`, submounts included, also at `target`, which is made.
Result<void> mount_bind(const std::string& source, const std::string& target,
                        bool read_only = false);
/// Writable layer `upper` over the read-only `lower`; `work` must be on the file system of `upper`.
Result<void> mount_overlay(const std::string& lower, const std::string& upper,
                           const std::string& work, const std::string& target);
Result<void> make_mounts_private();
/// Mounts below "/" propagate among namespaces made from this one later (what kubelet's volumes
/// need).
Result<void> make_mounts_shared();
/// Makes `root` the root directory and forgets the old one, with all its mounts.
Result<void> pivot_into(const std::string& root);

}  // namespace basalt::linux
