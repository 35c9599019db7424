#include "tunnel/direct.h"

#include <arpa/inet.h>

#include <fmt/format.h>

#include "async/wait.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/strings.h"
#include "net/resolve.h"

namespace basalt::tunnel {

using async::Task;

namespace {

// RFC 6890 and its successors: what is never a node, whatever the operator says.
constexpr const char* kNever[] = {
    "0.0.0.0/8",     "127.0.0.0/8",  "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4",
    "::/96",  // Unspecified, loopback, and the old way to embed IPv4.
    "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16",   "fe80::/10",
    "fec0::/10",     "ff00::/8",
};

// 4 or 16 bytes written, or 0 for what is no address.
size_t parse_address(std::string_view text, uint8_t* bytes) {
    std::string copy(text);
    if (copy.find('\0') != std::string::npos) return 0;
    if (inet_pton(AF_INET, copy.c_str(), bytes) == 1) return 4;
    if (inet_pton(AF_INET6, copy.c_str(), bytes) == 1) return 16;
    return 0;
}

bool same_prefix(const uint8_t* a, const uint8_t* b, int length) {
    for (; length >= 8; length -= 8, ++a, ++b) {
        if (*a != *b) return false;
    }
    return length == 0 || ((*a ^ *b) >> (8 - length)) == 0;
}

Task<Result<std::unique_ptr<net::Stream>>> connect_first(async::Loop* loop,
                                                         std::vector<std::string> addresses,
                                                         uint16_t port, Duration timeout) {
    Duration share = timeout / static_cast<int64_t>(addresses.size());
    Error last = unavailable("no address");
    for (const std::string& address : addresses) {
        net::Endpoint endpoint = net::Endpoint::tcp(address, port);
        Result<std::unique_ptr<net::Stream>> stream =
            co_await net::connect(*loop, std::move(endpoint), share);
        if (stream.ok() || stream.error().code() == Code::kCancelled) co_return std::move(stream);
        last = std::move(stream).error();
    }
    co_return std::move(last);
}

// To the API server, which tells its tenant: one text for all that was not dialled, whatever the
// reason. Which names the provider's resolver knows is not told.
Error refusal(const std::string& address) {
    return permission_denied(
        fmt::format("{} is unknown or outside of what this control plane may reach", address));
}

Task<Result<std::unique_ptr<net::Stream>>> dial(async::Loop* loop,
                                                std::shared_ptr<const AddressFilter> filter,
                                                std::string address, Duration timeout) {
    Result<net::Endpoint> endpoint = net::parse_endpoint(address);
    if (!endpoint.ok()) co_return std::move(endpoint).error();
    if (endpoint->is_unix()) co_return invalid_argument("only tcp is supported");
    Result<std::vector<std::string>> found =
        co_await async::with_timeout(*loop, timeout, net::resolve_addresses(*loop, endpoint->host));
    if (!found.ok() && found.error().code() == Code::kCancelled) co_return std::move(found).error();
    if (!found.ok() || found->empty()) {
        Error why = found.ok() ? not_found("no address") : std::move(found).error();
        log_warn("cannot resolve", {{"address", address}, {"error", why}});
        co_return refusal(address);
    }
    for (const std::string& candidate : *found) {
        if (filter->permits(candidate)) continue;
        log_warn("refused to dial", {{"address", address}, {"resolved", candidate}});
        co_return refusal(address);
    }
    Result<std::unique_ptr<net::Stream>> stream =
        co_await connect_first(loop, *std::move(found), endpoint->port, timeout);
    co_return std::move(stream);
}

}  // namespace

AddressFilter::AddressFilter() {
    for (const char* range : kNever) {
        Result<void> added = deny(range);
        BASALT_ASSERT(added.ok());
    }
}

Result<void> AddressFilter::deny(std::string_view text) {
    Range range;
    auto parts = cut(text, "/");
    range.size = parse_address(parts ? parts->first : text, range.bytes.data());
    if (range.size == 0) {
        return invalid_argument(fmt::format("\"{}\" is no address and no range", text));
    }
    range.prefix_length = static_cast<int>(range.size) * 8;
    if (parts) {
        auto length = parse_number<int>(parts->second);
        if (!length || *length < 0 || *length > range.prefix_length) {
            return invalid_argument(fmt::format("\"{}\": bad prefix length", text));
        }
        range.prefix_length = *length;
    }
    denied_.push_back(range);
    return {};
}

bool AddressFilter::permits(std::string_view address) const {
    uint8_t bytes[16] = {};
    size_t size = parse_address(address, bytes);
    if (size == 0) return false;
    for (const Range& range : denied_) {
        if (range.size == size && same_prefix(bytes, range.bytes.data(), range.prefix_length)) {
            return false;
        }
    }
    return true;
}

TargetDialer make_filtered_dialer(async::Loop& loop, AddressFilter filter, Duration timeout) {
    auto shared = std::make_shared<const AddressFilter>(std::move(filter));
    return [&loop, shared, timeout](std::string address) {
        return dial(&loop, shared, std::move(address), timeout);
    };
}

}  // namespace basalt::tunnel
