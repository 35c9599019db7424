#include "net/http1_client.h"

#include "base/strings.h"
#include "net/http_client.h"
#include "net/http_text.h"

namespace basalt::net::internal {
namespace {

using async::Task;

constexpr size_t kReadSize = 64 * 1024;
constexpr int kMaxInterimResponses = 16;

std::unique_ptr<Http1Parser> make_parser(bool head_request) {
    auto parser = std::make_unique<Http1Parser>(
        Http1Parser::Kind::kResponse,
        Http1Parser::Limits{.max_header_size = kMaxHeaderSize, .max_body_size = 0});
    if (head_request) parser->expect_no_body();
    return parser;
}

class Http1Body final : public BodyReader {
 public:
    Http1Body(std::unique_ptr<Http1Connection> connection, std::unique_ptr<Http1Parser> parser,
              bool reusable, Http1Return give_back)
        : connection_(std::move(connection)),
          parser_(std::move(parser)),
          reusable_(reusable),
          give_back_(std::move(give_back)) {
        if (parser_->done()) finish();
    }

    Task<Result<std::optional<std::string>>> read() override { return read_piece(*this); }
    const Headers& trailers() const override { return trailers_; }

 private:
    static Task<Result<std::optional<std::string>>> read_piece(Http1Body& self) {
        for (;;) {
            std::string piece = self.parser_->take_body();
            if (!piece.empty()) co_return std::optional<std::string>(std::move(piece));
            if (self.parser_->done()) {
                self.finish();
                co_return std::optional<std::string>();
            }
            if (self.failure_) co_return *self.failure_;
            Result<std::string> data = co_await self.connection_->stream->read(kReadSize);
            if (!data.ok() && data.error().code() == Code::kCancelled)
                co_return std::move(data).error();
            Result<void> fed;
            if (!data.ok()) {
                fed = std::move(data).error();
            } else if (data->empty()) {
                self.reusable_ = false;
                fed = self.parser_->feed_end();
            } else {
                fed = self.parser_->feed(*data);
            }
            if (!fed.ok()) self.failure_ = std::move(fed).error();
        }
    }

    void finish() {
        std::unique_ptr<Http1Connection> connection = std::move(connection_);
        if (!connection || !reusable_ || !parser_->keep_alive()) return;
        connection->unread = parser_->take_rest();
        // Bytes that nobody asked for: not a connection to trust.
        if (connection->unread.empty()) give_back_(std::move(connection));
    }

    std::unique_ptr<Http1Connection> connection_;
    std::unique_ptr<Http1Parser> parser_;
    bool reusable_;
    Http1Return give_back_;
    std::optional<Error> failure_;
    Headers trailers_;
};

}  // namespace

Task<Result<void>> read_response_head(Stream& stream, std::unique_ptr<Http1Parser>& parser,
                                      std::string unread, bool head_request) {
    parser = make_parser(head_request);
    Result<void> fed = parser->feed(unread);
    for (int interim_count = 0; fed.ok();) {
        if (parser->has_header()) {
            if (parser->status() >= 200 || parser->status() == 101) co_return Result<void>();
            if (++interim_count > kMaxInterimResponses)
                co_return invalid_argument("too many interim responses");
            std::string rest = parser->take_rest();
            parser = make_parser(head_request);
            fed = parser->feed(rest);
            continue;
        }
        Result<std::string> data = co_await stream.read(kReadSize);
        if (!data.ok()) co_return std::move(data).error();
        fed = data->empty() ? parser->feed_end() : parser->feed(*data);
    }
    co_return std::move(fed);
}

Task<Http1Outcome> http1_exchange(std::unique_ptr<Http1Connection> connection,
                                  std::shared_ptr<const HttpRequest> request, std::string authority,
                                  Http1Return give_back) {
    Http1Outcome outcome;
    Result<void> written =
        co_await connection->stream->write(http1_request_head(*request, authority) + request->body);
    if (!written.ok() && !written.error().retriable()) {
        outcome.error = std::move(written).error();
        co_return std::move(outcome);
    }
    // A server may answer and close before it has read the whole body: look for its answer in any
    // case.
    std::unique_ptr<Http1Parser> parser;
    Result<void> head = co_await read_response_head(
        *connection->stream, parser, std::move(connection->unread), request->method == "HEAD");
    if (!head.ok() || parser->status() == 101) {
        outcome.error = head.ok() ? unavailable("the server switched protocols unasked")
                                  : std::move(head).error();
        // The parser takes no bytes before a whole header: none left behind means that none came.
        outcome.untouched = parser->take_rest().empty();
        co_return std::move(outcome);
    }
    outcome.response.status = parser->status();
    outcome.response.headers = parser->headers();
    outcome.response.body = std::make_unique<Http1Body>(std::move(connection), std::move(parser),
                                                        written.ok(), std::move(give_back));
    co_return std::move(outcome);
}

}  // namespace basalt::net::internal
