#include "kube/packed_object.h"

#include <cstring>
#include <limits>

#include "base/assert.h"
#include "data/json.h"
#include "net/deflate.h"

namespace basalt::kube {

PackedObject::PackedObject(const Value& object) {
    const std::string text = data::to_json(object);
    const std::string packed = net::deflate(text);
    BASALT_ASSERT(std::max(text.size(), packed.size()) <= std::numeric_limits<uint32_t>::max());
    text_size_ = static_cast<uint32_t>(text.size());
    packed_size_ = static_cast<uint32_t>(packed.size());
    bytes_ = std::make_unique_for_overwrite<char[]>(packed.size());
    std::memcpy(bytes_.get(), packed.data(), packed.size());
}

SharedValue PackedObject::unpack() const {
    const std::string text = net::inflate({bytes_.get(), packed_size_}, text_size_);
    data::ParseOptions options;
    options.max_size = text.size();
    Result<Value> object = data::parse_json(text, options);
    BASALT_ASSERT(object.ok());
    return std::make_shared<const Value>(std::move(*object));
}

}  // namespace basalt::kube
