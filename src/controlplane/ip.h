// IP addresses and networks, as far as a spec names them. Pure.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace basalt::controlplane {

/// True for a literal IPv4 or IPv6 address without zone or port.
bool is_ip_address(std::string_view text);
bool is_ipv6_address(std::string_view text);

class Network {
 public:
    /// "10.96.0.0/16", "fd00::/108". Host bits are dropped, as Go's net.ParseCIDR does for the
    /// network.
    static Result<Network> parse(std::string_view cidr);
    bool is_v6() const { return size_ == 16; }
    int prefix_length() const { return prefix_length_; }
    /// The address `offset` above the network's; OutOfRange when that lies outside of it.
    Result<std::string> address_at(uint32_t offset) const;
    /// False also for an address of the other family or none at all.
    bool contains(std::string_view address) const;

 private:
    std::array<uint8_t, 16> bytes_{};
    size_t size_ = 4;
    int prefix_length_ = 0;
};

}  // namespace basalt::controlplane
