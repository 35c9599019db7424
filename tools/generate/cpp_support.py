"""The C++ text that every generated types.cc begins with: reading and writing of members, whatever the type."""

SUPPORT = r'''
using data::Value;

// What is wrong with a value, and where. The path grows from the inside out while the readers return.
struct Failure {
    std::string path;
    std::string problem;
};

std::string_view type_of(const Value& value) {
    switch (value.type()) {
        case data::Type::kNull: return "null";
        case data::Type::kBool: return "a boolean";
        case data::Type::kInt:
        case data::Type::kUint:
        case data::Type::kDouble: return "a number";
        case data::Type::kString: return "a string";
        case data::Type::kArray: return "a list";
        case data::Type::kObject: return "an object";
    }
    return "something else";
}

bool fail(const Value& value, std::string_view expected, Failure& failure) {
    failure.problem = fmt::format("expected {}, got {}", expected, type_of(value));
    return false;
}

void put_in_front(std::string part, Failure& failure) {
    if (!failure.path.empty() && failure.path.front() != '[') {
        part += '.';
    }
    failure.path.insert(0, part);
}

template <class T>
Result<T> finish(bool ok, T&& value, const Failure& failure) {
    if (ok) {
        return std::forward<T>(value);
    }
    if (failure.path.empty()) {
        return invalid_argument(failure.problem);
    }
    return invalid_argument(fmt::format("{}: {}", failure.path, failure.problem));
}

bool read(const Value& in, Value& out, Failure&) {
    out = in;
    return true;
}

bool read(const Value& in, std::string& out, Failure& failure) {
    if (!in.is_string()) {
        return fail(in, "a string", failure);
    }
    out = in.str();
    return true;
}

bool read(const Value& in, bool& out, Failure& failure) {
    if (!in.is_bool()) {
        return fail(in, "a boolean", failure);
    }
    out = in.as_bool();
    return true;
}

bool read(const Value& in, int64_t& out, Failure& failure) {
    // The two fallbacks differ, so a value that is no integer, or too large for one, shows.
    if (!in.is_number() || in.as_int(0) != in.as_int(1)) {
        return fail(in, "an integer", failure);
    }
    out = in.as_int();
    return true;
}

[[maybe_unused]] bool read(const Value& in, int32_t& out, Failure& failure) {
    int64_t wide = 0;
    if (!read(in, wide, failure)) {
        return false;
    }
    if (wide < std::numeric_limits<int32_t>::min() || wide > std::numeric_limits<int32_t>::max()) {
        failure.problem = fmt::format("{} does not fit into 32 bits", wide);
        return false;
    }
    out = static_cast<int32_t>(wide);
    return true;
}

template <class T>
bool read(const Value& in, std::vector<T>& out, Failure& failure) {
    if (!in.is_array()) {
        return fail(in, "a list", failure);
    }
    out.clear();
    out.reserve(in.size());
    for (const Value& item : in.items()) {
        if (!read(item, out.emplace_back(), failure)) {
            put_in_front(fmt::format("[{}]", out.size() - 1), failure);
            return false;
        }
    }
    return true;
}

template <class T>
bool read(const Value& in, std::map<std::string, T>& out, Failure& failure) {
    if (!in.is_object()) {
        return fail(in, "an object", failure);
    }
    out.clear();
    for (const data::Member& member : in.members()) {
        if (!read(member.value, out[std::string(member.key())], failure)) {
            put_in_front(fmt::format("[\"{}\"]", member.key()), failure);
            return false;
        }
    }
    return true;
}

template <class T>
bool read(const Value& in, std::optional<T>& out, Failure& failure) {
    return read(in, out.emplace(), failure);
}

// A member that may be missing; null counts as missing, and `out` then keeps its default.
template <class T>
bool read_field(const Value& object, std::string_view name, T& out, Failure& failure) {
    const Value& member = object[name];
    if (member.is_null() || read(member, out, failure)) {
        return true;
    }
    put_in_front(std::string(name), failure);
    return false;
}

template <class T>
bool read_required(const Value& object, std::string_view name, T& out, Failure& failure) {
    if (!object[name].is_null()) {
        return read_field(object, name, out, failure);
    }
    failure.path = name;
    failure.problem = "is missing";
    return false;
}

bool read_object(const Value& in, Failure& failure) {
    return in.is_object() || fail(in, "an object", failure);
}

// Members that are not among `own`, for structs that carry the fields of another type beside their own.
[[maybe_unused]] void read_inlined(const Value& in, std::initializer_list<std::string_view> own, Value& out) {
    out = Value::object();
    for (const data::Member& member : in.members()) {
        if (std::find(own.begin(), own.end(), member.key()) == own.end()) {
            out.set(member.key(), member.value);
        }
    }
}

Value as_value(const Value& value) { return value; }
Value as_value(const std::string& value) { return Value(value); }
Value as_value(bool value) { return Value(value); }
[[maybe_unused]] Value as_value(int32_t value) { return Value(value); }
Value as_value(int64_t value) { return Value(value); }

template <class T>
Value as_value(const T& value)
    requires requires { value.to_value(); }
{
    return value.to_value();
}

template <class T>
Value as_value(const std::vector<T>& items) {
    Value result = Value::array();
    for (const T& item : items) {
        result.push_back(as_value(item));
    }
    return result;
}

template <class T>
Value as_value(const std::map<std::string, T>& items) {
    Value result = Value::object();
    for (const auto& [key, item] : items) {
        result.set(key, as_value(item));
    }
    return result;
}

template <class T>
void write_field(Value& object, std::string_view name, const T& value) {
    object.set(name, as_value(value));
}

// Leaves out what says nothing: an unset optional, null, an empty text, list, map or struct.
template <class T>
void write_if_set(Value& object, std::string_view name, const T& value) {
    Value member = as_value(value);
    if (!member.empty()) {
        object.set(name, std::move(member));
    }
}

[[maybe_unused]] void write_if_set(Value& object, std::string_view name, const Value& value) {
    if (!value.is_null()) {
        object.set(name, value);
    }
}

template <class T>
void write_if_set(Value& object, std::string_view name, const std::optional<T>& value) {
    if (value) {
        object.set(name, as_value(*value));
    }
}
'''
