// The HTTP/2 protocol of one connection, client or server, without I/O: bytes in, events and bytes
// out (nghttp2).
//
// Calls and events happen on the connection's loop. No event is delivered inside submit(), write()
// or reset(); events come out of receive() and output(). From within an event every method but
// receive() and output() may be called.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "net/http.h"

namespace basalt::net::internal {

// RFC 9113 section 7.
inline constexpr uint32_t kH2NoError = 0;
inline constexpr uint32_t kH2RefusedStream = 7;
inline constexpr uint32_t kH2Cancel = 8;
inline constexpr uint32_t kH2EnhanceYourCalm = 11;
inline constexpr uint32_t kH2InadequateSecurity = 12;

struct Http2Head {
    std::string method, scheme, authority, path;  ///< Requests.
    int status = 0;                               ///< Responses.
    Headers headers;
};

class Http2Events {
 public:
    virtual ~Http2Events() = default;
    /// The header of a request or the final header of a response.
    virtual void on_head(int32_t id, Http2Head head) = 0;
    virtual void on_trailers(int32_t id, Headers trailers) = 0;
    virtual void on_data(int32_t id, std::string_view data) = 0;
    /// The peer ended its direction.
    virtual void on_end(int32_t id) = 0;
    /// Queued bytes of the stream went out.
    virtual void on_drained(int32_t id) = 0;
    /// Our header is in what output() returned.
    virtual void on_head_sent(int32_t id) = 0;
    /// The stream is gone; `code` as above, kH2RefusedStream also for those behind a GOAWAY.
    virtual void on_closed(int32_t id, uint32_t code) = 0;
    virtual void on_goaway(uint32_t code, std::string debug) = 0;
    virtual void on_settings() = 0;
    virtual void on_ping_ack() = 0;
};

class Http2Session {
 public:
    struct Options {
        bool server = false;
        uint32_t stream_window = 1024 * 1024;
        int32_t connection_window = 16 * 1024 * 1024;
        uint32_t max_streams = 100;  ///< Servers: what the client may open.
        size_t max_header_size = 64 * 1024;
        /// Until widen() the connection's window waits for readers, too: that much is all that the
        /// peer can make us keep.
        bool hold_connection_window = false;
    };
    Http2Session(Options options, Http2Events& events);
    ~Http2Session();

    /// Unavailable when the connection cannot go on; output() may then still hold a GOAWAY.
    Result<void> receive(std::string_view bytes);
    /// Bytes to send, about `max_size` at most; "" when there are none now.
    std::string output(size_t max_size);
    /// Nothing will be sent or understood any more.
    bool finished() const;

    /// Client: opens a stream. With `end` no body follows.
    Result<int32_t> submit_request(const Http2Head& head, bool end);
    Result<void> submit_response(int32_t id, int status, const Headers& headers, bool end);
    /// Queues; flow control decides when it goes.
    void write(int32_t id, std::string data);
    /// Ends our direction behind what is queued.
    void end(int32_t id);
    void end_with_trailers(int32_t id, Headers trailers);
    size_t queued_size(int32_t id) const;
    /// Opens the stream's window again for what the reader took. (The connection's window never
    /// waits for readers, so that a slow one does not stop the others, except as
    /// hold_connection_window says.)
    void consume(int32_t id, size_t size);
    /// Larger windows for a stream and its connection; the latter waits for no reader from now on.
    void widen(int32_t id, uint32_t stream_window, int32_t connection_window);
    void reset(int32_t id, uint32_t code);
    void ping();
    /// Server: announces the end; streams opened meanwhile are still served.
    void announce_shutdown();
    void goaway(uint32_t code);

    uint32_t remote_max_streams() const;
    /// False when no more streams can be opened on this connection.
    bool can_open_streams() const;

 private:
    struct State;
    std::unique_ptr<State> state_;
};

std::string_view http2_error_name(uint32_t code);

}  // namespace basalt::net::internal
