#include "net/resolver.h"

#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>

#include "net/net_test_util.h"

namespace basalt::net::internal {
namespace {

using test::run;
using test::Task;
using namespace std::chrono_literals;

/// Names that begin with "slow" are answered when release() was called; others at once.
class NameServer {
 public:
    LookupFn function() {
        return [this](const std::string& host) -> Result<Addresses> {
            std::unique_lock lock(mutex_);
            ++asked_[host];
            if (host.starts_with("slow"))
                released_changed_.wait(lock, [this] { return released_; });
            if (host == "missing") return unavailable("no such name");
            return Addresses{"192.0.2." + std::to_string(host.size())};
        };
    }
    void release() {
        std::lock_guard lock(mutex_);
        released_ = true;
        released_changed_.notify_all();
    }
    int asked(const std::string& host) {
        std::lock_guard lock(mutex_);
        return asked_[host];
    }

 private:
    std::mutex mutex_;
    std::condition_variable released_changed_;
    bool released_ = false;
    std::map<std::string, int> asked_;
};

struct Fixture {
    explicit Fixture(async::RealLoop& loop_in)
        : loop(loop_in),
          resolver(*static_cast<boost::asio::io_context*>(loop.native()), server.function()) {}
    ~Fixture() { server.release(); }  // Whatever a failed test left behind must end.
    async::RealLoop& loop;
    NameServer server;
    Resolver resolver;
};

Task<Result<void>> look_up(Fixture& fixture, std::string host, Duration limit = 30s) {
    Result<Addresses> found =
        co_await async::with_timeout(fixture.loop, limit, fixture.resolver.look_up(host));
    if (!found.ok()) co_return std::move(found).error();
    EXPECT_EQ(*found, Addresses{"192.0.2." + std::to_string(host.size())});
    co_return Result<void>();
}

Task<Result<void>> fast_then_release(Fixture& fixture) {
    Result<void> fast = co_await look_up(fixture, "fast");
    EXPECT_TRUE(fast.ok()) << "a name that does not answer holds up the others";
    Result<void> missing = co_await look_up(fixture, "missing");
    EXPECT_EQ(missing.error().message(), "no such name");
    fixture.server.release();
    co_return std::move(fast);
}

Task<void> one_slow_name(Fixture& fixture) {
    std::vector<Task<Result<void>>> tasks;
    for (int i = 0; i < 20; ++i) tasks.push_back(look_up(fixture, "slow"));
    tasks.push_back(fast_then_release(fixture));
    Result<void> all = co_await async::join_all(fixture.loop, std::move(tasks));
    CO_REQUIRE_OK(all);
    EXPECT_EQ(fixture.server.asked("slow"), 1) << "one look-up serves all";
}

TEST(Resolver, OneSlowNameDoesNotHoldUpOthers) {
    async::RealLoop loop;
    Fixture fixture(loop);
    run(loop, one_slow_name(fixture));
}

std::string slow_name(size_t number) { return "slow" + std::to_string(number); }

Task<Result<void>> give_up_waiting(Fixture& fixture) {
    Result<void> late = co_await look_up(fixture, "late", 10ms);
    EXPECT_EQ(late.error().code(), Code::kDeadlineExceeded);
    fixture.server.release();
    Result<void> again = co_await look_up(fixture, "again");
    co_return std::move(again);
}

Task<void> nobody_waits(Fixture& fixture) {
    std::vector<Task<Result<void>>> tasks;
    for (size_t i = 0; i < Resolver::kMaxThreads; ++i)
        tasks.push_back(look_up(fixture, slow_name(i)));
    tasks.push_back(give_up_waiting(fixture));
    Result<void> all = co_await async::join_all(fixture.loop, std::move(tasks));
    CO_REQUIRE_OK(all);
    EXPECT_EQ(fixture.server.asked("late"), 0) << "nobody wanted the answer any more";
}

TEST(Resolver, DropsNamesThatNobodyWaitsFor) {
    async::RealLoop loop;
    Fixture fixture(loop);
    run(loop, nobody_waits(fixture));
}

Task<void> abandoned(Fixture& fixture) {
    Result<void> slow = co_await look_up(fixture, "slow", 10ms);
    EXPECT_EQ(slow.error().code(), Code::kDeadlineExceeded) << "the wait ends, not the look-up";
    fixture.server.release();
}

TEST(Resolver, AbandonsWhatTakesTooLong) {
    async::RealLoop loop;
    Fixture fixture(loop);
    run(loop, abandoned(fixture));
}

Task<Result<void>> one_too_many(Fixture& fixture) {
    Result<void> refused = co_await look_up(fixture, "other");
    EXPECT_EQ(refused.error().code(), Code::kResourceExhausted);
    fixture.server.release();
    co_return Result<void>();
}

Task<void> too_many(Fixture& fixture) {
    std::vector<Task<Result<void>>> tasks;
    for (size_t i = 0; i < Resolver::kMaxHosts; ++i)
        tasks.push_back(look_up(fixture, slow_name(i)));
    tasks.push_back(one_too_many(fixture));
    Result<void> all = co_await async::join_all(fixture.loop, std::move(tasks));
    CO_REQUIRE_OK(all);
}

TEST(Resolver, BoundsTheBacklog) {
    async::RealLoop loop;
    Fixture fixture(loop);
    run(loop, too_many(fixture));
}

TEST(Resolver, SystemLookup) {
    const Addresses addresses = system_lookup("localhost").value();
    EXPECT_TRUE(addresses.front() == "127.0.0.1" || addresses.front() == "::1");
    EXPECT_EQ(system_lookup("192.0.2.7").value(), Addresses{"192.0.2.7"});
    EXPECT_EQ(system_lookup("no name").error().code(), Code::kUnavailable);
}

}  // namespace
}  // namespace basalt::net::internal
