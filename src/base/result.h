// Result<T>: a value or an Error. No exceptions cross a module's edge; see error.h for the codes.
//
//     Result<Port> parse_port(std::string_view text);
//
//     BASALT_ASSIGN(Port port, parse_port(text));            // returns the error to the caller
//     BASALT_TRY(listen(port));                              // for Result<void>
//     BASALT_CO_ASSIGN(auto pod, co_await client.get(key));  // the same inside a coroutine
//
// The macros expand to several statements: not for use as the body of an `if` without braces.
#pragma once

#include <optional>
#include <utility>
#include <variant>

#include "base/assert.h"
#include "base/error.h"

namespace basalt {

template <class T>
class [[nodiscard]] Result {
 public:
    using value_type = T;
    Result(T value)
        : state_(std::in_place_index<0>, std::move(value)) {}  // NOLINT: implicit by design
    Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT
    template <class U>
        requires(std::is_convertible_v<U &&, T> && !std::is_same_v<std::decay_t<U>, Error> &&
                 !std::is_same_v<std::decay_t<U>, Result> && !std::is_same_v<std::decay_t<U>, T>)
    Result(U&& value)  // NOLINT
        : state_(std::in_place_index<0>, static_cast<T>(std::forward<U>(value))) {}

    bool ok() const { return state_.index() == 0; }
    explicit operator bool() const { return ok(); }

    T& value() & {
        BASALT_ASSERT(ok());
        return *std::get_if<0>(&state_);
    }
    const T& value() const& {
        BASALT_ASSERT(ok());
        return *std::get_if<0>(&state_);
    }
    T&& value() && {
        BASALT_ASSERT(ok());
        return std::move(*std::get_if<0>(&state_));
    }
    T& operator*() & { return value(); }
    const T& operator*() const& { return value(); }
    T&& operator*() && { return std::move(*this).value(); }
    T* operator->() { return &value(); }
    const T* operator->() const { return &value(); }

    const Error& error() const& {
        BASALT_ASSERT(!ok());
        return *std::get_if<1>(&state_);
    }
    Error&& error() && {
        BASALT_ASSERT(!ok());
        return std::move(*std::get_if<1>(&state_));
    }

    T value_or(T fallback) && { return ok() ? std::move(*this).value() : std::move(fallback); }

    /// Adds context to the error, if there is one.
    Result&& context(std::string_view text) && {
        if (!ok()) std::get_if<1>(&state_)->add_context(text);
        return std::move(*this);
    }

 private:
    std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
    using value_type = void;
    Result() = default;
    Result(Error error) : error_(std::move(error)) {}  // NOLINT

    bool ok() const { return !error_.has_value(); }
    explicit operator bool() const { return ok(); }
    void value() const { BASALT_ASSERT(ok()); }
    void operator*() const { value(); }
    const Error& error() const& {
        BASALT_ASSERT(!ok());
        return *error_;
    }
    Error&& error() && {
        BASALT_ASSERT(!ok());
        return std::move(*error_);
    }
    Result&& context(std::string_view text) && {
        if (error_) error_->add_context(text);
        return std::move(*this);
    }

 private:
    std::optional<Error> error_;
};

}  // namespace basalt

#define BASALT_CONCAT_INNER(a, b) a##b
#define BASALT_CONCAT(a, b) BASALT_CONCAT_INNER(a, b)

#define BASALT_TRY_IMPL(result, expr, ret) \
    auto result = (expr);                  \
    if (!result.ok()) [[unlikely]] {       \
        ret std::move(result).error();     \
    }
#define BASALT_ASSIGN_IMPL(result, decl, expr, ret) \
    auto result = (expr);                           \
    if (!result.ok()) [[unlikely]] {                \
        ret std::move(result).error();              \
    }                                               \
    decl = std::move(result).value()

#define BASALT_TRY(...) BASALT_TRY_IMPL(BASALT_CONCAT(try_, __COUNTER__), (__VA_ARGS__), return)
#define BASALT_ASSIGN(decl, ...) \
    BASALT_ASSIGN_IMPL(BASALT_CONCAT(assign_, __COUNTER__), decl, (__VA_ARGS__), return)
#define BASALT_CO_ASSIGN(decl, ...) \
    BASALT_ASSIGN_IMPL(BASALT_CONCAT(assign_, __COUNTER__), decl, (__VA_ARGS__), co_return)
