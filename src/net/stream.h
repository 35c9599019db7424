// Byte streams: TCP and unix sockets, pairs in memory, and (tls.h) TLS over any of them.
//
// Everything belongs to the loop it was made on. connect() and listen() need a RealLoop;
// make_stream_pair() and whatever is layered on Stream run on any loop, the simulator's included.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "async/task.h"

namespace basalt::net {

/// Who the other side of a TLS connection proved to be: the leaf of its verified certificate chain.
struct PeerIdentity {
    std::string common_name;
    std::vector<std::string> organizations;
    std::vector<std::string> dns_names;
    std::vector<std::string> ip_addresses;  ///< Text form.
    std::vector<std::string> uris;
    std::string sha256;  ///< Of the certificate's DER, lower-case hex.
};

struct StreamInfo {
    std::string local;  ///< "127.0.0.1:6443", "[::1]:80", "unix:/run/x.sock", "" when unknown.
    std::string peer;
    std::string alpn;         ///< Protocol that the TLS handshake chose, or "".
    std::string tls_version;  ///< "TLSv1.3", or "" without TLS.
    bool tls_resumed = false;
    std::optional<PeerIdentity> identity;  ///< Set when the peer's certificate was verified.
};

/// At most one read and one write at a time; they may overlap, from two coroutines. Dropping the
/// stream closes it; an operation in flight then ends with an Error.
class Stream {
 public:
    virtual ~Stream() = default;
    /// Between one and `max_size` bytes; "" at the end of the stream. A cancelled read loses
    /// nothing.
    virtual async::Task<Result<std::string>> read(size_t max_size) = 0;
    /// All of `data`. After a failed or cancelled write the stream's position is unknown: close it.
    virtual async::Task<Result<void>> write(std::string data) = 0;
    /// Ends our direction (FIN, close_notify); reading goes on.
    virtual async::Task<Result<void>> close_write() = 0;
    /// Ends both at once; operations in flight end with Unavailable.
    virtual void close() = 0;
    virtual const StreamInfo& info() const = 0;
};

struct Endpoint {
    std::string host;  ///< Name or address; for TCP.
    uint16_t port = 0;
    std::string unix_path;  ///< When not empty: a unix socket, host and port do not count.

    static Endpoint tcp(std::string host, uint16_t port) { return {std::move(host), port, {}}; }
    static Endpoint local_socket(std::string path) { return {{}, 0, std::move(path)}; }
    bool is_unix() const { return !unix_path.empty(); }
    /// "host:port", "[::1]:port" or "unix:path".
    std::string to_string() const;
};

/// "host:port", "[v6]:port", "unix:/path", "unix:///path".
Result<Endpoint> parse_endpoint(std::string_view text);

/// Opens a connection each time it is called. The seam for tunnels, proxies and the simulator.
using Dialer = std::function<async::Task<Result<std::unique_ptr<Stream>>>()>;

/// Resolves and connects; addresses are tried one after the other in the resolver's order, within
/// `timeout` altogether. Unavailable (refused, unreachable, unknown name) or DeadlineExceeded.
inline constexpr Duration kConnectTimeout = std::chrono::seconds(30);  // client-go's dialer
async::Task<Result<std::unique_ptr<Stream>>> connect(async::Loop& loop, Endpoint endpoint,
                                                     Duration timeout = kConnectTimeout);
Dialer make_dialer(async::Loop& loop, Endpoint endpoint, Duration timeout = kConnectTimeout);

class Listener {
 public:
    virtual ~Listener() = default;
    /// The next connection. Errors of a single connection and a lack of descriptors are waited out
    /// inside. Unavailable once closed.
    virtual async::Task<Result<std::unique_ptr<Stream>>> accept() = 0;
    /// Where it listens, with the real port when 0 was asked for.
    virtual const Endpoint& endpoint() const = 0;
    virtual void close() = 0;
};

struct ListenOptions {
    int backlog = 1024;
    int unix_mode = 0600;  ///< Permission bits of a unix socket's file.
};
/// `endpoint.host` must be an address ("0.0.0.0", "::" takes both families) or "" for "::". A unix
/// socket's file left behind by an earlier process is replaced; a live one is AlreadyExists.
Result<std::unique_ptr<Listener>> listen(async::Loop& loop, Endpoint endpoint,
                                         ListenOptions options = {});

/// Two streams, each reading what the other writes. A write waits while `buffer_size` bytes are
/// unread.
std::pair<std::unique_ptr<Stream>, std::unique_ptr<Stream>> make_stream_pair(
    async::Loop& loop, size_t buffer_size = 64 * 1024);

/// A stream that gives `head` before what `stream` reads: for bytes read too far before a takeover.
std::unique_ptr<Stream> with_prefix(std::string head, std::unique_ptr<Stream> stream);

}  // namespace basalt::net
