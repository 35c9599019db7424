// Any text as URL, endpoint, and percent-encoding; what parses must survive printing.
#include <cstdlib>

#include "net/http.h"
#include "net/stream.h"
#include "net/url.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace basalt::net;
    std::string_view text(reinterpret_cast<const char*>(data), size);
    auto url = parse_url(text);
    if (url.ok() && url->scheme != "unix") {
        auto again = parse_url(url->to_string());
        if (again.ok() && again->to_string() != url->to_string()) std::abort();
    }
    auto endpoint = parse_endpoint(text);
    if (endpoint.ok() && !parse_endpoint(endpoint->to_string()).ok() && !endpoint->host.empty())
        std::abort();
    auto decoded = percent_decode(text, false);
    if (decoded.ok()) {
        auto again = percent_decode(percent_encode(*decoded), false);
        if (!again.ok() || *again != *decoded) std::abort();
    }
    return 0;
}
