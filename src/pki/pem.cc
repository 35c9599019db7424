#include "pki/pem.h"

#include <fmt/format.h>

#include "base/strings.h"
#include "data/base64.h"
#include "pki/key.h"

namespace basalt::pki {
namespace {

constexpr std::string_view kBegin = "-----BEGIN ";
constexpr std::string_view kEnd = "-----END ";
constexpr std::string_view kDashes = "-----";
/// "ANY EXTENDED KEY USAGE" and the like are shorter; beyond it the text is no label.
constexpr size_t kMaxLabelSize = 64;

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

/// RFC 1421 headers end with an empty line; only then is there a colon before it.
std::string_view skip_headers(std::string_view body, bool* encrypted) {
    size_t colon = body.find(':');
    if (colon == std::string_view::npos) return body;
    *encrypted = body.find("ENCRYPTED") != std::string_view::npos;
    for (std::string_view gap : {std::string_view("\n\n"), std::string_view("\r\n\r\n")}) {
        size_t end = body.find(gap, colon);
        if (end != std::string_view::npos) return body.substr(end + gap.size());
    }
    return {};
}

Result<PemBlock> parse_body(std::string label, std::string_view body, size_t number) {
    PemBlock block;
    block.label = std::move(label);
    std::string text;
    text.reserve(body.size());
    for (char c : skip_headers(body, &block.encrypted)) {
        if (!is_blank(c)) text.push_back(c);
    }
    Result<std::string> der = data::base64_decode(text);
    secure_wipe(text.data(), text.size());
    if (!der.ok()) {
        return invalid_argument(
            fmt::format("PEM block {} ({}) is not valid base64; was it cut or re-indented?", number,
                        block.label));
    }
    if (der->empty())
        return invalid_argument(fmt::format("PEM block {} ({}) is empty", number, block.label));
    block.der = Secret(std::move(*der));
    return block;
}

}  // namespace

Result<std::vector<PemBlock>> parse_pem(std::string_view text) {
    if (text.size() > kMaxPemSize) {
        return invalid_argument(fmt::format("PEM text of {} bytes is larger than the {} allowed",
                                            text.size(), kMaxPemSize));
    }
    std::vector<PemBlock> blocks;
    size_t position = 0;
    while ((position = text.find(kBegin, position)) != std::string_view::npos) {
        const size_t number = blocks.size() + 1;
        position += kBegin.size();
        size_t label_end = text.find(kDashes, position);
        if (label_end == std::string_view::npos || label_end - position > kMaxLabelSize ||
            text.substr(position, label_end - position).find('\n') != std::string_view::npos) {
            return invalid_argument(fmt::format("PEM block {} has a broken BEGIN line", number));
        }
        std::string label(text.substr(position, label_end - position));
        size_t body = label_end + kDashes.size();
        const std::string end_line = fmt::format("{}{}{}", kEnd, label, kDashes);
        size_t end = text.find(end_line, body);
        if (end == std::string_view::npos) {
            return invalid_argument(fmt::format(
                "PEM block {} ({}) has no END line; the text is cut off", number, label));
        }
        BASALT_ASSIGN(PemBlock block,
                      parse_body(std::move(label), text.substr(body, end - body), number));
        blocks.push_back(std::move(block));
        position = end + end_line.size();
    }
    return blocks;
}

Secret to_pem(std::string_view label, std::string_view der) {
    constexpr size_t kLineSize = 64;
    std::string body = data::base64_encode(der);
    std::string out;
    // Reserved in full: growing would leave copies of the key behind.
    out.reserve(body.size() + body.size() / kLineSize + 2 * label.size() + 64);
    out += fmt::format("{}{}{}\n", kBegin, label, kDashes);
    for (size_t i = 0; i < body.size(); i += kLineSize) {
        out.append(body, i, kLineSize);
        out += '\n';
    }
    out += fmt::format("{}{}{}\n", kEnd, label, kDashes);
    secure_wipe(body.data(), body.size());
    return Secret(std::move(out));
}

}  // namespace basalt::pki
