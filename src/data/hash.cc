#include "data/hash.h"

#include <fmt/format.h>

#include <cstring>

namespace basalt::data {
namespace {

constexpr uint64_t kPrime = 0x9e3779b97f4a7c15;

/// The finaliser of SplitMix64: every bit of the input reaches every bit of the output.
uint64_t mix(uint64_t x) noexcept {
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

/// Eight bytes a step, little-endian on every machine.
uint64_t hash_text(std::string_view text, uint64_t seed) noexcept {
    uint64_t state = seed ^ text.size() * kPrime;
    for (size_t i = 0; i < text.size(); i += 8) {
        uint64_t word = 0;
        const size_t count = text.size() - i < 8 ? text.size() - i : 8;
        for (size_t j = 0; j < count; ++j) {
            word |= static_cast<uint64_t>(static_cast<unsigned char>(text[i + j])) << (8 * j);
        }
        state = mix(state ^ word) + kPrime;
    }
    return mix(state);
}

enum Tag : uint64_t {
    kNullTag = 1,
    kFalseTag,
    kTrueTag,
    kPositiveTag,
    kNegativeTag,
    kDoubleTag,
    kStringTag,
    kArrayTag,
    kObjectTag
};

uint64_t hash_number(const Value& value) noexcept {
    // The same number hashes the same in each representation that can hold it.
    if (value.as_int(0) < 0) return mix(mix(kNegativeTag) ^ static_cast<uint64_t>(value.as_int()));
    if (value.as_uint(0) != 0 || value.as_double() == 0)
        return mix(mix(kPositiveTag) ^ value.as_uint(0));
    const double number = value.as_double();
    uint64_t bits = 0;
    std::memcpy(&bits, &number, sizeof bits);
    return mix(mix(kDoubleTag) ^ bits);
}

}  // namespace

uint64_t fnv1a(std::string_view bytes, uint64_t seed) noexcept {
    for (const char c : bytes) {
        seed ^= static_cast<unsigned char>(c);
        seed *= 0x100000001b3;
    }
    return seed;
}

uint64_t hash(const Value& value) noexcept {
    switch (value.type()) {
        case Type::kNull: return mix(kNullTag);
        case Type::kBool: return mix(value.as_bool() ? kTrueTag : kFalseTag);
        case Type::kString: return hash_text(value.as_string(), kStringTag);
        case Type::kArray: {
            uint64_t state = mix(kArrayTag);
            for (const Value& item : value.items()) state = mix(state ^ hash(item)) + kPrime;
            return state;
        }
        case Type::kObject: {
            uint64_t sum = 0;  // a sum, so that the order does not matter
            for (const Member& member : value.members()) {
                sum += mix(hash_text(member.key(), kObjectTag) + mix(hash(member.value) ^ kPrime));
            }
            return mix(sum ^ mix(kObjectTag + value.size()));
        }
        default: return hash_number(value);
    }
}

std::string hash_hex(uint64_t hash) { return fmt::format("{:016x}", hash); }

}  // namespace basalt::data
