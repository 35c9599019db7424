#include "controlplane/ip.h"

#include <arpa/inet.h>

#include <charconv>

#include <fmt/format.h>

namespace basalt::controlplane {
namespace {

// 4 or 16 bytes written, or 0 for what is no address.
size_t parse_address(std::string_view text, uint8_t* bytes) {
    std::string copy(text);
    if (copy.find('\0') != std::string::npos) return 0;
    if (inet_pton(AF_INET, copy.c_str(), bytes) == 1) return 4;
    if (inet_pton(AF_INET6, copy.c_str(), bytes) == 1) return 16;
    return 0;
}

std::string print_address(const uint8_t* bytes, size_t size) {
    char text[INET6_ADDRSTRLEN] = {};
    inet_ntop(size == 4 ? AF_INET : AF_INET6, bytes, text, sizeof text);
    return text;
}

void clear_host_bits(uint8_t* bytes, size_t size, int prefix_length) {
    for (size_t i = 0; i < size; ++i) {
        int kept = std::min(8, std::max(0, prefix_length - static_cast<int>(i) * 8));
        bytes[i] = static_cast<uint8_t>(bytes[i] & static_cast<uint8_t>(0xff00 >> kept));
    }
}

}  // namespace

bool is_ip_address(std::string_view text) {
    uint8_t bytes[16];
    return parse_address(text, bytes) != 0;
}

bool is_ipv6_address(std::string_view text) {
    uint8_t bytes[16];
    return parse_address(text, bytes) == 16;
}

Result<Network> Network::parse(std::string_view cidr) {
    size_t slash = cidr.find('/');
    Network network;
    if (slash != std::string_view::npos) {
        network.size_ = parse_address(cidr.substr(0, slash), network.bytes_.data());
        std::string_view length = cidr.substr(slash + 1);
        auto [end, error] =
            std::from_chars(length.data(), length.data() + length.size(), network.prefix_length_);
        if (network.size_ != 0 && error == std::errc() && end == length.data() + length.size() &&
            network.prefix_length_ >= 0 &&
            network.prefix_length_ <= static_cast<int>(network.size_) * 8) {
            clear_host_bits(network.bytes_.data(), network.size_, network.prefix_length_);
            return network;
        }
    }
    return invalid_argument(
        fmt::format("\"{}\" is not a CIDR: write it like 10.96.0.0/16 or fd00::/108", cidr));
}

Result<std::string> Network::address_at(uint32_t offset) const {
    std::array<uint8_t, 16> bytes = bytes_;
    uint32_t carry = offset;
    for (size_t i = size_; i-- > 0 && carry != 0;) {
        uint64_t sum = uint64_t{bytes[i]} + carry;
        bytes[i] = static_cast<uint8_t>(sum);
        carry = static_cast<uint32_t>(sum >> 8);
    }
    std::string text = print_address(bytes.data(), size_);
    if (carry != 0 || !contains(text)) {
        return Error(Code::kOutOfRange,
                     fmt::format("{}/{} is too small for address number {}",
                                 print_address(bytes_.data(), size_), prefix_length_, offset));
    }
    return text;
}

bool Network::contains(std::string_view address) const {
    std::array<uint8_t, 16> bytes{};
    if (parse_address(address, bytes.data()) != size_) return false;
    clear_host_bits(bytes.data(), size_, prefix_length_);
    return bytes == bytes_;
}

}  // namespace basalt::controlplane
