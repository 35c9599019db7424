#include "tunnel/direct.h"

#include "tunnel/env_test.h"

namespace basalt::tunnel {
namespace {

using namespace testing_support;  // NOLINT: a test

TEST(AddressFilter, NeverPermitsWhatIsNoNode) {
    AddressFilter filter;
    for (const char* address : {"127.0.0.1",
                                "127.255.255.254",
                                "0.0.0.0",
                                "0.1.2.3",
                                "169.254.169.254",
                                "224.0.0.1",
                                "255.255.255.255",
                                "::1",
                                "::",
                                "::127.0.0.1",
                                "::ffff:127.0.0.1",
                                "::ffff:8.8.8.8",
                                "64:ff9b::7f00:1",
                                "2002:7f00:1::",
                                "fe80::1",
                                "fe80::1%eth0",
                                "ff02::1",
                                "",
                                "localhost",
                                "0x7f.1",
                                "127.1",
                                "2130706433",
                                "1.2.3.4/8"}) {
        EXPECT_FALSE(filter.permits(address)) << address;
    }
    for (const char* address : {"8.8.8.8", "10.0.0.1", "172.31.0.1", "2001:db8::1", "fd00::1"}) {
        EXPECT_TRUE(filter.permits(address)) << address;
    }
}

TEST(AddressFilter, DeniesRangesToTheLastBit) {
    AddressFilter filter;
    ASSERT_TRUE(filter.deny("10.200.0.0/22").ok());
    ASSERT_TRUE(filter.deny("192.0.2.9").ok());
    ASSERT_TRUE(filter.deny("fd00:1::/33").ok());
    for (const char* address : {"10.200.0.0", "10.200.3.255", "192.0.2.9", "fd00:1:7fff::1"}) {
        EXPECT_FALSE(filter.permits(address)) << address;
    }
    for (const char* address : {"10.200.4.0", "10.199.255.255", "192.0.2.8", "192.0.2.10",
                                "fd00:1:8000::1", "fd00:2::"}) {
        EXPECT_TRUE(filter.permits(address)) << address;
    }
    ASSERT_TRUE(filter.deny("0.0.0.0/0").ok());
    EXPECT_FALSE(filter.permits("8.8.8.8"));
    EXPECT_TRUE(filter.permits("2001:db8::1"));
}

TEST(AddressFilter, RefusesWhatIsNoRange) {
    AddressFilter filter;
    for (const char* range : {"", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/", "fd00::/129", "a/8",
                              "10.0.0.0/8/8", "10.0.0"}) {
        EXPECT_FALSE(filter.deny(range).ok()) << range;
    }
}

using DirectTest = TunnelFixture;

TEST_F(DirectTest, DialsNothingForbiddenAndSaysSo) {
    Target& there = target();
    const std::string port = there.address().substr(there.address().rfind(':'));
    TargetDialer dialer = make_filtered_dialer(loop_, AddressFilter());
    for (const std::string& host : {std::string("127.0.0.1"), std::string("localhost"),
                                    std::string("[::1]"), std::string("[::ffff:127.0.0.1]")}) {
        auto stream = run(loop_, dialer(host + port));
        ASSERT_FALSE(stream.ok()) << host;
        EXPECT_EQ(stream.error().code(), Code::kPermissionDenied) << host;
    }
    for (const char* address : {"unix:/run/x.sock", "no port", ""}) {
        EXPECT_FALSE(run(loop_, dialer(address)).ok()) << address;
    }
    EXPECT_EQ(there.accepted_count(), 0u);
}

// What a tenant reads must not tell which names the provider's resolver knows.
TEST_F(DirectTest, UnknownNamesAndForbiddenOnesAreToldAlike) {
    TargetDialer dialer = make_filtered_dialer(loop_, AddressFilter());
    auto refusal = [&](const std::string& host) {
        auto stream = run(loop_, dialer(host + ":443"));
        EXPECT_FALSE(stream.ok()) << host;
        if (stream.ok()) return std::string();
        std::string text = stream.error().to_string();
        const size_t at = text.find(host);
        EXPECT_NE(at, std::string::npos) << text;
        return at == std::string::npos ? text : text.replace(at, host.size(), "NAME");
    };
    const std::string expected = refusal("localhost");
    EXPECT_EQ(refusal("no-such-name.invalid"), expected);
    EXPECT_EQ(refusal("127.0.0.1"), expected);
}

TEST_F(DirectTest, ServesTheApiServerWithoutAgents) {
    Target& there = target();
    // The address is this machine's own, so the filter cannot be what dials it here.
    TunnelServerConfig config;
    config.dialer = make_tcp_dialer(loop_);
    TestServer& s = server(std::move(config));
    Result<std::string> back = echo(s, there.address(), "without a tunnel");
    ASSERT_TRUE(back.ok()) << back.error().to_string();
    EXPECT_EQ(*back, "without a tunnel");
    EXPECT_TRUE(wait_until([&] { return s.tunnel().core().connections_count() == 0; }));
}

TEST_F(DirectTest, ARefusalReachesTheApiServer) {
    Target& there = target();
    TunnelServerConfig config;
    config.dialer = make_filtered_dialer(loop_, AddressFilter());
    TestServer& s = server(std::move(config));
    Result<std::string> back = echo(s, there.address(), "never");
    ASSERT_FALSE(back.ok());
    EXPECT_NE(back.error().to_string().find("outside"), std::string::npos)
        << back.error().to_string();
    EXPECT_EQ(there.accepted_count(), 0u);
}

}  // namespace
}  // namespace basalt::tunnel
