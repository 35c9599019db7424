// A command's connection to a cluster: the kubeconfig rules of kubectl, one loop that runs one task
// at a time.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "async/real_loop.h"
#include "async/task_group.h"
#include "kube/client.h"

namespace basalt::cli {

struct ClusterFlags {
    std::string kubeconfig, context;
    std::string namespace_name;  ///< "": the context's.
};

class ClusterSession {
 public:
    /// NotFound or InvalidArgument say which file or entry is missing.
    static Result<std::unique_ptr<ClusterSession>> open(const ClusterFlags& flags);

    kube::Client& client() { return *client_; }
    const std::string& namespace_name() const { return namespace_name_; }

    /// Runs a task to its end, on the calling thread.
    template <class T>
    Result<T> run(async::Task<Result<T>> task) {
        std::optional<Result<T>> slot;
        async::TaskGroup group(loop_);
        group.spawn(store(&loop_, std::move(task), &slot));
        loop_.run();
        return *std::move(slot);
    }

 private:
    ClusterSession() = default;
    template <class T>
    static async::Task<void> store(async::RealLoop* loop, async::Task<Result<T>> task,
                                   std::optional<Result<T>>* slot) {
        Result<T> result = co_await task;
        slot->emplace(std::move(result));
        loop->stop();
    }

    async::RealLoop loop_{1};
    std::unique_ptr<kube::Client> client_;
    std::string namespace_name_;
};

}  // namespace basalt::cli
