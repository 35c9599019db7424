// Which collections the controllers and webhooks watch, and how: who asks for the same shares a
// cache.
#pragma once

#include <string>

#include "kube/cache.h"

namespace basalt::controlplane {

/// Selects what control planes own, their Pods included.
std::string owned_selector();
/// Objects that we apply to or write the status of, with the fields that are ours.
kube::CacheOptions applied_options(const kube::Resource& resource, std::string label_selector = {});
/// What control planes own, by our label. Packed: it is four fifths of what is cached for one, and
/// read by name in its own passes.
kube::CacheOptions owned_options(const kube::Resource& resource);

}  // namespace basalt::controlplane
