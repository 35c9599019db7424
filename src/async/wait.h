// What coroutines wait for: time, signals, values, worker threads, callbacks of foreign code.
//
// All of it belongs to one loop. A wait that its scope's cancellation ended returns that Error.
#pragma once

#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <utility>

#include "async/task.h"

namespace basalt::async {

/// Ends at `when`; at once when it is past.
Task<Result<void>> sleep_until(Loop& loop, TimePoint when);
Task<Result<void>> sleep_for(Loop& loop, Duration duration);
/// Lets everything that is ready now run first.
Task<Result<void>> yield(Loop& loop);

/// A list of waiting coroutines. wait() may be called by many; each notify wakes those that wait at
/// that moment. Spurious wake-ups do not happen, but the condition may have changed again: loop
/// over it.
class Condition {
 public:
    Condition() = default;
    Condition(const Condition&) = delete;
    Condition& operator=(const Condition&) = delete;
    ~Condition() { BASALT_ASSERT(waiters_.empty()); }

    void notify_one();
    void notify_all();
    Task<Result<void>> wait();
    size_t waiting_count() const { return waiters_.size(); }

 private:
    class ConditionWaiter;
    std::list<ConditionWaiter*> waiters_;
};

/// Bounded queue between coroutines of one loop.
template <class T>
class Channel {
 public:
    explicit Channel(size_t capacity) : capacity_(capacity) {}

    /// Waits while full. FailedPrecondition once closed.
    Task<Result<void>> send(T item) {
        while (!closed_ && items_.size() >= capacity_) {
            Result<void> waited = co_await writable_.wait();
            if (!waited.ok()) co_return std::move(waited);
        }
        if (closed_) co_return failed_precondition("channel is closed");
        items_.push_back(std::move(item));
        readable_.notify_one();
        co_return Result<void>();
    }
    /// False when full or closed.
    bool try_send(T item) {
        if (closed_ || items_.size() >= capacity_) return false;
        items_.push_back(std::move(item));
        readable_.notify_one();
        return true;
    }
    /// The next item; nullopt once closed and empty.
    Task<Result<std::optional<T>>> receive() {
        while (items_.empty() && !closed_) {
            Result<void> waited = co_await readable_.wait();
            if (!waited.ok()) co_return std::move(waited).error();
        }
        if (items_.empty()) co_return std::optional<T>();
        std::optional<T> item(std::move(items_.front()));
        items_.pop_front();
        writable_.notify_one();
        co_return std::move(item);
    }
    void close() {
        closed_ = true;
        readable_.notify_all();
        writable_.notify_all();
    }
    bool closed() const { return closed_; }
    size_t size() const { return items_.size(); }

 private:
    size_t capacity_;
    bool closed_ = false;
    std::deque<T> items_;
    Condition readable_;
    Condition writable_;
};

/// A value that is set once, by anyone on the loop, and awaited by any number.
template <class T>
class OneShot {
 public:
    /// The first call wins.
    void set(T value) {
        if (value_) return;
        value_.emplace(std::move(value));
        ready_.notify_all();
    }
    /// A copy of the value.
    Task<Result<T>> wait() {
        while (!value_) {
            Result<void> waited = co_await ready_.wait();
            if (!waited.ok()) co_return std::move(waited).error();
        }
        co_return *value_;
    }

 private:
    std::optional<T> value_;
    Condition ready_;
};

/// Limits how many coroutines are in a section; release() for each acquire() that succeeded.
class Semaphore {
 public:
    explicit Semaphore(size_t count) : free_count_(count) {}
    Task<Result<void>> acquire();
    void release();

 private:
    size_t free_count_;
    Condition freed_;
};

/// Bridges one operation of a callback interface (an Asio socket) to co_await.
///     Result<size_t> n = co_await Operation<size_t>(start, cancel);
/// `start` begins the operation and must make sure that the completion it is given is called
/// exactly once, on the loop, and not before start returns. `cancel` asks the source to complete
/// early.
template <class T>
class Operation : public Waiter {
 public:
    using Completion = std::function<void(Result<T>)>;
    Operation(std::function<void(Completion)> start, std::function<void()> cancel)
        : start_(std::move(start)), cancel_(std::move(cancel)) {}

    Result<T> await_resume() {
        if (result_ && result_->ok()) return std::move(*result_);
        if (cancel_reason()) return *cancel_reason();
        return std::move(*result_);
    }

 protected:
    bool arm() override {
        start_([this](Result<T> result) {
            result_.emplace(std::move(result));
            wake();
        });
        return true;
    }
    void on_cancel() override { cancel_(); }

 private:
    std::function<void(Completion)> start_;
    std::function<void()> cancel_;
    std::optional<Result<T>> result_;
};

namespace internal {
class OffloadWaiter : public Waiter {
 public:
    explicit OffloadWaiter(Callback work) : work_(std::move(work)) {}
    void await_resume() const noexcept {}

 protected:
    bool arm() override;
    void on_cancel() override {}  // The worker cannot be interrupted: the wait ends with it.
    bool must_complete() const override { return true; }

 private:
    Callback work_;
};

template <class T>
Task<void> run_in_scope(Task<Result<T>> task, std::optional<Result<T>>* slot) {
    Result<T> result = co_await task;
    slot->emplace(std::move(result));
}
}  // namespace internal

/// Runs a plain function on a worker thread. Completes even when the scope is cancelled meanwhile.
template <class T>
Task<T> offload(Loop&, std::function<T()> work) {
    std::optional<T> slot;
    internal::OffloadWaiter waiter([&slot, &work] { slot.emplace(work()); });
    co_await waiter;
    co_return std::move(*slot);
}

namespace internal {
/// Runs `task` in a scope of its own, below the scope of the waiting coroutine.
class ChildScope : public Waiter {
 public:
    ChildScope(Loop& loop, Task<void> task, std::optional<TimePoint> deadline, bool shielded)
        : scope_(loop), task_(std::move(task)), deadline_(deadline), shielded_(shielded) {}
    void await_resume() const noexcept {}
    const Scope& scope() const { return scope_; }

 protected:
    bool arm() override;
    void on_cancel() override;
    bool must_complete() const override { return true; }

 private:
    static Root run(ChildScope& self);
    Scope scope_;
    Task<void> task_;
    std::optional<TimePoint> deadline_;
    bool shielded_;
    Loop::TimerId timer_ = 0;
};
}  // namespace internal

/// Cancels `task` at `deadline`; it then has to unwind before this returns DeadlineExceeded.
template <class T>
Task<Result<T>> with_deadline(Loop& loop, TimePoint deadline, Task<Result<T>> task) {
    std::optional<Result<T>> slot;
    internal::ChildScope child(loop, internal::run_in_scope(std::move(task), &slot), deadline,
                               false);
    co_await child;
    if (slot->ok() || slot->error().code() != Code::kCancelled || !child.scope().cancelled()) {
        co_return std::move(*slot);
    }
    co_return child.scope().reason();
}
template <class T>
Task<Result<T>> with_timeout(Loop& loop, Duration timeout, Task<Result<T>> task) {
    return with_deadline(loop, loop.now() + timeout, std::move(task));
}

/// Runs `task` to its end whatever happens to the caller's scope: for clean-up that must not be
/// torn.
template <class T>
Task<Result<T>> shielded(Loop& loop, Task<Result<T>> task) {
    std::optional<Result<T>> slot;
    internal::ChildScope child(loop, internal::run_in_scope(std::move(task), &slot), {}, true);
    co_await child;
    co_return std::move(*slot);
}

}  // namespace basalt::async
