#include "net/http_text.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/strings.h"

namespace basalt::net::internal {

bool is_token(std::string_view text) {
    static constexpr std::string_view kExtra = "!#$%&'*+-.^_`|~";
    return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               kExtra.find(c) != std::string_view::npos;
    });
}

bool is_header_value(std::string_view text) {
    return std::none_of(text.begin(), text.end(),
                        [](char c) { return c == '\r' || c == '\n' || c == '\0'; });
}

Result<void> check_fields(const Headers& headers) {
    for (const auto& [name, value] : headers.fields()) {
        if (!is_token(name)) return invalid_argument("not a header name");
        if (!is_header_value(value))
            return invalid_argument("the value of header " + name + " has a control character");
    }
    return {};
}

Result<void> check_request(const HttpRequest& request) {
    if (!is_token(request.method)) return invalid_argument("not an HTTP method");
    bool good_target = !request.target.empty() && request.target[0] == '/' &&
                       std::none_of(request.target.begin(), request.target.end(), [](char c) {
                           return static_cast<unsigned char>(c) <= 0x20 || c == 0x7f;
                       });
    if (!good_target) return invalid_argument("the request's target is not a path");
    return check_fields(request.headers);
}

std::string http1_request_head(const HttpRequest& request, std::string_view authority) {
    std::string text = request.method + " " + request.target + " HTTP/1.1\r\n";
    if (!request.headers.contains("host")) text += fmt::format("Host: {}\r\n", authority);
    for (const auto& [name, value] : request.headers.fields()) {
        if (equal_ignore_case(name, "content-length") ||
            equal_ignore_case(name, "transfer-encoding"))
            continue;
        text += fmt::format("{}: {}\r\n", name, value);
    }
    bool has_body_by_nature =
        request.method == "POST" || request.method == "PUT" || request.method == "PATCH";
    if (!request.body.empty() || has_body_by_nature)
        text += fmt::format("Content-Length: {}\r\n", request.body.size());
    text += "\r\n";
    return text;
}

std::string http1_response_head(int status, const Headers& headers, std::optional<size_t> body_size,
                                bool close) {
    std::string text = fmt::format("HTTP/1.1 {} {}\r\n", status, reason_phrase(status));
    for (const auto& [name, value] : headers.fields()) {
        if (equal_ignore_case(name, "content-length") ||
            equal_ignore_case(name, "transfer-encoding"))
            continue;
        if (status != 101 && equal_ignore_case(name, "connection")) continue;
        text += fmt::format("{}: {}\r\n", name, value);
    }
    bool bodiless = status < 200 || status == 204 || status == 304;
    if (!bodiless && body_size) text += fmt::format("Content-Length: {}\r\n", *body_size);
    if (!bodiless && !body_size) text += "Transfer-Encoding: chunked\r\n";
    if (close) text += "Connection: close\r\n";
    text += "\r\n";
    return text;
}

std::string_view reason_phrase(int status) {
    switch (status) {
        case 100: return "Continue";
        case 101: return "Switching Protocols";
        case 200: return "OK";
        case 201: return "Created";
        case 202: return "Accepted";
        case 204: return "No Content";
        case 304: return "Not Modified";
        case 400: return "Bad Request";
        case 401: return "Unauthorized";
        case 403: return "Forbidden";
        case 404: return "Not Found";
        case 405: return "Method Not Allowed";
        case 408: return "Request Timeout";
        case 409: return "Conflict";
        case 412: return "Precondition Failed";
        case 413: return "Content Too Large";
        case 415: return "Unsupported Media Type";
        case 429: return "Too Many Requests";
        case 431: return "Request Header Fields Too Large";
        case 499: return "Client Closed Request";
        case 500: return "Internal Server Error";
        case 501: return "Not Implemented";
        case 503: return "Service Unavailable";
        case 504: return "Gateway Timeout";
        default: return "Status";
    }
}

std::string http1_chunk(std::string_view data) {
    if (data.empty()) return "0\r\n\r\n";
    return fmt::format("{:x}\r\n{}\r\n", data.size(), data);
}

}  // namespace basalt::net::internal
