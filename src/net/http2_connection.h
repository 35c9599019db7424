// One HTTP/2 connection at work: a session (http2_session.h) on a Stream, with keepalive, for
// either side.
//
// Made with start(); ends by itself when the peer or the network ends it, or when its last owner
// lets go (background.h). Streams are handed out as shared Http2StreamState plus the connection
// that feeds them.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include "async/task_group.h"
#include "async/wait.h"
#include "net/http2_session.h"
#include "net/stream.h"

namespace basalt::net::internal {

/// A stream's incoming half, filled by the connection and emptied by its reader.
struct Http2StreamState {
    int32_t id = 0;
    Http2Head head;
    bool has_head = false;
    Headers trailers;
    std::list<std::string> pieces;  ///< A deque takes 600 bytes when it is empty.
    bool ended = false;             ///< The peer ended its direction.
    bool closed = false;            ///< Neither direction goes on.
    bool head_sent = false;         ///< Ours reached the socket's writer.
    std::optional<Error> error;
    async::Condition changed;
};
using Http2StreamPtr = std::shared_ptr<Http2StreamState>;

class Http2Connection final : public Http2Events,
                              public std::enable_shared_from_this<Http2Connection> {
 public:
    struct Options {
        Http2Session::Options session;
        Duration ping_after;
        Duration ping_timeout;
        bool ping_idle = true;  ///< Also without streams.
        Duration idle_timeout =
            Duration::zero();  ///< Clients: closes after so long without streams. Zero: never.
    };
    using RequestHandler = std::function<void(std::shared_ptr<Http2Connection>, Http2StreamPtr)>;

    static std::shared_ptr<Http2Connection> start(async::Loop& loop, std::unique_ptr<Stream> stream,
                                                  Options options,
                                                  RequestHandler on_request = nullptr);
    Http2Connection(async::Loop& loop, std::unique_ptr<Stream> stream, Options options,
                    RequestHandler on_request);

    /// Called when a stream ends, or the connection drains, fails or gets ready. Cleared by the
    /// pool.
    void set_on_change(std::function<void()> on_change) { on_change_ = std::move(on_change); }

    /// Client: after the server's SETTINGS; the Error that ended the connection otherwise.
    async::Task<Result<void>> wait_ready();
    bool usable() const { return ready_ && !error_ && !draining_ && session_.can_open_streams(); }
    size_t free_streams() const;
    size_t streams_count() const { return streams_.size(); }
    /// Received and not yet read.
    size_t buffered_size() const;
    bool told_to_calm_down() const { return told_to_calm_down_; }
    bool failed() const { return error_.has_value(); }
    const StreamInfo& info() const { return stream_->info(); }

    Result<Http2StreamPtr> submit(const Http2Head& head, bool end);
    Result<void> respond(const Http2StreamPtr& stream, int status, const Headers& headers,
                         bool end);
    /// Waits while too much is queued. After that the data are the connection's.
    static async::Task<Result<void>> write(std::shared_ptr<Http2Connection> self,
                                           Http2StreamPtr stream, std::string data);
    /// Http2Session::widen.
    void widen(const Http2StreamPtr& stream, uint32_t stream_window, int32_t connection_window);
    void end(const Http2StreamPtr& stream);
    void end_with_trailers(const Http2StreamPtr& stream, Headers trailers);
    static async::Task<Result<std::optional<std::string>>> read(
        std::shared_ptr<Http2Connection> self, Http2StreamPtr stream);
    static async::Task<Result<void>> wait_head(Http2StreamPtr stream);
    /// Forgets the stream, telling the peer unless it is over anyway.
    void abandon(const Http2StreamPtr& stream, uint32_t code);

    /// The same, with operations in flight and later ones returning `error`.
    void abort(const Http2StreamPtr& stream, Error error);

    /// No new streams; closes when those in progress have ended.
    void drain();
    /// Ends now; all streams fail.
    void fail(Error error);
    /// Until the connection is over.
    async::Task<Result<void>> wait_closed();

    // For background.h.
    async::TaskGroup& group() { return group_; }
    void shut_down() noexcept;

 private:
    void on_head(int32_t id, Http2Head head) override;
    void on_trailers(int32_t id, Headers trailers) override;
    void on_data(int32_t id, std::string_view data) override;
    void on_end(int32_t id) override;
    void on_drained(int32_t id) override;
    void on_head_sent(int32_t id) override;
    void on_closed(int32_t id, uint32_t code) override;
    void on_goaway(uint32_t code, std::string debug) override;
    void on_settings() override;
    void on_ping_ack() override;

    static async::Task<void> read_loop(Http2Connection& self);
    static async::Task<void> write_loop(Http2Connection& self);
    static async::Task<void> keep_alive(Http2Connection& self);
    Http2StreamState* find(int32_t id);
    void changed();
    void output_ready() { output_ready_.notify_all(); }
    void close_stream(Http2StreamState& stream, std::optional<Error> error);
    Error stream_error(const Http2StreamState& stream, uint32_t code) const;

    async::Loop& loop_;
    Options options_;
    RequestHandler on_request_;
    std::function<void()> on_change_;
    std::unique_ptr<Stream> stream_;
    Http2Session session_;
    std::unordered_map<int32_t, Http2StreamPtr> streams_;
    async::Condition output_ready_;
    async::Condition state_changed_;
    bool ready_ = false;
    bool draining_ = false;
    bool final_goaway_sent_ = false;
    bool told_to_calm_down_ = false;
    std::optional<Error> error_;
    std::string goaway_text_;
    TimePoint last_received_;
    TimePoint last_used_;
    async::TaskGroup group_;
};

}  // namespace basalt::net::internal
