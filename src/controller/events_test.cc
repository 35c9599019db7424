#include "controller/events.h"

#include <gtest/gtest.h>

#include "controller/server_fixture_test.h"
#include "data/json.h"

namespace basalt::controller {
namespace {

using namespace std::chrono_literals;
using kube::Value;
using kube::testing::config_map;

class EventsTest : public ServerFixture {
 protected:
    static EventRecorder::Options options() {
        EventRecorder::Options options;
        options.controller = "basalt.dev/test";
        options.instance = "pod-1";
        return options;
    }
    EventsTest() {
        recorder.start(group);
        object.at("metadata").set("uid", "u1");
    }
    ~EventsTest() override { stop(); }
    size_t created() { return server->count("POST", "/events"); }
    void record(std::string_view note = "something broke") {
        recorder.record(object, Severity::kWarning, "Failed", note);
        loop.run_for(1s);
    }
    Value last_body() { return data::parse_json(server->requests.back().body).value(); }

    EventRecorder recorder{client, options()};
    Value object = config_map("n", "a", "1");
};

TEST_F(EventsTest, SayWhatAndAboutWhom) {
    record();
    ASSERT_EQ(created(), 1U);
    const Value event = last_body();
    EXPECT_EQ(event["metadata"]["namespace"].as_string(), "n");
    EXPECT_EQ(event["type"].as_string(), "Warning");
    EXPECT_EQ(event["reason"].as_string(), "Failed");
    EXPECT_EQ(event["action"].as_string(), "Failed") << "the reason unless one is named";
    EXPECT_EQ(event["note"].as_string(), "something broke");
    EXPECT_EQ(event["regarding"]["kind"].as_string(), "ConfigMap");
    EXPECT_EQ(event["regarding"]["name"].as_string(), "a");
    EXPECT_EQ(event["regarding"]["uid"].as_string(), "u1");
    EXPECT_EQ(event["reportingController"].as_string(), "basalt.dev/test");
    EXPECT_EQ(event["reportingInstance"].as_string(), "pod-1");
}

TEST_F(EventsTest, AboutTheClusterLieInDefault) {
    object = kube::make_object(kube::resources::nodes(), {"", "node-1"});
    record();
    ASSERT_EQ(created(), 1U);
    EXPECT_EQ(last_body()["metadata"]["namespace"].as_string(), "default");
}

TEST_F(EventsTest, LongNotesAreCut) {
    record(std::string(5000, 'x'));
    ASSERT_EQ(created(), 1U);
    EXPECT_EQ(last_body()["note"].as_string().size(), 1024U);
}

TEST_F(EventsTest, BecomeSeries) {
    recorder.record(object, Severity::kWarning, "Failed", "something broke");
    ASSERT_TRUE(run_until([&] { return server->count("POST", "/events") == 1; }));
    loop.run_for(1s);
    for (int i = 0; i < 1000; ++i) {
        recorder.record(object, Severity::kWarning, "Failed", "something broke");
        loop.run_for(100ms);
    }
    loop.run_for(1min);
    EXPECT_EQ(server->count("POST", "/events"), 1u);
    EXPECT_LE(server->count("PATCH", "/events"), 6u);
    EXPECT_GE(server->count("PATCH", "/events"), 3u);
    const std::string patch = server->requests.back().body;
    EXPECT_NE(patch.find("\"count\":1001"), std::string::npos) << patch;
    // A storm of different ones about one object is cut off.
    for (int i = 0; i < 100; ++i)
        recorder.record(object, Severity::kNormal, "R" + std::to_string(i), "x");
    loop.run_for(1min);
    EXPECT_EQ(recorder.dropped_count(), 76u);
    EXPECT_EQ(server->count("POST", "/events"), 25u);
}

TEST_F(EventsTest, OtherWordsAreAnotherEvent) {
    record("the first");
    record("the second");
    record("the first");
    EXPECT_EQ(created(), 2U);
}

TEST_F(EventsTest, AQuietSeriesEnds) {
    record();
    loop.run_for(5min);
    record();
    EXPECT_EQ(created(), 1U);
    loop.run_for(7min);
    record();
    EXPECT_EQ(created(), 2U);
}

// The API server forgets events after an hour, or somebody deletes them.
TEST_F(EventsTest, ASeriesThatIsGoneBeginsAnew) {
    record();
    const std::string path =
        "/apis/events.k8s.io/v1/namespaces/n/events/" + last_body()["metadata"]["name"].str();
    ASSERT_NE(server->object(path), nullptr);
    server->erase(path);
    loop.run_for(1min);
    record();
    EXPECT_EQ(created(), 2U);
    ASSERT_NE(server->object(path), nullptr);
    EXPECT_EQ((*server->object(path))["series"]["count"].as_int(), 2);
}

TEST_F(EventsTest, ARefusedOneIsCountedAndDelaysNobody) {
    server->intercept =
        [](const net::HttpRequest& request) -> std::optional<Result<net::HttpResponse>> {
        if (request.body.find("the first") == std::string::npos) return std::nullopt;
        return kube::testing::respond(
            403, kube::testing::status_document(403, "Forbidden", "no events, please"));
    };
    record("the first");
    record("the second");
    EXPECT_EQ(recorder.dropped_count(), 1U);
    EXPECT_EQ(last_body()["note"].as_string(), "the second");
}

// As a manager runs it: for the leader only, and gone when leadership is.
TEST_F(EventsTest, AreWrittenUntilTheWriterIsCancelled) {
    EventRecorder another{client, options()};
    async::TaskGroup leading{loop};
    Result<void> ended;
    auto lead = [](EventRecorder* events, Result<void>* outcome) -> async::Task<void> {
        *outcome = co_await events->run();
    };
    another.record(object, Severity::kNormal, "Recorded", "before anybody writes");
    loop.run_for(1s);
    EXPECT_EQ(created(), 0U);
    leading.spawn(lead(&another, &ended));
    loop.run_for(1s);
    EXPECT_EQ(created(), 1U);
    server->latency = 10s;
    another.record(object, Severity::kNormal, "Recorded", "on its way");
    loop.run_for(1s);
    leading.cancel();
    ASSERT_TRUE(run_until([&] { return leading.size() == 0; }, 1s));
    ASSERT_FALSE(ended.ok());
    EXPECT_EQ(ended.error().code(), Code::kCancelled);
    another.record(object, Severity::kNormal, "Recorded", "afterwards");
    loop.run_for(1min);
    EXPECT_EQ(created(), 2U) << "the one on its way, at most";
}

}  // namespace
}  // namespace basalt::controller
