#include "tunnel/identifiers.h"

#include <algorithm>

#include "base/strings.h"
#include "net/http.h"

namespace basalt::tunnel {

bool Identifiers::serves_host(std::string_view host) const {
    auto has = [host](const std::vector<std::string>& list) {
        return std::find(list.begin(), list.end(), host) != list.end();
    };
    return !host.empty() && (has(ipv4) || has(ipv6) || has(hosts));
}

Result<Identifiers> parse_identifiers(std::string_view text) {
    if (text.size() > kMaxIdentifiersSize)
        return invalid_argument("agent identifiers above 4096 bytes");
    Identifiers result;
    bool default_route_seen = false;
    for (std::string_view part : split(text, '&')) {
        if (part.empty()) continue;
        if (part.find(';') != std::string_view::npos) {
            return invalid_argument("agent identifiers: ';' is no separator");
        }
        std::string_view raw_key = part;
        std::string_view raw_value;
        if (auto pair = cut(part, "=")) std::tie(raw_key, raw_value) = *pair;
        BASALT_ASSIGN(std::string key, net::percent_decode(raw_key, true));
        BASALT_ASSIGN(std::string value, net::percent_decode(raw_value, true));
        if (key == "ipv4") {
            result.ipv4.push_back(std::move(value));
        } else if (key == "ipv6") {
            result.ipv6.push_back(std::move(value));
        } else if (key == "host") {
            result.hosts.push_back(std::move(value));
        } else if (key == "cidr") {
            result.cidrs.push_back(std::move(value));
        } else if (key == "default-route" && !default_route_seen) {
            default_route_seen = true;
            result.default_route = value == "true" || value == "1" || value == "t" ||
                                   value == "T" || value == "TRUE" || value == "True";
        }
    }
    return result;
}

Result<std::vector<Strategy>> parse_strategies(std::string_view text) {
    std::vector<Strategy> strategies;
    for (std::string_view part : split(text, ',')) {
        std::string_view name = trim(part);
        if (name == "default") {
            strategies.push_back(Strategy::kDefault);
        } else if (name == "destHost") {
            strategies.push_back(Strategy::kDestHost);
        } else if (name == "defaultRoute") {
            strategies.push_back(Strategy::kDefaultRoute);
        } else {
            return invalid_argument("proxy strategy \"" + std::string(name) +
                                    "\": use default, destHost or defaultRoute");
        }
    }
    return strategies;
}

std::string_view host_of(std::string_view address) {
    if (!address.empty() && address.front() == '[') {
        size_t end = address.find(']');
        if (end != std::string_view::npos) return address.substr(1, end - 1);
    }
    size_t colon = address.rfind(':');
    if (colon == std::string_view::npos || address.find(':') != colon) return address;
    return address.substr(0, colon);
}

}  // namespace basalt::tunnel
