#include "async/task_group.h"

#include "base/log.h"

namespace basalt::async {

class TaskGroup::JoinWaiter : public Waiter {
 public:
    explicit JoinWaiter(TaskGroup& group) : group_(group) {}
    void await_resume() const noexcept {}
    void group_is_empty() { wake(); }

 protected:
    bool arm() override {
        if (group_.scopes_.empty()) return false;
        group_.joiners_.push_back(this);
        return true;
    }
    void on_cancel() override { group_.cancel(); }
    bool must_complete() const override { return true; }

 private:
    TaskGroup& group_;
};

TaskGroup::~TaskGroup() { BASALT_ASSERT(scopes_.empty()); }

internal::Root TaskGroup::run(TaskGroup& group, Scopes::iterator scope, Task<void> task) {
    co_await task;
    {
        // The task's frame may own what belongs below the group: gone before the group counts it
        // out.
        Task<void> done = std::move(task);
    }
    group.finished(scope);
}

void TaskGroup::spawn(Task<void> task) {
    scopes_.push_back(std::make_unique<Scope>(loop_));
    auto scope = std::prev(scopes_.end());
    if (cancelled_) (*scope)->cancel();
    internal::Root root = run(*this, scope, std::move(task));
    root.handle.promise().scope_ = scope->get();
    loop_.post([handle = root.handle] { handle.resume(); });
}

namespace {

Task<void> log_failure(std::string name, Task<Result<void>> task) {
    Result<void> result = co_await task;
    if (!result.ok() && result.error().code() != Code::kCancelled) {
        log_error("task failed", {{"task", name}, {"error", result.error().to_string()}});
    }
}

Task<void> keep_result(Task<Result<void>> task, Result<void>* slot) {
    Result<void> result = co_await task;
    *slot = std::move(result);
}

}  // namespace

void TaskGroup::spawn(std::string name, Task<Result<void>> task) {
    spawn(log_failure(std::move(name), std::move(task)));
}

void TaskGroup::cancel() {
    cancelled_ = true;
    // A cancelled task ends through the loop, never inside this call: the list stays as it is.
    for (const auto& scope : scopes_) scope->cancel();
}

void TaskGroup::finished(Scopes::iterator scope) {
    scopes_.erase(scope);
    if (!scopes_.empty()) return;
    for (JoinWaiter* joiner : std::exchange(joiners_, {})) joiner->group_is_empty();
}

Task<void> TaskGroup::join() {
    // Tasks may have been added between the last one's end and this coroutine's turn.
    while (!scopes_.empty()) {
        JoinWaiter waiter(*this);
        co_await waiter;
    }
}

Task<Result<void>> join_all(Loop& loop, std::vector<Task<Result<void>>> tasks) {
    std::vector<Result<void>> results(tasks.size());
    TaskGroup group(loop);
    for (size_t i = 0; i < tasks.size(); ++i) {
        group.spawn(keep_result(std::move(tasks[i]), &results[i]));
    }
    co_await group.join();
    for (Result<void>& result : results) {
        if (!result.ok()) co_return std::move(result);
    }
    co_return Result<void>();
}

}  // namespace basalt::async
