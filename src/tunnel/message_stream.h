// A stream of whole messages: the seam between the tunnel's drivers and gRPC.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "async/task.h"
#include "net/grpc.h"

namespace basalt::tunnel {

/// One read and one write at a time; they may overlap, from two coroutines.
class MessageStream {
 public:
    virtual ~MessageStream() = default;
    /// nullopt at the end of the stream.
    virtual async::Task<Result<std::optional<std::string>>> read() = 0;
    virtual async::Task<Result<void>> write(std::string message) = 0;
};

/// `call` must outlive the result.
std::unique_ptr<MessageStream> over(net::GrpcServerCall& call);
std::unique_ptr<MessageStream> over(std::unique_ptr<net::GrpcStream> stream);

/// Two ends in memory; `capacity_count` messages wait in each direction. Dropping one end ends the
/// other's.
std::pair<std::unique_ptr<MessageStream>, std::unique_ptr<MessageStream>> make_message_pair(
    size_t capacity_count);

}  // namespace basalt::tunnel
