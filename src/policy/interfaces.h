// Which of a node's network interfaces lead to addresses, as the kernel's routes say. Pure.
#pragma once

#include <set>
#include <string>
#include <string_view>

namespace basalt::policy {

/// The interfaces of the longest routes to `addresses`, from the texts of /proc/net/route and
/// /proc/net/ipv6_route. Not among them: loopback, and what a default route leads through, which is
/// the way out of the node also where Pods share it. Lines that are not understood are skipped.
std::set<std::string> interfaces_to(const std::set<std::string>& addresses,
                                    std::string_view v4_routes, std::string_view v6_routes);

}  // namespace basalt::policy
