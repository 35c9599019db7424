// The API server's end of the tunnel: a connection through a tunnel server, as a stream of bytes.
//
// For tests, benchmarks and tools; kube-apiserver brings its own.
#pragma once

#include <memory>
#include <string>

#include "net/grpc.h"
#include "net/stream.h"

namespace basalt::tunnel {

/// Dials `address` ("host:port") with one gRPC stream of `channel`. Unavailable with the agent's
/// words when the target cannot be reached. The tunnel has no half-close: close_write() is
/// Unimplemented.
async::Task<Result<std::unique_ptr<net::Stream>>> dial_through(
    async::Loop& loop, std::shared_ptr<net::GrpcChannel> channel, std::string address);
/// A dialer for HTTP clients.
net::Dialer make_tunnel_dialer(async::Loop& loop, std::shared_ptr<net::GrpcChannel> channel,
                               std::string address);

}  // namespace basalt::tunnel
