// Task<T>: a coroutine that is awaited by exactly one other, on the same loop.
//
// Rules (gcc 12 miscompiles some other forms, and dangling captures compile silently):
//   - a Task is returned by a named function, never by a capturing lambda;
//   - parameters by value, or by reference to an object that outlives the TaskGroup the task runs
//   in;
//   - one co_await per statement, its result in a named local; none inside conditions or argument
//   lists;
//   - what can fail or be cancelled is Task<Result<T>>.
// A Task does nothing until it is awaited or spawned (task_group.h). Dropping one that was never
// started is fine; dropping one that is suspended is a bug that asserts.
//
// Starting a child that completes at once does not suspend the parent: loops over ready results use
// no stack.
#pragma once

#include <coroutine>
#include <exception>
#include <optional>
#include <type_traits>
#include <utility>

#include "async/scope.h"
#include "base/assert.h"
#include "base/result.h"

namespace basalt::async {

template <class T>
class Task;

namespace internal {

template <class T>
struct IsResult : std::false_type {};
template <class T>
struct IsResult<Result<T>> : std::true_type {};

class PromiseBase {
 public:
    Scope* scope() const { return scope_; }
    void set_scope(Scope* scope) { scope_ = scope; }

    std::suspend_always initial_suspend() noexcept { return {}; }

    struct FinalAwaiter {
        bool await_ready() const noexcept { return false; }
        template <class Promise>
        std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> self) noexcept {
            PromiseBase& promise = self.promise();
            if (promise.starting_) return std::noop_coroutine();
            return promise.continuation_ ? promise.continuation_ : std::noop_coroutine();
        }
        void await_resume() const noexcept {}
    };
    FinalAwaiter final_suspend() noexcept { return {}; }

    std::coroutine_handle<> continuation_;
    bool started_ = false;
    bool starting_ = false;  ///< Inside the first resume(): completion returns to the starter.

 private:
    Scope* scope_ = nullptr;
};

template <class T>
class Promise : public PromiseBase {
 public:
    Task<T> get_return_object();
    template <class U>
        requires std::is_convertible_v<U&&, T>
    void return_value(U&& value) {
        value_.emplace(std::forward<U>(value));
    }
    void unhandled_exception() {
        if constexpr (IsResult<T>::value) {
            BASALT_BUG("exception in a coroutine");
            value_.emplace(Error(Code::kInternal, "an unexpected exception ended the operation"));
        } else {
            std::terminate();
        }
    }
    T take() {
        BASALT_ASSERT(value_.has_value());
        return std::move(*value_);
    }

 private:
    std::optional<T> value_;
};

template <>
class Promise<void> : public PromiseBase {
 public:
    Task<void> get_return_object();
    void return_void() {}
    void unhandled_exception() { std::terminate(); }
    void take() {}
};

/// Starts a suspended coroutine; false when it ran to its end without suspending.
template <class P>
bool start(std::coroutine_handle<P> handle, Scope* scope, std::coroutine_handle<> continuation) {
    P& promise = handle.promise();
    BASALT_ASSERT(!promise.started_);
    promise.set_scope(scope);
    promise.continuation_ = continuation;
    promise.started_ = true;
    promise.starting_ = true;
    handle.resume();
    promise.starting_ = false;
    return !handle.done();
}

}  // namespace internal

template <class T = void>
class [[nodiscard]] Task {
 public:
    using promise_type = internal::Promise<T>;
    using value_type = T;
    using Handle = std::coroutine_handle<promise_type>;

    Task() = default;
    explicit Task(Handle handle) : handle_(handle) {}
    Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
    Task& operator=(Task&& other) noexcept {
        if (this != &other) {
            destroy();
            handle_ = std::exchange(other.handle_, {});
        }
        return *this;
    }
    ~Task() { destroy(); }

    bool valid() const { return static_cast<bool>(handle_); }
    Handle handle() const { return handle_; }

    struct Awaiter {
        Handle handle;
        bool await_ready() const noexcept { return false; }
        template <class P>
        bool await_suspend(std::coroutine_handle<P> parent) {
            return internal::start(handle, parent.promise().scope(), parent);
        }
        T await_resume() { return handle.promise().take(); }
    };
    Awaiter operator co_await() && { return Awaiter{handle_}; }
    Awaiter operator co_await() & { return Awaiter{handle_}; }

 private:
    void destroy() {
        if (!handle_) return;
        BASALT_ASSERT(!handle_.promise().started_ || handle_.done());
        handle_.destroy();
        handle_ = {};
    }
    Handle handle_;
};

namespace internal {

template <class T>
Task<T> Promise<T>::get_return_object() {
    return Task<T>(std::coroutine_handle<Promise<T>>::from_promise(*this));
}
inline Task<void> Promise<void>::get_return_object() {
    return Task<void>(std::coroutine_handle<Promise<void>>::from_promise(*this));
}

/// The first coroutine of a scope: destroys itself when done. Started by start_root().
struct Root {
    struct promise_type {
        Scope* scope_ = nullptr;
        Scope* scope() const { return scope_; }
        Root get_return_object() {
            return Root{std::coroutine_handle<promise_type>::from_promise(*this)};
        }
        std::suspend_always initial_suspend() noexcept { return {}; }
        std::suspend_never final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() { std::terminate(); }
    };
    std::coroutine_handle<promise_type> handle;
};

}  // namespace internal
}  // namespace basalt::async
