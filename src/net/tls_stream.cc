// TLS on top of a Stream: OpenSSL works on two memory buffers, this file moves their bytes.

#include "async/wait.h"
#include "base/ip.h"
#include "net/openssl.h"
#include "net/tls.h"

namespace basalt::net {
namespace {

using namespace internal;
using async::Task;

constexpr size_t kReadSize = 64 * 1024;
/// Encrypted and sent at once; bounds the copy of a large write.
constexpr size_t kWriteSize = 64 * 1024;
/// An idle connection's buffers are not larger than this.
constexpr size_t kKeptBufferSize = 1024;

/// Shared by the stream and the operations in flight on it.
struct TlsState {
    TlsState(async::Loop& loop_in, std::shared_ptr<const TlsContextImpl> context_in,
             std::unique_ptr<Stream> under_in)
        : loop(loop_in), context(std::move(context_in)), under(std::move(under_in)) {}
    ~TlsState() {
        // OpenSSL voids the ticket of a connection that ends without close_notify: ours often do.
        if (ssl) SSL_set_shutdown(ssl.get(), SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    }

    async::Loop& loop;
    std::shared_ptr<const TlsContextImpl> context;
    std::unique_ptr<Stream> under;
    SslPtr ssl;
    BIO* in = nullptr;   ///< What the peer sent. Owned by ssl.
    BIO* out = nullptr;  ///< What is to be sent. Owned by ssl.
    async::Semaphore sending{1};
    std::string session_name;
    StreamInfo info;
    std::optional<Error> read_error;  ///< Found behind the text of an earlier read.
    bool closed = false;
};

int state_index() {
    static const int index = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
    return index;
}

/// Why the last call failed, by the error queue.
Error tls_error(SSL* ssl, std::string_view what) {
    unsigned long error = ERR_peek_error();
    int reason = ERR_GET_REASON(error);
    std::string text = std::string(what) + ": ";
    if (ERR_GET_LIB(error) == ERR_LIB_SSL && reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        ERR_clear_error();
        text += X509_verify_cert_error_string(SSL_get_verify_result(ssl));
        return Error(Code::kUnauthenticated, std::move(text)).with_cause(0, "TlsVerify");
    }
    if (ERR_GET_LIB(error) == ERR_LIB_SSL && reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE) {
        return Error(Code::kUnauthenticated, text + take_openssl_error())
            .with_cause(0, "TlsVerify");
    }
    // Alerts from the peer are SSL_AD_REASON_OFFSET plus the alert's number; 41 to 49 and 116 are
    // about certificates.
    int alert = ERR_GET_LIB(error) == ERR_LIB_SSL ? reason - SSL_AD_REASON_OFFSET : 0;
    bool about_certificate = (alert >= 41 && alert <= 49) || alert == 116;
    text += take_openssl_error();
    if (about_certificate)
        return Error(Code::kUnauthenticated, std::move(text)).with_cause(alert, "TlsAlert");
    return unavailable(std::move(text)).with_cause(alert > 0 ? alert : 0, "Tls");
}

/// A memory BIO keeps the size of the largest burst that went through it: too much for connections
/// that are kept for their occasional words.
void release_if_empty(BIO* bio) {
    BUF_MEM* memory = nullptr;
    BIO_get_mem_ptr(bio, &memory);
    if (memory == nullptr || memory->length > 0 || memory->max <= kKeptBufferSize) return;
    BIO_set_mem_buf(bio, BUF_MEM_new(), BIO_CLOSE);  // Frees the former.
}

std::string take_output(TlsState& state) {
    size_t size = BIO_ctrl_pending(state.out);
    std::string data(size, '\0');
    if (size > 0) {
        int count = BIO_read(state.out, data.data(), static_cast<int>(size));
        data.resize(count > 0 ? static_cast<size_t>(count) : 0);
        release_if_empty(state.out);
    }
    return data;
}

/// Sends what OpenSSL wants sent. One at a time, so that records keep their order.
Task<Result<void>> flush(std::shared_ptr<TlsState> state) {
    if (BIO_ctrl_pending(state->out) == 0) co_return Result<void>();
    Result<void> acquired = co_await state->sending.acquire();
    if (!acquired.ok()) co_return std::move(acquired);
    Result<void> result;
    while (result.ok() && BIO_ctrl_pending(state->out) > 0) {
        Result<void> written = co_await state->under->write(take_output(*state));
        result = std::move(written);
    }
    state->sending.release();
    co_return std::move(result);
}

/// Feeds OpenSSL with the peer's next bytes; false at the end of the stream.
Task<Result<bool>> fill(std::shared_ptr<TlsState> state) {
    Result<std::string> data = co_await state->under->read(kReadSize);
    if (!data.ok()) co_return std::move(data).error();
    if (data->empty()) co_return false;
    BIO_write(state->in, data->data(), static_cast<int>(data->size()));
    co_return true;
}

/// As much plain text as there is, up to `max_size`; "" when there is none. `status` is
/// SSL_get_error()'s value after the last step.
std::string decrypt(TlsState& state, size_t max_size, int* status) {
    std::string text;
    size_t available =
        BIO_ctrl_pending(state.in) + static_cast<size_t>(SSL_pending(state.ssl.get()));
    text.resize(std::min(max_size,
                         available + 1));  // One at least: the end shows only when asked for more.
    size_t size = 0;
    *status = SSL_ERROR_NONE;
    ERR_clear_error();
    while (size < text.size()) {
        size_t count = 0;
        int result = SSL_read_ex(state.ssl.get(), text.data() + size, text.size() - size, &count);
        if (result != 1) {
            *status = SSL_get_error(state.ssl.get(), result);
            break;
        }
        size += count;
    }
    text.resize(size);
    release_if_empty(state.in);
    return text;
}

Task<Result<std::string>> tls_read(std::shared_ptr<TlsState> state, size_t max_size) {
    for (;;) {
        if (state->closed) co_return unavailable("the stream is closed");
        if (state->read_error) co_return *state->read_error;
        int status = SSL_ERROR_NONE;
        std::string text = decrypt(*state, max_size, &status);
        if (status == SSL_ERROR_SSL || status == SSL_ERROR_SYSCALL) {
            state->read_error = tls_error(state->ssl.get(), "TLS read");
            Result<void> alert_sent = co_await flush(state);
            static_cast<void>(alert_sent);
        }
        if (!text.empty()) co_return std::move(text);
        if (status == SSL_ERROR_ZERO_RETURN) co_return std::string();
        if (state->read_error) co_return *state->read_error;
        Result<bool> more = co_await fill(state);
        if (!more.ok()) co_return std::move(more).error();
        if (!*more)
            co_return unavailable("the connection ended without TLS close_notify")
                .with_cause(0, "Truncated");
    }
}

Task<Result<void>> tls_write(std::shared_ptr<TlsState> state, std::string data) {
    size_t offset = 0;
    while (offset < data.size()) {
        if (state->closed) co_return unavailable("the stream is closed");
        ERR_clear_error();
        size_t end = std::min(data.size(), offset + kWriteSize);
        while (offset < end) {
            size_t count = 0;
            int result = SSL_write_ex(state->ssl.get(), data.data() + offset, end - offset, &count);
            if (result != 1) co_return tls_error(state->ssl.get(), "TLS write");
            offset += count;
        }
        Result<void> flushed = co_await flush(state);
        if (!flushed.ok()) co_return std::move(flushed);
    }
    co_return Result<void>();
}

Task<Result<void>> tls_close_write(std::shared_ptr<TlsState> state) {
    if (state->closed) co_return unavailable("the stream is closed");
    ERR_clear_error();
    SSL_shutdown(state->ssl.get());
    ERR_clear_error();
    Result<void> flushed = co_await flush(state);
    if (!flushed.ok()) co_return std::move(flushed);
    // A half-closed connection under TLS: the peer sees both ends.
    Result<void> ended = co_await state->under->close_write();
    co_return std::move(ended);
}

class TlsStream final : public Stream {
 public:
    explicit TlsStream(std::shared_ptr<TlsState> state) : state_(std::move(state)) {}
    ~TlsStream() override { TlsStream::close(); }
    Task<Result<std::string>> read(size_t max_size) override { return tls_read(state_, max_size); }
    Task<Result<void>> write(std::string data) override {
        return tls_write(state_, std::move(data));
    }
    Task<Result<void>> close_write() override { return tls_close_write(state_); }
    void close() override {
        state_->closed = true;
        state_->under->close();
    }
    const StreamInfo& info() const override { return state_->info; }

 private:
    std::shared_ptr<TlsState> state_;
};

Result<void> set_up(TlsState& state) {
    ERR_clear_error();
    state.ssl.reset(SSL_new(state.context->native()));
    if (!state.ssl) return internal_error(take_openssl_error());
    SSL* ssl = state.ssl.get();
    state.in = BIO_new(BIO_s_mem());
    state.out = BIO_new(BIO_s_mem());
    BIO_set_mem_eof_return(state.in, -1);
    BIO_set_mem_eof_return(state.out, -1);
    SSL_set_bio(ssl, state.in, state.out);
    // The loop's clock decides what has expired, so that a simulation can move it.
    auto seconds =
        std::chrono::duration_cast<std::chrono::seconds>(state.loop.wall_now().time_since_epoch());
    X509_VERIFY_PARAM_set_time(SSL_get0_param(ssl), static_cast<time_t>(seconds.count()));
    SSL_set_ex_data(ssl, state_index(), &state);
    if (state.context->is_server()) {
        SSL_set_accept_state(ssl);
    } else {
        SSL_set_connect_state(ssl);
    }
    return {};
}

Result<void> set_up_client(TlsState& state, std::string name,
                           const std::vector<std::string>& alpn) {
    BASALT_TRY(set_up(state));
    SSL* ssl = state.ssl.get();
    const TlsConfig& config = state.context->config();
    if (!config.server_name.empty()) name = config.server_name;
    if (!config.insecure_skip_verify) {
        if (name.empty()) return invalid_argument("no name to verify the TLS server with");
        X509_VERIFY_PARAM* verification = SSL_get0_param(ssl);
        if (is_ip_address(name)) {
            X509_VERIFY_PARAM_set1_ip_asc(verification, name.c_str());
        } else {
            SSL_set_hostflags(
                ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
            if (SSL_set1_host(ssl, name.c_str()) != 1)
                return invalid_argument("not a host name: " + name);
        }
    }
    if (!name.empty() && !is_ip_address(name)) SSL_set_tlsext_host_name(ssl, name.c_str());
    if (!alpn.empty()) {
        BASALT_ASSIGN(std::string wire, alpn_wire(alpn));
        SSL_set_alpn_protos(ssl, reinterpret_cast<const unsigned char*>(wire.data()),
                            static_cast<unsigned>(wire.size()));
        state.session_name = wire + "/";
    }
    state.session_name += name;
    if (SessionPtr session = state.context->take_session(state.session_name))
        SSL_set_session(ssl, session.get());
    return {};
}

Task<Result<void>> handshake(std::shared_ptr<TlsState> state) {
    for (;;) {
        ERR_clear_error();
        int result = SSL_do_handshake(state->ssl.get());
        int status = SSL_get_error(state->ssl.get(), result);
        std::optional<Error> failure;
        if (result != 1 && status != SSL_ERROR_WANT_READ)
            failure = tls_error(state->ssl.get(), "TLS handshake");
        Result<void> flushed = co_await flush(state);
        if (failure) co_return std::move(*failure);
        if (!flushed.ok()) co_return std::move(flushed).context("TLS handshake");
        if (result == 1) co_return Result<void>();
        Result<bool> more = co_await fill(state);
        if (!more.ok()) co_return std::move(more).error().context("TLS handshake");
        if (!*more) co_return unavailable("TLS handshake: the peer closed the connection");
    }
}

void fill_info(TlsState& state) {
    SSL* ssl = state.ssl.get();
    state.info = state.under->info();
    const unsigned char* alpn = nullptr;
    unsigned alpn_size = 0;
    SSL_get0_alpn_selected(ssl, &alpn, &alpn_size);
    state.info.alpn.assign(reinterpret_cast<const char*>(alpn), alpn_size);
    state.info.tls_version = SSL_get_version(ssl);
    state.info.tls_resumed = SSL_session_reused(ssl) == 1;
    state.info.identity.reset();
    X509* certificate = SSL_get0_peer_certificate(ssl);
    bool verified = (SSL_get_verify_mode(ssl) & SSL_VERIFY_PEER) != 0 &&
                    SSL_get_verify_result(ssl) == X509_V_OK;
    if (certificate != nullptr && verified) state.info.identity = identity_of(certificate);
}

Task<Result<std::unique_ptr<Stream>>> finish_handshake(std::shared_ptr<TlsState> state) {
    Result<void> done =
        co_await async::with_timeout(state->loop, kTlsHandshakeTimeout, handshake(state));
    if (!done.ok() && done.error().code() == Code::kDeadlineExceeded) {
        co_return deadline_exceeded("TLS handshake: timed out");
    }
    if (!done.ok()) co_return std::move(done).error();
    fill_info(*state);
    co_return std::unique_ptr<Stream>(std::make_unique<TlsStream>(std::move(state)));
}

std::shared_ptr<const TlsContextImpl> impl_of(std::shared_ptr<const TlsContext> context) {
    return std::static_pointer_cast<const TlsContextImpl>(std::move(context));
}

}  // namespace

int internal::keep_new_session(SSL* ssl, SSL_SESSION* session) {
    auto* state = static_cast<TlsState*>(SSL_get_ex_data(ssl, state_index()));
    if (state == nullptr || SSL_SESSION_is_resumable(session) != 1) return 0;
    state->context->keep_session(state->session_name, SessionPtr(session));
    return 1;  // The reference is ours now.
}

Task<Result<std::unique_ptr<Stream>>> tls_connect(async::Loop& loop,
                                                  std::shared_ptr<const TlsContext> context,
                                                  std::unique_ptr<Stream> stream,
                                                  std::string server_name,
                                                  std::vector<std::string> alpn) {
    auto state = std::make_shared<TlsState>(loop, impl_of(std::move(context)), std::move(stream));
    Result<void> ready = set_up_client(*state, std::move(server_name), alpn);
    if (!ready.ok()) co_return std::move(ready).error();
    Result<std::unique_ptr<Stream>> secured = co_await finish_handshake(std::move(state));
    co_return std::move(secured);
}

Task<Result<std::unique_ptr<Stream>>> tls_accept(async::Loop& loop,
                                                 std::shared_ptr<const TlsContext> context,
                                                 std::unique_ptr<Stream> stream) {
    auto state = std::make_shared<TlsState>(loop, impl_of(std::move(context)), std::move(stream));
    Result<void> ready = set_up(*state);
    if (!ready.ok()) co_return std::move(ready).error();
    Result<std::unique_ptr<Stream>> secured = co_await finish_handshake(std::move(state));
    co_return std::move(secured);
}

}  // namespace basalt::net
