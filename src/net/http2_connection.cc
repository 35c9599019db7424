#include "net/http2_connection.h"

#include "net/background.h"

namespace basalt::net::internal {
namespace {

using async::Task;

constexpr size_t kReadSize = 64 * 1024;
constexpr size_t kWriteSize = 64 * 1024;
/// A writer waits while this much of its stream is queued.
constexpr size_t kMaxQueuedSize = 256 * 1024;

Error error_of_closed(const Http2StreamState& stream) {
    return stream.error ? *stream.error : unavailable("the stream is closed");
}

}  // namespace

std::shared_ptr<Http2Connection> Http2Connection::start(async::Loop& loop,
                                                        std::unique_ptr<Stream> stream,
                                                        Options options,
                                                        RequestHandler on_request) {
    auto connection =
        make_reaped<Http2Connection>(loop, std::move(stream), options, std::move(on_request));
    connection->group_.spawn(read_loop(*connection));
    connection->group_.spawn(write_loop(*connection));
    connection->group_.spawn(keep_alive(*connection));
    return connection;
}

Http2Connection::Http2Connection(async::Loop& loop, std::unique_ptr<Stream> stream, Options options,
                                 RequestHandler on_request)
    : loop_(loop),
      options_(options),
      on_request_(std::move(on_request)),
      stream_(std::move(stream)),
      session_(options.session, *this),
      last_received_(loop.now()),
      last_used_(loop.now()),
      group_(loop) {}

void Http2Connection::shut_down() noexcept {
    on_change_ = nullptr;
    on_request_ = nullptr;
    fail(unavailable("the connection was closed here"));
}

size_t Http2Connection::free_streams() const {
    size_t limit = std::min<size_t>(options_.session.max_streams, session_.remote_max_streams());
    return streams_.size() < limit ? limit - streams_.size() : 0;
}

size_t Http2Connection::buffered_size() const {
    size_t size = 0;
    for (const auto& [id, stream] : streams_) {
        for (const std::string& piece : stream->pieces) size += piece.size();
    }
    return size;
}

Task<Result<void>> Http2Connection::wait_ready() {
    while (!ready_ && !error_) {
        Result<void> waited = co_await state_changed_.wait();
        if (!waited.ok()) co_return std::move(waited);
    }
    if (error_) co_return *error_;
    co_return Result<void>();
}

Task<Result<void>> Http2Connection::wait_closed() {
    while (!error_) {
        Result<void> waited = co_await state_changed_.wait();
        if (!waited.ok()) co_return std::move(waited);
    }
    co_return Result<void>();
}

Result<Http2StreamPtr> Http2Connection::submit(const Http2Head& head, bool end) {
    if (!usable())
        return unavailable("the connection takes no more requests").with_cause(0, "NotSent");
    BASALT_ASSIGN(int32_t id, session_.submit_request(head, end));
    auto stream = std::make_shared<Http2StreamState>();
    stream->id = id;
    streams_.emplace(id, stream);
    last_used_ = loop_.now();
    output_ready();
    return stream;
}

Result<void> Http2Connection::respond(const Http2StreamPtr& stream, int status,
                                      const Headers& headers, bool end) {
    if (stream->closed) return error_of_closed(*stream);
    BASALT_TRY(session_.submit_response(stream->id, status, headers, end));
    output_ready();
    return {};
}

Task<Result<void>> Http2Connection::write(std::shared_ptr<Http2Connection> self,
                                          Http2StreamPtr stream, std::string data) {
    while (!stream->closed && self->session_.queued_size(stream->id) > kMaxQueuedSize) {
        Result<void> waited = co_await stream->changed.wait();
        if (!waited.ok()) co_return std::move(waited);
    }
    if (stream->closed) co_return error_of_closed(*stream);
    self->session_.write(stream->id, std::move(data));
    self->output_ready();
    co_return Result<void>();
}

void Http2Connection::widen(const Http2StreamPtr& stream, uint32_t stream_window,
                            int32_t connection_window) {
    if (stream->closed) return;
    session_.widen(stream->id, stream_window, connection_window);
    output_ready();
}

void Http2Connection::end(const Http2StreamPtr& stream) {
    if (stream->closed) return;
    session_.end(stream->id);
    output_ready();
}

void Http2Connection::end_with_trailers(const Http2StreamPtr& stream, Headers trailers) {
    if (stream->closed) return;
    session_.end_with_trailers(stream->id, std::move(trailers));
    output_ready();
}

Task<Result<std::optional<std::string>>> Http2Connection::read(
    std::shared_ptr<Http2Connection> self, Http2StreamPtr stream) {
    while (stream->pieces.empty() && !stream->ended && !stream->error) {
        Result<void> waited = co_await stream->changed.wait();
        if (!waited.ok()) co_return std::move(waited).error();
    }
    if (!stream->pieces.empty()) {
        std::string piece = std::move(stream->pieces.front());
        stream->pieces.pop_front();
        if (!stream->closed) {
            self->session_.consume(stream->id, piece.size());
            self->output_ready();
        }
        co_return std::optional<std::string>(std::move(piece));
    }
    if (stream->ended) co_return std::optional<std::string>();
    co_return *stream->error;
}

Task<Result<void>> Http2Connection::wait_head(Http2StreamPtr stream) {
    while (!stream->has_head && !stream->closed) {
        Result<void> waited = co_await stream->changed.wait();
        if (!waited.ok()) co_return std::move(waited);
    }
    if (stream->has_head) co_return Result<void>();
    co_return error_of_closed(*stream);
}

void Http2Connection::abandon(const Http2StreamPtr& stream, uint32_t code) {
    stream->pieces.clear();
    if (stream->closed) return;
    session_.reset(stream->id, code);
    // The stream counts until nghttp2 has sent the reset; its reader is gone already.
    output_ready();
}

void Http2Connection::abort(const Http2StreamPtr& stream, Error error) {
    if (stream->closed) return;
    abandon(stream, kH2Cancel);
    close_stream(*stream, std::move(error));
}

void Http2Connection::drain() {
    if (std::exchange(draining_, true) || error_) return;
    if (options_.session.server) {
        // Streams that the client opens before it learns are served; the answer to the ping ends
        // that time.
        session_.announce_shutdown();
        session_.ping();
    } else if (streams_.empty()) {
        session_.goaway(kH2NoError);
    }
    output_ready();
    changed();
}

void Http2Connection::fail(Error error) {
    if (error_) return;
    if (!goaway_text_.empty()) error.add_context("GOAWAY (" + goaway_text_ + ")");
    error_ = std::move(error);
    for (auto& [id, stream] : std::exchange(streams_, {})) {
        Error reason = *error_;
        if (!options_.session.server && !stream->head_sent)
            reason.with_cause(reason.cause_code(), "NotSent");
        close_stream(*stream, std::move(reason));
    }
    stream_->close();
    group_.cancel();
    changed();
}

void Http2Connection::changed() {
    state_changed_.notify_all();
    // A copy: the callback may let go of this connection, which clears the member.
    std::function<void()> callback = on_change_;
    if (callback) callback();
}

void Http2Connection::close_stream(Http2StreamState& stream, std::optional<Error> error) {
    stream.closed = true;
    if (!stream.error) stream.error = std::move(error);
    stream.changed.notify_all();
}

Http2StreamState* Http2Connection::find(int32_t id) {
    auto found = streams_.find(id);
    return found == streams_.end() ? nullptr : found->second.get();
}

void Http2Connection::on_head(int32_t id, Http2Head head) {
    if (options_.session.server) {
        if (!on_request_) return;
        auto stream = std::make_shared<Http2StreamState>();
        stream->id = id;
        stream->has_head = true;
        stream->head = std::move(head);
        streams_.emplace(id, stream);
        on_request_(shared_from_this(), stream);
        return;
    }
    Http2StreamState* stream = find(id);
    if (stream == nullptr) return;
    stream->head = std::move(head);
    stream->has_head = true;
    stream->changed.notify_all();
}

void Http2Connection::on_trailers(int32_t id, Headers trailers) {
    if (Http2StreamState* stream = find(id)) stream->trailers = std::move(trailers);
}

void Http2Connection::on_data(int32_t id, std::string_view data) {
    Http2StreamState* stream = find(id);
    if (stream == nullptr || data.empty()) return;
    // DATA frames of a few bytes would each cost an allocation and a wake-up: join them.
    if (!stream->pieces.empty() && stream->pieces.back().size() + data.size() <= kReadSize) {
        stream->pieces.back().append(data);
    } else {
        stream->pieces.emplace_back(data);
    }
    stream->changed.notify_all();
}

void Http2Connection::on_end(int32_t id) {
    Http2StreamState* stream = find(id);
    if (stream == nullptr) return;
    stream->ended = true;
    stream->changed.notify_all();
}

void Http2Connection::on_drained(int32_t id) {
    if (Http2StreamState* stream = find(id)) stream->changed.notify_all();
}

void Http2Connection::on_head_sent(int32_t id) {
    if (Http2StreamState* stream = find(id)) stream->head_sent = true;
}

Error Http2Connection::stream_error(const Http2StreamState& stream, uint32_t code) const {
    int cause = static_cast<int>(code);
    if (code == kH2RefusedStream) {
        std::string text =
            goaway_text_.empty() ? "the peer refused the stream" : "GOAWAY (" + goaway_text_ + ")";
        return unavailable(std::move(text)).with_cause(cause, "NotSent");
    }
    if (stream.ended) return unavailable("the stream has ended").with_cause(cause, "StreamReset");
    return unavailable("the stream was reset: " + std::string(http2_error_name(code)))
        .with_cause(cause, "StreamReset");
}

void Http2Connection::on_closed(int32_t id, uint32_t code) {
    auto found = streams_.find(id);
    if (found == streams_.end()) return;
    Http2StreamPtr stream = std::move(found->second);
    streams_.erase(found);
    last_used_ = loop_.now();
    close_stream(*stream, stream_error(*stream, code));
    if (draining_ && streams_.empty() && !options_.session.server) session_.goaway(kH2NoError);
    output_ready();
    changed();
}

void Http2Connection::on_goaway(uint32_t code, std::string debug) {
    goaway_text_ = std::string(http2_error_name(code));
    if (!debug.empty() && debug.size() < 200) goaway_text_ += ": " + debug;
    draining_ = true;
    told_to_calm_down_ = code == kH2EnhanceYourCalm;
    output_ready();
    changed();
}

void Http2Connection::on_settings() {
    ready_ = true;
    changed();
}

void Http2Connection::on_ping_ack() {
    if (!draining_ || !options_.session.server || std::exchange(final_goaway_sent_, true)) return;
    session_.goaway(kH2NoError);
    output_ready();
}

Task<void> Http2Connection::read_loop(Http2Connection& self) {
    while (!self.error_) {
        Result<std::string> data = co_await self.stream_->read(kReadSize);
        if (!data.ok()) {
            self.fail(std::move(data).error());
            break;
        }
        if (data->empty()) {
            self.fail(unavailable("the peer closed the connection"));
            break;
        }
        self.last_received_ = self.loop_.now();
        Result<void> received = self.session_.receive(*data);
        self.output_ready();
        if (!received.ok()) {
            self.fail(std::move(received).error());
            break;
        }
    }
}

Task<void> Http2Connection::write_loop(Http2Connection& self) {
    while (!self.error_) {
        std::string data = self.session_.output(kWriteSize);
        if (!data.empty()) {
            Result<void> written = co_await self.stream_->write(std::move(data));
            if (!written.ok()) self.fail(std::move(written).error());
            continue;
        }
        const bool idle_drained = self.draining_ && self.streams_.empty() &&
                                  (!self.options_.session.server || self.final_goaway_sent_);
        if (self.session_.finished() || idle_drained) {
            Result<void> ended = co_await self.stream_->close_write();
            static_cast<void>(ended);
            self.fail(unavailable("the connection has ended"));
            break;
        }
        Result<void> waited = co_await self.output_ready_.wait();
        if (!waited.ok()) self.fail(std::move(waited).error());
    }
}

Task<void> Http2Connection::keep_alive(Http2Connection& self) {
    while (!self.error_) {
        TimePoint now = self.loop_.now();
        const bool may_idle =
            self.options_.idle_timeout > Duration::zero() && self.streams_.empty();
        TimePoint idle_end = self.last_used_ + self.options_.idle_timeout;
        if (may_idle && now >= idle_end) self.drain();
        TimePoint ping_due = self.last_received_ + self.options_.ping_after;
        if (!self.options_.ping_idle && self.streams_.empty())
            ping_due = std::max(ping_due, now + self.options_.ping_after);
        if (now < ping_due) {
            TimePoint wake = may_idle && now < idle_end ? std::min(ping_due, idle_end) : ping_due;
            Result<void> slept = co_await async::sleep_until(self.loop_, wake);
            if (!slept.ok()) break;
            continue;
        }
        self.session_.ping();
        self.output_ready();
        Result<void> slept = co_await async::sleep_for(self.loop_, self.options_.ping_timeout);
        if (!slept.ok()) break;
        if (self.last_received_ < now) {
            self.fail(unavailable("the peer does not answer PING").with_cause(0, "PingTimeout"));
        }
    }
}

}  // namespace basalt::net::internal
