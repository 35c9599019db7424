#include "async/scope.h"

namespace basalt::async {

void Scope::cancel(Error reason) {
    if (reason_) return;
    reason_ = std::move(reason);
    if (Waiter* waiter = waiter_) {
        waiter->cancel_reason_ = reason_;
        waiter->on_cancel();
    }
}

bool Waiter::begin(std::coroutine_handle<> handle, Scope& scope) {
    handle_ = handle;
    scope_ = &scope;
    const bool was_cancelled = scope.cancelled();
    if (was_cancelled) {
        cancel_reason_ = scope.reason();
        if (!must_complete()) return false;
    }
    BASALT_ASSERT(scope.waiter_ == nullptr);
    armed_ = true;
    scope.waiter_ = this;
    if (!arm()) {
        armed_ = false;
        scope.waiter_ = nullptr;
        return false;
    }
    // A cancellation from within arm() has called on_cancel() itself.
    if (was_cancelled && armed_) on_cancel();
    return true;
}

void Waiter::wake() {
    BASALT_ASSERT(armed_);
    armed_ = false;
    scope_->waiter_ = nullptr;
    scope_->loop().post([handle = handle_] { handle.resume(); });
}

}  // namespace basalt::async
