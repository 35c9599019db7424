// Objects with shared ownership that run coroutines of their own: their last owner may let go at
// any time.
//
// T has `async::TaskGroup& group()` and `void shut_down() noexcept`; its tasks refer to it by
// reference. When the last shared_ptr goes, the object is shut down, its group is cancelled, and it
// is destroyed once the group is empty, for which the loop has to run on.
#pragma once

#include <memory>
#include <utility>

#include "async/task_group.h"

namespace basalt::net::internal {

template <class T>
async::internal::Root reap(std::unique_ptr<async::Scope> /*kept while the join runs*/,
                           std::unique_ptr<T> object) {
    co_await object->group().join();
}

template <class T>
struct Reaper {
    async::Loop* loop;
    void operator()(T* raw) const {
        std::unique_ptr<T> object(raw);
        object->shut_down();
        object->group().cancel();
        auto scope = std::make_unique<async::Scope>(*loop);
        async::Scope* scope_address = scope.get();
        async::internal::Root root = reap<T>(std::move(scope), std::move(object));
        root.handle.promise().scope_ = scope_address;
        loop->post([handle = root.handle] { handle.resume(); });
    }
};

template <class T, class... Args>
std::shared_ptr<T> make_reaped(async::Loop& loop, Args&&... args) {
    return std::shared_ptr<T>(new T(loop, std::forward<Args>(args)...), Reaper<T>{&loop});
}

}  // namespace basalt::net::internal
