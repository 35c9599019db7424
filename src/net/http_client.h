// HTTP client of one server: HTTP/2 (nghttp2) where ALPN or the options say so, else HTTP/1.1
// (Beast's codec).
//
// Connections are shared the way client-go does it: one carries up to 100 streams, another is
// opened when all are full, a PING goes out after 30 s of silence and 15 s without an answer end
// the connection with all its streams, GOAWAY drains it and new requests open a new one. Requests
// that cannot have reached the server (stale connection, REFUSED_STREAM, GOAWAY) are repeated
// inside, at most kMaxReplays times.
//
// Time limits are the caller's (async::with_deadline around send()); cancelling a send or dropping
// a body resets the stream. A body's bytes wait in the stream's window until they are read, never
// beyond it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "net/http.h"
#include "net/stream.h"
#include "net/tls.h"
#include "net/url.h"

namespace basalt::net {

inline constexpr size_t kMaxStreamsPerConnection = 100;  // kube-apiserver's own default
inline constexpr size_t kMaxConnections = 64;
inline constexpr size_t kStreamWindow = 1024 * 1024;
inline constexpr size_t kConnectionWindow = 16 * 1024 * 1024;
inline constexpr size_t kMaxHeaderSize = 64 * 1024;  ///< Names and values of one message.
inline constexpr Duration kPingAfter =
    std::chrono::seconds(30);  // client-go HTTP2_READ_IDLE_TIMEOUT
inline constexpr Duration kPingTimeout = std::chrono::seconds(15);  // client-go HTTP2_PING_TIMEOUT
inline constexpr Duration kIdleTimeout = std::chrono::seconds(90);  // Go's IdleConnTimeout
inline constexpr int kMaxReplays = 3;

enum class HttpVersion {
    kNegotiated,  ///< By ALPN; HTTP/1.1 without TLS.
    kHttp1,
    kHttp2,  ///< Without TLS: by prior knowledge.
};

struct HttpClientOptions {
    std::shared_ptr<const TlsContext> tls;  ///< Required for https.
    /// Connects instead of dialling the URL's host; TLS is still put on top for https.
    Dialer dialer;
    HttpVersion version = HttpVersion::kNegotiated;
    Duration connect_timeout = kConnectTimeout;
    size_t max_connections = kMaxConnections;
    size_t max_streams_per_connection = kMaxStreamsPerConnection;
    Duration ping_after = kPingAfter;
    Duration ping_timeout = kPingTimeout;
    bool ping_idle = true;  ///< Also without streams; gRPC servers object to that.
    Duration idle_timeout = kIdleTimeout;
};

/// One HTTP/2 stream whose two directions are independent. Dropping it before both ended resets it.
class HttpExchange : public BodyReader {
 public:
    /// Waits while the peer's window is closed and too much is queued here.
    virtual async::Task<Result<void>> write(std::string data) = 0;
    /// Ends our direction.
    virtual async::Task<Result<void>> finish() = 0;
    /// Waits for the response's header; after success status() and headers() are set.
    virtual async::Task<Result<void>> wait_head() = 0;
    virtual int status() const = 0;
    virtual const Headers& headers() const = 0;
    /// Resets the stream; operations in flight and later ones return `error`.
    virtual void abort(Error error) = 0;
};

class HttpClient : public HttpTransport {
 public:
    /// Sends the header of `request` (and its body, if any) and leaves the request open for
    /// writing. Does not wait for the response. Unimplemented on a server that speaks only
    /// HTTP/1.1.
    virtual async::Task<Result<std::unique_ptr<HttpExchange>>> open(HttpRequest request) = 0;

    struct Upgraded {
        int status = 0;
        Headers headers;
        std::string body;                ///< When the server refused: the start of its answer.
        std::unique_ptr<Stream> stream;  ///< Set when status is 101.
    };
    /// HTTP/1.1 on a connection of its own; the caller sets Connection and Upgrade.
    virtual async::Task<Result<Upgraded>> upgrade(HttpRequest request) = 0;

    /// New connections use this identity; present ones finish their streams and close.
    virtual void set_tls(std::shared_ptr<const TlsContext> tls) = 0;
    /// The same with the identity as it is: present connections drain.
    virtual void drain() = 0;
    virtual size_t connections_count() const = 0;
};

/// `base` gives scheme ("https", "http"; "unix" is http over that socket), host and port; its path
/// is put in front of each request's target unless it is "/". Destroying the client ends its
/// connections, except that bodies still held by readers can be read to their end. Let the loop run
/// on until it is idle before it goes.
std::shared_ptr<HttpClient> make_http_client(async::Loop& loop, Url base,
                                             HttpClientOptions options);

}  // namespace basalt::net
