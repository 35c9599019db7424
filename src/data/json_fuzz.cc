// Parsing never crashes; what it accepts prints and reads back equal; splitting does not depend on
// the chunks.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/assert.h"
#include "data/hash.h"
#include "data/json.h"

using namespace basalt;
using namespace basalt::data;

namespace {

std::vector<std::string> split(std::string_view text, size_t chunk) {
    std::vector<std::string> documents;
    JsonLineSplitter splitter(1000);
    for (size_t i = 0; i < text.size(); i += chunk) {
        splitter.feed(text.substr(i, chunk));
        for (;;) {
            const auto next = splitter.next();
            if (!next.ok()) {
                documents.emplace_back("error");
                return documents;
            }
            if (!next->has_value()) break;
            documents.emplace_back(**next);
        }
    }
    return documents;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const Result<Value> value = parse_json(text);
    if (value.ok()) {
        for (const std::string& printed :
             {to_json(*value), to_pretty_json(*value), to_canonical_json(*value)}) {
            const Result<Value> again = parse_json(printed);
            BASALT_ASSERT(again.ok());
            BASALT_ASSERT(*again == *value);
            BASALT_ASSERT(hash(*again) == hash(*value));
            BASALT_ASSERT(to_canonical_json(*again) == to_canonical_json(*value));
        }
    }
    BASALT_ASSERT(split(text, 1) == split(text, 7));
    return 0;
}
