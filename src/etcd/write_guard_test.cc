// A fence before the writes of a client: the model of etcd asks it as the real client does
// (client_test.cc).
#include <gtest/gtest.h>

#include "async/sim_loop.h"
#include "async/task_group.h"
#include "etcd/model.h"

namespace basalt::etcd {
namespace {

template <class T>
async::Task<void> keep(async::Task<Result<T>> task, std::optional<Result<T>>* slot) {
    Result<T> result = co_await task;
    slot->emplace(std::move(result));
}

class WriteGuardTest : public ::testing::Test {
 protected:
    WriteGuardTest() {
        client->set_write_guard([this]() -> Result<void> {
            if (may_write) return {};
            return failed_precondition("no leader");
        });
    }
    template <class T>
    Result<T> run(async::Task<Result<T>> task) {
        std::optional<Result<T>> slot;
        async::TaskGroup group(loop);
        group.spawn(keep(std::move(task), &slot));
        loop.run_until([&] { return group.size() == 0; }, std::chrono::minutes(1));
        return std::move(*slot);
    }
    template <class T>
    void expect_refused(async::Task<Result<T>> task) {
        Result<T> result = run(std::move(task));
        ASSERT_FALSE(result.ok());
        EXPECT_EQ(result.error().code(), Code::kFailedPrecondition);
        EXPECT_EQ(result.error().message(), "no leader");
    }

    async::SimLoop loop{3};
    ModelEtcd model{loop};
    bool may_write = true;
    std::unique_ptr<Client> client = model.connect("root");
};

TEST_F(WriteGuardTest, WritesWhileItMay) {
    ASSERT_TRUE(run(client->put("/a", "1")).ok());
    ASSERT_TRUE(run(client->user_add("u")).ok());
    ASSERT_TRUE(run(client->role_add("r")).ok());
    ASSERT_TRUE(run(client->user_grant_role("u", "r")).ok());
    EXPECT_EQ(model.writes_count(), 4U);
    EXPECT_EQ(client->endpoints().size(), 1U);
}

TEST_F(WriteGuardTest, AsksAtTheMomentOfTheCallAndLetsQuestionsPass) {
    model.data["/a"] = "1";
    model.users["u"] = {};
    model.roles["r"] = {};
    const KeyRange range{"/a", {}};
    async::Task<Result<void>> made_before = client->put("/b", "2");
    may_write = false;
    expect_refused(std::move(made_before));
    expect_refused(client->put("/b", "2"));
    expect_refused(client->delete_range(range));
    expect_refused(client->compact(1));
    expect_refused(client->auth_enable());
    expect_refused(client->user_add("v"));
    expect_refused(client->user_delete("u"));
    expect_refused(client->user_grant_role("u", "r"));
    expect_refused(client->user_revoke_role("u", "r"));
    expect_refused(client->role_add("s"));
    expect_refused(client->role_delete("r"));
    expect_refused(client->role_grant_permission("r", {Access::kReadWrite, range}));
    expect_refused(client->role_revoke_permission("r", range));
    expect_refused(client->disarm({1, AlarmType::kNoSpace}));
    expect_refused(client->defragment(0));
    EXPECT_EQ(model.writes_count(), 0U);

    Result<RangeResult> found = run(client->range(range, 1, false));
    ASSERT_TRUE(found.ok());
    EXPECT_EQ(found->count, 1);
    EXPECT_TRUE(run(client->auth_enabled()).ok());
    EXPECT_TRUE(run(client->user_get("u")).ok());
    EXPECT_TRUE(run(client->user_list()).ok());
    EXPECT_TRUE(run(client->role_get("r")).ok());
    EXPECT_TRUE(run(client->role_list()).ok());
    EXPECT_TRUE(run(client->alarms()).ok());
    EXPECT_TRUE(run(client->members()).ok());
    EXPECT_TRUE(run(client->status(0)).ok());
}

}  // namespace
}  // namespace basalt::etcd
