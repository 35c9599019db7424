#include "controlplane/tenant_session.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "async/sim_loop.h"
#include "controlplane/testdata_test.h"
#include "data/base64.h"
#include "kube/test_server.h"

namespace basalt::controlplane {
namespace {

using data::Value;
using namespace std::chrono_literals;
using kube::testing::config_map_path;

class TenantSessionTest : public ::testing::Test {
 protected:
    ~TenantSessionTest() override {
        async::TaskGroup last(loop);
        last.spawn(session.stop());
        loop.run_until([&] { return last.size() == 0; }, 1min);
    }
    template <class T>
    T run(async::Task<T> task) {
        std::optional<T> slot;
        async::TaskGroup group(loop);
        group.spawn(kube::testing::capture(std::move(task), &slot));
        EXPECT_TRUE(loop.run_until([&] { return slot.has_value(); }, 1min));
        return *std::move(slot);
    }
    std::vector<Value> objects(bool with_dns = true) {
        Value object = example_object();
        if (!with_dns) object.at("spec").at("addons").erase("coreDNS");
        return build_tenant_objects(settings_of(object), {"PEM", example_endpoint(), "image"})
            .value();
    }
    size_t writes_count() const {
        return server->count("PATCH") + server->count("POST") + server->count("PUT") +
               server->count("DELETE");
    }
    void answer_version() {
        server->intercept =
            [](const net::HttpRequest& request) -> std::optional<Result<net::HttpResponse>> {
            if (request.target != "/version") return {};
            return Result<net::HttpResponse>(
                kube::testing::respond(200, Value::object({{"gitVersion", "v1.36.3"}})));
        };
    }
    /// In place, and the watches have shown it.
    void settle() {
        ASSERT_TRUE(run(session.ensure(objects())).ok());
        loop.run_for(5s);
        changes_count = 0;
    }

    async::SimLoop loop{1};
    std::shared_ptr<kube::testing::TestServer> server =
        std::make_shared<kube::testing::TestServer>(loop);
    int changes_count = 0;
    TenantSession session{loop, server, {"https://service", "one"}, [this](Duration delay) {
                              ++changes_count;
                              longest_delay = std::max(longest_delay, delay);
                          }};
    Duration longest_delay{0};
    const std::string config = config_map_path("kube-system", "kubeadm-config");
};

TEST_F(TenantSessionTest, WritesOnceAndIsSilentThen) {
    settle();
    EXPECT_NE(server->object(config), nullptr);
    const size_t before = writes_count();
    EXPECT_GE(before, objects().size());
    ASSERT_TRUE(run(session.ensure(objects())).ok());
    loop.run_for(1h);
    EXPECT_EQ(writes_count(), before);
    EXPECT_EQ(changes_count, 0);
}

TEST_F(TenantSessionTest, UndoesWhatTheTenantDoes) {
    settle();
    const Value ours = *server->object(config);
    Value edited = ours;
    edited.at("data").set("ClusterConfiguration", "mine");
    server->put(config, edited);
    server->erase(config_map_path("kube-system", "coredns"));
    ASSERT_TRUE(loop.run_until([&] { return changes_count >= 2; }, 10s));
    ASSERT_TRUE(run(session.ensure(objects())).ok());
    EXPECT_EQ((*server->object(config))["data"], ours["data"]);
    EXPECT_NE(server->object(config_map_path("kube-system", "coredns")), nullptr);
    // Its own writes wake nobody.
    changes_count = 0;
    loop.run_for(5s);
    EXPECT_EQ(changes_count, 0);
}

TEST_F(TenantSessionTest, RemovesWhatIsNotWantedAnyMore) {
    settle();
    ASSERT_TRUE(run(session.ensure(objects(false))).ok());
    EXPECT_EQ(server->object(config_map_path("kube-system", "coredns")), nullptr);
    EXPECT_NE(server->object(config), nullptr);
    ASSERT_TRUE(run(session.ensure(objects())).ok());
    EXPECT_NE(server->object(config_map_path("kube-system", "coredns")), nullptr);
}

/// Nobody answers there yet.
class Nowhere final : public net::HttpTransport {
 public:
    async::Task<Result<net::HttpResponse>> send(net::HttpRequest) override {
        co_return unavailable("connection refused");
    }
};

// What was written by way of a Pod is not written again, and Ready needs an answer by way of the
// Service.
TEST_F(TenantSessionTest, GoesOnByAnotherAddressOfTheSameCluster) {
    answer_version();
    session.work_ahead(objects());
    ASSERT_TRUE(loop.run_until([&] { return server->object(config) != nullptr; }, 10s));
    loop.run_for(1s);
    EXPECT_TRUE(session.is_preparing());
    const size_t before = writes_count();
    session.reroute(std::make_shared<Nowhere>(), "https://service");
    Result<TenantSession::State> state = run(session.ensure(objects()));
    EXPECT_TRUE(!state.ok() || *state == TenantSession::State::kUnderWay);
    loop.run_for(1min);
    EXPECT_FALSE(run(session.ensure(objects())).ok()) << "what was found out meanwhile";
    EXPECT_TRUE(session.is_preparing());
    session.reroute(server, "https://service");
    loop.run_for(1min);
    (void)run(session.ensure(objects()));
    loop.run_for(1s);
    EXPECT_EQ(*run(session.ensure(objects())), TenantSession::State::kInPlace);
    EXPECT_FALSE(session.is_preparing());
    EXPECT_EQ(session.identity().server, "https://service");
    EXPECT_EQ(writes_count(), before);
}

// Before the API server answers it is asked one thing, less and less often; then everything is done
// once, without anybody calling again.
TEST_F(TenantSessionTest, WorksAheadAsSoonAsTheApiServerAnswers) {
    size_t questions = 0;
    server->intercept = [&](const net::HttpRequest&) -> std::optional<Result<net::HttpResponse>> {
        ++questions;
        return Result<net::HttpResponse>(unavailable("connection refused"));
    };
    session.work_ahead(objects());
    session.work_ahead(objects());
    loop.run_for(1s);
    EXPECT_LE(questions, 11u);
    EXPECT_EQ(writes_count(), 0u);
    loop.run_for(10min);
    EXPECT_LT(questions, 300u);
    answer_version();
    const std::string info = config_map_path("kube-public", "cluster-info");
    server->put(info, kube::testing::config_map("kube-public", "cluster-info", "x"));
    ASSERT_TRUE(loop.run_until([&] { return server->count("POST") == 1; }, 11s));
    EXPECT_NE(server->object(config), nullptr);
    for (const net::HttpRequest& request : server->requests) {
        if (request.method != "POST") continue;
        const Value token = data::parse_json(request.body).value();
        const std::string id = data::base64_decode(token["data"]["token-id"].as_string()).value();
        Value signed_info = *server->object(info);
        signed_info.at("data").set("jws-kubeconfig-" + id, "signature");
        server->put(info, signed_info);
    }
    loop.run_for(11s);
    const size_t requests = server->requests.size();
    loop.run_for(1h);
    EXPECT_EQ(server->requests.size(), requests) << "done is done";
    EXPECT_TRUE(*run(session.signs_tokens()));
    EXPECT_EQ(server->requests.size(), requests) << "proved already";
}

// As an API server says it of a Service's address.
TEST_F(TenantSessionTest, AServiceAtAnotherAddressIsMadeAnew) {
    const std::string dns = "/api/v1/namespaces/kube-system/services/kube-dns";
    Value service = kube::make_object(kube::resources::services(), {"kube-system", "kube-dns"});
    service.at("spec").set("clusterIPs", Value::array({"10.96.0.53"}));
    server->put(dns, service);
    server->intercept =
        [&](const net::HttpRequest& request) -> std::optional<Result<net::HttpResponse>> {
        const Value* live = server->object(dns);
        if (request.method != "PATCH" || request.target.find(dns) != 0 || live == nullptr ||
            (*live)["spec"]["clusterIPs"][0].as_string() == "10.96.0.10")
            return {};
        return Result<net::HttpResponse>(kube::testing::respond(
            422, kube::testing::status_document(422, "Invalid", "may not change once set")));
    };
    ASSERT_TRUE(run(session.ensure(objects())).ok());
    EXPECT_EQ((*server->object(dns))["spec"]["clusterIPs"], Value::array({"10.96.0.10"}));
    EXPECT_EQ(server->count("DELETE"), 1u);
}

TEST_F(TenantSessionTest, ARefusedWriteIsTriedAgain) {
    server->intercept =
        [&](const net::HttpRequest& request) -> std::optional<Result<net::HttpResponse>> {
        if (request.target.find("kubeadm-config") == std::string::npos) return {};
        return Result<net::HttpResponse>(kube::testing::respond(
            403, kube::testing::status_document(403, "Forbidden", "not now")));
    };
    Result<TenantSession::State> refused = run(session.ensure(objects()));
    ASSERT_FALSE(refused.ok());
    EXPECT_NE(refused.error().message().find("kubeadm-config"), std::string::npos);
    server->intercept = {};
    ASSERT_TRUE(run(session.ensure(objects())).ok());
    EXPECT_NE(server->object(config), nullptr);
}

// One that answers after longer than a pass waits: its passes do not wait for it any more, and what
// was found out in the meantime is not asked again.
TEST_F(TenantSessionTest, ASlowClusterHoldsNobodyUp) {
    using State = TenantSession::State;
    settle();
    for (int i = 0; i < 100; ++i) {
        const std::string name = fmt::format("extra-{}", i);
        Value extra = kube::testing::config_map("default", name, "x");
        extra.at("metadata").at("labels").set(kTenantLabel, kTenantLabelValue);
        server->put(config_map_path("default", name), extra);
    }
    loop.run_for(1s);
    server->latency = 14s;
    const size_t before = server->count("DELETE");
    TimePoint began = loop.now();
    EXPECT_EQ(*run(session.ensure(objects())), State::kUnderWay);
    EXPECT_LE(loop.now() - began, 2s);
    began = loop.now();
    EXPECT_EQ(*run(session.ensure(objects())), State::kUnderWay);
    EXPECT_EQ(loop.now(), began) << "not waited for again";
    EXPECT_LE(server->count("DELETE") - before, 20u) << "a few at a time";
    changes_count = 0;
    ASSERT_TRUE(loop.run_until([&] { return changes_count > 0; }, 20s)) << "told when it is done";
    server->latency = 2ms;
    while (server->count("DELETE") - before < 100) {
        ASSERT_TRUE(run(session.ensure(objects())).ok());
        loop.run_for(1s);
    }
    EXPECT_EQ(*run(session.ensure(objects())), State::kInPlace);
    EXPECT_EQ(server->count("DELETE") - before, 100u);
}

// Objects that cannot be got rid of, more than anybody needs.
TEST_F(TenantSessionTest, KeepsABoundedNumberOfObjects) {
    settle();
    for (int i = 0; i < 3000; ++i) {
        const std::string name = fmt::format("extra-{}", i);
        Value extra = kube::testing::config_map("default", name, "x");
        extra.at("metadata").at("labels").set(kTenantLabel, kTenantLabelValue);
        extra.at("metadata").set("deletionTimestamp", "2026-01-01T00:00:00Z");
        server->put(config_map_path("default", name), extra);
    }
    loop.run_for(1min);
    Result<TenantSession::State> refused = run(session.ensure(objects()));
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().reason(), TenantSession::kTooManyObjects);
    EXPECT_LT(session.memory_size(), 2UL << 20);
    for (int i = 0; i < 3000; ++i) {
        server->erase(config_map_path("default", fmt::format("extra-{}", i)));
    }
    loop.run_for(2min);
    EXPECT_TRUE(run(session.ensure(objects())).ok());
}

TEST_F(TenantSessionTest, ChangesOfTheTenantWakeAtALimitedRate) {
    settle();
    Value edited = *server->object(config);
    int at_once = 0;
    for (int i = 0; i < 1000; ++i) {
        edited.at("data").set("ClusterConfiguration", std::to_string(i));
        server->put(config, edited);
        longest_delay = Duration(0);
        const int before = changes_count;
        loop.run_for(5ms);
        at_once += changes_count > before && longest_delay == Duration(0);
    }
    EXPECT_GE(changes_count, 900);
    EXPECT_LE(at_once, 30) << "the others are put off by up to a second, together";
}

// Its words go into conditions, whose reasons and lengths are limited.
TEST_F(TenantSessionTest, ClipsWhatTheClusterSays) {
    server->intercept =
        [&](const net::HttpRequest& request) -> std::optional<Result<net::HttpResponse>> {
        if (request.target.find("kubeadm-config") == std::string::npos) return {};
        return Result<net::HttpResponse>(kube::testing::respond(
            403, kube::testing::status_document(403, "no reason!", std::string(100'000, 'x'))));
    };
    Result<TenantSession::State> refused = run(session.ensure(objects()));
    ASSERT_FALSE(refused.ok());
    EXPECT_LE(refused.error().message().size(), 300u);
    EXPECT_EQ(refused.error().reason(), "");
    server->intercept = [&](const net::HttpRequest&) -> std::optional<Result<net::HttpResponse>> {
        return Result<net::HttpResponse>(kube::testing::respond(200, std::string(1 << 20, '[')));
    };
    EXPECT_FALSE(run(session.ensure(objects())).ok()) << "larger than any answer has to be";
}

TEST_F(TenantSessionTest, AsksForASignatureWithATokenThatIsGoodForNothingElse) {
    const std::string info = config_map_path("kube-public", "cluster-info");
    server->put(info, kube::testing::config_map("kube-public", "cluster-info", "x"));
    EXPECT_FALSE(*run(session.signs_tokens()));
    EXPECT_FALSE(*run(session.signs_tokens()));
    std::string token, id;
    for (const net::HttpRequest& request : server->requests) {
        if (request.method != "POST") continue;
        EXPECT_TRUE(token.empty()) << "one is enough";
        const Value body = data::parse_json(request.body).value();
        id = data::base64_decode(body["data"]["token-id"].as_string()).value();
        token = "/api/v1/namespaces/kube-system/secrets/" + kube::key_of(body).name;
        EXPECT_TRUE(body["data"]["usage-bootstrap-authentication"].empty());
        EXPECT_FALSE(body["data"]["expiration"].empty());
    }
    ASSERT_NE(server->object(token), nullptr);
    Value signed_info = *server->object(info);
    signed_info.at("data").set("jws-kubeconfig-" + id, "signature");
    server->put(info, signed_info);
    EXPECT_TRUE(*run(session.signs_tokens()));
    EXPECT_EQ(server->object(token), nullptr);
}

}  // namespace
}  // namespace basalt::controlplane
