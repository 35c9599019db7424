// JSON text to and from Value (RFC 8259), and the splitting of watch streams into documents.
//
// Parsing builds the Value directly from the parser's events, without a DOM in between. Strict:
// UTF-8 is checked, no comments, no trailing commas, no NaN, nothing but space after the document.
// The last of duplicate members wins (as in Go). Integers keep all 64 bits, signed or unsigned;
// larger ones become doubles. Pure functions, any thread.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "base/limits.h"
#include "base/result.h"
#include "data/value.h"

namespace basalt::data {

struct ParseOptions {
    size_t max_depth = limits::kMaxDocumentDepth;
    size_t max_size = limits::kMaxDocumentSize;  ///< Bytes of text.
};

/// Errors: InvalidArgument with line and column of the fault; ResourceExhausted above a limit.
Result<Value> parse_json(std::string_view text, const ParseOptions& options = {});

/// Compact, members in their order. Doubles print as the shortest text that reads back the same,
/// without exponent from 1e-6 up to 1e21 (as Go does); NaN and infinities, which JSON lacks, as
/// null. Strings that are not UTF-8 get U+FFFD for each bad byte, so the output is always valid.
std::string to_json(const Value& value);
/// Indented, ends without a newline; empty containers stay on one line.
std::string to_pretty_json(const Value& value, int indent = 2);
/// Compact with members sorted by bytes of the key, all the way down: equal documents give equal
/// text. Whole doubles print as integers, so 1 and 1.0 agree too.
std::string to_canonical_json(const Value& value);
/// Appends to `out` instead of returning a string.
void append_json(std::string& out, const Value& value);
/// Appends a quoted and escaped JSON string.
void append_json_string(std::string& out, std::string_view text);

/// Cuts a stream of bytes into top-level JSON objects or arrays, separated by white space or
/// nothing: the answer to a Kubernetes watch. Each byte is looked at once, whatever the sizes of
/// the chunks.
///
///     splitter.feed(chunk);
///     for (;;) {
///         BASALT_ASSIGN(std::optional<std::string_view> text, splitter.next());
///         if (!text) break;
///         ...
///     }
///
/// It finds ends, it does not validate: parse what it yields. After an error it stays in error.
class JsonLineSplitter {
 public:
    static constexpr size_t kDefaultMaxDocumentSize = limits::kMaxDocumentSize;

    explicit JsonLineSplitter(size_t max_document_size = kDefaultMaxDocumentSize)
        : max_document_size_(max_document_size) {}

    /// Adds bytes. Call next() until it yields nothing
    /// between feeds, else documents pile up here.
    void feed(std::string_view chunk);
    /// The next whole document, or nothing when more bytes are needed. The view is valid until the
    /// next call of either. Errors: InvalidArgument for bytes that start no object or array;
    /// ResourceExhausted above the limit.
    Result<std::optional<std::string_view>> next();
    /// next() and parse_json().
    Result<std::optional<Value>> next_value();

    /// True when nothing but white space is left over: at the end of the stream, false means
    /// truncation.
    bool idle() const noexcept { return depth_ == 0 && !failed_ && rest_is_space(); }
    /// Bytes held.
    size_t buffered() const noexcept { return buffer_.size() - start_; }

 private:
    bool rest_is_space() const noexcept;
    Error fail(Code code, std::string message);

    size_t max_document_size_;
    std::string buffer_;
    size_t start_ = 0;  ///< First byte not yet given out.
    size_t scan_ = 0;   ///< First byte not yet looked at.
    size_t depth_ = 0;
    bool in_string_ = false;
    bool escaped_ = false;
    std::optional<Error> failed_;
};

}  // namespace basalt::data
