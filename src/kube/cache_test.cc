#include "kube/cache.h"

#include <gtest/gtest.h>

#include "async/sim_loop.h"
#include "kube/test_server.h"

namespace basalt::kube {
namespace {

using namespace std::chrono_literals;
using testing::config_map;
using testing::config_map_path;

class CacheTest : public ::testing::TestWithParam<bool> {
 protected:
    CacheTest()
        : server(std::make_shared<testing::TestServer>(loop)), client(loop, server), group(loop) {}
    ~CacheTest() override {
        group.cancel();
        loop.run_until([&] { return group.size() == 0; }, 1min);
    }
    void start(CacheOptions options = CacheOptions(resources::config_maps())) {
        options.packed = GetParam();
        cache = std::make_unique<Cache>(client, options);
        cache->add_handler([this](const Change& change) {
            std::string line = change.before && change.after ? "update "
                               : change.after                ? "add "
                                                             : "delete ";
            line += key_of(change.object()).name;
            if (change.initial) line += " initial";
            changes.push_back(line);
        });
        cache->start(group);
    }
    void put(const std::string& name, const std::string& value) {
        server->put(config_map_path("n", name), config_map("n", name, value));
    }
    std::string value_of(const std::string& name) {
        const SharedValue object = cache->get(ObjectKey("n", name));
        return object ? (*object)["data"]["value"].str() : "(none)";
    }
    bool run_until(const std::function<bool()>& done, Duration limit = 5min) {
        return loop.run_until(done, limit);
    }
    size_t count_relists() const {
        return cache->stats().lists_count + cache->stats().watch_lists_count;
    }

    async::SimLoop loop{7};
    std::shared_ptr<testing::TestServer> server;
    Client client;
    async::TaskGroup group;
    std::unique_ptr<Cache> cache;
    std::vector<std::string> changes;
};

TEST_P(CacheTest, SyncsByStreamAndFollows) {
    put("a", "1");
    put("b", "1");
    start();
    ASSERT_TRUE(run_until([&] { return cache->has_synced(); }));
    EXPECT_EQ(changes, (std::vector<std::string>{"add a initial", "add b initial"}));
    EXPECT_EQ(server->count("GET"), 1u) << "one stream for state and changes";
    changes.clear();
    put("a", "2");
    put("c", "1");
    server->erase(config_map_path("n", "b"));
    ASSERT_TRUE(run_until([&] { return changes.size() == 3; }));
    EXPECT_EQ(changes, (std::vector<std::string>{"update a", "add c", "delete b"}));
    EXPECT_EQ(value_of("a"), "2");
    EXPECT_EQ(value_of("b"), "(none)");
    EXPECT_EQ(server->count("GET"), 1u);
}

TEST_P(CacheTest, FallsBackToListAndWatch) {
    server->supports_watch_list = false;
    for (int i = 0; i < 12; ++i) put("c" + std::to_string(i), "1");
    CacheOptions options(resources::config_maps());
    options.reflector.page_size = 5;
    start(options);
    ASSERT_TRUE(run_until([&] { return cache->has_synced(); }));
    EXPECT_EQ(cache->size(), 12u);
    EXPECT_EQ(cache->stats().lists_count, 1u);
    ASSERT_TRUE(run_until([&] { return server->watches_count() == 1; }));
    put("c3", "2");
    ASSERT_TRUE(run_until([&] { return value_of("c3") == "2"; }));
}

TEST_P(CacheTest, ResumesAfterTheWatchEnds) {
    put("a", "1");
    start();
    ASSERT_TRUE(run_until([&] { return cache->has_synced(); }));
    loop.run_for(2s);
    server->end_watches();
    put("a", "2");
    ASSERT_TRUE(run_until([&] { return value_of("a") == "2"; }));
    server->break_watches(unavailable("reset"));
    put("a", "3");
    ASSERT_TRUE(run_until([&] { return value_of("a") == "3"; }));
    EXPECT_EQ(count_relists(), 1u);
    EXPECT_EQ(cache->stats().close_reasons.at("error"), 1u);
}

TEST_P(CacheTest, ListsAgainAfterGoneAndFindsDeletes) {
    put("a", "1");
    put("b", "1");
    put("d", "1");
    start();
    ASSERT_TRUE(run_until([&] { return cache->has_synced(); }));
    loop.run_for(2s);
    changes.clear();
    server->break_watches(unavailable("reset"));
    put("a", "2");
    server->erase(config_map_path("n", "b"));
    server->erase(config_map_path("n", "d"));
    put("d", "new");  // Another object of the same name.
    server->compact();
    ASSERT_TRUE(run_until([&] { return changes.size() == 4; }));
    std::sort(changes.begin(), changes.end());
    EXPECT_EQ(changes, (std::vector<std::string>{"add d", "delete b", "delete d", "update a"}));
    EXPECT_EQ(count_relists(), 2u);
    EXPECT_EQ(cache->stats().close_reasons.at("expired"), 1u);
}

TEST_P(CacheTest, BookmarksMoveTheVersion) {
    put("a", "1");
    start();
    ASSERT_TRUE(run_until([&] { return cache->has_synced(); }));
    loop.run_for(2s);
    server->advance(1000);
    server->send_bookmarks();
    loop.run_for(1s);
    server->compact();
    server->end_watches();
    put("a", "2");
    ASSERT_TRUE(run_until([&] { return value_of("a") == "2"; }));
    EXPECT_EQ(count_relists(), 1u) << "the bookmark's version was still good";
}

// Of a server that is not trusted: what is too much is not kept, whichever way it comes, and what
// is there stays until a list is within the limits again.
TEST_P(CacheTest, KeepsNoMoreThanItsLimits) {
    CacheOptions options(resources::config_maps());
    options.reflector.objects_count_max = 3;
    options.reflector.object_size_max = 1000;
    for (const char* name : {"a", "b", "c"}) put(name, "1");
    start(options);
    ASSERT_TRUE(run_until([&] { return cache->has_synced(); }));
    put("d", "1");
    ASSERT_TRUE(run_until([&] { return cache->stats().over_limit; }));
    loop.run_for(2min);
    EXPECT_TRUE(cache->stats().over_limit) << "a new list has as many";
    EXPECT_EQ(cache->size(), 3u);
    server->erase(config_map_path("n", "a"));
    ASSERT_TRUE(run_until([&] { return value_of("d") == "1"; }));
    EXPECT_FALSE(cache->stats().over_limit);
    put("b", std::string(2000, 'x'));
    ASSERT_TRUE(run_until([&] { return cache->stats().over_limit; }));
    EXPECT_EQ(value_of("b"), "1");
    server->supports_watch_list = false;
    loop.run_for(2min);
    EXPECT_TRUE(cache->stats().over_limit);
    put("b", "2");
    ASSERT_TRUE(run_until([&] { return value_of("b") == "2"; }));
    for (const char* name : {"e", "f"}) put(name, "1");
    loop.run_for(2min);
    EXPECT_LE(cache->size(), 3u);
}

TEST_P(CacheTest, ListsWithNamelessObjectsAreRefused) {
    server->supports_watch_list = false;
    put("a", "1");
    server->intercept =
        [](const net::HttpRequest& request) -> std::optional<Result<net::HttpResponse>> {
        if (request.target.find("watch=") != std::string::npos) return std::nullopt;
        return Result<net::HttpResponse>(testing::respond(
            200, std::string(R"({"metadata":{"resourceVersion":"5"},"items":[{"metadata":{}}]})")));
    };
    start();
    loop.run_for(1min);
    EXPECT_FALSE(cache->has_synced());
    EXPECT_NE(cache->stats().last_error.find("without a name"), std::string::npos);
}

TEST_P(CacheTest, DeadStreamIsGivenUp) {
    put("a", "1");
    CacheOptions options(resources::config_maps());
    options.reflector.watch_timeout_min = 10s;
    start(options);
    ASSERT_TRUE(run_until([&] { return cache->has_synced(); }));
    // The server never ends its watches and says nothing.
    loop.run_for(2min);
    EXPECT_GE(cache->stats().watches_count, 2u);
    EXPECT_EQ(count_relists(), 1u);
}

TEST_P(CacheTest, BacksOffWhileTheServerIsDown) {
    bool down = true;
    server->intercept = [&](const net::HttpRequest&) -> std::optional<Result<net::HttpResponse>> {
        if (!down) return std::nullopt;
        return Result<net::HttpResponse>(unavailable("refused").with_cause(111));
    };
    start();
    loop.run_for(10min);
    const size_t tries = server->requests.size();
    EXPECT_LT(tries, 400u);
    EXPECT_GT(tries, 15u);
    down = false;
    ASSERT_TRUE(run_until([&] { return cache->has_synced(); }, 2min));
}

TEST_P(CacheTest, IndicesFollowChanges) {
    start();
    ASSERT_TRUE(run_until([&] { return cache->has_synced(); }));
    cache->add_index("value", [](const Value& object) {
        return std::vector<std::string>{object["data"]["value"].str()};
    });
    put("a", "x");
    put("b", "x");
    ASSERT_TRUE(run_until([&] { return cache->by_index("value", "x").size() == 2; }));
    put("a", "y");
    ASSERT_TRUE(run_until([&] { return cache->by_index("value", "y").size() == 1; }));
    EXPECT_EQ(cache->by_index("value", "x").size(), 1u);
    server->erase(config_map_path("n", "b"));
    ASSERT_TRUE(run_until([&] { return cache->by_index("value", "x").empty(); }));
    Value owned = config_map("n", "o", "1");
    owned.at("metadata").at("ownerReferences").push_back(Value::object({{"uid", "owner"}}));
    server->put(config_map_path("n", "o"), owned);
    ASSERT_TRUE(run_until([&] { return cache->owned_by("owner").size() == 1; }));
}

TEST_P(CacheTest, OwnWritesAreSeenAtOnceAndGhostsAreNot) {
    put("a", "1");
    start();
    ASSERT_TRUE(run_until([&] { return cache->has_synced(); }));
    put("a", "2");  // The event is on its way.
    cache->observe_write(*server->object(config_map_path("n", "a")));
    EXPECT_EQ(value_of("a"), "2");
    const size_t before = changes.size();
    loop.run_for(1s);
    EXPECT_EQ(changes.size(), before) << "the event brought nothing new";

    const Value written = *server->object(config_map_path("n", "a"));
    server->erase(config_map_path("n", "a"));
    ASSERT_TRUE(run_until([&] { return value_of("a") == "(none)"; }));
    cache->observe_write(written);
    EXPECT_EQ(value_of("a"), "(none)");
}

TEST_P(CacheTest, LateEventsOfAFormerObjectDoNotTouchTheNewOne) {
    put("a", "1");
    start();
    ASSERT_TRUE(run_until([&] { return cache->has_synced(); }));
    changes.clear();
    // The events are on their way: of a change, of its end, of the new one.
    put("a", "2");
    server->erase(config_map_path("n", "a"));
    put("a", "3");
    cache->observe_write(*server->object(config_map_path("n", "a")));
    const std::vector<std::string> expected{"delete a", "add a"};
    EXPECT_EQ(changes, expected);
    loop.run_for(1s);
    EXPECT_EQ(changes, expected);
    EXPECT_EQ(value_of("a"), "3");
    server->erase(config_map_path("n", "a"));
    ASSERT_TRUE(run_until([&] { return value_of("a") == "(none)"; }));
}

TEST_P(CacheTest, TransformsAndKeepsOneManager) {
    Value object = config_map("n", "a", "1");
    const Value fields = Value::object({{"f:data", Value::object({{".", Value::object({})}})}});
    object.at("metadata")
        .set("managedFields",
             Value::array({Value::object({{"manager", "us"}, {"fieldsV1", fields}}),
                           Value::object({{"manager", "them"}, {"fieldsV1", fields}})}));
    server->put(config_map_path("n", "a"), object);
    CacheOptions options(resources::config_maps());
    options.keep_manager = "us";
    options.transform = [](Value& value) { value.erase("data"); };
    start(options);
    ASSERT_TRUE(run_until([&] { return cache->has_synced(); }));
    const SharedValue got = cache->get(ObjectKey("n", "a"));
    EXPECT_FALSE(got->contains("data"));
    ASSERT_EQ((*got)["metadata"]["managedFields"].size(), 1u);
    EXPECT_EQ((*got)["metadata"]["managedFields"][0]["manager"].as_string(), "us");
    EXPECT_EQ((*got)["metadata"]["managedFields"][0]["fieldsV1"].as_string(),
              R"({"f:data":{".":{}}})");
}

TEST_P(CacheTest, SetSharesCaches) {
    put("a", "1");
    CacheSet set(client);
    Cache& one = set.get(resources::config_maps());
    Cache& two = set.get(resources::config_maps());
    EXPECT_EQ(&one, &two);
    CacheOptions other(resources::config_maps(), "n");
    EXPECT_NE(&one, &set.get(other));
    set.start(group);
    EXPECT_EQ(set.unsynced().size(), 2u);
    std::optional<Result<void>> synced;
    group.spawn(testing::capture(set.wait_synced(), &synced));
    ASSERT_TRUE(run_until([&] { return synced.has_value(); }));
    EXPECT_TRUE(set.unsynced().empty());
    set.stop();
    group.cancel();
    ASSERT_TRUE(run_until([&] { return group.size() == 0; }));
}

INSTANTIATE_TEST_SUITE_P(Whole, CacheTest, ::testing::Values(false));
INSTANTIATE_TEST_SUITE_P(Packed, CacheTest, ::testing::Values(true));

}  // namespace
}  // namespace basalt::kube
