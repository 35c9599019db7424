#include "data/value.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "base/assert.h"
#include "data/well_known.h"

namespace basalt::data {
namespace {

// Constant-initialised, so that static objects of other files may use them; the Value is never
// destroyed to any effect.
constinit const Value kNullValue;
constinit const Array kNoItems;
constinit const Members kNoMembers;

/// Objects of up to this many members are compared and checked for duplicates pair by pair, larger
/// ones by sorting.
constexpr size_t kSmallObject = 16;

std::vector<uint32_t> sorted_by_key(const Members& members) {
    std::vector<uint32_t> order(members.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<uint32_t>(i);
    std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
        const int compared = members[a].key().compare(members[b].key());
        return compared != 0 ? compared < 0 : a < b;
    });
    return order;
}

bool has_duplicates(const Members& members) {
    if (members.size() <= kSmallObject) {
        for (size_t i = 1; i < members.size(); ++i) {
            for (size_t j = 0; j < i; ++j) {
                if (members[i].key() == members[j].key()) return true;
            }
        }
        return false;
    }
    const std::vector<uint32_t> order = sorted_by_key(members);
    for (size_t i = 1; i < order.size(); ++i) {
        if (members[order[i - 1]].key() == members[order[i]].key()) return true;
    }
    return false;
}

/// The last value of each key, at the place of its first.
Members without_duplicates(Members members) {
    const std::vector<uint32_t> order = sorted_by_key(members);
    std::vector<bool> dropped(members.size());
    for (size_t i = 0; i < order.size();) {
        size_t end = i + 1;
        while (end < order.size() && members[order[end]].key() == members[order[i]].key()) {
            dropped[order[end++]] = true;
        }
        if (end > i + 1) members[order[i]].value = std::move(members[order[end - 1]].value);
        i = end;
    }
    Members kept;
    for (size_t i = 0; i < members.size(); ++i) {
        if (!dropped[i]) kept.push_back(std::move(members[i]));
    }
    return kept;
}

/// Compares a double with an integer without rounding the integer.
bool equal_exactly(double a, uint64_t magnitude, bool negative) {
    if (std::floor(a) != a || std::abs(a) >= 18446744073709551616.0 || (a < 0) != negative)
        return false;
    return static_cast<uint64_t>(std::abs(a)) == magnitude;
}

bool equal_members(const Members& a, const Members& b) noexcept {
    if (a.size() != b.size()) return false;
    // Documents of one origin have one order: try the same place first.
    size_t i = 0;
    while (i < a.size() && a[i].key() == b[i].key()) {
        if (!(a[i].value == b[i].value)) return false;
        ++i;
    }
    if (i == a.size()) return true;
    if (a.size() > kSmallObject) {
        const std::vector<uint32_t> order_a = sorted_by_key(a);
        const std::vector<uint32_t> order_b = sorted_by_key(b);
        for (size_t j = 0; j < a.size(); ++j) {
            const Member& left = a[order_a[j]];
            const Member& right = b[order_b[j]];
            if (left.key() != right.key() || !(left.value == right.value)) return false;
        }
        return true;
    }
    for (; i < a.size(); ++i) {
        const Value* other = nullptr;
        for (const Member& member : b) {
            if (member.key() == a[i].key()) other = &member.value;
        }
        if (other == nullptr || !(a[i].value == *other)) return false;
    }
    return true;
}

}  // namespace

Value::Value(long value) noexcept : inline_{}, inline_size_(0), type_(Type::kInt) { put(value); }
Value::Value(int value) noexcept : Value(static_cast<long>(value)) {}
Value::Value(unsigned value) noexcept : Value(static_cast<long>(value)) {}
Value::Value(long long value) noexcept : Value(static_cast<long>(value)) {}
Value::Value(unsigned long value) noexcept : inline_{}, inline_size_(0), type_(Type::kUint) {
    put(value);
    if (value <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) type_ = Type::kInt;
}
Value::Value(unsigned long long value) noexcept : Value(static_cast<unsigned long>(value)) {}
Value::Value(double value) noexcept : inline_{}, inline_size_(0), type_(Type::kDouble) {
    put(value);
}
Value::Value(std::string_view text) : Value() { init_string(text); }
Value::Value(const std::string& text) : Value(std::string_view(text)) {}
Value::Value(const char* text) : Value(std::string_view(text)) {}
Value::Value(Array items) : Value() {
    put(new Array(std::move(items)));
    type_ = Type::kArray;
}
Value::Value(Members members) : Value() {
    const bool duplicates = has_duplicates(members);
    put(duplicates ? new Members(without_duplicates(std::move(members)))
                   : new Members(std::move(members)));
    type_ = Type::kObject;
}

void Value::init_string(std::string_view text) {
    if (text.size() <= kInlineSize) {
        if (!text.empty()) std::memcpy(inline_, text.data(), text.size());
        inline_size_ = static_cast<uint8_t>(text.size());
    } else {
        BASALT_ASSERT(text.size() <= std::numeric_limits<uint32_t>::max());
        auto* block = static_cast<LongString*>(std::malloc(sizeof(LongString) + text.size()));
        BASALT_ASSERT(block != nullptr);
        block->size = static_cast<uint32_t>(text.size());
        std::memcpy(block->bytes(), text.data(), text.size());
        put(block);
        inline_size_ = kLong;
    }
    type_ = Type::kString;
}

Value::Value(const Value& other) : Value() {
    switch (other.type_) {
        case Type::kString:
            if (other.inline_size_ == kLong) {
                init_string(other.as_string());
                return;
            }
            std::memcpy(inline_, other.inline_, sizeof inline_);
            break;
        case Type::kArray: put(new Array(*other.get<Array*>())); break;
        case Type::kObject: put(new Members(*other.get<Members*>())); break;
        default: std::memcpy(inline_, other.inline_, sizeof inline_); break;
    }
    inline_size_ = other.inline_size_;
    type_ = other.type_;
}

Value& Value::operator=(const Value& other) {
    if (this != &other) {
        Value copy(other);
        *this = std::move(copy);
    }
    return *this;
}

Value& Value::operator=(Value&& other) noexcept {
    if (this == &other) return *this;
    // `other` may live below this Value: take it out before what holds it goes.
    Value taken(std::move(other));
    std::swap(inline_, taken.inline_);
    std::swap(inline_size_, taken.inline_size_);
    std::swap(type_, taken.type_);
    return *this;
}

void Value::clear() noexcept {
    switch (type_) {
        case Type::kString:
            if (inline_size_ == kLong) std::free(get<LongString*>());
            break;
        case Type::kArray: delete get<Array*>(); break;
        case Type::kObject: delete get<Members*>(); break;
        default: break;
    }
    type_ = Type::kNull;
    inline_size_ = 0;
}

Value Value::object(std::initializer_list<NamedValue> members) {
    Value value{Members{}};
    value.get<Members*>()->reserve(members.size());
    for (const NamedValue& member : members) value.set(member.key, std::move(member.value));
    return value;
}

Value Value::array(std::initializer_list<ListedValue> items) {
    Value value{Array{}};
    value.get<Array*>()->reserve(items.size());
    for (const ListedValue& item : items) value.get<Array*>()->push_back(std::move(item.value));
    return value;
}

Value Value::shared_string(std::string_view text) {
    if (text.size() > kInlineSize) {
        if (const std::string_view* known = find_well_known(text)) {
            Value value;
            value.put(known);
            value.inline_size_ = kShared;
            value.type_ = Type::kString;
            return value;
        }
    }
    return Value(text);
}

Value Value::from(const std::map<std::string, std::string>& map) {
    Value value{Members{}};
    for (const auto& [key, text] : map) {
        value.get<Members*>()->push_back(Member{shared_string(key), Value(text)});
    }
    return value;
}

Value Value::from(const std::vector<std::string>& items) {
    Value value{Array{}};
    for (const std::string& item : items) value.get<Array*>()->emplace_back(item);
    return value;
}

bool Value::empty() const noexcept {
    switch (type_) {
        case Type::kNull: return true;
        case Type::kString: return inline_size_ == 0;
        case Type::kArray: return get<Array*>()->empty();
        case Type::kObject: return get<Members*>()->empty();
        default: return false;
    }
}

bool Value::as_bool(bool fallback) const noexcept {
    return type_ == Type::kBool ? get<bool>() : fallback;
}

int64_t Value::as_int(int64_t fallback) const noexcept {
    if (type_ == Type::kInt) return get<int64_t>();
    if (type_ != Type::kDouble) return fallback;
    const double number = get<double>();
    const bool fits = std::floor(number) == number && number >= -0x1p63 && number < 0x1p63;
    return fits ? static_cast<int64_t>(number) : fallback;
}

uint64_t Value::as_uint(uint64_t fallback) const noexcept {
    if (type_ == Type::kUint) return get<uint64_t>();
    if (type_ == Type::kInt && get<int64_t>() >= 0) return static_cast<uint64_t>(get<int64_t>());
    if (type_ != Type::kDouble) return fallback;
    const double number = get<double>();
    const bool fits = std::floor(number) == number && number >= 0 && number < 0x1p64;
    return fits ? static_cast<uint64_t>(number) : fallback;
}

double Value::as_double(double fallback) const noexcept {
    switch (type_) {
        case Type::kInt: return static_cast<double>(get<int64_t>());
        case Type::kUint: return static_cast<double>(get<uint64_t>());
        case Type::kDouble: return get<double>();
        default: return fallback;
    }
}

std::string_view Value::as_string(std::string_view fallback) const noexcept {
    if (type_ != Type::kString) return fallback;
    if (inline_size_ == kLong) return {get<LongString*>()->bytes(), get<LongString*>()->size};
    if (inline_size_ == kShared) return *get<const std::string_view*>();
    return {inline_, inline_size_};
}

std::map<std::string, std::string> Value::as_string_map() const {
    std::map<std::string, std::string> map;
    for (const Member& member : members()) {
        if (member.value.is_string()) map.emplace(member.key(), member.value.as_string());
    }
    return map;
}

std::vector<std::string> Value::as_string_list() const {
    std::vector<std::string> list;
    for (const Value& item : items()) {
        if (item.is_string()) list.emplace_back(item.as_string());
    }
    return list;
}

const Value* Value::find(std::string_view key) const noexcept {
    if (type_ != Type::kObject) return nullptr;
    for (const Member& member : *get<Members*>()) {
        if (member.key() == key) return &member.value;
    }
    return nullptr;
}

Value* Value::find(std::string_view key) noexcept {
    return const_cast<Value*>(std::as_const(*this).find(key));
}

const Value& Value::operator[](std::string_view key) const noexcept {
    const Value* value = find(key);
    return value != nullptr ? *value : kNullValue;
}

const Value& Value::operator[](size_t index) const noexcept {
    if (type_ != Type::kArray || index >= get<Array*>()->size()) return kNullValue;
    return (*get<Array*>())[index];
}

Value& Value::at(std::string_view key) {
    if (Value* value = find(key)) return *value;
    Value key_value =
        shared_string(key);  // before anything changes: `key` may point into this Value
    Members& members = mutable_members();
    members.push_back(Member{std::move(key_value), Value()});
    return members.back().value;
}

Value& Value::set(std::string_view key, Value value) {
    at(key) = std::move(value);
    return *this;
}

Value& Value::set_unless_empty(std::string_view key, Value value) {
    if (!value.empty()) set(key, std::move(value));
    return *this;
}

bool Value::erase(std::string_view key) {
    if (type_ != Type::kObject) return false;
    for (auto it = get<Members*>()->begin(); it != get<Members*>()->end(); ++it) {
        if (it->key() == key) {
            get<Members*>()->erase(it);
            return true;
        }
    }
    return false;
}

void Value::push_back(Value item) { mutable_items().push_back(std::move(item)); }

const Array& Value::items() const noexcept {
    return type_ == Type::kArray ? *get<Array*>() : kNoItems;
}

Array& Value::mutable_items() {
    if (type_ != Type::kArray) *this = Value(Array{});
    return *get<Array*>();
}

const Members& Value::members() const noexcept {
    return type_ == Type::kObject ? *get<Members*>() : kNoMembers;
}

Members& Value::mutable_members() {
    if (type_ != Type::kObject) *this = Value(Members{});
    return *get<Members*>();
}

size_t Value::size() const noexcept {
    if (type_ == Type::kArray) return get<Array*>()->size();
    if (type_ == Type::kObject) return get<Members*>()->size();
    return 0;
}

bool operator==(const Value& a, const Value& b) noexcept {
    if (a.type_ != b.type_) {
        // kInt and kUint never overlap, so only doubles can equal a number of another type.
        if (!a.is_number() || !b.is_number()) return false;
        if (a.type_ != Type::kDouble && b.type_ != Type::kDouble) return false;
        const Value& real = a.type_ == Type::kDouble ? a : b;
        const Value& whole = a.type_ == Type::kDouble ? b : a;
        const bool negative = whole.type_ == Type::kInt && whole.get<int64_t>() < 0;
        const auto bits = whole.get<uint64_t>();
        return equal_exactly(real.get<double>(), negative ? uint64_t{0} - bits : bits, negative);
    }
    switch (a.type_) {
        case Type::kNull: return true;
        case Type::kBool: return a.get<bool>() == b.get<bool>();
        case Type::kInt:
        case Type::kUint: return a.get<uint64_t>() == b.get<uint64_t>();
        case Type::kDouble: return a.get<double>() == b.get<double>();
        case Type::kString: return a.as_string() == b.as_string();
        case Type::kArray: return *a.get<Array*>() == *b.get<Array*>();
        case Type::kObject: return equal_members(*a.get<Members*>(), *b.get<Members*>());
    }
    return false;
}

size_t Value::heap_size() const noexcept {
    size_t size = 0;
    if (type_ == Type::kString && inline_size_ == kLong)
        size = sizeof(LongString) + get<LongString*>()->size;
    if (type_ == Type::kArray) {
        size = sizeof(Array) + get<Array*>()->capacity() * sizeof(Value);
        for (const Value& item : *get<Array*>()) size += item.heap_size();
    }
    if (type_ == Type::kObject) {
        size = sizeof(Members) + get<Members*>()->capacity() * sizeof(Member);
        for (const Member& member : *get<Members*>()) {
            size += member.key_value.heap_size() + member.value.heap_size();
        }
    }
    return size;
}

void Value::shrink_to_fit() {
    if (type_ == Type::kArray) {
        get<Array*>()->shrink_to_fit();
        for (Value& item : *get<Array*>()) item.shrink_to_fit();
    } else if (type_ == Type::kObject) {
        get<Members*>()->shrink_to_fit();
        for (Member& member : *get<Members*>()) member.value.shrink_to_fit();
    }
}

}  // namespace basalt::data
