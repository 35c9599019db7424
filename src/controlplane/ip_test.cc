#include "controlplane/ip.h"

#include <gtest/gtest.h>

namespace basalt::controlplane {
namespace {

TEST(Network, FindsAddressesByOffset) {
    EXPECT_EQ(Network::parse("10.96.0.0/16")->address_at(10).value(), "10.96.0.10");
    EXPECT_EQ(Network::parse("10.96.3.7/16")->address_at(10).value(), "10.96.0.10");
    EXPECT_EQ(Network::parse("10.0.0.248/29")->address_at(7).value(), "10.0.0.255");
    EXPECT_EQ(Network::parse("10.0.0.0/16")->address_at(0x1ff).value(), "10.0.1.255");
    EXPECT_EQ(Network::parse("fd00::/108")->address_at(0x10).value(), "fd00::10");
}

TEST(Network, SaysWhenItIsTooSmall) {
    auto address = Network::parse("10.96.0.0/30")->address_at(10);
    ASSERT_FALSE(address.ok());
    EXPECT_EQ(address.error().code(), Code::kOutOfRange);
    EXPECT_FALSE(Network::parse("255.255.255.0/24")->address_at(256).ok());
}

TEST(Network, ContainsOnlyItsFamily) {
    auto network = Network::parse("10.96.0.0/16").value();
    EXPECT_TRUE(network.contains("10.96.255.255"));
    EXPECT_FALSE(network.contains("10.97.0.0"));
    EXPECT_FALSE(network.contains("::1"));
    EXPECT_FALSE(network.contains("dns"));
}

TEST(Network, RefusesWhatIsNoCidr) {
    for (const char* text : {"", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0/8", "fd00::/129",
                             "/8", "10.0.0.0/8x", "::ffff:1.2.3.4/"}) {
        EXPECT_FALSE(Network::parse(text).ok()) << text;
    }
}

}  // namespace
}  // namespace basalt::controlplane
