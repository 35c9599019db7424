// HTTP/1.1 messages from bytes, without I/O (Beast's parser).
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "net/http.h"

namespace basalt::net::internal {

/// Parses one message. Bytes behind its end stay in rest().
class Http1Parser {
 public:
    enum class Kind { kRequest, kResponse };
    struct Limits {
        size_t max_header_size;  ///< Also of a chunk's extensions and of the trailers.
        size_t max_body_size;    ///< 0: no limit, the reader takes the body away as it comes.
    };
    Http1Parser(Kind kind, Limits limits);
    ~Http1Parser();
    Http1Parser(Http1Parser&&) noexcept;

    /// The response belongs to a HEAD request: no body follows whatever its header says.
    void expect_no_body();
    /// The next bytes from the peer. InvalidArgument: not HTTP. ResourceExhausted: a limit;
    /// cause_code is the status to answer with (431, 413).
    Result<void> feed(std::string_view bytes);
    /// The peer's direction ended. Unavailable when that tore the message.
    Result<void> feed_end();

    bool has_header() const;
    bool done() const;
    std::string method() const;
    std::string target() const;
    int status() const;
    Headers headers() const;
    bool keep_alive() const;
    bool expects_continue() const;
    /// The body's bytes since the last call.
    std::string take_body();
    /// Bytes behind the message.
    std::string take_rest();

 private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace basalt::net::internal
