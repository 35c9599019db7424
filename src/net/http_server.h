// HTTP/1.1 server for webhooks, metrics and health.
//
// kube-apiserver speaks HTTP/1.1 to webhooks, scrapers and probes do, too. Every connection,
// header, body and wait is bounded; see HttpServerOptions.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "net/http.h"
#include "net/stream.h"
#include "net/tls.h"

namespace basalt::net {

struct ServerRequest {
    std::string method;
    std::string target;  ///< As sent; see path() and query().
    Headers headers;
    std::string body;
    StreamInfo connection;  ///< Peer address and, with mTLS, who the client is.

    std::string_view path() const;
    std::string_view query() const;
};

struct HttpServerResponse {
    int status = 200;
    Headers headers;
    std::string body;
    /// When set it is sent in chunks after `body`, as it comes. An error in it breaks the
    /// connection.
    std::unique_ptr<BodyReader> stream;
    /// With status 101: gets the connection after the header was sent. Runs in the server's group.
    std::function<async::Task<void>(std::unique_ptr<Stream>)> takeover;
};

class HttpHandler {
 public:
    virtual ~HttpHandler() = default;
    /// An Error becomes a plain-text response with http_status_of() its code; details go to the log
    /// only.
    virtual async::Task<Result<HttpServerResponse>> handle(ServerRequest request) = 0;
};

/// The status for an Error: NotFound 404, InvalidArgument 400, Unavailable 503, …
int http_status_of(Code code);

struct HttpServerOptions {
    std::shared_ptr<const TlsContext> tls;  ///< Plain text without.
    /// More wait, in the kernel's backlog. While one waits, the connection that has been idle for
    /// longest is closed (new ones have a second to begin their first request), and others after
    /// their next response.
    size_t max_connections = 512;
    size_t max_header_size = 64 * 1024;
    size_t max_body_size =
        7 * 1024 * 1024;  ///< An AdmissionReview holds two objects of at most 3 MiB.
    /// Of the bodies of all connections together, without the first 64 KiB of each. When it is used
    /// up, the body that has been arriving for longest is broken off; when that does not help or
    /// would be the one in question, the request is refused with 503.
    size_t max_buffered_size = 64 * 1024 * 1024;
    Duration header_timeout =
        std::chrono::seconds(10);  ///< From the first byte of a request, and for TLS.
    Duration body_timeout = std::chrono::seconds(30);
    Duration idle_timeout = std::chrono::seconds(120);
    Duration handler_timeout = std::chrono::seconds(60);
    Duration write_timeout = std::chrono::seconds(60);  ///< Without progress.
};

class HttpServer {
 public:
    virtual ~HttpServer() = default;  ///< Breaks all connections off.
    virtual const Endpoint& endpoint() const = 0;
    /// Connections from now on use this certificate.
    virtual void set_tls(std::shared_ptr<const TlsContext> tls) = 0;
    virtual size_t connections_count() const = 0;
    /// What counts against HttpServerOptions::max_buffered_size now.
    virtual size_t buffered_size() const = 0;
    /// Stops accepting, lets requests in progress finish for at most `grace`, then breaks them off.
    virtual async::Task<void> stop(Duration grace) = 0;
};

/// Serves until stopped.
Result<std::unique_ptr<HttpServer>> start_http_server(async::Loop& loop,
                                                      std::unique_ptr<Listener> listener,
                                                      std::shared_ptr<HttpHandler> handler,
                                                      HttpServerOptions options = {});

}  // namespace basalt::net
