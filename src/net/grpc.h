// gRPC over HTTP/2, client and server, for messages that are bytes.
//
// Protocol: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md. Serialization is the
// caller's. Status codes are basalt::Code one to one; an Error that came from a peer's status has
// that number as cause_code(), Errors of the connection have 0 (and reason "NotSent" as in http.h).
// No compression: "identity" is all that is offered and accepted.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "net/http_client.h"

namespace basalt::net {

/// One received message; grpc-go's default is 4 MiB, etcd's client lifts it. Named per channel and
/// server.
inline constexpr size_t kGrpcMaxMessageSize = 16 * 1024 * 1024;

/// Names are lower case; values of names ending in "-bin" are raw bytes here and base64 on the
/// wire.
using GrpcMetadata = Headers;

/// The client's side of one call. Dropping it before its end cancels the call. One read and one
/// write at a time; they may overlap.
class GrpcStream {
 public:
    virtual ~GrpcStream() = default;
    /// The next message; nullopt after the server ended the call with OK; its status as Error
    /// otherwise.
    virtual async::Task<Result<std::optional<std::string>>> read() = 0;
    /// Returns when the message is queued; waits while the peer's flow control holds earlier ones
    /// back. When the call has ended: the Error that read() gives, too (Unavailable "call has
    /// ended" after OK).
    virtual async::Task<Result<void>> write(std::string message) = 0;
    virtual async::Task<Result<void>> finish_writing() = 0;
    /// Waits for the server's header; after success initial_metadata() is set.
    virtual async::Task<Result<void>> wait_header() = 0;
    virtual const GrpcMetadata& initial_metadata() const = 0;
    virtual const GrpcMetadata& trailing_metadata() const = 0;  ///< After read() gave the end.
    /// Ends the call now: reads and writes in flight return Cancelled.
    virtual void cancel() = 0;
};

struct GrpcCallOptions {
    GrpcMetadata metadata;
    std::optional<TimePoint> deadline;  ///< Sent as grpc-timeout and kept here, too.
    size_t max_message_size = kGrpcMaxMessageSize;
    std::function<Result<void>()> guard;  ///< As HttpRequest's.
};

/// Interface, so that simulators can answer in its place.
class GrpcChannel {
 public:
    virtual ~GrpcChannel() = default;
    /// `method` is "/package.Service/Method".
    virtual async::Task<Result<std::unique_ptr<GrpcStream>>> open(std::string method,
                                                                  GrpcCallOptions options) = 0;
    /// One message there, one back.
    async::Task<Result<std::string>> unary(std::string method, std::string request,
                                           GrpcCallOptions options = {});
    /// One message there, any number back.
    async::Task<Result<std::unique_ptr<GrpcStream>>> server_stream(std::string method,
                                                                   std::string request,
                                                                   GrpcCallOptions options = {});
};

/// `client` must speak HTTP/2 to its server (https with ALPN h2, or HttpVersion::kHttp2).
std::shared_ptr<GrpcChannel> make_grpc_channel(async::Loop& loop,
                                               std::shared_ptr<HttpClient> client);
/// With a client of its own: "https" with `options.tls`, "http" and "unix" by prior knowledge.
std::shared_ptr<GrpcChannel> make_grpc_channel(async::Loop& loop, Url target,
                                               HttpClientOptions options);

/// The server's side of one call, valid until GrpcService::serve() returns.
class GrpcServerCall {
 public:
    virtual ~GrpcServerCall() = default;
    virtual const std::string& method() const = 0;  ///< "/package.Service/Method"
    virtual const GrpcMetadata& metadata() const = 0;
    virtual const StreamInfo& connection() const = 0;
    virtual std::optional<TimePoint> deadline() const = 0;
    /// The next message; nullopt after the client ended its direction; Cancelled when it gave up.
    virtual async::Task<Result<std::optional<std::string>>> read() = 0;
    virtual async::Task<Result<void>> write(std::string message) = 0;
    /// Sent before the first message; at the latest then, with what add_initial_metadata() gave.
    virtual Result<void> send_header() = 0;
    virtual void add_initial_metadata(std::string name, std::string value) = 0;
    virtual void add_trailing_metadata(std::string name, std::string value) = 0;
};

class GrpcService {
 public:
    virtual ~GrpcService() = default;
    /// Serves one call; the result is its status. Cancelled when the client resets the stream, the
    /// connection breaks or the deadline passes. Unimplemented for methods it does not know.
    virtual async::Task<Result<void>> serve(GrpcServerCall& call) = 0;
};

/// For unary methods: reads exactly one message.
async::Task<Result<std::string>> read_unary(GrpcServerCall& call);

/// For a server that anyone can reach: what connections get on which it has accepted nothing, or
/// nothing that still goes on. A call is accepted by send_header() or its first message.
struct GrpcStrangerLimits {
    /// Above these the oldest such connection ends.
    size_t max_connections = 256;
    size_t max_connections_per_address = 128;  ///< A load balancer may show one for all.
    Duration timeout = std::chrono::seconds(15);
    /// Bytes that one connection can make the server keep. HTTP/2's own default.
    uint32_t window = 65535;
    size_t max_header_size = 16 * 1024;
    /// Also later, unless the client has shown a certificate.
    size_t max_streams = 8;
};

struct GrpcServerOptions {
    std::shared_ptr<const TlsContext> tls;  ///< With ALPN "h2". Without: HTTP/2 by prior knowledge.
    size_t max_connections = 1024;
    size_t max_streams_per_connection = 1000;
    size_t max_message_size = kGrpcMaxMessageSize;
    Duration handshake_timeout = std::chrono::seconds(10);
    Duration ping_after = std::chrono::seconds(60);
    Duration ping_timeout = std::chrono::seconds(20);  // grpc-go's server default
    std::optional<GrpcStrangerLimits> strangers;       ///< Without: everybody is trusted alike.
};

class GrpcServer {
 public:
    virtual ~GrpcServer() = default;  ///< Breaks all calls off.
    virtual const Endpoint& endpoint() const = 0;
    virtual void set_tls(std::shared_ptr<const TlsContext> tls) = 0;
    virtual size_t connections_count() const = 0;
    /// Bytes that have come and that no call has read yet.
    virtual size_t buffered_size() const = 0;
    /// Sends GOAWAY, lets calls in progress finish for at most `grace`, then breaks them off.
    virtual async::Task<void> stop(Duration grace) = 0;
};

Result<std::unique_ptr<GrpcServer>> start_grpc_server(async::Loop& loop,
                                                      std::unique_ptr<Listener> listener,
                                                      std::shared_ptr<GrpcService> service,
                                                      GrpcServerOptions options = {});

}  // namespace basalt::net
