// Any bytes as HTTP/1.1 messages: the same outcome whole and in pieces, and no more kept than the
// limit allows.
#include <cstdlib>

#include "net/http1_codec.h"

namespace {

using basalt::net::internal::Http1Parser;

struct Outcome {
    bool ok = true;
    bool done = false;
    std::string body;
};

constexpr size_t kMaxHeaderSize = 256;

Outcome parse(Http1Parser::Kind kind, std::string_view bytes, size_t step) {
    Http1Parser parser(kind, {kMaxHeaderSize, 65536});
    Outcome outcome;
    while (!bytes.empty() && outcome.ok && !parser.done()) {
        std::string_view part = bytes.substr(0, step);
        bytes.remove_prefix(part.size());
        outcome.ok = parser.feed(part).ok();
        outcome.body += parser.take_body();
    }
    const bool waits = outcome.ok && !parser.done();
    if (waits && parser.take_rest().size() > kMaxHeaderSize) std::abort();
    if (waits) outcome.ok = parser.feed_end().ok();
    outcome.body += parser.take_body();
    outcome.done = outcome.ok && parser.done();
    if (parser.has_header()) {
        parser.headers();
        parser.keep_alive();
        parser.expects_continue();
    }
    return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < 2) return 0;
    auto kind = (data[0] & 1) != 0 ? Http1Parser::Kind::kRequest : Http1Parser::Kind::kResponse;
    size_t step = data[1] % 64 + size_t{1};
    std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
    Outcome whole = parse(kind, bytes, bytes.size() + 1);
    Outcome pieces = parse(kind, bytes, step);
    if (whole.done && pieces.done && whole.body != pieces.body) std::abort();
    return 0;
}
