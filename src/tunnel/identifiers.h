// What an agent says of itself, and how a tunnel server picks one for an address.
//
// Identifiers arrive URL-encoded in metadata: "host=node-1&ipv4=10.0.0.1&default-route=true".
// Unknown types are ignored, as in upstream. Pure functions, any thread.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace basalt::tunnel {

struct Identifiers {
    std::vector<std::string> ipv4;
    std::vector<std::string> ipv6;
    std::vector<std::string> hosts;
    std::vector<std::string> cidrs;
    bool default_route = false;

    friend bool operator==(const Identifiers&, const Identifiers&) = default;
    /// True when `host` is one of ipv4, ipv6 or hosts.
    bool serves_host(std::string_view host) const;
};

/// Bytes of the whole text; a node has a handful of addresses.
inline constexpr size_t kMaxIdentifiersSize = 4096;

Result<Identifiers> parse_identifiers(std::string_view text);

/// How to choose; tried in order until one finds an agent (--proxy-strategies).
enum class Strategy {
    kDefault,       ///< "default": any agent, at random.
    kDestHost,      ///< "destHost": one that named the destination among its identifiers.
    kDefaultRoute,  ///< "defaultRoute": one that announced default-route=true.
};

/// "destHost,default"; InvalidArgument when empty or unknown.
Result<std::vector<Strategy>> parse_strategies(std::string_view text);

/// "10.0.0.1:443" and "[fd00::1]:443" without the port.
std::string_view host_of(std::string_view address);

}  // namespace basalt::tunnel
