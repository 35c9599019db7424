// One HTTP/1.1 connection of a client: one exchange at a time.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "net/http.h"
#include "net/http1_codec.h"
#include "net/stream.h"

namespace basalt::net::internal {

struct Http1Connection {
    std::unique_ptr<Stream> stream;
    std::string unread;  ///< Bytes behind the last response.
    bool reused = false;
    TimePoint idle_since;
    std::function<void()> on_end;  ///< Gives the pool its slot back.

    Http1Connection() = default;
    Http1Connection(const Http1Connection&) = delete;
    Http1Connection& operator=(const Http1Connection&) = delete;
    ~Http1Connection() {
        if (on_end) on_end();
    }
};

/// What became of a request. Without a response `untouched` says that the server sent nothing at
/// all.
struct Http1Outcome {
    std::optional<Error> error;
    bool untouched = false;
    HttpResponse response;
};
using Http1Return = std::function<void(std::unique_ptr<Http1Connection>)>;

/// Sends and reads up to the end of the response's header. The response's body owns the connection
/// and gives it to `give_back` after its end, if it can be used again.
async::Task<Http1Outcome> http1_exchange(std::unique_ptr<Http1Connection> connection,
                                         std::shared_ptr<const HttpRequest> request,
                                         std::string authority, Http1Return give_back);

/// Reads one response's header into `parser`; interim responses are skipped, but not 101.
async::Task<Result<void>> read_response_head(Stream& stream, std::unique_ptr<Http1Parser>& parser,
                                             std::string unread, bool head_request);

}  // namespace basalt::net::internal
