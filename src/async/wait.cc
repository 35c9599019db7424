#include "async/wait.h"

namespace basalt::async {
namespace {

class TimerWaiter : public Waiter {
 public:
    explicit TimerWaiter(TimePoint when) : when_(when) {}
    Result<void> await_resume() {
        if (cancel_reason()) return *cancel_reason();
        return {};
    }

 protected:
    bool arm() override {
        timer_ = loop().call_at(when_, [this] { wake(); });
        return true;
    }
    void on_cancel() override {
        loop().cancel_timer(timer_);
        wake();
    }

 private:
    TimePoint when_;
    Loop::TimerId timer_ = 0;
};

class YieldWaiter : public Waiter {
 public:
    Result<void> await_resume() {
        if (cancel_reason()) return *cancel_reason();
        return {};
    }

 protected:
    bool arm() override {
        wake();
        return true;
    }
    void on_cancel() override {}
};

}  // namespace

Task<Result<void>> sleep_until(Loop& loop, TimePoint when) {
    if (when <= loop.now()) co_return Result<void>();
    TimerWaiter waiter(when);
    Result<void> result = co_await waiter;
    co_return std::move(result);
}

Task<Result<void>> sleep_for(Loop& loop, Duration duration) {
    return sleep_until(loop, loop.now() + duration);
}

Task<Result<void>> yield(Loop&) {
    YieldWaiter waiter;
    Result<void> result = co_await waiter;
    co_return std::move(result);
}

class Condition::ConditionWaiter : public Waiter {
 public:
    explicit ConditionWaiter(Condition& condition) : condition_(condition) {}
    Result<void> await_resume() {
        if (cancel_reason()) return *cancel_reason();
        return {};
    }
    void notify() { wake(); }

 protected:
    bool arm() override {
        position_ = condition_.waiters_.insert(condition_.waiters_.end(), this);
        return true;
    }
    void on_cancel() override {
        condition_.waiters_.erase(position_);
        wake();
    }

 private:
    Condition& condition_;
    std::list<ConditionWaiter*>::iterator position_;
};

void Condition::notify_one() {
    if (waiters_.empty()) return;
    ConditionWaiter* waiter = waiters_.front();
    waiters_.pop_front();
    waiter->notify();
}

void Condition::notify_all() {
    while (!waiters_.empty()) notify_one();
}

Task<Result<void>> Condition::wait() {
    ConditionWaiter waiter(*this);
    Result<void> result = co_await waiter;
    co_return std::move(result);
}

Task<Result<void>> Semaphore::acquire() {
    while (free_count_ == 0) {
        Result<void> waited = co_await freed_.wait();
        if (!waited.ok()) co_return std::move(waited);
    }
    --free_count_;
    co_return Result<void>();
}

void Semaphore::release() {
    ++free_count_;
    freed_.notify_one();
}

namespace internal {

bool OffloadWaiter::arm() {
    loop().offload(std::move(work_), [this] { wake(); });
    return true;
}

Root ChildScope::run(ChildScope& self) {
    co_await self.task_;
    if (self.timer_ != 0) self.scope_.loop().cancel_timer(self.timer_);
    self.wake();
}

bool ChildScope::arm() {
    if (cancel_reason() && !shielded_) scope_.cancel(*cancel_reason());
    if (deadline_) {
        timer_ = scope_.loop().call_at(*deadline_, [this] {
            timer_ = 0;
            scope_.cancel(deadline_exceeded("the operation took too long"));
        });
    }
    Root root = run(*this);
    root.handle.promise().scope_ = &scope_;
    root.handle.resume();
    return true;
}

void ChildScope::on_cancel() {
    // The child may have ended already, with its wake-up on the way.
    if (!shielded_ && armed()) scope_.cancel(*cancel_reason());
}

}  // namespace internal
}  // namespace basalt::async
