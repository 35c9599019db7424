#include "tunnel/client.h"

#include <algorithm>

#include "async/wait.h"
#include "tunnel/packet.h"

namespace basalt::tunnel {

using async::Task;

namespace {

constexpr size_t kWriteSize = size_t{32} << 10;
constexpr Duration kDialTimeout = std::chrono::seconds(30);  // konnectivity-client's

class TunnelStream final : public net::Stream {
 public:
    TunnelStream(std::shared_ptr<net::GrpcChannel> channel, std::unique_ptr<net::GrpcStream> stream,
                 int64_t id, const std::string& address)
        : channel_(std::move(channel)), stream_(std::move(stream)), id_(id) {
        info_.peer = address;
    }

    Task<Result<std::string>> read(size_t max_size) override {
        while (rest_.empty() && !ended_) {
            Result<std::optional<std::string>> message = co_await stream_->read();
            if (!message.ok()) co_return std::move(message).error();
            if (!message->has_value()) {
                ended_ = true;
                break;
            }
            Result<Packet> packet = decode(**message);
            if (!packet.ok()) co_return std::move(packet).error();
            if (packet->connection_id != id_) continue;
            if (packet->kind == PacketKind::kData) rest_ = std::move(packet->data);
            if (packet->kind == PacketKind::kCloseResponse) ended_ = true;
        }
        if (rest_.size() <= max_size) co_return std::exchange(rest_, {});
        std::string head = rest_.substr(0, max_size);
        rest_.erase(0, max_size);
        co_return head;
    }

    Task<Result<void>> write(std::string data) override {
        for (size_t offset = 0; offset < data.size(); offset += kWriteSize) {
            if (ended_) co_return unavailable("the connection has ended");
            std::string message = encode(data_packet(id_, data.substr(offset, kWriteSize)));
            Result<void> written = co_await stream_->write(std::move(message));
            if (!written.ok()) co_return written;
        }
        co_return Result<void>();
    }

    Task<Result<void>> close_write() override {
        co_return unimplemented("a tunnel has no half-close");
    }

    void close() override {
        ended_ = true;
        stream_->cancel();  // The server closes the target when the stream goes.
    }

    const net::StreamInfo& info() const override { return info_; }

 private:
    std::shared_ptr<net::GrpcChannel> channel_;
    std::unique_ptr<net::GrpcStream> stream_;
    int64_t id_;
    std::string rest_;
    bool ended_ = false;
    net::StreamInfo info_;
};

Task<Result<int64_t>> dial(net::GrpcStream* stream, std::string address, int64_t dial_id) {
    Result<void> written = co_await stream->write(encode(dial_request(dial_id, address)));
    if (!written.ok()) co_return std::move(written).error();
    for (;;) {
        Result<std::optional<std::string>> message = co_await stream->read();
        if (!message.ok()) co_return std::move(message).error();
        if (!message->has_value()) co_return unavailable("the tunnel server ended the dial");
        Result<Packet> packet = decode(**message);
        if (!packet.ok()) co_return std::move(packet).error();
        if (packet->dial_id != dial_id) continue;
        if (packet->kind == PacketKind::kDialClose)
            co_return unavailable("the agent ended the dial");
        if (packet->kind != PacketKind::kDialResponse) continue;
        if (!packet->error.empty()) co_return unavailable(packet->error);
        co_return packet->connection_id;
    }
}

}  // namespace

Task<Result<std::unique_ptr<net::Stream>>> dial_through(async::Loop& loop,
                                                        std::shared_ptr<net::GrpcChannel> channel,
                                                        std::string address) {
    Result<std::unique_ptr<net::GrpcStream>> stream =
        co_await channel->open(std::string(kProxyMethod), {});
    if (!stream.ok()) co_return std::move(stream).error();
    auto dial_id = static_cast<int64_t>(loop.random() >> 1);
    Result<int64_t> id =
        co_await async::with_timeout(loop, kDialTimeout, dial(stream->get(), address, dial_id));
    if (!id.ok()) co_return std::move(id).error();
    co_return std::unique_ptr<net::Stream>(
        std::make_unique<TunnelStream>(std::move(channel), std::move(*stream), *id, address));
}

net::Dialer make_tunnel_dialer(async::Loop& loop, std::shared_ptr<net::GrpcChannel> channel,
                               std::string address) {
    return [&loop, channel, address] { return dial_through(loop, channel, address); };
}

}  // namespace basalt::tunnel
