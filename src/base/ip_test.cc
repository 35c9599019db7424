#include "base/ip.h"

#include <gtest/gtest.h>

namespace basalt {
namespace {

TEST(IpAddress, HasOneTextForEachAddress) {
    EXPECT_EQ(IpAddress::parse("10.0.0.1")->to_string(), "10.0.0.1");
    EXPECT_EQ(IpAddress::parse("FD00:0:0:0::1")->to_string(), "fd00::1");
    EXPECT_EQ(IpAddress::parse("fd00::1"), IpAddress::parse("fd00:0::0:1"));
    EXPECT_NE(IpAddress::parse("::"), IpAddress::parse("0.0.0.0"));
}

TEST(IpAddress, RefusesWhatIsNone) {
    const std::string hidden("10.0.0.1\0.example", 17);
    for (std::string_view text :
         {std::string_view(""), std::string_view("10.0.0"), std::string_view("10.0.0.256"),
          std::string_view("10.0.0.1:80"), std::string_view("fe80::1%eth0"),
          std::string_view("[::1]"), std::string_view("dns"), std::string_view(hidden)}) {
        EXPECT_FALSE(is_ip_address(text)) << text;
    }
    EXPECT_TRUE(is_ip_address("::1"));
    EXPECT_TRUE(is_ipv6_address("::ffff:10.0.0.1"));
    EXPECT_FALSE(is_ipv6_address("10.0.0.1"));
}

TEST(IpAddress, ComesFromFourOrSixteenBytes) {
    const std::array<uint8_t, 16> bytes = {0xfd, 1, 2, 3};
    EXPECT_EQ(IpAddress::from_bytes(bytes)->to_string(), "fd01:203::");
    EXPECT_EQ(IpAddress::from_bytes(std::span(bytes).first(4))->to_string(), "253.1.2.3");
    EXPECT_FALSE(IpAddress::from_bytes(std::span(bytes).first(5)));
}

TEST(IpNetwork, FindsAddressesByOffset) {
    EXPECT_EQ(IpNetwork::parse("10.96.0.0/16")->address_at(10).value(), "10.96.0.10");
    EXPECT_EQ(IpNetwork::parse("10.96.3.7/16")->address_at(10).value(), "10.96.0.10");
    EXPECT_EQ(IpNetwork::parse("10.0.0.248/29")->address_at(7).value(), "10.0.0.255");
    EXPECT_EQ(IpNetwork::parse("10.0.0.0/16")->address_at(0x1ff).value(), "10.0.1.255");
    EXPECT_EQ(IpNetwork::parse("fd00::/108")->address_at(0x10).value(), "fd00::10");
}

TEST(IpNetwork, SaysWhenItIsTooSmall) {
    auto address = IpNetwork::parse("10.96.0.0/30")->address_at(10);
    ASSERT_FALSE(address.ok());
    EXPECT_EQ(address.error().code(), Code::kOutOfRange);
    EXPECT_FALSE(IpNetwork::parse("255.255.255.0/24")->address_at(256).ok());
}

TEST(IpNetwork, ContainsOnlyItsFamily) {
    auto network = IpNetwork::parse("10.96.0.0/16").value();
    EXPECT_TRUE(network.contains("10.96.255.255"));
    EXPECT_FALSE(network.contains("10.97.0.0"));
    EXPECT_FALSE(network.contains("::1"));
    EXPECT_FALSE(network.contains("dns"));
    EXPECT_TRUE(IpNetwork::parse("::/0")->contains("::ffff:10.96.0.1"));
    EXPECT_FALSE(IpNetwork::parse("0.0.0.0/0")->contains("::ffff:10.96.0.1"));
}

TEST(IpNetwork, RefusesWhatIsNoCidr) {
    for (const char* text : {"", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0/8", "fd00::/129",
                             "/8", "10.0.0.0/8x", "10.0.0.0/+8", "::ffff:1.2.3.4/"}) {
        EXPECT_FALSE(IpNetwork::parse(text).ok()) << text;
    }
}

}  // namespace
}  // namespace basalt
