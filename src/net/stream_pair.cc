// Two ends of a bounded buffer each way.
#include <algorithm>

#include "async/wait.h"
#include "net/stream.h"

namespace basalt::net {
namespace {

struct Pipe {
    explicit Pipe(size_t capacity_size) : capacity(capacity_size) {}
    size_t capacity;
    std::string data;
    bool ended = false;   ///< The writer is done.
    bool broken = false;  ///< One side closed.
    async::Condition changed;
};

async::Task<Result<std::string>> pipe_read(std::shared_ptr<Pipe> pipe, size_t max_size) {
    while (pipe->data.empty() && !pipe->ended && !pipe->broken) {
        Result<void> waited = co_await pipe->changed.wait();
        if (!waited.ok()) co_return std::move(waited).error();
    }
    if (pipe->data.empty() && pipe->ended) co_return std::string();
    if (pipe->broken) co_return unavailable("the stream is closed");
    std::string part = pipe->data.substr(0, max_size);
    pipe->data.erase(0, part.size());
    pipe->changed.notify_all();
    co_return std::move(part);
}

async::Task<Result<void>> pipe_write(std::shared_ptr<Pipe> pipe, std::string data) {
    size_t offset = 0;
    while (offset < data.size()) {
        while (pipe->data.size() >= pipe->capacity && !pipe->broken && !pipe->ended) {
            Result<void> waited = co_await pipe->changed.wait();
            if (!waited.ok()) co_return std::move(waited);
        }
        if (pipe->broken || pipe->ended) co_return unavailable("the stream is closed");
        size_t part_size = std::min(data.size() - offset, pipe->capacity - pipe->data.size());
        pipe->data.append(data, offset, part_size);
        offset += part_size;
        pipe->changed.notify_all();
    }
    co_return Result<void>();
}

class PairStream final : public Stream {
 public:
    PairStream(std::shared_ptr<Pipe> in, std::shared_ptr<Pipe> out)
        : in_(std::move(in)), out_(std::move(out)) {}
    ~PairStream() override { PairStream::close(); }

    async::Task<Result<std::string>> read(size_t max_size) override {
        return pipe_read(in_, max_size);
    }
    async::Task<Result<void>> write(std::string data) override {
        return pipe_write(out_, std::move(data));
    }
    async::Task<Result<void>> close_write() override {
        out_->ended = true;
        out_->changed.notify_all();
        co_return Result<void>();
    }
    void close() override {
        // The other side still gets what was written; our own operations end.
        out_->ended = true;
        in_->broken = true;
        out_->changed.notify_all();
        in_->changed.notify_all();
    }
    const StreamInfo& info() const override { return info_; }

 private:
    std::shared_ptr<Pipe> in_;
    std::shared_ptr<Pipe> out_;
    StreamInfo info_{
        .local = "pair", .peer = "pair", .alpn = {}, .tls_version = {}, .identity = {}};
};

}  // namespace

std::pair<std::unique_ptr<Stream>, std::unique_ptr<Stream>> make_stream_pair(async::Loop&,
                                                                             size_t buffer_size) {
    auto one = std::make_shared<Pipe>(buffer_size);
    auto two = std::make_shared<Pipe>(buffer_size);
    return {std::make_unique<PairStream>(one, two), std::make_unique<PairStream>(two, one)};
}

}  // namespace basalt::net
