// TaskGroup owns coroutines that run beside each other on one loop. Nothing runs outside a group.
//
// cancel() asks all of them to end; join() waits until they have. Destroying a group with live
// tasks asserts: the owner joins first, or, at the top of a program, runs the loop until size() is
// 0.
#pragma once

#include <list>
#include <memory>
#include <string>
#include <vector>

#include "async/task.h"

namespace basalt::async {

class TaskGroup {
 public:
    explicit TaskGroup(Loop& loop) : loop_(loop) {}
    TaskGroup(const TaskGroup&) = delete;
    TaskGroup& operator=(const TaskGroup&) = delete;
    ~TaskGroup();

    /// Starts `task` soon. After cancel() the task starts in a cancelled scope: its first wait
    /// fails.
    void spawn(Task<void> task);
    /// The same; an error other than Cancelled is logged with `name` when the task ends.
    void spawn(std::string name, Task<Result<void>> task);

    void cancel();
    bool cancelled() const { return cancelled_; }
    size_t size() const { return scopes_.size(); }
    Loop& loop() const { return loop_; }

    /// Returns when size() is 0, even when the waiter itself is cancelled (then the group is, too).
    Task<void> join();

 private:
    class JoinWaiter;
    using Scopes = std::list<std::unique_ptr<Scope>>;
    static internal::Root run(TaskGroup& group, Scopes::iterator scope, Task<void> task);
    void finished(Scopes::iterator scope);

    Loop& loop_;
    Scopes scopes_;
    bool cancelled_ = false;
    std::vector<JoinWaiter*> joiners_;
};

/// Runs all, waits for all, returns the first error in order of the list. A failure does not cancel
/// the rest.
Task<Result<void>> join_all(Loop& loop, std::vector<Task<Result<void>>> tasks);

}  // namespace basalt::async
