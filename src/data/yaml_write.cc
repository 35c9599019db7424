#include <string>

#include "data/json.h"
#include "data/utf8.h"
#include "data/yaml.h"
#include "data/yaml_scalar.h"

namespace basalt::data {
namespace {

/// The parser looks ahead 1024 characters for the ":" of a simple key; longer ones need the "? "
/// form.
constexpr size_t kMaxSimpleKey = 800;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// The code point of a valid sequence.
uint32_t decode(std::string_view sequence) {
    const auto byte = [&](size_t i) {
        return static_cast<uint32_t>(static_cast<unsigned char>(sequence[i]));
    };
    switch (sequence.size()) {
        case 1: return byte(0);
        case 2: return (byte(0) & 0x1f) << 6 | (byte(1) & 0x3f);
        case 3: return (byte(0) & 0x0f) << 12 | (byte(1) & 0x3f) << 6 | (byte(2) & 0x3f);
        default:
            return (byte(0) & 0x07) << 18 | (byte(1) & 0x3f) << 12 | (byte(2) & 0x3f) << 6 |
                   (byte(3) & 0x3f);
    }
}

/// Printable on a line of its own in YAML 1.1, and no line break of it (NEL, LS, PS) or byte order
/// mark.
bool is_printable(uint32_t point) {
    if (point < 0x20 || (point >= 0x7f && point < 0xa0)) return false;
    if (point == 0x2028 || point == 0x2029 || point == 0xfeff) return false;
    return point != 0xfffe && point != 0xffff;
}

/// All printable, apart from the characters in `also`.
bool is_printable(std::string_view text, std::string_view also) {
    while (!text.empty()) {
        const size_t length = utf8_length(text);
        if (length == 0) return false;
        if (!is_printable(decode(text.substr(0, length))) &&
            also.find(text[0]) == std::string_view::npos) {
            return false;
        }
        text.remove_prefix(length);
    }
    return true;
}

/// What other YAML parsers take for a date ("2024-01-02…") or a base-60 number ("12:30:45").
bool looks_like_time(std::string_view text) {
    if (!is_digit(text[0]) && text[0] != '-' && text[0] != '+') return false;
    if (text.size() >= 8 && is_digit(text[1]) && is_digit(text[2]) && is_digit(text[3]) &&
        text[4] == '-') {
        return true;
    }
    return text.find_first_not_of("0123456789:._+-") == std::string_view::npos;
}

bool is_plain(std::string_view text) {
    if (text.empty() || !resolve_plain_scalar(text).is_string() || looks_like_time(text))
        return false;
    constexpr std::string_view kIndicators = ",[]{}#&*!|>'\"%@`=";
    if (kIndicators.find(text[0]) != std::string_view::npos || text == "<<") return false;
    const bool second_is_space = text.size() == 1 || text[1] == ' ';
    if ((text[0] == '-' || text[0] == '?' || text[0] == ':') && second_is_space) return false;
    if (text.substr(0, 3) == "---" || text.substr(0, 3) == "...") return false;
    if (text.front() == ' ' || text.back() == ' ' || text.back() == ':') return false;
    if (text.find(": ") != std::string_view::npos || text.find(" #") != std::string_view::npos)
        return false;
    return is_printable(text, "");
}

void append_quoted(std::string& out, std::string_view text) {
    out += '"';
    while (!text.empty()) {
        const size_t length = utf8_length(text);
        const std::string_view sequence = length > 0 ? text.substr(0, length) : "\xEF\xBF\xBD";
        const uint32_t point = decode(sequence);
        if (point == '"' || point == '\\') {
            out += '\\';
            out += static_cast<char>(point);
        } else if (point == '\n') {
            out += "\\n";
        } else if (point == '\t') {
            out += "\\t";
        } else if (is_printable(point)) {
            out += sequence;
        } else {
            constexpr char kHex[] = "0123456789ABCDEF";
            out += "\\u";
            for (int shift = 12; shift >= 0; shift -= 4) out += kHex[point >> shift & 15];
        }
        text.remove_prefix(length > 0 ? length : 1);
    }
    out += '"';
}

bool is_literal(std::string_view text) {
    if (text.find('\n') == std::string_view::npos) return false;
    if (text[0] == ' ' || text[0] == '\t' || text[0] == '\n') return false;
    return is_printable(text, "\n\t");
}

class Writer {
 public:
    explicit Writer(std::string& out) : out_(out) {}

    void write_document(const Value& value) {
        if (value.is_object() && !value.empty()) {
            write_members(value.members(), 0, false);
        } else if (value.is_array() && !value.empty()) {
            write_items(value.items(), 0, false);
        } else {
            write_scalar(value, 2);
        }
    }

 private:
    void pad(size_t indent) { out_.append(indent, ' '); }

    void write_literal(std::string_view text, size_t indent) {
        out_ += '|';
        if (text.back() != '\n') {
            out_ += '-';
        } else if (text.size() > 1 && text[text.size() - 2] == '\n') {
            out_ += '+';
        }
        out_ += '\n';
        while (!text.empty()) {
            const size_t end = text.find('\n');
            const std::string_view line = text.substr(0, end);
            if (!line.empty()) {
                pad(indent);
                out_ += line;
            }
            out_ += '\n';
            text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
        }
    }

    /// With its newline. `indent`: of the lines of a literal block.
    void write_scalar(const Value& value, size_t indent) {
        if (value.is_string() && is_literal(value.as_string())) {
            write_literal(value.as_string(), indent);
            return;
        }
        if (value.is_string()) {
            write_text(value.as_string());
        } else {
            append_json(out_, value);  // numbers, booleans, null, [] and {} look the same
        }
        out_ += '\n';
    }

    void write_text(std::string_view text) {
        if (is_plain(text)) {
            out_ += text;
        } else {
            append_quoted(out_, text);
        }
    }

    void write_members(const Members& members, size_t indent, bool on_line) {
        for (const Member& member : members) {
            if (!on_line) pad(indent);
            on_line = false;
            const size_t begin = out_.size();
            write_text(member.key());
            // As written: a character may take six.
            if (out_.size() - begin > kMaxSimpleKey) {
                out_.insert(begin, "? ");
                out_ += '\n';
                pad(indent);
            }
            out_ += ':';
            write_below_key(member.value, indent);
        }
    }

    void write_below_key(const Value& value, size_t indent) {
        if (value.is_object() && !value.empty()) {
            out_ += '\n';
            write_members(value.members(), indent + 2, false);
        } else if (value.is_array() && !value.empty()) {
            out_ += '\n';
            write_items(value.items(), indent, false);
        } else {
            out_ += ' ';
            write_scalar(value, indent + 2);
        }
    }

    void write_items(const Array& items, size_t indent, bool on_line) {
        for (const Value& item : items) {
            if (!on_line) pad(indent);
            on_line = false;
            out_ += "- ";
            if (item.is_object() && !item.empty()) {
                write_members(item.members(), indent + 2, true);
            } else if (item.is_array() && !item.empty()) {
                write_items(item.items(), indent + 2, true);
            } else {
                write_scalar(item, indent + 2);
            }
        }
    }

    std::string& out_;
};

}  // namespace

std::string to_yaml(const Value& value) {
    std::string out;
    Writer(out).write_document(value);
    return out;
}

std::string to_yaml_documents(const std::vector<Value>& documents) {
    std::string out;
    for (const Value& document : documents) {
        if (!out.empty()) out += "---\n";
        Writer(out).write_document(document);
    }
    return out;
}

}  // namespace basalt::data
