// The few kinds of URL that configuration holds: API servers, etcd members, webhooks, unix sockets.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace basalt::net {

/// Longer ones are refused; kube-apiserver's own URLs stay below 2 KiB.
inline constexpr size_t kMaxUrlSize = 8 * 1024;

/// An absolute URL, RFC 3986, in parts. Without user info: credentials in URLs are refused.
struct Url {
    std::string scheme;  ///< Lower case: "https", "http", "unix", "wss", …
    std::string host;    ///< Decoded, lower case; an IPv6 address without brackets; "" for unix.
    uint16_t port = 0;   ///< As given, or the scheme's default (443, 80); 0 when neither is known.
    std::string path;    ///< Encoded, "/" at least; for unix the socket's path, decoded.
    std::string query;   ///< Encoded, without "?".

    /// "host:port", "[v6]:port", without the port when it is the scheme's default: for Host and
    /// :authority.
    std::string authority() const;
    /// Path and query, for HttpRequest::target.
    std::string target() const;
    std::string to_string() const;
};

/// InvalidArgument for what is relative, has user info, a port out of range, or is longer than
/// kMaxUrlSize.
Result<Url> parse_url(std::string_view text);

}  // namespace basalt::net
