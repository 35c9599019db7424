#include "data/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json/basic_parser_impl.hpp>
#include <charconv>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "data/utf8.h"

namespace basalt::data {
namespace {

namespace json = boost::json;

/// Receives the events of one document. Finished values wait on a stack until the end of their
/// container tells how many belong to it, so containers are allocated once and at their exact size.
class Builder {
 public:
    // NOLINTBEGIN(readability-identifier-naming): Boost.JSON reads the limits by these names
    static constexpr size_t max_object_size = static_cast<size_t>(-1);
    static constexpr size_t max_array_size = static_cast<size_t>(-1);
    static constexpr size_t max_key_size = static_cast<size_t>(-1);
    static constexpr size_t max_string_size = static_cast<size_t>(-1);
    // NOLINTEND(readability-identifier-naming)

    bool on_document_begin(json::error_code&) { return true; }
    bool on_document_end(json::error_code&) { return true; }
    bool on_array_begin(json::error_code&) { return true; }
    bool on_object_begin(json::error_code&) { return true; }
    bool on_array_end(size_t count, json::error_code&) {
        Array items;
        items.reserve(count);
        for (size_t i = stack_.size() - count; i < stack_.size(); ++i)
            items.push_back(std::move(stack_[i]));
        stack_.resize(stack_.size() - count);
        stack_.emplace_back(std::move(items));
        return true;
    }
    bool on_object_end(size_t count, json::error_code&) {
        Members members;
        members.reserve(count);
        for (size_t i = stack_.size() - 2 * count; i < stack_.size(); i += 2) {
            members.push_back(Member{std::move(stack_[i]), std::move(stack_[i + 1])});
        }
        stack_.resize(stack_.size() - 2 * count);
        stack_.emplace_back(std::move(members));
        return true;
    }
    bool on_key_part(json::string_view part, size_t, json::error_code&) { return keep(part); }
    bool on_key(json::string_view part, size_t, json::error_code&) { return add_string(part); }
    bool on_string_part(json::string_view part, size_t, json::error_code&) { return keep(part); }
    bool on_string(json::string_view part, size_t, json::error_code&) { return add_string(part); }
    bool on_number_part(json::string_view part, json::error_code&) { return keep(part); }
    bool on_int64(int64_t number, json::string_view, json::error_code&) {
        return add(Value(number));
    }
    bool on_uint64(uint64_t number, json::string_view, json::error_code&) {
        return add(Value(number));
    }
    bool on_double(double rough, json::string_view part, json::error_code& error) {
        if (std::isinf(rough)) {
            error = json::error::exponent_overflow;
            return false;
        }
        // The parser's own conversion may be off by one unit in the last place.
        keep(part);
        double exact = rough;
        std::from_chars(text_.data(), text_.data() + text_.size(), exact);
        return add(Value(exact));
    }
    bool on_bool(bool flag, json::error_code&) { return add(Value(flag)); }
    bool on_null(json::error_code&) { return add(Value()); }
    bool on_comment_part(json::string_view, json::error_code&) { return true; }
    bool on_comment(json::string_view, json::error_code&) { return true; }

    Value take() { return std::move(stack_.back()); }

 private:
    bool keep(json::string_view part) {
        text_.append(part.data(), part.size());
        return true;
    }
    bool add(Value value) {
        text_.clear();
        stack_.push_back(std::move(value));
        return true;
    }
    bool add_string(json::string_view part) {
        if (text_.empty()) return add(Value::shared_string({part.data(), part.size()}));
        keep(part);
        return add(Value::shared_string(text_));
    }

    std::vector<Value> stack_;
    std::string text_;  ///< Earlier parts of the current string or number.
};

std::string position(std::string_view text, size_t offset) {
    const std::string_view before = text.substr(0, offset);
    const auto line = 1 + std::count(before.begin(), before.end(), '\n');
    const size_t line_start = before.rfind('\n') + 1;  // npos + 1 is 0
    return fmt::format("line {} column {}", line, before.size() - line_start + 1);
}

constexpr char kHex[] = "0123456789abcdef";

void append_escape(std::string& out, unsigned char byte) {
    switch (byte) {
        case '"': out += "\\\""; break;
        case '\\': out += "\\\\"; break;
        case '\n': out += "\\n"; break;
        case '\r': out += "\\r"; break;
        case '\t': out += "\\t"; break;
        case '\b': out += "\\b"; break;
        case '\f': out += "\\f"; break;
        default:
            out += "\\u00";
            out += kHex[byte >> 4];
            out += kHex[byte & 15];
    }
}

void append_double(std::string& out, double number) {
    if (!std::isfinite(number)) {
        out += "null";
        return;
    }
    if (number == 0) number = 0;  // no "-0"
    const double magnitude = std::abs(number);
    const bool plain = magnitude == 0 || (magnitude >= 1e-6 && magnitude < 1e21);
    char buffer[64];
    const auto format = plain ? std::chars_format::fixed : std::chars_format::scientific;
    const auto end = std::to_chars(buffer, buffer + sizeof buffer, number, format).ptr;
    out.append(buffer, static_cast<size_t>(end - buffer));
    // The library prints at least two digits of exponent; one is enough.
    const size_t size = out.size();
    if (!plain && out[size - 2] == '0' && out[size - 3] == '-') out.erase(size - 2, 1);
}

void append_number(std::string& out, const Value& value) {
    if (value.type() == Type::kDouble) return append_double(out, value.as_double());
    const bool is_unsigned = value.type() == Type::kUint;
    char buffer[24];
    const auto end = is_unsigned
                         ? std::to_chars(buffer, buffer + sizeof buffer, value.as_uint()).ptr
                         : std::to_chars(buffer, buffer + sizeof buffer, value.as_int()).ptr;
    out.append(buffer, static_cast<size_t>(end - buffer));
}

class Writer {
 public:
    Writer(std::string& out, int indent, bool sorted)
        : out_(out), indent_(indent), sorted_(sorted) {}

    void write(const Value& value) {
        switch (value.type()) {
            case Type::kNull: out_ += "null"; break;
            case Type::kBool: out_ += value.as_bool() ? "true" : "false"; break;
            case Type::kString: append_json_string(out_, value.as_string()); break;
            case Type::kArray: write_items(value.items()); break;
            case Type::kObject: write_members(value.members()); break;
            default: append_number(out_, value); break;
        }
    }

 private:
    void write_items(const Array& items) {
        open('[');
        bool first = true;
        for (const Value& item : items) {
            separate(first);
            write(item);
        }
        close(']', first);
    }

    void write_member(const Member& member, bool& first) {
        separate(first);
        append_json_string(out_, member.key());
        out_ += indent_ > 0 ? ": " : ":";
        write(member.value);
    }

    void write_members(const Members& members) {
        open('{');
        bool first = true;
        if (sorted_) {
            std::vector<const Member*> order;
            order.reserve(members.size());
            for (const Member& member : members) order.push_back(&member);
            std::sort(order.begin(), order.end(),
                      [](const Member* a, const Member* b) { return a->key() < b->key(); });
            for (const Member* member : order) write_member(*member, first);
        } else {
            for (const Member& member : members) write_member(member, first);
        }
        close('}', first);
    }

    void open(char bracket) {
        out_ += bracket;
        ++depth_;
    }
    void separate(bool& first) {
        if (!first) out_ += ',';
        first = false;
        break_line();
    }
    void close(char bracket, bool empty) {
        --depth_;
        if (!empty) break_line();
        out_ += bracket;
    }
    void break_line() {
        if (indent_ <= 0) return;
        out_ += '\n';
        out_.append(depth_ * static_cast<size_t>(indent_), ' ');
    }

    std::string& out_;
    int indent_;
    bool sorted_;
    size_t depth_ = 0;
};

bool is_space(char c) noexcept { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

/// Kept between documents; more is given back to the allocator after a large one.
constexpr size_t kKeptBuffer = limits::kMiB;

}  // namespace

Result<Value> parse_json(std::string_view text, const ParseOptions& options) {
    if (text.size() > options.max_size) {
        return resource_exhausted(fmt::format("JSON text of {} bytes is over the limit of {}",
                                              text.size(), options.max_size));
    }
    json::parse_options parse_options;
    parse_options.max_depth = options.max_depth;
    json::basic_parser<Builder> parser(parse_options);
    json::error_code error;
    const size_t parsed = parser.write_some(false, text.data(), text.size(), error);
    if (!error && parsed < text.size()) error = json::error::extra_data;
    if (error == json::error::too_deep) {
        return resource_exhausted(fmt::format("JSON {}: nested over {} levels",
                                              position(text, parsed), options.max_depth));
    }
    if (error)
        return invalid_argument(
            fmt::format("JSON {}: {}", position(text, parsed), error.message()));
    return parser.handler().take();
}

void append_json_string(std::string& out, std::string_view text) {
    out += '"';
    size_t copied = 0;
    for (size_t i = 0; i < text.size();) {
        const auto byte = static_cast<unsigned char>(text[i]);
        if (byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\') {
            ++i;
            continue;
        }
        const size_t length = byte < 0x80 ? 0 : utf8_length(text.substr(i));
        if (length > 0) {
            i += length;
            continue;
        }
        out.append(text, copied, i - copied);
        if (byte < 0x80) {
            append_escape(out, byte);
        } else {
            out += "\xEF\xBF\xBD";
        }
        copied = ++i;
    }
    out.append(text, copied);
    out += '"';
}

void append_json(std::string& out, const Value& value) { Writer(out, 0, false).write(value); }

std::string to_json(const Value& value) {
    std::string out;
    append_json(out, value);
    return out;
}

std::string to_pretty_json(const Value& value, int indent) {
    std::string out;
    Writer(out, indent, false).write(value);
    return out;
}

std::string to_canonical_json(const Value& value) {
    std::string out;
    Writer(out, 0, true).write(value);
    return out;
}

void JsonLineSplitter::feed(std::string_view chunk) {
    // Moving what is left costs its size, so wait until at least as much was given out: linear in
    // the stream.
    if (start_ > 0 && start_ >= buffer_.size() / 2) {
        buffer_.erase(0, start_);
        scan_ -= start_;
        start_ = 0;
        if (buffer_.capacity() > kKeptBuffer && buffer_.size() < kKeptBuffer / 4)
            buffer_.shrink_to_fit();
    }
    buffer_ += chunk;
}

Error JsonLineSplitter::fail(Code code, std::string message) {
    failed_ = Error(code, std::move(message));
    buffer_ = {};
    start_ = scan_ = 0;
    return *failed_;
}

Result<std::optional<std::string_view>> JsonLineSplitter::next() {
    if (failed_) return *failed_;
    if (depth_ == 0) {
        while (scan_ < buffer_.size() && is_space(buffer_[scan_])) ++scan_;
        start_ = scan_;
    }
    for (; scan_ < buffer_.size(); ++scan_) {
        const char c = buffer_[scan_];
        if (in_string_) {
            if (escaped_) {
                escaped_ = false;
            } else if (c == '\\') {
                escaped_ = true;
            } else if (c == '"') {
                in_string_ = false;
            }
        } else if (c == '{' || c == '[') {
            ++depth_;
        } else if (depth_ == 0) {
            return fail(Code::kInvalidArgument, "JSON stream: expected an object or array");
        } else if (c == '"') {
            in_string_ = true;
        } else if ((c == '}' || c == ']') && --depth_ == 0) {
            ++scan_;
            if (scan_ - start_ > max_document_size_) break;
            const std::string_view document(buffer_.data() + start_, scan_ - start_);
            start_ = scan_;
            return std::optional(document);
        }
    }
    if (scan_ - start_ > max_document_size_) {
        return fail(Code::kResourceExhausted,
                    fmt::format("JSON stream: a document is over the limit of {} bytes",
                                max_document_size_));
    }
    // Many streams are idle nearly always: nothing is kept for the next document.
    if (start_ > 0 && start_ == buffer_.size()) {
        buffer_.clear();
        buffer_.shrink_to_fit();
        start_ = scan_ = 0;
    }
    return std::optional<std::string_view>();
}

Result<std::optional<Value>> JsonLineSplitter::next_value() {
    BASALT_ASSIGN(const std::optional<std::string_view> text, next());
    if (!text) return std::optional<Value>();
    ParseOptions options;
    options.max_size = max_document_size_;
    BASALT_ASSIGN(Value value, parse_json(*text, options));
    return std::optional<Value>(std::move(value));
}

bool JsonLineSplitter::rest_is_space() const noexcept {
    for (size_t i = start_; i < buffer_.size(); ++i) {
        if (!is_space(buffer_[i])) return false;
    }
    return true;
}

}  // namespace basalt::data
