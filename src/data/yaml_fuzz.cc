// Parsing never crashes; what it accepts, and any text as a string, prints and reads back equal.
#include <cstdint>
#include <string>

#include "base/assert.h"
#include "data/yaml.h"

using namespace basalt;
using namespace basalt::data;

namespace {

void check(const std::vector<Value>& documents) {
    const Result<std::vector<Value>> again = parse_yaml_documents(to_yaml_documents(documents));
    BASALT_ASSERT(again.ok());
    BASALT_ASSERT(*again == documents);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const Result<std::vector<Value>> documents = parse_yaml_documents(text);
    // Aliases may make the printed text larger than the limit.
    if (documents.ok() && to_yaml_documents(*documents).size() < limits::kMiB) check(*documents);
    const Result<Value> clean = parse_json(to_json(Value(text)));  // bad UTF-8 replaced
    BASALT_ASSERT(clean.ok());
    check({*clean, Value::array({*clean}),
           Value::object({{clean->as_string(), *clean}, {"k", Value::array({*clean})}})});
    return 0;
}
