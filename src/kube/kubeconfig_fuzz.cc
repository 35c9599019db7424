// A kubeconfig that somebody handed to us, and label selectors.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "kube/config.h"
#include "kube/object.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const auto selector = basalt::kube::LabelSelector::parse(text);
    if (selector.ok()) {
        const auto again = basalt::kube::LabelSelector::parse(selector->to_string());
        if (!again.ok() || again->to_string() != selector->to_string()) __builtin_trap();
    }
    const auto config = basalt::kube::Kubeconfig::parse(text, "/nowhere");
    if (!config.ok()) return 0;
    (void)config->resolve();
    for (const auto& context : config->contexts()) (void)config->resolve(context);
    return 0;
}
