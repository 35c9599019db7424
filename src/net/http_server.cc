#include "net/http_server.h"

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

 protected:
    Task<void> serve(std::unique_ptr<Stream> stream, GuestPtr) override {
        return serve_connection(*this, std::move(stream));
    }
    void begin_stop() override {
        for (Connection* connection : connections_) {
            if (connection->idle) connection->stream->close();
        }
    }

 private:
    struct Connection {
        std::unique_ptr<Stream> stream;
        std::string unread;
        bool idle = false;
    };

    static Task<void> serve_connection(HttpServerCore& self, std::unique_ptr<Stream> stream) {
        Connection connection;
        connection.stream = std::move(stream);
        auto position = self.connections_.insert(self.connections_.end(), &connection);
        bool goes_on = true;
        while (goes_on && !self.stopping()) {
            bool served = co_await serve_request(self, connection);
            goes_on = served && connection.stream;
        }
        self.connections_.erase(position);
    }

    /// False when the connection is to be closed.
    static Task<bool> serve_request(HttpServerCore& self, Connection& connection) {
        Http1Parser parser(Http1Parser::Kind::kRequest,
                           {self.options_.max_header_size, self.options_.max_body_size});
        Result<bool> started = co_await self.read_first(connection, parser);
        if (!started.ok() || !*started) co_return false;
        Result<void> head = co_await async::with_timeout(self.loop_, self.options_.header_timeout,
                                                         read_until(connection, parser, false));
        Result<void> body = std::move(head);
        if (body.ok()) {
            Result<void> whole = co_await async::with_timeout(
                self.loop_, self.options_.body_timeout, read_until(connection, parser, true));
            body = std::move(whole);
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
        if (!response) co_return false;
        const bool keep_alive = parser.keep_alive() && !self.stopping();
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
        Result<std::string> data = co_await async::with_timeout(loop_, options_.idle_timeout,
                                                                connection.stream->read(kReadSize));
        connection.idle = false;
        co_return std::move(data);
    }

    static Task<Result<void>> read_until(Connection& connection, Http1Parser& parser, bool whole) {
        if (whole && !parser.done() && parser.expects_continue()) {
            Result<void> written =
                co_await connection.stream->write("HTTP/1.1 100 Continue\r\n\r\n");
            if (!written.ok()) co_return std::move(written);
        }
        while (whole ? !parser.done() : !parser.has_header()) {
            Result<std::string> data = co_await connection.stream->read(kReadSize);
            if (!data.ok()) co_return std::move(data).error();
            Result<void> fed = data->empty() ? parser.feed_end() : parser.feed(*data);
            if (!fed.ok()) co_return std::move(fed);
            if (data->empty()) break;
        }
        co_return Result<void>();
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
};

class HttpServerHandle final : public HttpServer {
 public:
    explicit HttpServerHandle(std::shared_ptr<HttpServerCore> core) : core_(std::move(core)) {}
    const Endpoint& endpoint() const override { return core_->endpoint(); }
    void set_tls(std::shared_ptr<const TlsContext> tls) override { core_->set_tls(std::move(tls)); }
    size_t connections_count() const override { return core_->connections_count(); }
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
