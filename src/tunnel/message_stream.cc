#include "tunnel/message_stream.h"

#include "async/wait.h"

namespace basalt::tunnel {

namespace {

using async::Task;

class ServerSide final : public MessageStream {
 public:
    explicit ServerSide(net::GrpcServerCall& call) : call_(call) {}
    Task<Result<std::optional<std::string>>> read() override { return call_.read(); }
    Task<Result<void>> write(std::string message) override {
        return call_.write(std::move(message));
    }

 private:
    net::GrpcServerCall& call_;
};

class ClientSide final : public MessageStream {
 public:
    explicit ClientSide(std::unique_ptr<net::GrpcStream> stream) : stream_(std::move(stream)) {}
    Task<Result<std::optional<std::string>>> read() override { return stream_->read(); }
    Task<Result<void>> write(std::string message) override {
        return stream_->write(std::move(message));
    }

 private:
    std::unique_ptr<net::GrpcStream> stream_;
};

using Pipe = async::Channel<std::string>;

class PairEnd final : public MessageStream {
 public:
    PairEnd(std::shared_ptr<Pipe> in, std::shared_ptr<Pipe> out)
        : in_(std::move(in)), out_(std::move(out)) {}
    ~PairEnd() override {
        in_->close();
        out_->close();
    }
    Task<Result<std::optional<std::string>>> read() override { return in_->receive(); }
    Task<Result<void>> write(std::string message) override {
        return out_->send(std::move(message));
    }

 private:
    std::shared_ptr<Pipe> in_;
    std::shared_ptr<Pipe> out_;
};

}  // namespace

std::unique_ptr<MessageStream> over(net::GrpcServerCall& call) {
    return std::make_unique<ServerSide>(call);
}

std::unique_ptr<MessageStream> over(std::unique_ptr<net::GrpcStream> stream) {
    return std::make_unique<ClientSide>(std::move(stream));
}

std::pair<std::unique_ptr<MessageStream>, std::unique_ptr<MessageStream>> make_message_pair(
    size_t capacity_count) {
    auto there = std::make_shared<Pipe>(capacity_count);
    auto back = std::make_shared<Pipe>(capacity_count);
    return {std::make_unique<PairEnd>(there, back), std::make_unique<PairEnd>(back, there)};
}

}  // namespace basalt::tunnel
