// A small API server, a client of it and a group of tasks, in virtual time.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include <gtest/gtest.h>

#include "async/sim_loop.h"
#include "async/task_group.h"
#include "kube/test_server.h"

namespace basalt::controller {

class ServerFixture : public ::testing::Test {
 protected:
    ~ServerFixture() override { stop(); }
    /// For destructors of tests whose own members the tasks use.
    void stop() {
        group.cancel();
        run_until([&] { return group.size() == 0; }, std::chrono::minutes(1));
    }
    bool run_until(const std::function<bool()>& done, Duration limit = std::chrono::minutes(5)) {
        return loop.run_until(done, limit);
    }

    /// What a task returns; everything else that is under way goes on meanwhile.
    template <class T>
    T run(async::Task<T> task) {
        std::optional<T> slot;
        async::TaskGroup own(loop);
        own.spawn(kube::testing::capture(std::move(task), &slot));
        run_until([&] { return own.size() == 0; }, std::chrono::hours(1));
        EXPECT_TRUE(slot.has_value());
        return std::move(*slot);
    }

    async::SimLoop loop{11};
    std::shared_ptr<kube::testing::TestServer> server =
        std::make_shared<kube::testing::TestServer>(loop);
    kube::Client client{loop, server};
    async::TaskGroup group{loop};
};

}  // namespace basalt::controller
