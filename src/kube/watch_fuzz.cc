// Whatever a server sends as the answer to a watch, in chunks of any size.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "kube/watch.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size == 0) return 0;
    const size_t chunk_size = data[0] + 1U;
    const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
    basalt::kube::WatchDecoder decoder;
    for (size_t at = 0; at < text.size(); at += chunk_size) {
        decoder.feed(text.substr(at, chunk_size));
        for (;;) {
            const auto event = decoder.next();
            if (!event.ok()) return 0;
            if (!event->has_value()) break;
            (void)basalt::kube::is_initial_events_end(**event);
            (void)basalt::kube::key_of((*event)->object);
            (void)basalt::kube::owner_references((*event)->object);
        }
    }
    (void)decoder.idle();
    return 0;
}
