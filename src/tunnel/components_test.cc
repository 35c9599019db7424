#include "tunnel/components.h"

#include <gtest/gtest.h>

#include "async/sim_loop.h"

namespace basalt::tunnel {
namespace {

using namespace std::chrono_literals;

/// A server that answers from some moment on.
class Scripted final : public net::HttpTransport {
 public:
    async::Task<Result<net::HttpResponse>> send(net::HttpRequest) override {
        ++looks_count;
        if (status == 0) co_return unavailable("connection refused");
        net::HttpResponse response;
        response.status = status;
        co_return std::move(response);
    }
    int status = 0;
    int looks_count = 0;
};

class ComponentsTest : public ::testing::Test {
 protected:
    ~ComponentsTest() override {
        async::TaskGroup last(loop);
        last.spawn(components.stop());
        loop.run_until([&] { return last.size() == 0; }, 1min);
        asking.cancel();
        loop.run_until([&] { return asking.size() == 0; }, 1min);
    }
    struct Answer {
        bool given = false, started = false;
        TimePoint at{};
    };
    async::Task<void> ask_one(std::string name, Answer* answer) {
        bool started = co_await components.started(std::move(name));
        *answer = {true, started, loop.now()};
    }
    void ask(const std::string& name) {
        answers[name] = {};
        asking.spawn(ask_one(name, &answers[name]));
    }
    void ask_all() {
        for (const char* name : {"api", "manager", "scheduler"}) ask(name);
    }
    bool all_given() const {
        for (const auto& [name, answer] : answers) {
            if (!answer.given) return false;
        }
        return true;
    }

    async::SimLoop loop{1};
    std::shared_ptr<Scripted> api = std::make_shared<Scripted>();
    std::shared_ptr<Scripted> manager = std::make_shared<Scripted>();
    std::shared_ptr<Scripted> scheduler = std::make_shared<Scripted>();
    int gate_calls = 0;
    bool gate_works = true;
    Components components{loop,
                          {{"api", "/readyz", api},
                           {"manager", "/healthz", manager},
                           {"scheduler", "/healthz", scheduler}},
                          [this] { return ++gate_calls, gate_works; }};
    std::map<std::string, Answer> answers;
    async::TaskGroup asking{loop};
};

TEST_F(ComponentsTest, AnswersForAllInTheSameMoment) {
    components.start();
    ask_all();
    loop.run_for(1s);
    api->status = 200;
    loop.run_for(500ms);
    EXPECT_EQ(gate_calls, 1) << "the others may begin";
    manager->status = 200;
    loop.run_for(500ms);
    EXPECT_FALSE(answers["api"].given);
    const TimePoint last = loop.now();
    scheduler->status = 200;
    ASSERT_TRUE(loop.run_until([&] { return all_given(); }, 1s));
    for (const auto& [name, answer] : answers) {
        EXPECT_TRUE(answer.started) << name;
        EXPECT_EQ(answer.at, answers["api"].at) << name;
    }
    EXPECT_LE(answers["api"].at - last, 200ms);
}

// The API server must not be restarted because of the one that needs it.
TEST_F(ComponentsTest, WaitsForOthersOnlyForAMoment) {
    const TimePoint began = loop.now();
    components.start();
    api->status = 200;
    ask_all();
    ASSERT_TRUE(loop.run_until([&] { return all_given(); }, 1min));
    EXPECT_TRUE(answers["api"].started);
    EXPECT_LE(answers["api"].at - began, Components::kTogetherLimit + 500ms);
    EXPECT_FALSE(answers["manager"].started);
    EXPECT_FALSE(answers["scheduler"].started);
    EXPECT_LE(answers["manager"].at - began, Components::kHoldLimit + 500ms);
}

TEST_F(ComponentsTest, AServerThatDoesNotTellStrangersHasStarted) {
    api->status = 401;
    components.start();
    loop.run_for(1s);
    EXPECT_EQ(gate_calls, 1);
}

// 403: there are no roles yet, and the controller manager's first request would be refused.
TEST_F(ComponentsTest, AServerWithoutRolesHasNot) {
    api->status = 403;
    components.start();
    loop.run_for(1s);
    EXPECT_EQ(gate_calls, 0);
    EXPECT_EQ(manager->looks_count, 0) << "they wait for the gate";
}

TEST_F(ComponentsTest, TheGateIsTriedUntilItOpensThenNobodyIsAsked) {
    gate_works = false;
    api->status = 200;
    components.start();
    loop.run_for(1s);
    EXPECT_GT(gate_calls, 3);
    gate_works = true;
    loop.run_for(1s);
    const int calls = gate_calls, looks = api->looks_count;
    loop.run_for(1h);
    EXPECT_EQ(gate_calls, calls);
    EXPECT_EQ(api->looks_count, looks);
}

// A container that is started again is looked at again.
TEST_F(ComponentsTest, WhatWasSeenLongAgoDoesNotCount) {
    api->status = manager->status = scheduler->status = 200;
    components.start();
    ask_all();
    ASSERT_TRUE(loop.run_until([&] { return all_given(); }, 1min));
    loop.run_for(1min);
    api->status = 0;
    ask("api");
    ASSERT_TRUE(loop.run_until([&] { return all_given(); }, 1min));
    EXPECT_FALSE(answers["api"].started);
}

TEST_F(ComponentsTest, KnowsNoOthers) {
    components.start();
    ask("etcd");
    ASSERT_TRUE(loop.run_until([&] { return all_given(); }, 1s));
    EXPECT_FALSE(answers["etcd"].started);
}

}  // namespace
}  // namespace basalt::tunnel
