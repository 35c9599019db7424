#include "net/grpc_wire.h"

#include <array>

#include "base/strings.h"
#include "data/base64.h"
#include "net/http2_session.h"
#include "net/http_text.h"

namespace basalt::net::internal {
namespace {

constexpr size_t kPrefixSize = 5;
/// An error's text goes into a header: keep it well below what peers accept (8 KiB in grpc-go).
constexpr size_t kMaxStatusText = 4096;

bool is_reserved(std::string_view name) {
    return name.starts_with("grpc-") || name == "content-type" || name == "te" ||
           name == "user-agent" || name == "content-length" || name == "host" ||
           name == "connection" || name == "date" || name == "trailer";
}

uint32_t big_endian_32(std::string_view bytes) {
    uint32_t value = 0;
    for (char c : bytes) value = value << 8 | static_cast<unsigned char>(c);
    return value;
}

struct Unit {
    char letter;
    Duration length;
};
constexpr std::array<Unit, 6> kUnits{{{'n', std::chrono::nanoseconds(1)},
                                      {'u', std::chrono::microseconds(1)},
                                      {'m', std::chrono::milliseconds(1)},
                                      {'S', std::chrono::seconds(1)},
                                      {'M', std::chrono::minutes(1)},
                                      {'H', std::chrono::hours(1)}}};
constexpr int64_t kMaxTimeoutDigits = 99'999'999;

}  // namespace

std::string grpc_frame(std::string_view message) {
    std::string frame;
    frame.reserve(kPrefixSize + message.size());
    frame += '\0';
    for (int shift = 24; shift >= 0; shift -= 8)
        frame += static_cast<char>(message.size() >> shift & 0xff);
    frame += message;
    return frame;
}

void GrpcDecoder::feed(std::string_view bytes) {
    if (offset_ == buffer_.size()) {
        buffer_.clear();
        offset_ = 0;
    } else if (offset_ > buffer_.size() / 2) {
        buffer_.erase(0, offset_);
        offset_ = 0;
    }
    buffer_ += bytes;
}

Result<std::optional<std::string>> GrpcDecoder::next() {
    std::string_view rest = std::string_view(buffer_).substr(offset_);
    if (rest.size() < kPrefixSize) return std::optional<std::string>();
    if (rest[0] != 0) return internal_error("gRPC: a compressed message was not agreed upon");
    size_t size = big_endian_32(rest.substr(1, 4));
    if (size > max_message_size_) {
        return resource_exhausted("gRPC: a message of " + std::to_string(size) +
                                  " bytes, the limit is " + std::to_string(max_message_size_));
    }
    if (rest.size() < kPrefixSize + size) return std::optional<std::string>();
    offset_ += kPrefixSize + size;
    return std::optional<std::string>(std::string(rest.substr(kPrefixSize, size)));
}

std::string format_grpc_timeout(Duration timeout) {
    int64_t left = std::max<int64_t>(timeout.count(), 1);
    for (const Unit& unit : kUnits) {
        int64_t length = unit.length.count();
        int64_t count = left / length + (left % length != 0 ? 1 : 0);
        if (count <= kMaxTimeoutDigits) return std::to_string(count) + unit.letter;
    }
    return std::to_string(kMaxTimeoutDigits) + "H";
}

std::optional<Duration> parse_grpc_timeout(std::string_view text) {
    if (text.size() < 2 || text.size() > 9) return std::nullopt;
    std::optional<int64_t> count = parse_number<int64_t>(text.substr(0, text.size() - 1));
    if (!count || *count < 0) return std::nullopt;
    for (const Unit& unit : kUnits) {
        if (unit.letter != text.back()) continue;
        if (*count > Duration::max().count() / unit.length.count()) return Duration::max();
        return unit.length * *count;
    }
    return std::nullopt;
}

std::string encode_grpc_message(std::string_view text) {
    static constexpr char kDigits[] = "0123456789ABCDEF";
    std::string out;
    for (char c : text) {
        auto byte = static_cast<unsigned char>(c);
        if (byte >= 0x20 && byte < 0x7f && c != '%') {
            out += c;
        } else {
            out += '%';
            out += kDigits[byte >> 4];
            out += kDigits[byte & 15];
        }
    }
    return out;
}

std::string decode_grpc_message(std::string_view text) {
    // Malformed text is kept rather than lost (PROTOCOL-HTTP2.md).
    Result<std::string> decoded = percent_decode(text, false);
    return decoded.ok() ? std::move(*decoded) : std::string(text);
}

Result<Headers> encode_metadata(const GrpcMetadata& metadata) {
    Headers headers;
    for (const auto& [name, value] : metadata.fields()) {
        if (is_reserved(name)) return invalid_argument("metadata must not set " + name);
        std::string text = value;
        if (name.ends_with("-bin")) {
            text = data::base64_encode(value);
            while (text.ends_with('=')) text.pop_back();
        }
        headers.add(to_lower(name), std::move(text));
    }
    BASALT_TRY(check_fields(headers));
    return headers;
}

GrpcMetadata decode_metadata(const Headers& headers) {
    GrpcMetadata metadata;
    for (const auto& [name, value] : headers.fields()) {
        if (is_reserved(name)) continue;
        if (!name.ends_with("-bin")) {
            metadata.add(name, value);
            continue;
        }
        for (std::string_view part : split(value, ',')) {
            std::string padded(trim(part));
            while (padded.size() % 4 != 0) padded += '=';
            Result<std::string> bytes = data::base64_decode(padded);
            if (bytes.ok()) metadata.add(name, std::move(*bytes));
        }
    }
    return metadata;
}

Result<void> status_from(const Headers& trailers) {
    std::string_view text = trailers.get("grpc-status");
    std::optional<int> number = parse_number<int>(text);
    if (number == 0) return {};
    std::string message = decode_grpc_message(trailers.get("grpc-message"));
    if (!number) {
        return Error(Code::kUnknown,
                     text.empty() ? "gRPC: the response has no status" : "gRPC: malformed status");
    }
    Code code = *number >= 1 && *number <= 16 ? static_cast<Code>(*number) : Code::kUnknown;
    return Error(code, std::move(message)).with_cause(*number);
}

Headers status_trailers(const Result<void>& status) {
    Headers trailers;
    if (status.ok()) {
        trailers.add("grpc-status", "0");
        return trailers;
    }
    const Error& error = status.error();
    trailers.add("grpc-status", std::to_string(static_cast<int>(error.code())));
    trailers.add("grpc-message",
                 encode_grpc_message(std::string_view(error.message()).substr(0, kMaxStatusText)));
    return trailers;
}

Error error_of_http_status(int status) {
    // https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md
    Code code = Code::kUnknown;
    if (status == 400) code = Code::kInternal;
    if (status == 401) code = Code::kUnauthenticated;
    if (status == 403) code = Code::kPermissionDenied;
    if (status == 404) code = Code::kUnimplemented;
    if (status == 429 || status == 502 || status == 503 || status == 504) code = Code::kUnavailable;
    return Error(code, "gRPC: the server answered with HTTP status " + std::to_string(status));
}

Error error_of_transport(Error error) {
    if (error.reason() == "NotSent") error.with_cause(0, "NotSent");
    if (error.reason() != "StreamReset") return error;
    // PROTOCOL-HTTP2.md, "Errors".
    Code code = Code::kInternal;
    auto cause = static_cast<uint32_t>(error.cause_code());
    if (cause == kH2Cancel) code = Code::kCancelled;
    if (cause == kH2EnhanceYourCalm) code = Code::kResourceExhausted;
    if (cause == kH2InadequateSecurity) code = Code::kPermissionDenied;
    return Error(code, error.message());
}

}  // namespace basalt::net::internal
