#include "local/address_plan.h"

#include <algorithm>
#include <string_view>

#include <fmt/format.h>

#include "base/strings.h"

namespace basalt::local {
namespace {

constexpr int kFirstSecondOctet = 200;
constexpr int kFirstNodeHost = 10;  // node 1 is .11

}  // namespace

std::string AddressPlan::bridge() const { return fmt::format("basalt{}", index); }
std::string AddressPlan::node_network() const {
    return fmt::format("10.{}.0.0/16", kFirstSecondOctet + index);
}
std::string AddressPlan::host_address() const {
    return fmt::format("10.{}.0.1", kFirstSecondOctet + index);
}
std::string AddressPlan::host_cidr() const { return host_address() + "/16"; }
std::string AddressPlan::node_address(int node) const {
    return fmt::format("10.{}.0.{}", kFirstSecondOctet + index, kFirstNodeHost + node);
}
std::string AddressPlan::node_cidr(int node) const { return node_address(node) + "/16"; }
std::string AddressPlan::host_interface(int node) const {
    return fmt::format("bs{}n{}", index, node);
}
std::string AddressPlan::load_balancer_range() const {
    return fmt::format("10.{0}.8.1-10.{0}.8.254", kFirstSecondOctet + index);
}
std::vector<std::string> AddressPlan::protected_ranges() const {
    std::vector<std::string> ranges = {kPodRange, kServiceRange};
    // 10.x.0.0/16 without 10.x.4.0/22.
    for (const char* part : {"0.0/22", "8.0/21", "16.0/20", "32.0/19", "64.0/18", "128.0/17"}) {
        ranges.push_back(fmt::format("10.{}.{}", kFirstSecondOctet + index, part));
    }
    return ranges;
}
std::string AddressPlan::registry() const {
    return fmt::format("{}:{}", host_address(), kRegistryPort);
}
std::string AddressPlan::api_server() const {
    return fmt::format("https://{}:6443", node_address(1));
}
std::string AddressPlan::pod_cidr(int node) { return fmt::format("10.32.{}.0/24", node); }
std::string AddressPlan::pod_gateway(int node) { return fmt::format("10.32.{}.1", node); }

std::string node_name(const std::string& cluster, int node) {
    return fmt::format("{}-{}", cluster, node);
}

int choose_index(const std::vector<int>& taken, const std::string& routes) {
    for (int index = 0; index < kClustersMax; ++index) {
        if (std::find(taken.begin(), taken.end(), index) != taken.end()) continue;
        const std::string prefix = fmt::format("10.{}.", kFirstSecondOctet + index);
        bool used = false;
        for (std::string_view line : split(routes, '\n')) {
            for (std::string_view word : split(line, ' ')) used = used || word.starts_with(prefix);
        }
        if (!used) return index;
    }
    return -1;
}

}  // namespace basalt::local
