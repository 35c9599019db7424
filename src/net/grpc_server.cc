#include <functional>
#include <list>

#include "base/log.h"
#include "net/background.h"
#include "net/grpc.h"
#include "net/grpc_wire.h"
#include "net/http2_connection.h"
#include "net/server_core.h"

namespace basalt::net {

using async::Task;

Task<Result<std::string>> read_unary(GrpcServerCall& call) {
    Result<std::optional<std::string>> request = co_await call.read();
    if (!request.ok()) co_return std::move(request).error();
    if (!request->has_value()) co_return invalid_argument("gRPC: the call has no request");
    Result<std::optional<std::string>> end = co_await call.read();
    if (!end.ok()) co_return std::move(end).error();
    if (end->has_value()) co_return invalid_argument("gRPC: more than one request in a unary call");
    co_return std::move(**request);
}

namespace internal {
namespace {

class ServerCall final : public GrpcServerCall {
 public:
    ServerCall(async::Loop& loop, std::shared_ptr<Http2Connection> connection,
               Http2StreamPtr stream, size_t max_message_size, std::function<void()> on_accepted)
        : connection_(std::move(connection)),
          stream_(std::move(stream)),
          on_accepted_(std::move(on_accepted)),
          decoder_(max_message_size),
          method_(stream_->head.path),
          metadata_(decode_metadata(stream_->head.headers)) {
        std::optional<Duration> timeout =
            parse_grpc_timeout(stream_->head.headers.get("grpc-timeout"));
        if (timeout && *timeout < TimePoint::max() - loop.now()) deadline_ = loop.now() + *timeout;
    }

    const std::string& method() const override { return method_; }
    const GrpcMetadata& metadata() const override { return metadata_; }
    const StreamInfo& connection() const override { return connection_->info(); }
    std::optional<TimePoint> deadline() const override { return deadline_; }
    Task<Result<std::optional<std::string>>> read() override { return read_message(*this); }
    Task<Result<void>> write(std::string message) override {
        return write_message(*this, std::move(message));
    }
    void add_initial_metadata(std::string name, std::string value) override {
        initial_.add(std::move(name), std::move(value));
    }
    void add_trailing_metadata(std::string name, std::string value) override {
        trailing_.add(std::move(name), std::move(value));
    }

    Result<void> send_header() override {
        if (std::exchange(header_sent_, true)) return {};
        Headers headers{{"content-type", "application/grpc"}};
        BASALT_ASSIGN(Headers metadata, encode_metadata(initial_));
        for (const auto& [name, value] : metadata.fields()) headers.add(name, value);
        BASALT_TRY(connection_->respond(stream_, 200, headers, false));
        if (on_accepted_) on_accepted_();
        return {};
    }

    void send_status(const Result<void>& status) {
        if (stream_->closed) return;
        Headers trailers = status_trailers(status);
        Result<Headers> metadata = encode_metadata(trailing_);
        if (metadata.ok()) {
            for (const auto& [name, value] : metadata->fields()) trailers.add(name, value);
        } else {
            BASALT_BUG("a gRPC service set malformed trailing metadata");
        }
        if (header_sent_) {
            connection_->end_with_trailers(stream_, std::move(trailers));
            return;
        }
        Headers headers{{"content-type", "application/grpc"}};
        for (const auto& [name, value] : trailers.fields()) headers.add(name, value);
        Result<void> sent = connection_->respond(stream_, 200, headers, true);
        static_cast<void>(sent);
    }

    Http2StreamState& stream() const { return *stream_; }

 private:
    static Task<Result<std::optional<std::string>>> read_message(ServerCall& self) {
        for (;;) {
            Result<std::optional<std::string>> message = self.decoder_.next();
            if (!message.ok() || message->has_value()) co_return std::move(message);
            Result<std::optional<std::string>> piece =
                co_await Http2Connection::read(self.connection_, self.stream_);
            if (!piece.ok())
                co_return cancelled("gRPC: the client went away: " + piece.error().message());
            if (!piece->has_value()) break;
            self.decoder_.feed(**piece);
        }
        if (!self.decoder_.empty())
            co_return internal_error("gRPC: the requests ended within a message");
        co_return std::optional<std::string>();
    }

    static Task<Result<void>> write_message(ServerCall& self, std::string message) {
        Result<void> header = self.send_header();
        if (!header.ok()) co_return std::move(header);
        Result<void> written =
            co_await Http2Connection::write(self.connection_, self.stream_, grpc_frame(message));
        if (!written.ok())
            co_return cancelled("gRPC: the client went away: " + written.error().message());
        co_return Result<void>();
    }

    std::shared_ptr<Http2Connection> connection_;
    Http2StreamPtr stream_;
    std::function<void()> on_accepted_;
    GrpcDecoder decoder_;
    std::string method_;
    GrpcMetadata metadata_;
    std::optional<TimePoint> deadline_;
    bool header_sent_ = false;
    GrpcMetadata initial_;
    GrpcMetadata trailing_;
};

/// Runs a service's coroutine and ends it when the client goes away.
struct RunningCall {
    std::optional<Result<void>> status;

    static Task<void> run(async::Loop& loop, GrpcService& service, ServerCall& call,
                          RunningCall& self) {
        if (call.deadline()) {
            Result<void> status =
                co_await async::with_deadline(loop, *call.deadline(), service.serve(call));
            self.status = std::move(status);
        } else {
            Result<void> status = co_await service.serve(call);
            self.status = std::move(status);
        }
        call.stream().changed.notify_all();
    }
};

ConnectionLimits limits_of(const GrpcServerOptions& options) {
    ConnectionLimits limits;
    limits.max_connections = options.max_connections;
    limits.handshake_timeout = options.handshake_timeout;
    if (options.strangers) {
        limits.max_strangers = options.strangers->max_connections;
        limits.max_strangers_per_address = options.strangers->max_connections_per_address;
        limits.stranger_timeout = options.strangers->timeout;
    }
    return limits;
}

class GrpcServerCore final : public ServerCore {
 public:
    GrpcServerCore(async::Loop& loop, std::unique_ptr<Listener> listener,
                   std::shared_ptr<GrpcService> service, GrpcServerOptions options)
        : ServerCore(loop, std::move(listener), options.tls, limits_of(options)),
          service_(std::move(service)),
          options_(std::move(options)) {}

    size_t buffered_size() const {
        size_t size = 0;
        for (const auto& connection : connections_) size += connection->buffered_size();
        return size;
    }

 protected:
    Task<void> serve(std::unique_ptr<Stream> stream, GuestPtr guest) override {
        auto caller = std::make_shared<Caller>();
        caller->guest = std::move(guest);
        return serve_connection(*this, std::move(stream), std::move(caller));
    }
    void begin_stop() override {
        for (const auto& connection : connections_) connection->drain();
    }

 private:
    /// Who is at the other end of a connection.
    struct Caller {
        GuestPtr guest;
        size_t accepted_count = 0;  ///< Calls that were accepted and go on.
    };
    using CallerPtr = std::shared_ptr<Caller>;

    Http2Connection::Options connection_options(bool has_certificate) const {
        Http2Connection::Options options{};
        options.session.server = true;
        options.session.stream_window = kStreamWindow;
        options.session.connection_window = kConnectionWindow;
        options.session.max_streams = static_cast<uint32_t>(options_.max_streams_per_connection);
        options.session.max_header_size = kMaxHeaderSize;
        options.ping_after = options_.ping_after;
        options.ping_timeout = options_.ping_timeout;
        if (const std::optional<GrpcStrangerLimits>& limits = options_.strangers) {
            options.session.stream_window = limits->window;
            options.session.connection_window = static_cast<int32_t>(limits->window);
            options.session.hold_connection_window = true;
            options.session.max_header_size = limits->max_header_size;
            if (!has_certificate)
                options.session.max_streams = static_cast<uint32_t>(limits->max_streams);
        }
        return options;
    }

    void accepted(Caller& caller, Http2Connection& connection, const Http2StreamPtr& stream) {
        ++caller.accepted_count;
        set_stranger(caller.guest, false);
        connection.widen(stream, kStreamWindow, kConnectionWindow);
    }

    static Task<void> serve_connection(GrpcServerCore& self, std::unique_ptr<Stream> stream,
                                       CallerPtr caller) {
        const bool has_certificate = stream->info().identity.has_value();
        std::shared_ptr<Http2Connection> connection = Http2Connection::start(
            self.loop_, std::move(stream), self.connection_options(has_certificate),
            [&self, caller](std::shared_ptr<Http2Connection> from, Http2StreamPtr request) {
                self.group().spawn(serve_call(self, std::move(from), std::move(request), caller));
            });
        auto position = self.connections_.insert(self.connections_.end(), connection);
        if (self.stopping()) connection->drain();
        Result<void> ended = co_await connection->wait_closed();
        self.connections_.erase(position);
        if (!ended.ok()) connection->fail(unavailable("the server ends the connection"));
    }

    static Task<void> serve_call(GrpcServerCore& self, std::shared_ptr<Http2Connection> connection,
                                 Http2StreamPtr stream, CallerPtr caller) {
        const Http2Head& head = stream->head;
        if (head.method != "POST" ||
            !head.headers.get("content-type").starts_with("application/grpc")) {
            Result<void> refused =
                connection->respond(stream, head.method == "POST" ? 415 : 405, Headers(), true);
            static_cast<void>(refused);
            co_return;
        }
        bool was_accepted = false;
        std::function<void()> on_accepted;
        if (self.options_.strangers) {
            on_accepted = [&] {
                was_accepted = true;
                self.accepted(*caller, *connection, stream);
            };
        }
        ServerCall call(self.loop_, connection, stream, self.options_.max_message_size,
                        std::move(on_accepted));
        RunningCall running;
        async::TaskGroup group(self.loop_);
        group.spawn(RunningCall::run(self.loop_, *self.service_, call, running));
        while (!running.status && !stream->closed) {
            Result<void> waited = co_await stream->changed.wait();
            if (!waited.ok()) break;
        }
        if (!running.status) group.cancel();
        co_await group.join();
        Result<void> status =
            running.status ? std::move(*running.status) : Result<void>(cancelled());
        if (!status.ok() && status.error().code() == Code::kInternal) {
            log_warn("gRPC call failed", {{"method", call.method()}, {"error", status.error()}});
        }
        call.send_status(status);
        if (was_accepted && --caller->accepted_count == 0) self.set_stranger(caller->guest, true);
    }

    std::shared_ptr<GrpcService> service_;
    GrpcServerOptions options_;
    std::list<std::shared_ptr<Http2Connection>> connections_;
};

class GrpcServerHandle final : public GrpcServer {
 public:
    explicit GrpcServerHandle(std::shared_ptr<GrpcServerCore> core) : core_(std::move(core)) {}
    const Endpoint& endpoint() const override { return core_->endpoint(); }
    void set_tls(std::shared_ptr<const TlsContext> tls) override { core_->set_tls(std::move(tls)); }
    size_t connections_count() const override { return core_->connections_count(); }
    size_t buffered_size() const override { return core_->buffered_size(); }
    Task<void> stop(Duration grace) override { return ServerCore::stop(core_, grace); }

 private:
    std::shared_ptr<GrpcServerCore> core_;
};

}  // namespace
}  // namespace internal

Result<std::unique_ptr<GrpcServer>> start_grpc_server(async::Loop& loop,
                                                      std::unique_ptr<Listener> listener,
                                                      std::shared_ptr<GrpcService> service,
                                                      GrpcServerOptions options) {
    auto core = internal::make_reaped<internal::GrpcServerCore>(
        loop, std::move(listener), std::move(service), std::move(options));
    core->start();
    return std::unique_ptr<GrpcServer>(
        std::make_unique<internal::GrpcServerHandle>(std::move(core)));
}

}  // namespace basalt::net
