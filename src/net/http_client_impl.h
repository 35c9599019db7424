// The pool of connections behind HttpClient.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "async/task_group.h"
#include "async/wait.h"
#include "net/http1_client.h"
#include "net/http2_connection.h"
#include "net/http_client.h"

namespace basalt::net::internal {

class HttpClientImpl final : public HttpClient,
                             public std::enable_shared_from_this<HttpClientImpl> {
 public:
    HttpClientImpl(async::Loop& loop, Url base, HttpClientOptions options);

    async::Task<Result<HttpResponse>> send(HttpRequest request) override;
    async::Task<Result<std::unique_ptr<HttpExchange>>> open(HttpRequest request) override;
    async::Task<Result<Upgraded>> upgrade(HttpRequest request) override;
    void set_tls(std::shared_ptr<const TlsContext> tls) override;
    void drain() override;
    size_t connections_count() const override { return connections_.size() + http1_count_; }

    // For background.h.
    async::TaskGroup& group() { return group_; }
    void shut_down() noexcept;

 private:
    /// An attempt to connect that several requests wait for.
    struct Dial {
        size_t seats = 0;
        bool done = false;
        std::optional<Error> error;
        async::Condition changed;
    };
    struct Lease {
        std::shared_ptr<Http2Connection> h2;
        std::unique_ptr<Http1Connection> h1;
    };

    async::Task<Result<Lease>> acquire();
    std::optional<Lease> take_free();
    std::shared_ptr<Dial> join_dial();
    static async::Task<void> run_dial(HttpClientImpl& self, std::shared_ptr<Dial> dial);
    async::Task<Result<std::unique_ptr<Stream>>> open_stream(std::vector<std::string> alpn);
    async::Task<Result<void>> add_connection();
    void give_back(std::unique_ptr<Http1Connection> connection);
    void prune();
    Http2Head head_of(const HttpRequest& request) const;
    async::Task<Result<HttpResponse>> send_http2(std::shared_ptr<Http2Connection> connection,
                                                 std::shared_ptr<const HttpRequest> request);
    Result<void> prepare(HttpRequest& request) const;

    async::Loop& loop_;
    Url base_;
    HttpClientOptions options_;
    std::vector<std::shared_ptr<Http2Connection>> connections_;
    std::vector<std::unique_ptr<Http1Connection>> idle_http1_;
    size_t http1_count_ = 0;  ///< Idle and in use.
    bool speaks_http1_ = false;
    std::vector<std::shared_ptr<Dial>> dials_;
    uint64_t generation_ = 0;  ///< Of the identity; connections of older ones drain.
    async::Condition capacity_;
    async::TaskGroup group_;
};

}  // namespace basalt::net::internal
