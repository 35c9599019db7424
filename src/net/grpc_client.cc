#include "async/wait.h"
#include "net/grpc.h"
#include "net/grpc_wire.h"

namespace basalt::net {

using async::Task;

namespace internal {
namespace {

class GrpcStreamImpl final : public GrpcStream {
 public:
    GrpcStreamImpl(async::Loop& loop, std::unique_ptr<HttpExchange> exchange,
                   const GrpcCallOptions& options)
        : loop_(loop), exchange_(std::move(exchange)), decoder_(options.max_message_size) {
        if (!options.deadline) return;
        timer_ = loop.call_at(*options.deadline, [this] {
            timer_ = 0;
            end_early(deadline_exceeded("gRPC: the call took too long"));
        });
    }
    ~GrpcStreamImpl() override {
        if (timer_ != 0) loop_.cancel_timer(timer_);
    }

    Task<Result<std::optional<std::string>>> read() override { return read_message(*this); }
    Task<Result<void>> write(std::string message) override {
        return write_message(*this, std::move(message));
    }
    Task<Result<void>> finish_writing() override { return exchange_->finish(); }
    Task<Result<void>> wait_header() override { return wait_for_header(*this); }
    const GrpcMetadata& initial_metadata() const override { return initial_; }
    const GrpcMetadata& trailing_metadata() const override { return trailing_; }
    void cancel() override { end_early(cancelled("gRPC: the call was cancelled")); }

 private:
    void end_early(Error error) {
        if (end_) return;
        end_ = error;
        exchange_->abort(std::move(error));
    }

    static Task<Result<void>> wait_for_header(GrpcStreamImpl& self) {
        if (self.has_header_) co_return Result<void>();
        Result<void> head = co_await self.exchange_->wait_head();
        if (self.end_) co_return *self.end_;
        if (!head.ok()) co_return error_of_transport(std::move(head).error());
        const Headers& headers = self.exchange_->headers();
        self.is_trailers_only_ = headers.contains("grpc-status");
        bool is_grpc = headers.get("content-type").starts_with("application/grpc");
        if (!self.is_trailers_only_ && (self.exchange_->status() != 200 || !is_grpc)) {
            self.end_ = self.exchange_->status() == 200
                            ? Error(Code::kUnknown, "gRPC: the server does not speak gRPC")
                            : error_of_http_status(self.exchange_->status());
            co_return *self.end_;
        }
        self.has_header_ = true;
        self.initial_ = decode_metadata(headers);
        co_return Result<void>();
    }

    static Task<Result<std::optional<std::string>>> read_message(GrpcStreamImpl& self) {
        Result<void> header = co_await wait_for_header(self);
        if (!header.ok()) co_return std::move(header).error();
        for (;;) {
            Result<std::optional<std::string>> message = self.decoder_.next();
            if (!message.ok()) {
                self.end_early(message.error());
                co_return std::move(message).error();
            }
            if (message->has_value()) co_return std::move(message);
            if (self.end_) co_return *self.end_;
            Result<std::optional<std::string>> piece = co_await self.exchange_->read();
            if (self.end_) continue;
            if (!piece.ok()) co_return error_of_transport(std::move(piece).error());
            if (!piece->has_value()) break;
            self.decoder_.feed(**piece);
        }
        Result<void> status = self.take_status();
        if (!status.ok()) co_return std::move(status).error();
        if (!self.decoder_.empty())
            co_return internal_error("gRPC: the call ended within a message");
        co_return std::optional<std::string>();
    }

    static Task<Result<void>> write_message(GrpcStreamImpl& self, std::string message) {
        if (self.end_) co_return *self.end_;
        Result<void> written = co_await self.exchange_->write(grpc_frame(message));
        if (self.end_) co_return *self.end_;
        if (written.ok()) co_return std::move(written);
        // The server may have ended the call before it read everything: its status says why.
        const bool has_status = self.exchange_->trailers().contains("grpc-status") ||
                                self.exchange_->headers().contains("grpc-status");
        if (!has_status) co_return error_of_transport(std::move(written).error());
        Result<void> header = co_await wait_for_header(self);
        if (!header.ok()) co_return std::move(header);
        Result<void> status = self.take_status();
        if (!status.ok()) co_return std::move(status);
        co_return unavailable("gRPC: the call has ended");
    }

    Result<void> take_status() {
        const Headers& trailers = is_trailers_only_ ? exchange_->headers() : exchange_->trailers();
        trailing_ = decode_metadata(trailers);
        return status_from(trailers);
    }

    async::Loop& loop_;
    std::unique_ptr<HttpExchange> exchange_;
    GrpcDecoder decoder_;
    async::Loop::TimerId timer_ = 0;
    std::optional<Error> end_;  ///< Decided on this side.
    bool has_header_ = false;
    bool is_trailers_only_ = false;
    GrpcMetadata initial_;
    GrpcMetadata trailing_;
};

class GrpcChannelImpl final : public GrpcChannel {
 public:
    GrpcChannelImpl(async::Loop& loop, std::shared_ptr<HttpClient> client)
        : loop_(loop), client_(std::move(client)) {}

    Task<Result<std::unique_ptr<GrpcStream>>> open(std::string method,
                                                   GrpcCallOptions options) override {
        HttpRequest request;
        request.method = "POST";
        request.target = std::move(method);
        request.guard = options.guard;
        request.headers = Headers{{"content-type", "application/grpc"},
                                  {"te", "trailers"},
                                  {"grpc-accept-encoding", "identity"},
                                  {"user-agent", "grpc-basalt/1"}};
        if (options.deadline) {
            if (*options.deadline <= loop_.now())
                co_return deadline_exceeded("gRPC: no time left for the call");
            request.headers.add("grpc-timeout",
                                format_grpc_timeout(*options.deadline - loop_.now()));
        }
        Result<Headers> metadata = encode_metadata(options.metadata);
        if (!metadata.ok()) co_return std::move(metadata).error();
        for (const auto& [name, value] : metadata->fields()) request.headers.add(name, value);
        TimePoint limit = options.deadline.value_or(TimePoint::max());
        Result<std::unique_ptr<HttpExchange>> exchange =
            co_await open_exchange(loop_, client_, std::move(request), limit);
        if (!exchange.ok()) co_return std::move(exchange).error();
        co_return std::unique_ptr<GrpcStream>(
            std::make_unique<GrpcStreamImpl>(loop_, std::move(*exchange), options));
    }

 private:
    static Task<Result<std::unique_ptr<HttpExchange>>> open_exchange(
        async::Loop& loop, std::shared_ptr<HttpClient> client, HttpRequest request,
        TimePoint deadline) {
        if (deadline == TimePoint::max()) {
            Result<std::unique_ptr<HttpExchange>> exchange =
                co_await client->open(std::move(request));
            co_return std::move(exchange);
        }
        Result<std::unique_ptr<HttpExchange>> exchange =
            co_await async::with_deadline(loop, deadline, client->open(std::move(request)));
        co_return std::move(exchange);
    }

    async::Loop& loop_;
    std::shared_ptr<HttpClient> client_;
};

/// Opens a call and sends its only message.
Task<Result<std::unique_ptr<GrpcStream>>> start_call(GrpcChannel& channel, std::string method,
                                                     std::string request, GrpcCallOptions options) {
    for (int replays_count = 0;; ++replays_count) {
        Result<std::unique_ptr<GrpcStream>> stream = co_await channel.open(method, options);
        if (!stream.ok()) co_return std::move(stream);
        Result<void> written = co_await (*stream)->write(request);
        if (written.ok()) {
            Result<void> finished = co_await (*stream)->finish_writing();
            written = std::move(finished);
        }
        if (written.ok()) {
            // A connection that was going away shows here, before the server has seen anything.
            Result<void> header = co_await (*stream)->wait_header();
            written = std::move(header);
        }
        if (written.ok()) co_return std::move(stream);
        if (written.error().reason() != "NotSent" || replays_count >= kMaxReplays)
            co_return std::move(written).error();
    }
}

}  // namespace
}  // namespace internal

Task<Result<std::string>> GrpcChannel::unary(std::string method, std::string request,
                                             GrpcCallOptions options) {
    Result<std::unique_ptr<GrpcStream>> stream = co_await internal::start_call(
        *this, std::move(method), std::move(request), std::move(options));
    if (!stream.ok()) co_return std::move(stream).error();
    Result<std::optional<std::string>> response = co_await (*stream)->read();
    if (!response.ok()) co_return std::move(response).error();
    if (!response->has_value()) co_return internal_error("gRPC: the call ended without a response");
    Result<std::optional<std::string>> end = co_await (*stream)->read();
    if (!end.ok()) co_return std::move(end).error();
    if (end->has_value()) co_return internal_error("gRPC: more than one response to a unary call");
    co_return std::move(**response);
}

Task<Result<std::unique_ptr<GrpcStream>>> GrpcChannel::server_stream(std::string method,
                                                                     std::string request,
                                                                     GrpcCallOptions options) {
    return internal::start_call(*this, std::move(method), std::move(request), std::move(options));
}

std::shared_ptr<GrpcChannel> make_grpc_channel(async::Loop& loop,
                                               std::shared_ptr<HttpClient> client) {
    return std::make_shared<internal::GrpcChannelImpl>(loop, std::move(client));
}

std::shared_ptr<GrpcChannel> make_grpc_channel(async::Loop& loop, Url target,
                                               HttpClientOptions options) {
    options.version = HttpVersion::kHttp2;
    options.ping_idle = false;
    return make_grpc_channel(loop, make_http_client(loop, std::move(target), std::move(options)));
}

}  // namespace basalt::net
