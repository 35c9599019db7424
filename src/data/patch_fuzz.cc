// The input is a JSON array of two documents: the second is applied to the first as a patch of each
// kind, and the difference between them must lead from the first to the second.
#include <cstdint>
#include <string>

#include "base/assert.h"
#include "data/json.h"
#include "data/patch.h"
#include "data/pointer.h"

using namespace basalt;
using namespace basalt::data;

namespace {

bool has_null(const Value& value) {
    if (value.is_null()) return true;
    for (const Value& item : value.items()) {
        if (has_null(item)) return true;
    }
    for (const Member& member : value.members()) {
        if (has_null(member.value)) return true;
    }
    return false;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const Result<Value> input = parse_json({reinterpret_cast<const char*>(data), size});
    if (!input.ok()) return 0;
    const Value& from = (*input)[0];
    const Value& to = (*input)[1];
    const Result<Value> patched = apply_json_patch(from, to);
    if (patched.ok()) BASALT_ASSERT(parse_json(to_json(*patched)).value() == *patched);
    (void)apply_merge_patch(from, to);

    const Result<Value> reached = apply_json_patch(from, diff_to_json_patch(from, to));
    BASALT_ASSERT(reached.ok() || reached.error().code() == Code::kResourceExhausted);
    if (reached.ok()) BASALT_ASSERT(*reached == to);
    if (!has_null(to)) BASALT_ASSERT(apply_merge_patch(from, merge_diff(from, to)) == to);

    const std::string pointer = (*input)[2].str();
    Value document = from;
    if (pointer_set(document, pointer, to).ok() && pointer.find("/-") == std::string::npos) {
        BASALT_ASSERT(pointer_get(document, pointer).value() == to);
        BASALT_ASSERT(pointer_remove(document, pointer).ok());
    }
    return 0;
}
