#include "net/http.h"

#include "base/strings.h"

namespace basalt::net {

void Headers::add(std::string name, std::string value) {
    fields_.emplace_back(std::move(name), std::move(value));
}

void Headers::set(std::string_view name, std::string value) {
    std::erase_if(fields_,
                  [name](const auto& field) { return equal_ignore_case(field.first, name); });
    fields_.emplace_back(to_lower(name), std::move(value));
}

std::string_view Headers::get(std::string_view name) const {
    for (const auto& [key, value] : fields_) {
        if (equal_ignore_case(key, name)) return value;
    }
    return {};
}

bool Headers::contains(std::string_view name) const {
    for (const auto& field : fields_) {
        if (equal_ignore_case(field.first, name)) return true;
    }
    return false;
}

async::Task<Result<std::string>> read_all(BodyReader& body, size_t limit_size) {
    std::string text;
    for (;;) {
        Result<std::optional<std::string>> piece = co_await body.read();
        if (!piece.ok()) co_return std::move(piece).error();
        if (!piece->has_value()) co_return std::move(text);
        if (text.size() + (*piece)->size() > limit_size) {
            co_return resource_exhausted("the body is larger than " + std::to_string(limit_size) +
                                         " bytes");
        }
        if (text.empty()) {
            text = std::move(**piece);
        } else {
            text += **piece;
        }
    }
}

namespace {

bool is_unreserved(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

}  // namespace

std::string percent_encode(std::string_view text) {
    static constexpr char kDigits[] = "0123456789ABCDEF";
    std::string out;
    out.reserve(text.size());
    for (char c : text) {
        if (is_unreserved(c)) {
            out += c;
        } else {
            auto byte = static_cast<unsigned char>(c);
            out += '%';
            out += kDigits[byte >> 4];
            out += kDigits[byte & 15];
        }
    }
    return out;
}

Result<std::string> percent_decode(std::string_view text, bool plus_is_space) {
    std::string out;
    out.reserve(text.size());
    for (size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '+' && plus_is_space) {
            out += ' ';
        } else if (text[i] != '%') {
            out += text[i];
        } else {
            int high = text.size() - i > 2 ? hex_value(text[i + 1]) : -1;
            int low = text.size() - i > 2 ? hex_value(text[i + 2]) : -1;
            if (high < 0 || low < 0) return invalid_argument("bad percent-encoding");
            out += static_cast<char>(high * 16 + low);
            i += 2;
        }
    }
    return out;
}

}  // namespace basalt::net
