#include "net/url.h"

#include <gtest/gtest.h>

namespace basalt::net {
namespace {

TEST(Url, SplitsIntoParts) {
    Url url = parse_url("https://API.example.org:6443/a%2Fb/c?x=1&y=%20").value();
    EXPECT_EQ(url.scheme, "https");
    EXPECT_EQ(url.host, "api.example.org");
    EXPECT_EQ(url.port, 6443);
    EXPECT_EQ(url.path, "/a%2Fb/c");
    EXPECT_EQ(url.query, "x=1&y=%20");
    EXPECT_EQ(url.authority(), "api.example.org:6443");
    EXPECT_EQ(url.target(), "/a%2Fb/c?x=1&y=%20");
    EXPECT_EQ(url.to_string(), "https://api.example.org:6443/a%2Fb/c?x=1&y=%20");
}

TEST(Url, FillsDefaults) {
    Url url = parse_url("https://[fd00::1]").value();
    EXPECT_EQ(url.host, "fd00::1");
    EXPECT_EQ(url.port, 443);
    EXPECT_EQ(url.path, "/");
    EXPECT_EQ(url.authority(), "[fd00::1]");
    EXPECT_EQ(parse_url("http://127.0.0.1/").value().port, 80);
    EXPECT_EQ(parse_url("unix:///run/a.sock").value().path, "/run/a.sock");
}

TEST(Url, RefusesWhatIsNotOne) {
    for (const char* text :
         {"", "host:1", "/path", "https://", "https://u:p@host/", "https://h:99999/",
          "https://h:0/", "unix://host/x", "unix:relative", "https://a b/", "https://a%3Fb/c",
          "https://a%2Fb/", "https://h/\r\nx", "https://%00/", "https://h:b:443/", "x://h:b:?"}) {
        EXPECT_FALSE(parse_url(text).ok()) << text;
    }
    EXPECT_FALSE(parse_url("https://h/" + std::string(kMaxUrlSize, 'a')).ok());
}

}  // namespace
}  // namespace basalt::net
