// HTTP as values, and the seam between those who speak it and the wire.
//
// Clients (kube/, etcd/ through gRPC) are written against HttpTransport. Real ones: Http2Client and
// Http1Client (http_client.h); the simulator's answers from a model in the same process.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "async/task.h"

namespace basalt::net {

/// Header names are lower case. Order and duplicates are kept.
class Headers {
 public:
    Headers() = default;
    Headers(std::initializer_list<std::pair<std::string, std::string>> fields) : fields_(fields) {}
    void add(std::string name, std::string value);
    /// Replaces all of that name.
    void set(std::string_view name, std::string value);
    /// First value of that name (any case), or "".
    std::string_view get(std::string_view name) const;
    bool contains(std::string_view name) const;
    const std::vector<std::pair<std::string, std::string>>& fields() const { return fields_; }

 private:
    std::vector<std::pair<std::string, std::string>> fields_;
};

struct HttpRequest {
    std::string method = "GET";
    std::string target = "/";  ///< Path and query, encoded.
    Headers headers;
    std::string body;
    /// Asked when a connection is there, right before the request goes, whatever that waited for:
    /// its error is the answer then. What it refers to must outlive the call. None: it may go.
    std::function<Result<void>()> guard;
};

/// A body that arrives in pieces. Dropping it abandons the exchange (RST_STREAM or closing the
/// connection).
class BodyReader {
 public:
    virtual ~BodyReader() = default;
    /// The next piece, never empty; nullopt at the end. Unavailable when the connection broke off.
    virtual async::Task<Result<std::optional<std::string>>> read() = 0;
    /// Trailing header fields; complete after the end was read.
    virtual const Headers& trailers() const = 0;
};

struct HttpResponse {
    int status = 0;
    Headers headers;
    std::unique_ptr<BodyReader> body;  ///< Never null in a successful result.
};

class HttpTransport {
 public:
    virtual ~HttpTransport() = default;
    /// Sends and waits for the response's header. Errors are of the connection only: a status of
    /// 500 is a success here. Unavailable: no connection, or it broke before a response (see
    /// `reason`: "NotSent" means that the peer cannot have acted on the request, so that a retry is
    /// always safe).
    virtual async::Task<Result<HttpResponse>> send(HttpRequest request) = 0;
};

/// Reads a whole body; ResourceExhausted beyond `limit` bytes.
async::Task<Result<std::string>> read_all(BodyReader& body, size_t limit_size);

/// Percent-encodes for a query value or path segment (RFC 3986 unreserved characters stay).
std::string percent_encode(std::string_view text);
Result<std::string> percent_decode(std::string_view text, bool plus_is_space);

}  // namespace basalt::net
