#include "controlplane/cache_options.h"

#include <fmt/format.h>

#include "controlplane/names.h"

namespace basalt::controlplane {

std::string owned_selector() { return fmt::format("{}={}", names::kProjectLabel, names::kProject); }

kube::CacheOptions applied_options(const kube::Resource& resource, std::string label_selector) {
    kube::CacheOptions options(resource);
    options.label_selector = std::move(label_selector);
    options.keep_manager = std::string(names::kFieldManager);
    return options;
}

kube::CacheOptions owned_options(const kube::Resource& resource) {
    kube::CacheOptions options = applied_options(resource, owned_selector());
    options.packed = true;
    return options;
}

}  // namespace basalt::controlplane
