#include "net/http1_codec.h"

#include <variant>

#include <boost/beast/http.hpp>
#include <boost/beast/src.hpp>

#include "base/strings.h"

namespace basalt::net::internal {
namespace {

namespace http = boost::beast::http;
using boost::beast::error_code;

/// A body that is taken away in pieces. Unlike Beast's string_body it reserves nothing on the
/// peer's word.
struct PieceBody {
    using value_type = std::string;
    class reader {  // NOLINT(readability-identifier-naming): Beast looks for this name
     public:
        template <bool IsRequest, class Fields>
        reader(http::header<IsRequest, Fields>&, value_type& body) : body_(body) {}
        void init(const boost::optional<uint64_t>&, error_code& error) { error = {}; }
        template <class Buffers>
        size_t put(const Buffers& buffers, error_code& error) {
            error = {};
            size_t size = 0;
            for (auto it = boost::asio::buffer_sequence_begin(buffers);
                 it != boost::asio::buffer_sequence_end(buffers); ++it) {
                boost::asio::const_buffer piece(*it);
                body_.append(static_cast<const char*>(piece.data()), piece.size());
                size += piece.size();
            }
            return size;
        }
        void finish(error_code& error) { error = {}; }

     private:
        value_type& body_;
    };
};

using RequestParser = http::request_parser<PieceBody>;
using ResponseParser = http::response_parser<PieceBody>;

std::string text(boost::beast::string_view view) { return {view.data(), view.size()}; }

template <class Parser>
void set_limits(Parser& parser, const Http1Parser::Limits& limits) {
    parser.header_limit(static_cast<uint32_t>(limits.max_header_size));
    if (limits.max_body_size == 0) {
        parser.body_limit(boost::none);
    } else {
        parser.body_limit(limits.max_body_size);
    }
    parser.eager(true);
}

}  // namespace

struct Http1Parser::State {
    std::variant<std::monostate, RequestParser, ResponseParser> parser;
    std::string buffer;  ///< What the parser has not taken yet.
    size_t max_header_size = 0;
    bool failed = false;

    template <class F>
    auto visit(F function) const {
        if (const auto* request = std::get_if<RequestParser>(&parser)) return function(*request);
        return function(std::get<ResponseParser>(parser));
    }
    template <class F>
    auto visit_mutable(F function) {
        if (auto* request = std::get_if<RequestParser>(&parser)) return function(*request);
        return function(std::get<ResponseParser>(parser));
    }
};

Http1Parser::Http1Parser(Kind kind, Limits limits) : state_(std::make_unique<State>()) {
    if (kind == Kind::kRequest) {
        set_limits(state_->parser.emplace<RequestParser>(), limits);
    } else {
        set_limits(state_->parser.emplace<ResponseParser>(), limits);
    }
    state_->max_header_size = limits.max_header_size;
}

Http1Parser::~Http1Parser() = default;
Http1Parser::Http1Parser(Http1Parser&&) noexcept = default;

void Http1Parser::expect_no_body() {
    state_->visit_mutable([](auto& parser) { parser.skip(true); });
}

Result<void> Http1Parser::feed(std::string_view bytes) {
    if (state_->failed) return invalid_argument("the message is malformed");
    state_->buffer.append(bytes);
    return state_->visit_mutable([this](auto& parser) -> Result<void> {
        size_t used = 0;
        std::string& buffer = state_->buffer;
        error_code error;
        while (!parser.is_done() && used < buffer.size()) {
            size_t count = parser.put(
                boost::asio::const_buffer(buffer.data() + used, buffer.size() - used), error);
            used += count;
            if (error == http::error::need_more) error = {};
            if (error || count == 0) break;
        }
        buffer.erase(0, used);
        // Beast's limit ends with the header, but it waits for the end of a chunk's first line and
        // of the trailers, too, however long they get.
        if (!error && !parser.is_done() && buffer.size() > state_->max_header_size)
            error = http::error::header_limit;
        if (!error) return {};
        state_->failed = true;
        if (error == http::error::header_limit || error == http::error::buffer_overflow) {
            return resource_exhausted(
                       "a header, chunk extension or trailer of the message is too large")
                .with_cause(431);
        }
        if (error == http::error::body_limit)
            return resource_exhausted("the message's body is too large").with_cause(413);
        return invalid_argument("malformed HTTP message: " + error.message());
    });
}

Result<void> Http1Parser::feed_end() {
    return state_->visit_mutable([](auto& parser) -> Result<void> {
        if (parser.is_done()) return {};
        if (!parser.is_header_done())
            return unavailable("the connection ended before the message's header");
        error_code error;
        parser.put_eof(error);
        if (error) return unavailable("the connection ended within a message");
        return {};
    });
}

bool Http1Parser::has_header() const {
    return state_->visit([](const auto& parser) { return parser.is_header_done(); });
}

bool Http1Parser::done() const {
    return state_->visit([](const auto& parser) { return parser.is_done(); });
}

std::string Http1Parser::method() const {
    const auto* request = std::get_if<RequestParser>(&state_->parser);
    return request == nullptr ? std::string() : text(request->get().method_string());
}

std::string Http1Parser::target() const {
    const auto* request = std::get_if<RequestParser>(&state_->parser);
    return request == nullptr ? std::string() : text(request->get().target());
}

int Http1Parser::status() const {
    const auto* response = std::get_if<ResponseParser>(&state_->parser);
    return response == nullptr ? 0 : static_cast<int>(response->get().result_int());
}

Headers Http1Parser::headers() const {
    Headers headers;
    state_->visit([&headers](const auto& parser) {
        for (const auto& field : parser.get())
            headers.add(to_lower(text(field.name_string())), text(field.value()));
    });
    return headers;
}

bool Http1Parser::keep_alive() const {
    return state_->visit([](const auto& parser) { return parser.keep_alive(); });
}

bool Http1Parser::expects_continue() const {
    return equal_ignore_case(headers().get("expect"), "100-continue");
}

std::string Http1Parser::take_body() {
    return state_->visit_mutable(
        [](auto& parser) { return std::exchange(parser.get().body(), {}); });
}

std::string Http1Parser::take_rest() { return std::exchange(state_->buffer, {}); }

}  // namespace basalt::net::internal
