#include "base/ip.h"

#include <arpa/inet.h>

#include <algorithm>

#include <fmt/format.h>

#include "base/assert.h"
#include "base/strings.h"

namespace basalt {
namespace {

int bits_count(const IpAddress& address) { return static_cast<int>(address.bytes().size()) * 8; }

IpAddress without_host_bits(const IpAddress& address, int prefix_length) {
    std::array<uint8_t, 16> bytes{};
    const std::span<const uint8_t> whole = address.bytes();
    for (size_t i = 0; i < whole.size(); ++i) {
        const int kept = std::clamp(prefix_length - static_cast<int>(i) * 8, 0, 8);
        bytes[i] = static_cast<uint8_t>(whole[i] & static_cast<uint8_t>(0xff00 >> kept));
    }
    return *IpAddress::from_bytes(std::span<const uint8_t>(bytes).first(whole.size()));
}

}  // namespace

std::optional<IpAddress> IpAddress::parse(std::string_view text) {
    const std::string copy(text);
    if (copy.find('\0') != std::string::npos) return std::nullopt;
    IpAddress address;
    if (inet_pton(AF_INET, copy.c_str(), address.bytes_.data()) == 1) return address;
    address.size_ = 16;
    if (inet_pton(AF_INET6, copy.c_str(), address.bytes_.data()) == 1) return address;
    return std::nullopt;
}

std::optional<IpAddress> IpAddress::from_bytes(std::span<const uint8_t> bytes) {
    if (bytes.size() != 4 && bytes.size() != 16) return std::nullopt;
    IpAddress address;
    address.size_ = bytes.size();
    std::copy(bytes.begin(), bytes.end(), address.bytes_.begin());
    return address;
}

std::string IpAddress::to_string() const {
    char text[INET6_ADDRSTRLEN] = {};
    inet_ntop(is_v6() ? AF_INET6 : AF_INET, bytes_.data(), text, sizeof text);
    return text;
}

bool is_ip_address(std::string_view text) { return IpAddress::parse(text).has_value(); }

bool is_ipv6_address(std::string_view text) {
    const std::optional<IpAddress> address = IpAddress::parse(text);
    return address && address->is_v6();
}

Result<IpNetwork> IpNetwork::parse(std::string_view cidr) {
    if (const auto parts = cut(cidr, "/")) {
        const std::optional<IpAddress> address = IpAddress::parse(parts->first);
        const std::optional<int> length = parse_number<int>(parts->second);
        if (address && length && *length >= 0 && *length <= bits_count(*address))
            return IpNetwork(*address, *length);
    }
    return invalid_argument(
        fmt::format("\"{}\" is not a CIDR: write it like 10.96.0.0/16 or fd00::/108", cidr));
}

IpNetwork::IpNetwork(const IpAddress& address, int prefix_length)
    : first_(without_host_bits(address, prefix_length)), prefix_length_(prefix_length) {
    BASALT_ASSERT(prefix_length >= 0 && prefix_length <= bits_count(address));
}

Result<std::string> IpNetwork::address_at(uint32_t offset) const {
    std::array<uint8_t, 16> bytes{};
    const std::span<const uint8_t> first = first_.bytes();
    std::copy(first.begin(), first.end(), bytes.begin());
    uint32_t carry = offset;
    for (size_t i = first.size(); i-- > 0 && carry != 0;) {
        const uint64_t sum = uint64_t{bytes[i]} + carry;
        bytes[i] = static_cast<uint8_t>(sum);
        carry = static_cast<uint32_t>(sum >> 8);
    }
    const auto address = IpAddress::from_bytes(std::span<const uint8_t>(bytes).first(first.size()));
    if (carry == 0 && contains(*address)) return address->to_string();
    return Error(Code::kOutOfRange, fmt::format("{}/{} is too small for address number {}",
                                                first_.to_string(), prefix_length_, offset));
}

bool IpNetwork::contains(const IpAddress& address) const {
    return address.is_v6() == is_v6() && without_host_bits(address, prefix_length_) == first_;
}

bool IpNetwork::contains(std::string_view address) const {
    const std::optional<IpAddress> parsed = IpAddress::parse(address);
    return parsed && contains(*parsed);
}

}  // namespace basalt
