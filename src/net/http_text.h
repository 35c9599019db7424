// What may stand in a message's header, and its HTTP/1.1 text.
#pragma once

#include <string>
#include <string_view>

#include "net/http.h"

namespace basalt::net::internal {

bool is_token(std::string_view text);         ///< RFC 9110 section 5.6.2.
bool is_header_value(std::string_view text);  ///< No CR, LF, NUL.

/// InvalidArgument when a part could break out of its place in the message.
Result<void> check_fields(const Headers& headers);
Result<void> check_request(const HttpRequest& request);

/// Header text up to and with the empty line. Adds Host and Content-Length (or chunked for a
/// stream).
std::string http1_request_head(const HttpRequest& request, std::string_view authority);
/// `body_size` nullopt: chunked. Adds Connection: close when asked.
std::string http1_response_head(int status, const Headers& headers, std::optional<size_t> body_size,
                                bool close);
std::string_view reason_phrase(int status);
/// One chunk with its size line; "" gives the last one.
std::string http1_chunk(std::string_view data);

}  // namespace basalt::net::internal
