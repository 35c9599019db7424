// Cancellation of a logical thread of coroutines, and the leaf that every suspension is made of.
//
// A Scope belongs to one chain of coroutines that await each other: at any time at most one of
// them, the leaf, waits for the outside world. Scope::cancel() wakes exactly that leaf, which then
// returns an Error of code Cancelled (or DeadlineExceeded) up the chain. Afterwards every further
// wait in the scope fails at once, so that code unwinds without knowing about cancellation.
#pragma once

#include <coroutine>
#include <optional>

#include "async/loop.h"
#include "base/assert.h"
#include "base/error.h"

namespace basalt::async {

class Waiter;

class Scope {
 public:
    explicit Scope(Loop& loop) : loop_(&loop) {}
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope() { BASALT_ASSERT(waiter_ == nullptr); }

    Loop& loop() const { return *loop_; }
    bool cancelled() const { return reason_.has_value(); }
    /// Why; Cancelled unless a deadline did it. Call only when cancelled().
    const Error& reason() const { return *reason_; }
    /// Wakes the leaf. The first reason stays.
    void cancel(Error reason = basalt::cancelled());

 private:
    friend class Waiter;
    Loop* loop_;
    Waiter* waiter_ = nullptr;
    std::optional<Error> reason_;
};

/// Base of every awaitable that waits for something other than a Task. Lives in the waiting
/// coroutine's frame. A subclass arms its source in arm() and, when that source is ready, calls
/// wake().
class Waiter {
 public:
    Waiter(const Waiter&) = delete;
    Waiter& operator=(const Waiter&) = delete;

    bool await_ready() const noexcept { return false; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> handle) {
        return begin(handle, *handle.promise().scope());
    }

 protected:
    Waiter() = default;
    virtual ~Waiter() { BASALT_ASSERT(!armed_); }

    /// Starts waiting; returns false when the result is there already. Runs with the scope known.
    virtual bool arm() = 0;
    /// The scope was cancelled: forget the source and call wake(), now or, when the source insists
    /// on completing (a socket operation), later from its completion.
    virtual void on_cancel() = 0;
    /// True for a wait that only its source can end (a worker thread, a group's tasks): it suspends
    /// even in a cancelled scope, with on_cancel() called right after arm().
    virtual bool must_complete() const { return false; }

    /// Resumes the coroutine soon, through the loop. Once per arm().
    void wake();
    bool armed() const { return armed_; }
    Loop& loop() const { return scope_->loop(); }
    /// Set when the wait ended by cancellation rather than by its source.
    const std::optional<Error>& cancel_reason() const { return cancel_reason_; }

 private:
    friend class Scope;
    bool begin(std::coroutine_handle<> handle, Scope& scope);

    std::coroutine_handle<> handle_;
    Scope* scope_ = nullptr;
    bool armed_ = false;
    std::optional<Error> cancel_reason_;
};

}  // namespace basalt::async
