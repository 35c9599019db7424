#include "tunnel/direct.h"

#include <algorithm>

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
    if (const std::optional<IpAddress> address = IpAddress::parse(text)) {
        denied_.emplace_back(*address, address->is_v6() ? 128 : 32);
        return {};
    }
    BASALT_ASSIGN(IpNetwork network, IpNetwork::parse(text));
    denied_.push_back(network);
    return {};
}

bool AddressFilter::permits(std::string_view text) const {
    const std::optional<IpAddress> address = IpAddress::parse(text);
    if (!address) return false;
    return std::none_of(denied_.begin(), denied_.end(),
                        [&address](const IpNetwork& range) { return range.contains(*address); });
}

TargetDialer make_filtered_dialer(async::Loop& loop, AddressFilter filter, Duration timeout) {
    auto shared = std::make_shared<const AddressFilter>(std::move(filter));
    return [&loop, shared, timeout](std::string address) {
        return dial(&loop, shared, std::move(address), timeout);
    };
}

}  // namespace basalt::tunnel
