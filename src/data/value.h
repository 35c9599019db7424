// A JSON value, compact and cheap to share.
//
// Problem: a controller holds tens of thousands of API objects and builds thousands of small
// documents. A general DOM costs 5-10 times the bytes of the text and drags its headers into every
// file. Design: a Value is 16 bytes; strings of up to 14 bytes live inside it, longer ones are one
// heap block each, except that the longer field names and constants of the Kubernetes API are
// shared from a table in the program (well_known.h). Objects keep the order of their members and
// are searched linearly: API objects rarely have over 20 members at a level. (Maps of labels or
// ConfigMap data may be larger; lookups stay O(n), which nobody does in a loop.)
//
// Reading never fails: a missing member or a member of another type reads as null, so that
// `pod["spec"]["containers"]` needs no checks; typed accessors take a fallback. Writing through
// set()/at() creates what is missing. Input from outside is bounded by parse options (json.h).
//
// Not thread-safe; immutable documents are shared as std::shared_ptr<const Value>.
#pragma once

#include <concepts>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace basalt::data {

class Value;
struct Member;
struct NamedValue;
struct ListedValue;
using Array = std::vector<Value>;
using Members = std::vector<Member>;

/// kUint holds only what does not fit kInt. Those that may own memory come last.
enum class Type : uint8_t { kNull, kBool, kInt, kUint, kDouble, kString, kArray, kObject };

class Value {
 public:
    constexpr Value() noexcept : inline_{}, inline_size_(0), type_(Type::kNull) {}
    constexpr Value(std::nullptr_t) noexcept
        : Value() {}  // NOLINT: implicit by design, as are all below
    /// A template, so that pointers do not become true.
    template <std::same_as<bool> T>
    Value(T value) noexcept : Value() {  // NOLINT
        put(value);
        type_ = Type::kBool;
    }
    Value(int value) noexcept;                 // NOLINT
    Value(unsigned value) noexcept;            // NOLINT
    Value(long value) noexcept;                // NOLINT
    Value(long long value) noexcept;           // NOLINT
    Value(unsigned long value) noexcept;       // NOLINT
    Value(unsigned long long value) noexcept;  // NOLINT
    Value(double value) noexcept;              // NOLINT
    Value(std::string_view text);              // NOLINT
    Value(const std::string& text);            // NOLINT
    Value(const char* text);                   // NOLINT
    Value(Array items);                        // NOLINT
    Value(Members members);                    // NOLINT: later duplicates win
    Value(const Value& other);
    Value(Value&& other) noexcept {
        std::memcpy(static_cast<void*>(this), &other, sizeof *this);
        other.type_ = Type::kNull;
        other.inline_size_ = 0;
    }
    /// Either side may be part of the other's content on assignment from below: v = v["child"] is
    /// fine.
    Value& operator=(const Value& other);
    Value& operator=(Value&& other) noexcept;
    ~Value() {
        if (type_ >= Type::kString) clear();
    }

    /// An object from pairs: Value::object({{"name", "a"}, {"port", 6443}}). Later duplicates win.
    static Value object(std::initializer_list<NamedValue> members = {});
    static Value array(std::initializer_list<ListedValue> items = {});
    /// A string, shared without allocation if it is a well-known name (well_known.h); for keys.
    static Value shared_string(std::string_view text);
    static Value from(const std::map<std::string, std::string>& map);
    static Value from(const std::vector<std::string>& items);

    Type type() const noexcept { return type_; }
    bool is_null() const noexcept { return type_ == Type::kNull; }
    bool is_bool() const noexcept { return type_ == Type::kBool; }
    bool is_int() const noexcept { return type_ == Type::kInt || type_ == Type::kUint; }
    bool is_number() const noexcept { return is_int() || type_ == Type::kDouble; }
    bool is_string() const noexcept { return type_ == Type::kString; }
    bool is_array() const noexcept { return type_ == Type::kArray; }
    bool is_object() const noexcept { return type_ == Type::kObject; }
    /// Null, "", [], {}: what Go's omitempty would leave out, numbers and booleans apart.
    bool empty() const noexcept;

    /// The value if it has that type (doubles without fraction count as integers), else the
    /// fallback.
    bool as_bool(bool fallback = false) const noexcept;
    int64_t as_int(int64_t fallback = 0) const noexcept;
    uint64_t as_uint(uint64_t fallback = 0) const noexcept;
    double as_double(double fallback = 0) const noexcept;
    /// Valid as long as this Value is neither changed nor moved (short strings live inside it).
    std::string_view as_string(std::string_view fallback = {}) const noexcept;
    std::string str() const { return std::string(as_string()); }
    /// String members of an object as a map; members of other types are left out.
    std::map<std::string, std::string> as_string_map() const;
    /// String items of an array; items of other types are left out.
    std::vector<std::string> as_string_list() const;

    /// Member or item, or a null Value when there is none. Never creates.
    const Value& operator[](std::string_view key) const noexcept;
    const Value& operator[](const char* key) const noexcept {
        return (*this)[std::string_view(key)];
    }
    const Value& operator[](size_t index) const noexcept;
    const Value& operator[](int index) const noexcept {
        return (*this)[static_cast<size_t>(index)];
    }
    const Value* find(std::string_view key) const noexcept;
    Value* find(std::string_view key) noexcept;
    bool contains(std::string_view key) const noexcept { return find(key) != nullptr; }

    /// Member `key`, created as null when missing. A Value of another type becomes an object first.
    Value& at(std::string_view key);
    /// at(key) = value; returns *this for chaining.
    Value& set(std::string_view key, Value value);
    /// set(), unless `value` is empty() — what omitempty does.
    Value& set_unless_empty(std::string_view key, Value value);
    /// True when there was such a member.
    bool erase(std::string_view key);
    /// Appends; a Value of another type becomes an array first.
    void push_back(Value item);

    /// Items of an array, else nothing; members of an object, else nothing.
    const Array& items() const noexcept;
    Array& mutable_items();  ///< Becomes an array when it is none.
    const Members& members() const noexcept;
    Members& mutable_members();    ///< Becomes an object when it is none.
    size_t size() const noexcept;  ///< Items or members; 0 for all else.

    /// Deep equality. Objects compare without regard to order; 1 == 1u == 1.0, exactly (2^53 + 1 is
    /// not 2^53).
    friend bool operator==(const Value& a, const Value& b) noexcept;

    /// Bytes on the heap below this Value, allocator overhead apart. For budgets and benchmarks.
    size_t heap_size() const noexcept;
    /// Gives back the slack of growing containers, all the way down; for documents that will be
    /// kept.
    void shrink_to_fit();

 private:
    static constexpr size_t kInlineSize = 14;
    struct LongString {
        uint32_t size;
        char* bytes() { return reinterpret_cast<char*>(this + 1); }
        const char* bytes() const { return reinterpret_cast<const char*>(this + 1); }
    };
    static constexpr uint8_t kLong = 0xff;    ///< inline_size_ of a string on the heap.
    static constexpr uint8_t kShared = 0xfe;  ///< inline_size_ of a string in the well-known table.

    void clear() noexcept;
    void init_string(std::string_view text);

    template <class T>
    T get() const noexcept {
        T value;
        std::memcpy(&value, inline_, sizeof value);  // NOLINT: pointers too are kept as bytes
        return value;
    }
    template <class T>
    void put(T value) noexcept {
        std::memcpy(inline_, &value, sizeof value);  // NOLINT: pointers too are kept as bytes
    }

    // Inline text, or in the first 8 bytes a number or a pointer. Not a union: its alignment would
    // pad the 14 bytes to 16.
    alignas(8) char inline_[kInlineSize];
    uint8_t inline_size_;
    Type type_;
};

static_assert(sizeof(Value) == 16);

/// One member of an object. The key is a Value of type string, for its compactness.
struct Member {
    Value key_value;
    Value value;
    std::string_view key() const noexcept { return key_value.as_string(); }
};

/// An element of Value::object({...}); a type of its own so that the list can be moved from.
struct NamedValue {
    NamedValue(std::string_view name, Value content) : key(name), value(std::move(content)) {}
    std::string_view key;
    mutable Value value;
};

/// An element of Value::array({...}), for the same reason.
struct ListedValue {
    template <class T>
        requires std::convertible_to<T, Value>
    ListedValue(T&& content) : value(std::forward<T>(content)) {}  // NOLINT
    mutable Value value;
};

using SharedValue = std::shared_ptr<const Value>;

}  // namespace basalt::data
