#include "net/http_client.h"

#include "net/background.h"
#include "net/http_client_impl.h"
#include "net/http_text.h"

namespace basalt::net {
namespace internal {
namespace {

using async::Task;

/// Connections that a single request opens before it gives up, when each ends before it can be
/// used.
constexpr int kMaxDialsPerRequest = 3;
constexpr size_t kMaxUpgradeErrorBody = 64 * 1024;

class Http2Exchange final : public HttpExchange {
 public:
    Http2Exchange(std::shared_ptr<Http2Connection> connection, Http2StreamPtr stream)
        : connection_(std::move(connection)), stream_(std::move(stream)) {}
    ~Http2Exchange() override { connection_->abandon(stream_, kH2Cancel); }

    Task<Result<std::optional<std::string>>> read() override {
        return Http2Connection::read(connection_, stream_);
    }
    const Headers& trailers() const override { return stream_->trailers; }
    Task<Result<void>> write(std::string data) override {
        return Http2Connection::write(connection_, stream_, std::move(data));
    }
    Task<Result<void>> finish() override {
        connection_->end(stream_);
        co_return Result<void>();
    }
    void abort(Error error) override { connection_->abort(stream_, std::move(error)); }
    Task<Result<void>> wait_head() override { return Http2Connection::wait_head(stream_); }
    int status() const override { return stream_->head.status; }
    const Headers& headers() const override { return stream_->head.headers; }

 private:
    std::shared_ptr<Http2Connection> connection_;
    Http2StreamPtr stream_;
};

/// Marks a failure to connect as one that the server has seen nothing of.
Error not_sent(Error error) {
    if (error.retriable()) error.with_cause(error.cause_code(), "NotSent");
    return error;
}

bool is_not_sent(const Error& error) {
    return error.code() == Code::kUnavailable && error.reason() == "NotSent";
}

bool is_idempotent(const HttpRequest& request) {
    return request.method == "GET" || request.method == "HEAD" || request.method == "OPTIONS" ||
           request.method == "PUT" || request.method == "DELETE";
}

}  // namespace

HttpClientImpl::HttpClientImpl(async::Loop& loop, Url base, HttpClientOptions options)
    : loop_(loop), base_(std::move(base)), options_(std::move(options)), group_(loop) {
    if (!options_.dialer) {
        Endpoint endpoint = base_.scheme == "unix" ? Endpoint::local_socket(base_.path)
                                                   : Endpoint::tcp(base_.host, base_.port);
        options_.dialer = make_dialer(loop, std::move(endpoint), options_.connect_timeout);
    }
    if (base_.scheme == "unix") {
        base_.host = "localhost";
        base_.path = "/";
    }
    speaks_http1_ = options_.version == HttpVersion::kHttp1 ||
                    (options_.version == HttpVersion::kNegotiated && base_.scheme != "https");
}

void HttpClientImpl::shut_down() noexcept {
    for (auto& connection : connections_) connection->set_on_change(nullptr);
    connections_.clear();
    idle_http1_.clear();
}

void HttpClientImpl::set_tls(std::shared_ptr<const TlsContext> tls) {
    options_.tls = std::move(tls);
    drain();
}

void HttpClientImpl::drain() {
    ++generation_;
    idle_http1_.clear();
    auto connections = std::exchange(connections_, {});
    for (auto& connection : connections) {
        connection->set_on_change(nullptr);
        connection->drain();
    }
    capacity_.notify_all();
}

void HttpClientImpl::prune() {
    // Those that drain are kept alive by the exchanges that still use them.
    std::vector<std::shared_ptr<Http2Connection>> gone;
    std::erase_if(connections_, [&gone](auto& connection) {
        if (connection->usable()) return false;
        gone.push_back(connection);
        return true;
    });
    for (auto& connection : gone) {
        connection->set_on_change(nullptr);
        // gRPC servers count pings; "too_many_pings" asks for half as many (gRFC A8).
        if (connection->told_to_calm_down()) options_.ping_after *= 2;
    }
}

Result<void> HttpClientImpl::prepare(HttpRequest& request) const {
    BASALT_TRY(check_request(request));
    if (base_.scheme == "https" && !options_.tls)
        return invalid_argument("https needs a TLS identity");
    if (base_.path != "/")
        request.target = base_.path + request.target.substr(base_.path.ends_with('/') ? 1 : 0);
    return {};
}

Http2Head HttpClientImpl::head_of(const HttpRequest& request) const {
    Http2Head head;
    head.method = request.method;
    head.scheme = base_.scheme == "https" ? "https" : "http";
    std::string_view host = request.headers.get("host");
    head.authority = host.empty() ? base_.authority() : std::string(host);
    head.path = request.target;
    head.headers = request.headers;
    if (!request.body.empty() && !head.headers.contains("content-length")) {
        head.headers.add("content-length", std::to_string(request.body.size()));
    }
    return head;
}

std::optional<HttpClientImpl::Lease> HttpClientImpl::take_free() {
    for (const auto& connection : connections_) {
        if (connection->usable() && connection->free_streams() > 0) {
            std::optional<Lease> lease(std::in_place);
            lease->h2 = connection;
            return lease;
        }
    }
    while (!idle_http1_.empty()) {
        std::unique_ptr<Http1Connection> connection = std::move(idle_http1_.back());
        idle_http1_.pop_back();
        if (connection->idle_since + options_.idle_timeout < loop_.now()) continue;
        std::optional<Lease> lease(std::in_place);
        lease->h1 = std::move(connection);
        return lease;
    }
    return std::nullopt;
}

std::shared_ptr<HttpClientImpl::Dial> HttpClientImpl::join_dial() {
    for (const auto& dial : dials_) {
        if (dial->seats > 0) {
            --dial->seats;
            return dial;
        }
    }
    if (connections_count() + dials_.size() >= options_.max_connections) return nullptr;
    auto dial = std::make_shared<Dial>();
    dial->seats = speaks_http1_ ? 0 : options_.max_streams_per_connection - 1;
    dials_.push_back(dial);
    group_.spawn(run_dial(*this, dial));
    return dial;
}

Task<Result<HttpClientImpl::Lease>> HttpClientImpl::acquire() {
    for (int dials_count = 0;;) {
        std::optional<Lease> lease = take_free();
        if (lease) co_return std::move(*lease);
        std::shared_ptr<Dial> dial = join_dial();
        if (!dial) {
            Result<void> waited = co_await capacity_.wait();
            if (!waited.ok()) co_return std::move(waited).error();
            continue;
        }
        while (!dial->done) {
            Result<void> waited = co_await dial->changed.wait();
            if (!waited.ok()) co_return std::move(waited).error();
        }
        if (dial->error) co_return not_sent(*dial->error);
        if (!speaks_http1_ && ++dials_count > kMaxDialsPerRequest) {
            co_return unavailable("the server's connections end before they can be used")
                .with_cause(0, "NotSent");
        }
    }
}

Task<void> HttpClientImpl::run_dial(HttpClientImpl& self, std::shared_ptr<Dial> dial) {
    Result<void> added = co_await async::with_timeout(self.loop_, self.options_.connect_timeout,
                                                      self.add_connection());
    if (!added.ok()) {
        dial->error = std::move(added).error().context("connect to " + self.base_.authority());
        if (dial->error->code() == Code::kCancelled)
            dial->error = unavailable("the client was closed");
    }
    dial->done = true;
    std::erase(self.dials_, dial);
    dial->changed.notify_all();
    self.capacity_.notify_all();
}

Task<Result<std::unique_ptr<Stream>>> HttpClientImpl::open_stream(std::vector<std::string> alpn) {
    std::shared_ptr<const TlsContext> tls = options_.tls;
    Result<std::unique_ptr<Stream>> stream = co_await options_.dialer();
    if (!stream.ok() || base_.scheme != "https") co_return std::move(stream);
    Result<std::unique_ptr<Stream>> secured = co_await tls_connect(
        loop_, std::move(tls), std::move(*stream), base_.host, std::move(alpn));
    co_return std::move(secured);
}

Task<Result<void>> HttpClientImpl::add_connection() {
    const uint64_t generation = generation_;
    std::vector<std::string> alpn;
    if (options_.version != HttpVersion::kHttp1) alpn.emplace_back("h2");
    if (options_.version != HttpVersion::kHttp2) alpn.emplace_back("http/1.1");
    Result<std::unique_ptr<Stream>> stream = co_await open_stream(std::move(alpn));
    if (!stream.ok()) co_return std::move(stream).error();
    const bool secured = base_.scheme == "https";
    const bool negotiated_h2 = (*stream)->info().alpn == "h2";
    if (options_.version == HttpVersion::kHttp2 && secured && !negotiated_h2) {
        co_return failed_precondition("the server does not speak HTTP/2");
    }
    speaks_http1_ = secured ? !negotiated_h2 : options_.version != HttpVersion::kHttp2;
    if (speaks_http1_) {
        auto connection = std::make_unique<Http1Connection>();
        connection->stream = std::move(*stream);
        connection->idle_since = loop_.now();
        ++http1_count_;
        connection->on_end = [weak = weak_from_this()] {
            if (auto self = weak.lock()) {
                --self->http1_count_;
                self->capacity_.notify_all();
            }
        };
        idle_http1_.push_back(std::move(connection));
        co_return Result<void>();
    }
    Http2Connection::Options options{};
    options.session.stream_window = kStreamWindow;
    options.session.connection_window = kConnectionWindow;
    options.session.max_streams = static_cast<uint32_t>(options_.max_streams_per_connection);
    options.session.max_header_size = kMaxHeaderSize;
    options.ping_after = options_.ping_after;
    options.ping_timeout = options_.ping_timeout;
    options.ping_idle = options_.ping_idle;
    options.idle_timeout = options_.idle_timeout;
    std::shared_ptr<Http2Connection> connection =
        Http2Connection::start(loop_, std::move(*stream), options);
    Result<void> ready = co_await connection->wait_ready();
    if (!ready.ok()) co_return std::move(ready);
    if (generation != generation_)
        co_return Result<void>();  // Of an identity that was replaced meanwhile.
    connection->set_on_change([weak = weak_from_this()] {
        if (auto self = weak.lock()) {
            self->prune();
            self->capacity_.notify_all();
        }
    });
    connections_.push_back(std::move(connection));
    co_return Result<void>();
}

void HttpClientImpl::give_back(std::unique_ptr<Http1Connection> connection) {
    connection->reused = true;
    connection->idle_since = loop_.now();
    idle_http1_.push_back(std::move(connection));
    capacity_.notify_all();
}

Task<Result<HttpResponse>> HttpClientImpl::send_http2(std::shared_ptr<Http2Connection> connection,
                                                      std::shared_ptr<const HttpRequest> request) {
    Result<Http2StreamPtr> stream = connection->submit(head_of(*request), request->body.empty());
    if (!stream.ok()) co_return std::move(stream).error();
    auto exchange = std::make_unique<Http2Exchange>(connection, *stream);
    if (!request->body.empty()) {
        Result<void> written = co_await exchange->write(request->body);
        if (!written.ok()) co_return std::move(written).error();
        connection->end(*stream);
    }
    Result<void> head = co_await exchange->wait_head();
    if (!head.ok()) co_return std::move(head).error();
    HttpResponse response;
    response.status = exchange->status();
    response.headers = std::move((*stream)->head.headers);
    response.body = std::move(exchange);
    co_return std::move(response);
}

namespace {

Result<void> ask_guard(const HttpRequest& request) {
    if (!request.guard) return {};
    return request.guard();
}

}  // namespace

Task<Result<HttpResponse>> HttpClientImpl::send(HttpRequest request) {
    Result<void> prepared = prepare(request);
    if (!prepared.ok()) co_return std::move(prepared).error();
    auto shared = std::make_shared<const HttpRequest>(std::move(request));
    for (int replays_count = 0;; ++replays_count) {
        Result<Lease> lease = co_await acquire();
        if (!lease.ok()) co_return std::move(lease).error();
        Result<void> allowed = ask_guard(*shared);
        if (!allowed.ok()) {
            if (lease->h1) give_back(std::move(lease->h1));
            co_return std::move(allowed).error();
        }
        if (lease->h2) {
            Result<HttpResponse> response = co_await send_http2(std::move(lease->h2), shared);
            if (response.ok() || replays_count >= kMaxReplays || !is_not_sent(response.error())) {
                co_return std::move(response);
            }
            continue;
        }
        const bool may_be_stale = lease->h1->reused;
        Http1Return on_done = [weak = weak_from_this(),
                               generation = generation_](std::unique_ptr<Http1Connection> done) {
            auto self = weak.lock();
            if (self && self->generation_ == generation) self->give_back(std::move(done));
        };
        Http1Outcome outcome = co_await http1_exchange(std::move(lease->h1), shared,
                                                       base_.authority(), std::move(on_done));
        if (!outcome.error) co_return std::move(outcome.response);
        const bool repeat = may_be_stale && outcome.untouched && is_idempotent(*shared) &&
                            outcome.error->retriable();
        if (!repeat || replays_count >= kMaxReplays) co_return std::move(*outcome.error);
    }
}

Task<Result<std::unique_ptr<HttpExchange>>> HttpClientImpl::open(HttpRequest request) {
    Result<void> prepared = prepare(request);
    if (!prepared.ok()) co_return std::move(prepared).error();
    Result<Lease> lease = co_await acquire();
    if (!lease.ok()) co_return std::move(lease).error();
    if (!lease->h2) {
        give_back(std::move(lease->h1));
        co_return unimplemented("the server does not speak HTTP/2");
    }
    Result<void> allowed = ask_guard(request);
    if (!allowed.ok()) co_return std::move(allowed).error();
    std::shared_ptr<Http2Connection> connection = std::move(lease->h2);
    // More may follow the body: without it head_of() announces no length.
    std::string body = std::exchange(request.body, {});
    Result<Http2StreamPtr> stream = connection->submit(head_of(request), false);
    if (!stream.ok()) co_return std::move(stream).error();
    std::unique_ptr<HttpExchange> exchange = std::make_unique<Http2Exchange>(connection, *stream);
    if (!body.empty()) {
        Result<void> written = co_await exchange->write(std::move(body));
        if (!written.ok()) co_return std::move(written).error();
    }
    co_return std::move(exchange);
}

Task<Result<HttpClient::Upgraded>> HttpClientImpl::upgrade(HttpRequest request) {
    Result<void> prepared = prepare(request);
    if (!prepared.ok()) co_return std::move(prepared).error();
    std::vector<std::string> alpn(1, "http/1.1");
    Result<std::unique_ptr<Stream>> stream =
        co_await async::with_timeout(loop_, options_.connect_timeout, open_stream(std::move(alpn)));
    if (!stream.ok()) co_return not_sent(std::move(stream).error());
    Result<void> written =
        co_await (*stream)->write(http1_request_head(request, base_.authority()) + request.body);
    if (!written.ok()) co_return std::move(written).error();
    std::unique_ptr<Http1Parser> parser;
    Result<void> head = co_await read_response_head(**stream, parser, std::string(), false);
    if (!head.ok()) co_return std::move(head).error();
    Upgraded upgraded;
    upgraded.status = parser->status();
    upgraded.headers = parser->headers();
    if (upgraded.status == 101) {
        upgraded.stream = with_prefix(parser->take_rest(), std::move(*stream));
        co_return std::move(upgraded);
    }
    while (!parser->done() && upgraded.body.size() < kMaxUpgradeErrorBody) {
        upgraded.body += parser->take_body();
        Result<std::string> data = co_await (*stream)->read(kMaxUpgradeErrorBody);
        if (!data.ok() || data->empty()) break;
        Result<void> fed = parser->feed(*data);
        if (!fed.ok()) break;
    }
    upgraded.body += parser->take_body();
    co_return std::move(upgraded);
}

}  // namespace internal

std::shared_ptr<HttpClient> make_http_client(async::Loop& loop, Url base,
                                             HttpClientOptions options) {
    return internal::make_reaped<internal::HttpClientImpl>(loop, std::move(base),
                                                           std::move(options));
}

}  // namespace basalt::net
