#include "policy/interfaces.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cctype>
#include <optional>
#include <vector>

#include "base/ip.h"

namespace basalt::policy {

namespace {

constexpr size_t kMaxNameSize = 15;  // IFNAMSIZ without its zero.

struct Route {
    IpNetwork destination;
    std::string interface;
};

std::vector<std::string_view> words_of(std::string_view line) {
    std::vector<std::string_view> words;
    while (!line.empty()) {
        const size_t end = std::min(line.find_first_of(" \t"), line.size());
        if (end > 0) words.push_back(line.substr(0, end));
        line.remove_prefix(std::min(end + 1, line.size()));
    }
    return words;
}

std::optional<uint8_t> hex_byte(std::string_view text) {
    unsigned value = 0;
    for (char c : text) {
        if (std::isxdigit(static_cast<unsigned char>(c)) == 0) return std::nullopt;
        const int lower = c | 32;
        value = value * 16 + static_cast<unsigned>(lower >= 'a' ? lower - 'a' + 10 : c - '0');
    }
    return text.size() == 2 ? std::optional(static_cast<uint8_t>(value)) : std::nullopt;
}

bool hex_bytes(std::string_view text, uint8_t* out, size_t size) {
    if (text.size() != size * 2) return false;
    for (size_t i = 0; i < size; ++i) {
        std::optional<uint8_t> byte = hex_byte(text.substr(i * 2, 2));
        if (!byte) return false;
        out[i] = *byte;
    }
    return true;
}

// It becomes a part of a script.
bool is_plain_name(std::string_view name) {
    if (name.empty() || name.size() > kMaxNameSize) return false;
    for (char c : name) {
        if (std::isalnum(static_cast<unsigned char>(c)) == 0 &&
            std::string_view(".-_@:").find(c) == std::string_view::npos)
            return false;
    }
    return true;
}

// "veth1 0501200A 00000000 0005 0 0 0 FFFFFFFF …": numbers of four bytes as a little-endian
// machine prints them.
std::optional<Route> parse_v4(const std::vector<std::string_view>& words) {
    std::array<uint8_t, 4> address{}, mask{};
    if (words.size() < 8 || !hex_bytes(words[1], address.data(), 4) ||
        !hex_bytes(words[7], mask.data(), 4))
        return std::nullopt;
    std::reverse(address.begin(), address.end());
    int prefix_length = 0;
    for (uint8_t byte : mask) prefix_length += std::popcount(byte);
    return Route{IpNetwork(*IpAddress::from_bytes(address), prefix_length), std::string(words[0])};
}

// "fd00…0005 80 0000… 00 0000… 00000400 … veth1": destination, its length, source, its length, next
// hop, metric, uses, flags, name.
std::optional<Route> parse_v6(const std::vector<std::string_view>& words) {
    std::array<uint8_t, 16> address{};
    if (words.size() != 10 || !hex_bytes(words[0], address.data(), 16)) return std::nullopt;
    std::optional<uint8_t> length = hex_byte(words[1]);
    if (!length || *length > 128) return std::nullopt;
    return Route{IpNetwork(*IpAddress::from_bytes(address), *length), std::string(words[9])};
}

std::vector<Route> parse(std::string_view text, bool v6) {
    std::vector<Route> routes;
    while (!text.empty()) {
        const size_t end = std::min(text.find('\n'), text.size());
        const std::vector<std::string_view> words = words_of(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
        std::optional<Route> route = v6 ? parse_v6(words) : parse_v4(words);
        if (route && route->interface != "lo" && is_plain_name(route->interface))
            routes.push_back(*std::move(route));
    }
    return routes;
}

}  // namespace

std::set<std::string> interfaces_to(const std::set<std::string>& addresses,
                                    std::string_view v4_routes, std::string_view v6_routes) {
    std::vector<Route> routes = parse(v4_routes, false);
    for (Route& route : parse(v6_routes, true)) routes.push_back(std::move(route));
    std::set<std::string> found;
    for (const std::string& text : addresses) {
        const std::optional<IpAddress> address = IpAddress::parse(text);
        if (!address) continue;
        const Route* best = nullptr;
        for (const Route& route : routes) {
            const IpNetwork& to = route.destination;
            if (!to.contains(*address)) continue;
            if (best == nullptr || to.prefix_length() > best->destination.prefix_length())
                best = &route;
        }
        if (best != nullptr) found.insert(best->interface);
    }
    for (const Route& route : routes) {
        if (route.destination.prefix_length() == 0) found.erase(route.interface);
    }
    return found;
}

}  // namespace basalt::policy
