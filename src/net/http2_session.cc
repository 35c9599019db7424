#include "net/http2_session.h"

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <cstring>
#include <list>
#include <unordered_map>
#include <vector>

#include "base/strings.h"

namespace basalt::net::internal {
namespace {

/// SETTINGS and PING frames of the peer that we have not answered; more is an attack.
constexpr size_t kMaxOutboundAcks = 1000;
/// Streams that a client may reset at once, and a second thereafter (rapid reset, CVE-2023-44487).
constexpr uint64_t kResetBurst = 1000;
constexpr uint64_t kResetRate = 100;

struct OutgoingStream {
    std::list<std::string> pieces;  ///< A deque takes 600 bytes when it is empty.
    size_t offset = 0;              ///< Into the first piece.
    size_t queued = 0;
    bool ended = false;
    bool deferred = false;
    bool has_provider = false;
    std::optional<Headers> trailers;
};

struct IncomingStream {
    Http2Head head;
    Headers trailers;
    size_t header_size = 0;
    size_t unread_size = 0;  ///< Bytes that hold the connection's window.
    bool has_head = false;
    bool ended = false;
};

struct StreamRecord {
    OutgoingStream out;
    IncomingStream in;
};

nghttp2_nv field(std::string_view name, std::string_view value) {
    // nghttp2 copies both: the flags do not say otherwise.
    return {reinterpret_cast<uint8_t*>(const_cast<char*>(name.data())),
            reinterpret_cast<uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(),
            NGHTTP2_NV_FLAG_NONE};
}

/// Meaningless in HTTP/2 (RFC 9113 section 8.2.2).
bool is_connection_field(std::string_view name) {
    return equal_ignore_case(name, "connection") || equal_ignore_case(name, "keep-alive") ||
           equal_ignore_case(name, "proxy-connection") ||
           equal_ignore_case(name, "transfer-encoding") || equal_ignore_case(name, "upgrade") ||
           equal_ignore_case(name, "host");
}

struct Fields {
    std::vector<std::pair<std::string, std::string_view>> text;
    std::vector<nghttp2_nv> list;

    void add(std::string name, std::string_view value) {
        text.emplace_back(std::move(name), value);
    }
    void add(const Headers& headers) {
        for (const auto& [name, value] : headers.fields()) {
            if (!is_connection_field(name)) add(to_lower(name), value);
        }
    }
    const std::vector<nghttp2_nv>& build() {
        for (const auto& [name, value] : text) list.push_back(field(name, value));
        return list;
    }
};

struct SessionDeleter {
    void operator()(nghttp2_session* session) const { nghttp2_session_del(session); }
};

}  // namespace

struct Http2Session::State {
    State(Options options_in, Http2Events& events_in) : options(options_in), events(events_in) {}

    Options options;
    Http2Events& events;
    std::unique_ptr<nghttp2_session, SessionDeleter> session;
    std::unordered_map<int32_t, StreamRecord> streams;
    bool failed = false;
    bool hold = false;  ///< Http2Session::Options::hold_connection_window, until widen().

    StreamRecord* find(int32_t id) {
        auto found = streams.find(id);
        return found == streams.end() ? nullptr : &found->second;
    }

    static State& of(void* user_data) { return *static_cast<State*>(user_data); }
    static int on_begin_headers(nghttp2_session*, const nghttp2_frame* frame, void* user_data);
    static int on_header(nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name,
                         size_t name_size, const uint8_t* value, size_t value_size, uint8_t flags,
                         void* user_data);
    static int on_frame(nghttp2_session*, const nghttp2_frame* frame, void* user_data);
    static int on_frame_sent(nghttp2_session*, const nghttp2_frame* frame, void* user_data);
    static int on_data(nghttp2_session* session, uint8_t flags, int32_t id, const uint8_t* data,
                       size_t size, void* user_data);
    static int on_stream_close(nghttp2_session* session, int32_t id, uint32_t code,
                               void* user_data);
    static ssize_t read_data(nghttp2_session* session, int32_t id, uint8_t* buffer, size_t size,
                             uint32_t* flags, nghttp2_data_source*, void* user_data);

    void create();
    void finish_headers(int32_t id, bool end);
    void finish_incoming(int32_t id);
    void resume(int32_t id, StreamRecord& stream);
};

int Http2Session::State::on_begin_headers(nghttp2_session*, const nghttp2_frame* frame,
                                          void* user_data) {
    if (frame->hd.type != NGHTTP2_HEADERS) return 0;
    State& state = of(user_data);
    if (state.options.server && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
        state.streams[frame->hd.stream_id];
    return 0;
}

int Http2Session::State::on_header(nghttp2_session*, const nghttp2_frame* frame,
                                   const uint8_t* name, size_t name_size, const uint8_t* value,
                                   size_t value_size, uint8_t, void* user_data) {
    State& state = of(user_data);
    StreamRecord* stream = state.find(frame->hd.stream_id);
    if (stream == nullptr || frame->hd.type != NGHTTP2_HEADERS) return 0;
    IncomingStream& in = stream->in;
    in.header_size +=
        name_size + value_size + 32;  // As RFC 9113 counts SETTINGS_MAX_HEADER_LIST_SIZE.
    if (in.header_size > state.options.max_header_size)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    std::string_view key(reinterpret_cast<const char*>(name), name_size);
    std::string text(reinterpret_cast<const char*>(value), value_size);
    if (in.has_head) {
        in.trailers.add(std::string(key), std::move(text));
    } else if (key == ":status") {
        in.head.status = parse_number<int>(text).value_or(0);
    } else if (key == ":method") {
        in.head.method = std::move(text);
    } else if (key == ":path") {
        in.head.path = std::move(text);
    } else if (key == ":scheme") {
        in.head.scheme = std::move(text);
    } else if (key == ":authority") {
        in.head.authority = std::move(text);
    } else if (!key.starts_with(':')) {
        in.head.headers.add(std::string(key), std::move(text));
    }
    return 0;
}

void Http2Session::State::finish_headers(int32_t id, bool end) {
    StreamRecord* stream = find(id);
    if (stream == nullptr) return;
    IncomingStream& in = stream->in;
    if (in.has_head) {
        events.on_trailers(id, std::move(in.trailers));
    } else if (!options.server && in.head.status < 200 && !end) {
        in.head = Http2Head();  // 100 Continue and its like.
        return;
    } else {
        in.has_head = true;
        events.on_head(id, std::move(in.head));
    }
    if (end) finish_incoming(id);
}

void Http2Session::State::finish_incoming(int32_t id) {
    // The event before this one may have closed the stream.
    StreamRecord* stream = find(id);
    if (stream == nullptr) return;
    stream->in.ended = true;
    events.on_end(id);
}

int Http2Session::State::on_frame(nghttp2_session*, const nghttp2_frame* frame, void* user_data) {
    State& state = of(user_data);
    const bool end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    switch (frame->hd.type) {
        case NGHTTP2_HEADERS: state.finish_headers(frame->hd.stream_id, end); break;
        case NGHTTP2_DATA:
            if (end) state.finish_incoming(frame->hd.stream_id);
            break;
        case NGHTTP2_SETTINGS:
            if ((frame->hd.flags & NGHTTP2_FLAG_ACK) == 0) state.events.on_settings();
            break;
        case NGHTTP2_PING:
            if ((frame->hd.flags & NGHTTP2_FLAG_ACK) != 0) state.events.on_ping_ack();
            break;
        case NGHTTP2_GOAWAY:
            state.events.on_goaway(
                frame->goaway.error_code,
                std::string(reinterpret_cast<const char*>(frame->goaway.opaque_data),
                            frame->goaway.opaque_data_len));
            break;
        default: break;
    }
    return 0;
}

int Http2Session::State::on_frame_sent(nghttp2_session* session, const nghttp2_frame* frame,
                                       void* user_data) {
    State& state = of(user_data);
    const int32_t id = frame->hd.stream_id;
    const bool has_end = frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA;
    if (frame->hd.type == NGHTTP2_HEADERS) state.events.on_head_sent(id);
    if (!has_end || (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0 || !state.options.server)
        return 0;
    // The response is complete; what the client still sends is not wanted (RFC 9113 section 8.1).
    StreamRecord* stream = state.find(id);
    if (stream != nullptr && !stream->in.ended) {
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, id, NGHTTP2_NO_ERROR);
    }
    return 0;
}

int Http2Session::State::on_data(nghttp2_session* session, uint8_t, int32_t id, const uint8_t* data,
                                 size_t size, void* user_data) {
    State& state = of(user_data);
    StreamRecord* stream = state.find(id);
    if (state.hold && stream != nullptr) {
        stream->in.unread_size += size;
    } else {
        nghttp2_session_consume_connection(session, size);
    }
    if (stream != nullptr) {
        state.events.on_data(id, std::string_view(reinterpret_cast<const char*>(data), size));
    }
    return 0;
}

int Http2Session::State::on_stream_close(nghttp2_session* session, int32_t id, uint32_t code,
                                         void* user_data) {
    State& state = of(user_data);
    if (StreamRecord* stream = state.find(id); stream != nullptr && stream->in.unread_size > 0)
        nghttp2_session_consume_connection(session, stream->in.unread_size);
    if (state.streams.erase(id) > 0) state.events.on_closed(id, code);
    return 0;
}

ssize_t Http2Session::State::read_data(nghttp2_session* session, int32_t id, uint8_t* buffer,
                                       size_t size, uint32_t* flags, nghttp2_data_source*,
                                       void* user_data) {
    State& state = of(user_data);
    StreamRecord* stream = state.find(id);
    if (stream == nullptr) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    OutgoingStream& out = stream->out;
    size_t copied = 0;
    while (copied < size && !out.pieces.empty()) {
        const std::string& piece = out.pieces.front();
        size_t part = std::min(size - copied, piece.size() - out.offset);
        std::memcpy(buffer + copied, piece.data() + out.offset, part);
        copied += part;
        out.offset += part;
        if (out.offset == piece.size()) {
            out.pieces.pop_front();
            out.offset = 0;
        }
    }
    out.queued -= copied;
    if (out.pieces.empty() && out.ended) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (out.trailers) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            Fields fields;
            fields.add(*out.trailers);
            const auto& list = fields.build();
            nghttp2_submit_trailer(session, id, list.data(), list.size());
        }
    } else if (copied == 0) {
        out.deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    if (copied > 0) state.events.on_drained(id);
    return static_cast<ssize_t>(copied);
}

void Http2Session::State::create() {
    hold = options.hold_connection_window;
    nghttp2_session_callbacks* callbacks = nullptr;
    BASALT_ASSERT(nghttp2_session_callbacks_new(&callbacks) == 0);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, &State::on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, &State::on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, &State::on_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, &State::on_frame_sent);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, &State::on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, &State::on_stream_close);
    nghttp2_option* option = nullptr;
    BASALT_ASSERT(nghttp2_option_new(&option) == 0);
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_max_outbound_ack(option, kMaxOutboundAcks);
    nghttp2_option_set_stream_reset_rate_limit(option, kResetBurst, kResetRate);
    // Closed streams would be remembered for the old priority scheme.
    nghttp2_option_set_no_closed_streams(option, 1);
    nghttp2_session* raw = nullptr;
    int created = options.server ? nghttp2_session_server_new2(&raw, callbacks, this, option)
                                 : nghttp2_session_client_new2(&raw, callbacks, this, option);
    BASALT_ASSERT(created == 0);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    session.reset(raw);

    std::vector<nghttp2_settings_entry> settings{
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, options.stream_window},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, static_cast<uint32_t>(options.max_header_size)}};
    if (options.server) {
        settings.push_back({NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, options.max_streams});
    } else {
        settings.push_back({NGHTTP2_SETTINGS_ENABLE_PUSH, 0});
        // Responses have few header fields and most differ (dates, audit ids): a table of them
        // would take 9 KB a connection.
        settings.push_back({NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, 0});
    }
    nghttp2_submit_settings(raw, NGHTTP2_FLAG_NONE, settings.data(), settings.size());
    nghttp2_session_set_local_window_size(raw, NGHTTP2_FLAG_NONE, 0, options.connection_window);
}

void Http2Session::State::resume(int32_t id, StreamRecord& stream) {
    if (!std::exchange(stream.out.deferred, false)) return;
    nghttp2_session_resume_data(session.get(), id);
}

Http2Session::Http2Session(Options options, Http2Events& events)
    : state_(std::make_unique<State>(options, events)) {
    state_->create();
}

Http2Session::~Http2Session() = default;

Result<void> Http2Session::receive(std::string_view bytes) {
    if (state_->failed) return unavailable("HTTP/2: the session has failed");
    ssize_t used = nghttp2_session_mem_recv(
        state_->session.get(), reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
    if (used >= 0) return {};
    state_->failed = true;
    return unavailable(std::string("HTTP/2: ") + nghttp2_strerror(static_cast<int>(used)));
}

std::string Http2Session::output(size_t max_size) {
    std::string bytes;
    while (bytes.size() < max_size) {
        const uint8_t* data = nullptr;
        ssize_t size = nghttp2_session_mem_send(state_->session.get(), &data);
        if (size < 0) state_->failed = true;
        if (size <= 0) break;
        bytes.append(reinterpret_cast<const char*>(data), static_cast<size_t>(size));
    }
    return bytes;
}

bool Http2Session::finished() const {
    nghttp2_session* session = state_->session.get();
    return state_->failed ||
           (nghttp2_session_want_read(session) == 0 && nghttp2_session_want_write(session) == 0);
}

Result<int32_t> Http2Session::submit_request(const Http2Head& head, bool end) {
    Fields fields;
    fields.add(":method", head.method);
    fields.add(":scheme", head.scheme);
    fields.add(":authority", head.authority);
    fields.add(":path", head.path);
    fields.add(head.headers);
    const auto& list = fields.build();
    nghttp2_data_provider provider{};
    provider.read_callback = &State::read_data;
    int32_t id = nghttp2_submit_request(state_->session.get(), nullptr, list.data(), list.size(),
                                        end ? nullptr : &provider, nullptr);
    if (id < 0)
        return unavailable(std::string("HTTP/2: ") + nghttp2_strerror(id)).with_cause(0, "NotSent");
    StreamRecord& stream = state_->streams[id];
    stream.out.ended = end;
    stream.out.has_provider = !end;
    return id;
}

Result<void> Http2Session::submit_response(int32_t id, int status, const Headers& headers,
                                           bool end) {
    StreamRecord* stream = state_->find(id);
    if (stream == nullptr) return unavailable("the stream is closed");
    Fields fields;
    std::string status_text = std::to_string(status);
    fields.add(":status", status_text);
    fields.add(headers);
    const auto& list = fields.build();
    nghttp2_data_provider provider{};
    provider.read_callback = &State::read_data;
    int result = nghttp2_submit_response(state_->session.get(), id, list.data(), list.size(),
                                         end ? nullptr : &provider);
    if (result != 0) return unavailable(std::string("HTTP/2: ") + nghttp2_strerror(result));
    stream->out.ended = end;
    stream->out.has_provider = !end;
    return {};
}

void Http2Session::write(int32_t id, std::string data) {
    StreamRecord* stream = state_->find(id);
    if (stream == nullptr || stream->out.ended || data.empty()) return;
    stream->out.queued += data.size();
    stream->out.pieces.push_back(std::move(data));
    state_->resume(id, *stream);
}

void Http2Session::end(int32_t id) {
    StreamRecord* stream = state_->find(id);
    if (stream == nullptr || stream->out.ended) return;
    stream->out.ended = true;
    state_->resume(id, *stream);
}

void Http2Session::end_with_trailers(int32_t id, Headers trailers) {
    StreamRecord* stream = state_->find(id);
    if (stream == nullptr || stream->out.ended) return;
    stream->out.trailers = std::move(trailers);
    end(id);
}

size_t Http2Session::queued_size(int32_t id) const {
    StreamRecord* stream = state_->find(id);
    return stream == nullptr ? 0 : stream->out.queued;
}

void Http2Session::consume(int32_t id, size_t size) {
    nghttp2_session_consume_stream(state_->session.get(), id, size);
    StreamRecord* stream = state_->find(id);
    if (!state_->hold || stream == nullptr) return;
    const size_t held = std::min(size, stream->in.unread_size);
    stream->in.unread_size -= held;
    nghttp2_session_consume_connection(state_->session.get(), held);
}

void Http2Session::widen(int32_t id, uint32_t stream_window, int32_t connection_window) {
    nghttp2_session* session = state_->session.get();
    nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, id,
                                          static_cast<int32_t>(stream_window));
    if (!std::exchange(state_->hold, false)) return;
    nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0, connection_window);
    for (auto& [other, stream] : state_->streams) {
        nghttp2_session_consume_connection(session, std::exchange(stream.in.unread_size, 0));
    }
}

void Http2Session::reset(int32_t id, uint32_t code) {
    nghttp2_submit_rst_stream(state_->session.get(), NGHTTP2_FLAG_NONE, id, code);
}

void Http2Session::ping() {
    nghttp2_submit_ping(state_->session.get(), NGHTTP2_FLAG_NONE, nullptr);
}

void Http2Session::announce_shutdown() { nghttp2_submit_shutdown_notice(state_->session.get()); }

void Http2Session::goaway(uint32_t code) {
    nghttp2_session* session = state_->session.get();
    nghttp2_submit_goaway(session, NGHTTP2_FLAG_NONE,
                          nghttp2_session_get_last_proc_stream_id(session), code, nullptr, 0);
}

uint32_t Http2Session::remote_max_streams() const {
    return nghttp2_session_get_remote_settings(state_->session.get(),
                                               NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
}

bool Http2Session::can_open_streams() const {
    return !state_->failed && nghttp2_session_check_request_allowed(state_->session.get()) != 0;
}

std::string_view http2_error_name(uint32_t code) { return nghttp2_http2_strerror(code); }

}  // namespace basalt::net::internal
