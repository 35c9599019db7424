// IP addresses and networks. Pure values.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace basalt {

class IpAddress {
 public:
    /// A literal IPv4 or IPv6 address without zone or port, as inet_pton(3) reads it.
    static std::optional<IpAddress> parse(std::string_view text);
    /// 4 or 16 of them, most significant first.
    static std::optional<IpAddress> from_bytes(std::span<const uint8_t> bytes);

    bool is_v6() const { return size_ == 16; }
    std::span<const uint8_t> bytes() const { return {bytes_.data(), size_}; }
    /// As inet_ntop(3) writes it, so that two texts of one address become the same.
    std::string to_string() const;
    bool operator==(const IpAddress&) const = default;

 private:
    IpAddress() = default;
    std::array<uint8_t, 16> bytes_{};
    size_t size_ = 4;
};

bool is_ip_address(std::string_view text);
bool is_ipv6_address(std::string_view text);

class IpNetwork {
 public:
    /// "10.96.0.0/16", "fd00::/108". Host bits are dropped, as Go's net.ParseCIDR does for the
    /// network.
    static Result<IpNetwork> parse(std::string_view cidr);
    /// The network that `address` lies in; `prefix_length` at most 32 or 128.
    IpNetwork(const IpAddress& address, int prefix_length);

    bool is_v6() const { return first_.is_v6(); }
    int prefix_length() const { return prefix_length_; }
    /// The address `offset` above the network's; OutOfRange when that lies outside of it.
    Result<std::string> address_at(uint32_t offset) const;
    /// False also for an address of the other family.
    bool contains(const IpAddress& address) const;
    /// False also for what is no address.
    bool contains(std::string_view address) const;

 private:
    IpAddress first_;
    int prefix_length_;
};

}  // namespace basalt
