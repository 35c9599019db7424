// Text that must not show up anywhere: keys, tokens, passwords.
//
// A Secret owns its bytes, wipes them when it ends or is overwritten, and has no conversion to a
// string, a log field, a format argument or a stream; whoever needs the text says so with reveal().
// Equality takes the same time wherever the first difference is. Copies made from reveal() are the
// caller's to guard.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace basalt {

class Secret {
 public:
    Secret() noexcept = default;
    explicit Secret(std::string_view text);
    explicit Secret(const char* text) : Secret(std::string_view(text)) {}
    explicit Secret(const std::string& text) : Secret(std::string_view(text)) {}
    /// Takes the text and wipes the source.
    explicit Secret(std::string&& text);
    Secret(const Secret& other);
    Secret(Secret&& other) noexcept;
    Secret& operator=(const Secret& other);
    Secret& operator=(Secret&& other) noexcept;
    ~Secret();

    /// Valid as long as this Secret is neither changed nor moved.
    std::string_view reveal() const noexcept { return {data_.get(), size_}; }
    bool empty() const noexcept { return size_ == 0; }
    size_t size() const noexcept { return size_; }

    friend bool operator==(const Secret& a, const Secret& b) noexcept;

 private:
    void wipe() noexcept;
    std::unique_ptr<char[]>
        data_;  // not std::string: its small buffer would leave bytes behind on moves
    size_t size_ = 0;
};

/// Overwrites memory in a way the optimiser keeps.
void secure_wipe(void* data, size_t size) noexcept;
/// In time that depends on the sizes only.
bool constant_time_equal(std::string_view a, std::string_view b) noexcept;

}  // namespace basalt
