#include "net/url.h"

#include <boost/url.hpp>

#include "base/strings.h"

namespace basalt::net {

namespace {

uint16_t default_port(std::string_view scheme) {
    if (scheme == "https" || scheme == "wss") return 443;
    if (scheme == "http" || scheme == "ws") return 80;
    return 0;
}

/// Of a DNS name or an IP address. Boost.URL has decoded it: with "%3F" in it, what is printed
/// would be another URL.
bool is_host(std::string_view text) {
    return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
               c == '_' || c == '~' || c == ':';
    });
}

}  // namespace

std::string Url::authority() const {
    std::string text = host.find(':') == std::string::npos ? host : "[" + host + "]";
    if (port != 0 && port != default_port(scheme)) text += ":" + std::to_string(port);
    return text;
}

std::string Url::target() const { return query.empty() ? path : path + "?" + query; }

std::string Url::to_string() const { return scheme + "://" + authority() + target(); }

Result<Url> parse_url(std::string_view text) {
    if (text.size() > kMaxUrlSize) return invalid_argument("the URL is too long");
    boost::urls::result<boost::urls::url_view> parsed = boost::urls::parse_uri(text);
    if (parsed.has_error()) return invalid_argument("not a URL: " + parsed.error().message());
    const boost::urls::url_view& view = *parsed;
    if (view.has_userinfo()) return invalid_argument("the URL holds user information");
    Url url;
    url.scheme = to_lower(std::string_view(view.scheme().data(), view.scheme().size()));
    if (url.scheme == "unix") {
        if (!view.encoded_host().empty())
            return invalid_argument("a unix URL has no host: unix:///path");
        url.path = view.path();
        if (url.path.size() < 2 || url.path[0] != '/' || url.path.find('\0') != std::string::npos) {
            return invalid_argument("a unix URL needs an absolute path");
        }
        return url;
    }
    if (!view.has_authority() || view.encoded_host().empty())
        return invalid_argument("the URL has no host");
    url.host = to_lower(view.host());
    if (url.host.size() > 1 && url.host.front() == '[')
        url.host = url.host.substr(1, url.host.size() - 2);
    if (!is_host(url.host)) return invalid_argument("the URL's host is not valid");
    url.port = default_port(url.scheme);
    if (view.has_port() && !view.port().empty()) {
        std::optional<uint16_t> port =
            parse_number<uint16_t>(std::string_view(view.port().data(), view.port().size()));
        if (!port || *port == 0) return invalid_argument("the URL's port is not valid");
        url.port = *port;
    }
    url.path =
        std::string(std::string_view(view.encoded_path().data(), view.encoded_path().size()));
    if (url.path.empty()) url.path = "/";
    // Boost.URL 1.81 takes a port that is no number for an empty one with a path behind it.
    if (url.path[0] != '/') return invalid_argument("the URL's port is not valid");
    url.query =
        std::string(std::string_view(view.encoded_query().data(), view.encoded_query().size()));
    return url;
}

}  // namespace basalt::net
