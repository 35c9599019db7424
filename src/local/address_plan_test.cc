#include "local/address_plan.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <set>

namespace basalt::local {
namespace {

TEST(AddressPlan, FirstClusterByHand) {
    const AddressPlan plan{0};
    EXPECT_EQ(plan.bridge(), "basalt0");
    EXPECT_EQ(plan.host_cidr(), "10.200.0.1/16");
    EXPECT_EQ(plan.node_cidr(1), "10.200.0.11/16");
    EXPECT_EQ(plan.load_balancer_range(), "10.200.8.1-10.200.8.254");
    EXPECT_EQ(fmt::format("{}", fmt::join(plan.protected_ranges(), " ")),
              "10.32.0.0/16 10.33.0.0/16 10.200.0.0/22 10.200.8.0/21 10.200.16.0/20 10.200.32.0/19 "
              "10.200.64.0/18 10.200.128.0/17");
    EXPECT_EQ(plan.registry(), "10.200.0.1:5000");
    EXPECT_EQ(plan.api_server(), "https://10.200.0.11:6443");
    EXPECT_EQ(AddressPlan::pod_cidr(3), "10.32.3.0/24");
    EXPECT_EQ(node_name("test", 2), "test-2");
}

TEST(AddressPlan, NothingCollidesOverAllClustersAndNodes) {
    std::set<std::string> seen;
    for (int index = 0; index < kClustersMax; ++index) {
        const AddressPlan plan{index};
        EXPECT_TRUE(seen.insert(plan.host_address()).second);
        EXPECT_TRUE(seen.insert(plan.bridge()).second);
        for (int node = 1; node <= kNodesMax; ++node) {
            const std::string address = plan.node_address(node);
            in_addr parsed{};
            EXPECT_EQ(::inet_pton(AF_INET, address.c_str(), &parsed), 1) << address;
            EXPECT_TRUE(seen.insert(address).second);
            EXPECT_TRUE(seen.insert(plan.host_interface(node)).second);
            EXPECT_LE(plan.host_interface(node).size(), 15U)
                << "the kernel's limit for interface names";
        }
    }
}

TEST(AddressPlan, ChoosesTheFirstFreeNetwork) {
    EXPECT_EQ(choose_index({}, ""), 0);
    EXPECT_EQ(choose_index({0, 2}, ""), 1);
    EXPECT_EQ(
        choose_index({}, "default via 192.0.2.1 dev eth0\n10.200.0.0/16 dev foo scope link\n"), 1);
    EXPECT_EQ(choose_index({1}, "local 10.200.3.4 dev lo\n"), 2);
    // 10.20.0.0 is not 10.200.0.0
    EXPECT_EQ(choose_index({}, "10.20.0.0/16 dev foo\n"), 0);
    std::vector<int> all;
    for (int index = 0; index < kClustersMax; ++index) all.push_back(index);
    EXPECT_EQ(choose_index(all, ""), -1);
}

}  // namespace
}  // namespace basalt::local
