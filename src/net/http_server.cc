#include "net/http_server.h"

#include <algorithm>
#include <list>

#include "base/log.h"
#include "net/background.h"
#include "net/http1_codec.h"
#include "net/http_text.h"
#include "net/server_core.h"

namespace basalt::net {

std::string_view ServerRequest::path() const {
    std::string_view text = target;
    return text.substr(0, text.find('?'));
}

std::string_view ServerRequest::query() const {
    size_t mark = target.find('?');
    return mark == std::string::npos ? std::string_view()
                                     : std::string_view(target).substr(mark + 1);
}

int http_status_of(Code code) {
    switch (code) {
        case Code::kOk: return 200;
        case Code::kCancelled: return 499;
        case Code::kInvalidArgument:
        case Code::kFailedPrecondition:
        case Code::kOutOfRange: return 400;
        case Code::kDeadlineExceeded: return 504;
        case Code::kNotFound: return 404;
        case Code::kAlreadyExists:
        case Code::kAborted: return 409;
        case Code::kPermissionDenied: return 403;
        case Code::kUnauthenticated: return 401;
        case Code::kResourceExhausted: return 429;
        case Code::kUnimplemented: return 501;
        case Code::kUnavailable: return 503;
        case Code::kUnknown:
        case Code::kInternal:
        case Code::kDataLoss: return 500;
    }
    return 500;
}

namespace internal {
namespace {

using async::Task;

constexpr size_t kReadSize = 64 * 1024;
constexpr size_t kWriteSize = 64 * 1024;
/// Bytes of a refused request that are read and dropped before closing: a close with unread bytes
/// would reset the connection and could destroy the answer on its way.
constexpr size_t kMaxDiscardedSize = 256 * 1024;
/// Of each body; does not count against max_buffered_size, so that small requests always pass.
constexpr size_t kFreeBodySize = 64 * 1024;
/// A new connection on a crowded server may be silent for this long.
constexpr Duration kFirstByteTime = std::chrono::seconds(1);
constexpr Duration kDiscardTime = std::chrono::seconds(1);

HttpServerResponse plain_text(int status) {
    HttpServerResponse response;
    response.status = status;
    response.headers = Headers{{"content-type", "text/plain; charset=utf-8"}};
    response.body = std::string(reason_phrase(status)) + "\n";
    return response;
}

ConnectionLimits limits_of(const HttpServerOptions& options) {
    ConnectionLimits limits;
    limits.max_connections = options.max_connections;
    limits.handshake_timeout = options.header_timeout;
    return limits;
}

class HttpServerCore final : public ServerCore {
 public:
    HttpServerCore(async::Loop& loop, std::unique_ptr<Listener> listener,
                   std::shared_ptr<HttpHandler> handler, HttpServerOptions options)
        : ServerCore(loop, std::move(listener), options.tls, limits_of(options)),
          handler_(std::move(handler)),
          options_(std::move(options)) {}

    size_t buffered_size() const { return buffered_size_; }

 protected:
    Task<void> serve(std::unique_ptr<Stream> stream, GuestPtr) override {
        return serve_connection(*this, std::move(stream));
    }
    void begin_stop() override {
        for (Connection* connection : connections_) {
            if (connection->idle) connection->stream->close();
        }
    }
    void make_room() override {
        Connection* oldest = nullptr;
        for (Connection* each : connections_) {
            const bool is_new = !each->served && loop_.now() - each->since < kFirstByteTime;
            if (each->idle && !is_new && (oldest == nullptr || each->since < oldest->since))
                oldest = each;
        }
        if (oldest == nullptr) return;
        oldest->idle = false;  // Not again.
        oldest->stream->close();
    }

 private:
    struct Connection {
        std::unique_ptr<Stream> stream;
        std::string unread;
        bool idle = false;
        bool served = false;     ///< A request at least.
        bool receiving = false;  ///< Its body arrives.
        bool broken_off = false;
        TimePoint since{};         ///< When it got idle, or its body began to arrive.
        size_t body_size = 0;      ///< Bytes read of it.
        size_t reserved_size = 0;  ///< Its part of buffered_size_.
    };

    static Task<void> serve_connection(HttpServerCore& self, std::unique_ptr<Stream> stream) {
        Connection connection;
        connection.stream = std::move(stream);
        auto position = self.connections_.insert(self.connections_.end(), &connection);
        bool goes_on = true;
        while (goes_on && !self.stopping()) {
            bool served = co_await serve_request(self, connection);
            goes_on = served && connection.stream;
            connection.served = true;
        }
        self.release(connection);
        self.connections_.erase(position);
    }

    /// False when the connection is to be closed.
    static Task<bool> serve_request(HttpServerCore& self, Connection& connection) {
        Http1Parser parser(Http1Parser::Kind::kRequest,
                           {self.options_.max_header_size, self.options_.max_body_size});
        Result<bool> started = co_await self.read_first(connection, parser);
        if (!started.ok() || !*started) co_return false;
        Result<void> head = co_await async::with_timeout(self.loop_, self.options_.header_timeout,
                                                         self.read_header(connection, parser));
        Result<void> body = std::move(head);
        if (body.ok()) {
            Result<void> whole = co_await async::with_timeout(
                self.loop_, self.options_.body_timeout, self.read_body(connection, parser));
            body = std::move(whole);
            connection.receiving = false;
        }
        if (!body.ok()) {
            co_await self.refuse(connection, body.error());
            co_return false;
        }
        ServerRequest request;
        request.method = parser.method();
        request.target = parser.target();
        request.headers = parser.headers();
        request.body = parser.take_body();
        request.connection = connection.stream->info();
        connection.unread = parser.take_rest();
        const bool is_head = request.method == "HEAD";
        std::optional<HttpServerResponse> response = co_await self.call_handler(std::move(request));
        self.release(connection);
        if (!response) co_return false;
        const bool keep_alive = parser.keep_alive() && !self.stopping() && !self.crowded();
        bool written = co_await self.respond(connection, *response, is_head, keep_alive);
        co_return written&& keep_alive;
    }

    /// Waits for the first byte of a request; false at the end of the connection.
    Task<Result<bool>> read_first(Connection& connection, Http1Parser& parser) {
        std::string first = std::exchange(connection.unread, {});
        if (first.empty()) {
            Result<std::string> data = co_await read_idle(connection);
            if (!data.ok()) co_return std::move(data).error();
            first = std::move(*data);
        }
        if (first.empty()) co_return false;
        Result<void> fed = parser.feed(first);
        if (!fed.ok()) co_await refuse(connection, fed.error());
        co_return fed.ok();
    }

    Task<Result<std::string>> read_idle(Connection& connection) {
        connection.idle = true;
        connection.since = loop_.now();
        Result<std::string> data = co_await async::with_timeout(loop_, options_.idle_timeout,
                                                                connection.stream->read(kReadSize));
        connection.idle = false;
        co_return std::move(data);
    }

    Task<Result<void>> read_header(Connection& connection, Http1Parser& parser) {
        while (!parser.has_header()) {
            Result<bool> more = co_await read_some(connection, parser);
            if (!more.ok()) co_return std::move(more).error();
            if (!*more) break;
        }
        co_return Result<void>();
    }

    Task<Result<void>> read_body(Connection& connection, Http1Parser& parser) {
        connection.receiving = true;
        connection.since = loop_.now();
        if (!parser.done() && parser.expects_continue()) {
            Result<void> written =
                co_await connection.stream->write("HTTP/1.1 100 Continue\r\n\r\n");
            if (!written.ok()) co_return std::move(written);
        }
        while (!parser.done()) {
            Result<bool> more = co_await read_some(connection, parser);
            if (!more.ok()) co_return std::move(more).error();
            if (!*more) break;
        }
        connection.receiving = false;  // Whole: it is not broken off any more.
        co_return Result<void>();
    }

    /// False at the end of the peer's direction.
    Task<Result<bool>> read_some(Connection& connection, Http1Parser& parser) {
        Result<std::string> data = co_await connection.stream->read(kReadSize);
        if (!data.ok()) co_return std::move(data).error();
        if (connection.broken_off) co_return unavailable("broken off");
        if (connection.receiving && !reserve(connection, data->size()))
            co_return resource_exhausted("too many bodies at a time").with_cause(503);
        Result<void> fed = data->empty() ? parser.feed_end() : parser.feed(*data);
        if (!fed.ok()) co_return std::move(fed).error();
        co_return !data->empty();
    }

    /// Makes room for more of a body. False when there is none.
    bool reserve(Connection& connection, size_t size) {
        connection.body_size += size;
        const size_t counted = std::max(connection.body_size, kFreeBodySize) - kFreeBodySize;
        buffered_size_ += counted - connection.reserved_size;
        connection.reserved_size = counted;
        while (buffered_size_ > options_.max_buffered_size) {
            Connection* slowest = nullptr;
            for (Connection* each : connections_) {
                const bool helps = each->receiving && each->reserved_size > 0;
                if (helps && (slowest == nullptr || each->since < slowest->since)) slowest = each;
            }
            if (slowest == nullptr || slowest == &connection) return false;
            log_warn("a slow request's body is broken off: too many bodies at a time",
                     {{"peer", slowest->stream->info().peer}});
            slowest->receiving = false;
            slowest->broken_off = true;
            release(*slowest);
            slowest->stream->close();
        }
        return true;
    }

    /// The body of the present request is gone.
    void release(Connection& connection) {
        buffered_size_ -= std::exchange(connection.reserved_size, 0);
        connection.body_size = 0;
    }

    /// Nothing when the server broke the request off.
    Task<std::optional<HttpServerResponse>> call_handler(ServerRequest request) {
        std::string method = request.method;
        std::string path(request.path());
        Result<HttpServerResponse> response = co_await async::with_timeout(
            loop_, options_.handler_timeout, handler_->handle(std::move(request)));
        if (!response.ok()) {
            if (stopping() && response.error().code() == Code::kCancelled) co_return std::nullopt;
            int status = http_status_of(response.error().code());
            if (status >= 500)
                log_warn("HTTP request failed",
                         {{"method", method}, {"path", path}, {"error", response.error()}});
            co_return plain_text(status);
        }
        Result<void> valid = check_fields(response->headers);
        if (!valid.ok() || response->status < 100 || response->status > 999) {
            BASALT_BUG("an HTTP handler returned a malformed response");
            co_return plain_text(500);
        }
        co_return std::move(*response);
    }

    /// Answers what is not a request or is too large or too slow, then closes.
    Task<void> refuse(Connection& connection, Error error) {
        int status = 0;
        if (error.code() == Code::kInvalidArgument) status = 400;
        if (error.code() == Code::kResourceExhausted) status = error.cause_code();
        if (error.code() == Code::kDeadlineExceeded) status = 408;
        if (status == 0) co_return;
        HttpServerResponse response = plain_text(status);
        bool written = co_await respond(connection, response, false, false);
        if (!written) co_return;
        Result<void> ended = co_await connection.stream->close_write();
        if (!ended.ok()) co_return;
        Result<void> discarded =
            co_await async::with_timeout(loop_, kDiscardTime, discard(connection));
        static_cast<void>(discarded);
    }

    static Task<Result<void>> discard(Connection& connection) {
        for (size_t size = 0; size < kMaxDiscardedSize;) {
            Result<std::string> data = co_await connection.stream->read(kReadSize);
            if (!data.ok() || data->empty()) break;
            size += data->size();
        }
        co_return Result<void>();
    }

    /// In pieces, each with its own time limit: a slow but moving reader is fine.
    Task<bool> write_all(Connection& connection, std::string data) {
        for (size_t offset = 0; offset < data.size(); offset += kWriteSize) {
            Result<void> written = co_await async::with_timeout(
                loop_, options_.write_timeout,
                connection.stream->write(data.substr(offset, kWriteSize)));
            if (!written.ok()) co_return false;
        }
        co_return true;
    }

    Task<bool> respond(Connection& connection, HttpServerResponse& response, bool is_head,
                       bool keep_alive) {
        const bool streams = response.stream != nullptr && !is_head;
        std::optional<size_t> size;
        if (!response.stream) size = response.body.size();
        std::string text = http1_response_head(response.status, response.headers, size,
                                               !keep_alive && response.status != 101);
        const bool bodiless =
            is_head || response.status < 200 || response.status == 204 || response.status == 304;
        if (!bodiless && !response.stream) text += response.body;
        if (streams && !response.body.empty()) text += http1_chunk(response.body);
        bool written = co_await write_all(connection, std::move(text));
        if (!written) co_return false;
        if (response.status == 101 && response.takeover) {
            std::unique_ptr<Stream> stream = std::move(connection.stream);
            co_await response.takeover(
                with_prefix(std::move(connection.unread), std::move(stream)));
            co_return false;
        }
        while (streams) {
            Result<std::optional<std::string>> piece = co_await response.stream->read();
            if (!piece.ok()) co_return false;
            const bool last = !piece->has_value();
            std::string chunk = http1_chunk(last ? std::string_view() : std::string_view(**piece));
            bool sent = co_await write_all(connection, std::move(chunk));
            if (!sent) co_return false;
            if (last) break;
        }
        co_return true;
    }

    std::shared_ptr<HttpHandler> handler_;
    HttpServerOptions options_;
    std::list<Connection*> connections_;
    size_t buffered_size_ = 0;  ///< See HttpServerOptions::max_buffered_size.
};

class HttpServerHandle final : public HttpServer {
 public:
    explicit HttpServerHandle(std::shared_ptr<HttpServerCore> core) : core_(std::move(core)) {}
    const Endpoint& endpoint() const override { return core_->endpoint(); }
    void set_tls(std::shared_ptr<const TlsContext> tls) override { core_->set_tls(std::move(tls)); }
    size_t connections_count() const override { return core_->connections_count(); }
    size_t buffered_size() const override { return core_->buffered_size(); }
    Task<void> stop(Duration grace) override { return ServerCore::stop(core_, grace); }

 private:
    std::shared_ptr<HttpServerCore> core_;
};

}  // namespace
}  // namespace internal

Result<std::unique_ptr<HttpServer>> start_http_server(async::Loop& loop,
                                                      std::unique_ptr<Listener> listener,
                                                      std::shared_ptr<HttpHandler> handler,
                                                      HttpServerOptions options) {
    auto core = internal::make_reaped<internal::HttpServerCore>(
        loop, std::move(listener), std::move(handler), std::move(options));
    core->start();
    return std::unique_ptr<HttpServer>(
        std::make_unique<internal::HttpServerHandle>(std::move(core)));
}

}  // namespace basalt::net
