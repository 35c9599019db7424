// Dialling on behalf of an API server that has no tunnel: what a tenant can steer may reach the
// tenant's nodes and nothing of the provider.
//
// A name is resolved first, every address it has is looked at, and exactly an address that was
// looked at is dialled: an answer that changes in between changes nothing. One forbidden address
// among several refuses the dial; a name that leads to both sides of the wall is no accident.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/ip.h"
#include "base/result.h"
#include "tunnel/agent_link.h"

namespace basalt::tunnel {

/// Which addresses may be dialled. Never: loopback, link-local, multicast, unspecified, reserved
/// ranges and ways to write an IPv4 address as an IPv6 one; and what was denied.
class AddressFilter {
 public:
    AddressFilter();
    /// "10.0.0.0/8", "fd00::/8", or a single address. InvalidArgument for anything else.
    Result<void> deny(std::string_view range);
    /// False for what is no address at all.
    bool permits(std::string_view address) const;

 private:
    std::vector<IpNetwork> denied_;
};

/// TCP to "host:port" as far as `filter` permits; PermissionDenied otherwise.
TargetDialer make_filtered_dialer(async::Loop& loop, AddressFilter filter,
                                  Duration timeout = kTargetDialTimeout);

}  // namespace basalt::tunnel
