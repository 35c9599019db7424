#include "base/secret.h"

#include <cstring>
#include <utility>

namespace basalt {

void secure_wipe(void* data, size_t size) noexcept {
    if (size == 0) return;
    std::memset(data, 0, size);
    // The barrier claims to read the memory, so the memset cannot be dropped as dead.
    __asm__ __volatile__("" : : "r"(data) : "memory");
}

bool constant_time_equal(std::string_view a, std::string_view b) noexcept {
    if (a.size() != b.size()) return false;
    unsigned char difference = 0;
    for (size_t i = 0; i < a.size(); ++i) {
        difference = static_cast<unsigned char>(
            difference | (static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(b[i])));
    }
    return difference == 0;
}

Secret::Secret(std::string_view text) : size_(text.size()) {
    if (text.empty()) return;
    data_ = std::make_unique<char[]>(size_);
    std::memcpy(data_.get(), text.data(), size_);
}

Secret::Secret(std::string&& text) : Secret(std::string_view(text)) {
    secure_wipe(text.data(), text.size());
    text.clear();
}

Secret::Secret(const Secret& other) : Secret(other.reveal()) {}

Secret::Secret(Secret&& other) noexcept
    : data_(std::move(other.data_)), size_(std::exchange(other.size_, 0)) {}

Secret& Secret::operator=(const Secret& other) {
    if (this != &other) *this = Secret(other);
    return *this;
}

Secret& Secret::operator=(Secret&& other) noexcept {
    if (this == &other) return *this;
    wipe();
    data_ = std::move(other.data_);
    size_ = std::exchange(other.size_, 0);
    return *this;
}

Secret::~Secret() { wipe(); }

void Secret::wipe() noexcept {
    if (data_) secure_wipe(data_.get(), size_);
    data_.reset();
    size_ = 0;
}

bool operator==(const Secret& a, const Secret& b) noexcept {
    return constant_time_equal(a.reveal(), b.reveal());
}

}  // namespace basalt
