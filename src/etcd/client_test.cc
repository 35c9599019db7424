#include "etcd/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "async/sim_loop.h"
#include "etcd/etcd_process.h"
#include "etcd/health.h"
#include "etcd/rpc.pb.h"
#include "etcd/tenancy.h"

namespace basalt::etcd {
namespace {

using async::Task;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(MapErrorTest, OnlyWhatAServerSaid) {
    Error full = map_error(
        Error(Code::kResourceExhausted, "etcdserver: mvcc: database space exceeded").with_cause(8));
    EXPECT_EQ(full.reason(), "NoSpace");
    EXPECT_EQ(full.cause_code(), 8);
    Error old = map_error(
        Error(Code::kInvalidArgument, "etcdserver: revision of auth store is old").with_cause(3));
    EXPECT_EQ(old.code(), Code::kAborted);
    EXPECT_TRUE(old.retriable());
    Error local = map_error(Error(Code::kUnavailable, "permission denied by the local firewall"));
    EXPECT_EQ(local.reason(), "");
    Error unknown = map_error(Error(Code::kInternal, "etcdserver: something new").with_cause(13));
    EXPECT_EQ(unknown.code(), Code::kInternal);
}

TEST(MakeClientTest, EndpointsAreChecked) {
    async::SimLoop loop(1);
    auto make = [&](std::vector<std::string> endpoints) {
        ClientOptions options;
        options.endpoints = std::move(endpoints);
        options.make_channel = [](const std::string&) { return nullptr; };
        Result<std::unique_ptr<Client>> client = make_client(loop, std::move(options));
        return client.ok() ? std::string("ok") : client.error().to_string();
    };
    EXPECT_EQ(make({"etcd-0.etcd.system.svc:2379", "https://10.0.0.1:2379", "[fd00::1]:2379"}),
              "ok");
    EXPECT_THAT(make({}), HasSubstr("InvalidArgument: endpoints"));
    EXPECT_THAT(make({"a:1", "http://b:2379"}), HasSubstr("http://b:2379"));
    EXPECT_THAT(make({"host"}), HasSubstr("has no port"));
    EXPECT_THAT(make({"[fd00::1]"}), HasSubstr("has no port"));
    EXPECT_THAT(make({"host:99999"}), HasSubstr("host:99999"));
    EXPECT_THAT(make({"https://a:1/path"}), HasSubstr("https://a:1/path"));
    EXPECT_THAT(make({""}), HasSubstr("endpoint"));
    EXPECT_THAT(make(std::vector<std::string>(kMaxEndpoints + 1, "a:1")), HasSubstr("more than"));
    ClientOptions plain;
    plain.endpoints = {"a:1"};
    EXPECT_FALSE(make_client(loop, std::move(plain)).ok()) << "no TLS, no client";
}

// --- fail-over, on channels that answer from a script

class ScriptedChannel final : public net::GrpcChannel {
 public:
    ScriptedChannel(std::string name, std::vector<std::string>* asked, std::optional<Error>* error)
        : name_(std::move(name)), asked_(asked), error_(error) {}
    Task<Result<std::unique_ptr<net::GrpcStream>>> open(std::string,
                                                        net::GrpcCallOptions options) override {
        if (options.guard) {
            Result<void> allowed = options.guard();
            if (!allowed.ok()) co_return std::move(allowed).error();
        }
        asked_->push_back(name_);
        if (*error_) co_return Error(**error_);
        co_return std::unique_ptr<net::GrpcStream>(std::make_unique<EmptyAnswer>());
    }

 private:
    /// One empty message, which is a valid answer to everything.
    class EmptyAnswer final : public net::GrpcStream {
     public:
        Task<Result<std::optional<std::string>>> read() override {
            if (std::exchange(done_, true)) co_return std::optional<std::string>();
            co_return std::optional<std::string>(std::string());
        }
        Task<Result<void>> write(std::string) override { co_return Result<void>(); }
        Task<Result<void>> finish_writing() override { co_return Result<void>(); }
        Task<Result<void>> wait_header() override { co_return Result<void>(); }
        const net::GrpcMetadata& initial_metadata() const override { return metadata_; }
        const net::GrpcMetadata& trailing_metadata() const override { return metadata_; }
        void cancel() override {}

     private:
        bool done_ = false;
        net::GrpcMetadata metadata_;
    };
    std::string name_;
    std::vector<std::string>* asked_;
    std::optional<Error>* error_;
};

class FailOverTest : public testing::Test {
 protected:
    FailOverTest() {
        ClientOptions options;
        options.endpoints = {"a:1", "b:1", "c:1"};
        options.make_channel = [this](const std::string& endpoint) {
            return std::make_shared<ScriptedChannel>(endpoint.substr(0, 1), &asked_,
                                                     &errors_[endpoint.substr(0, 1)]);
        };
        client_ = std::move(*make_client(loop_, std::move(options)));
    }
    static Task<void> keep(Task<Result<void>> task, Result<void>* out) {
        Result<void> result = co_await task;
        *out = std::move(result);
    }
    Result<void> put() {
        Result<void> result = internal_error("did not run");
        async::TaskGroup group(loop_);
        group.spawn(keep(client_->put("k", "v"), &result));
        loop_.run_until([&] { return group.size() == 0; }, std::chrono::minutes(1));
        return result;
    }
    std::vector<std::string> take_asked() { return std::exchange(asked_, {}); }

    async::SimLoop loop_{1};
    std::vector<std::string> asked_;
    std::map<std::string, std::optional<Error>> errors_;
    std::unique_ptr<Client> client_;
};

TEST_F(FailOverTest, StaysWithTheEndpointThatAnswers) {
    EXPECT_TRUE(put().ok());
    EXPECT_TRUE(put().ok());
    EXPECT_THAT(take_asked(), ElementsAre("a", "a"));
    errors_["a"] = unavailable("connection refused");
    EXPECT_TRUE(put().ok());
    EXPECT_TRUE(put().ok());
    EXPECT_THAT(take_asked(), ElementsAre("a", "b", "b"));
    errors_["a"].reset();
    errors_["b"] = deadline_exceeded("hangs");
    errors_["c"] = Error(Code::kUnavailable, "etcdserver: no leader").with_cause(14);
    EXPECT_TRUE(put().ok());
    EXPECT_THAT(take_asked(), ElementsAre("b", "c", "a"));
}

TEST_F(FailOverTest, WhatEtcdDecidedIsNotAskedAgain) {
    errors_["a"] = Error(Code::kPermissionDenied, "etcdserver: permission denied").with_cause(7);
    Result<void> result = put();
    ASSERT_FALSE(result.ok());
    EXPECT_THAT(result.error().message(), HasSubstr("etcd a:1 Put: "));
    EXPECT_THAT(take_asked(), ElementsAre("a"));
}

TEST_F(FailOverTest, ARequestThatMetAChangeOfUsersIsRepeatedThere) {
    errors_["a"] =
        Error(Code::kInvalidArgument, "etcdserver: revision of auth store is old").with_cause(3);
    Result<void> result = put();
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().code(), Code::kAborted) << "but not without end";
    std::vector<std::string> asked = take_asked();
    EXPECT_GT(asked.size(), 3u);
    EXPECT_LT(asked.size(), 20u);
    EXPECT_THAT(asked, testing::Each("a"));
}

TEST_F(FailOverTest, AllAwayIsTheLastError) {
    for (const char* name : {"a", "b", "c"})
        errors_[name] = unavailable(std::string("no route to ") + name);
    Result<void> result = put();
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().code(), Code::kUnavailable);
    EXPECT_THAT(result.error().message(), HasSubstr("no route to c"));
    EXPECT_THAT(take_asked(), ElementsAre("a", "b", "c"));
    EXPECT_FALSE(put().ok());
    EXPECT_THAT(take_asked(), ElementsAre("b", "c", "a")) << "the next call starts elsewhere";
}

// Time passes while a member does not answer: whoever may not write any more asks no other.
TEST_F(FailOverTest, AGuardIsAskedBeforeEachTryOfAWrite) {
    for (const char* name : {"a", "b"}) errors_[name] = deadline_exceeded("hangs");
    size_t asked_count = 0;
    client_->set_write_guard([&]() -> Result<void> {
        // Before the call, when its connection is there, and so on for the next member.
        if (++asked_count <= 2) return {};
        return failed_precondition("no leader");
    });
    Result<void> result = put();
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().code(), Code::kFailedPrecondition);
    EXPECT_THAT(take_asked(), ElementsAre("a"));
    asked_count = 1;
    EXPECT_FALSE(put().ok()) << "refused at the last moment";
    EXPECT_THAT(take_asked(), testing::IsEmpty());
    asked_count = 5;
    for (auto& [name, error] : errors_) error.reset();
    Result<bool> question = internal_error("did not run");
    async::TaskGroup group(loop_);
    auto ask = [](Client* client, Result<bool>* out) -> Task<void> {
        *out = co_await client->auth_enabled();
    };
    group.spawn(ask(client_.get(), &question));
    loop_.run_until([&] { return group.size() == 0; }, std::chrono::minutes(1));
    EXPECT_TRUE(question.ok()) << "questions pass";
}

// --- real servers

class RealClientTest : public testing::Test {
 protected:
    void SetUp() override {
        programs_ = etcd_programs();
        if (programs_.empty()) {
            GTEST_SKIP() << "*** NO REAL ETCD under /var/cache/basalt/bin and no BASALT_ETCD ***";
        }
    }
    void TearDown() override {
        loop_.keep_running(false);
        loop_.run();
    }
    template <class T>
    Result<T> run(Task<Result<T>> task) {
        return run_task(loop_, std::move(task));
    }
    async::RealLoop loop_;
    std::vector<std::string> programs_;
};

TEST_F(RealClientTest, AFullServerIsDetectedAndRelieved) {
    EtcdProcess etcd(programs_.front(), {"--quota-backend-bytes=16777216"});
    std::unique_ptr<Client> root = etcd.client(loop_, "root");
    ASSERT_TRUE(run(ensure_auth(*root)).ok());
    const Tenant tenant{"a-user", "a", *tenant_range("a")};
    ASSERT_TRUE(run(ensure_tenant(*root, tenant)).ok());
    std::unique_ptr<Client> user = etcd.client(loop_, "a-user");
    Result<void> put;
    for (int i = 0; i < 64 && put.ok(); ++i)
        put = run(user->put("/a/same", std::string(1'000'000, 'x')));
    ASSERT_FALSE(put.ok()) << "the quota was not enforced";
    EXPECT_EQ(put.error().code(), Code::kResourceExhausted);
    EXPECT_EQ(put.error().reason(), "NoSpace");
    Result<Health> health = run(check_health(loop_, *root));
    ASSERT_TRUE(health.ok()) << health.error().to_string();
    EXPECT_TRUE(health->no_space);
    EXPECT_EQ(health->endpoints[0].status.db_size_quota, 16777216);
    // Users and roles can still be managed, tenants removed.
    EXPECT_TRUE(run(ensure_tenant(*root, Tenant{"b-user", "b", *tenant_range("b")})).ok());
    EXPECT_TRUE(run(remove_tenant(*root, Tenant{"b-user", "b", *tenant_range("b")})).ok());

    // One key, many revisions: history is what fills it.
    Result<SpaceRelief> relief = run(relieve_space(*root));
    ASSERT_TRUE(relief.ok()) << relief.error().to_string();
    EXPECT_TRUE(relief->alarm_cleared);
    EXPECT_LT(relief->db_size, 16777216 * 0.9);
    EXPECT_FALSE(run(check_health(loop_, *root))->no_space);
    put = run(user->put("/a/same", "small"));
    EXPECT_TRUE(put.ok()) << put.error().to_string();
    user.reset();
    root.reset();
}

TEST_F(RealClientTest, LiveDataThatFillsItKeepsTheAlarm) {
    EtcdProcess etcd(programs_.front(), {"--quota-backend-bytes=16777216"});
    std::unique_ptr<Client> root = etcd.client(loop_, "root");
    // The file grows ahead of the data, so the first alarms may be gone with the slack.
    Result<SpaceRelief> relief = SpaceRelief{true, 0, 0};
    for (int i = 0; i < 200 && relief->alarm_cleared; ++i) {
        Result<void> put = run(root->put("/a/" + std::to_string(i), std::string(500'000, 'x')));
        if (put.ok()) continue;
        ASSERT_EQ(put.error().reason(), "NoSpace") << put.error().to_string();
        relief = run(relieve_space(*root));
        ASSERT_TRUE(relief.ok()) << relief.error().to_string();
    }
    EXPECT_FALSE(relief->alarm_cleared) << "what lives fills it";
    EXPECT_TRUE(run(check_health(loop_, *root))->no_space);
    EXPECT_EQ(relief->db_quota, 16777216);
    const Tenant tenant{"a-user", "a", *tenant_range("a")};
    ASSERT_TRUE(run(ensure_auth(*root)).ok());
    ASSERT_TRUE(run(remove_tenant(*root, tenant)).ok()) << "deleting works in a full etcd";
    relief = run(relieve_space(*root));
    ASSERT_TRUE(relief.ok()) << relief.error().to_string();
    EXPECT_TRUE(relief->alarm_cleared);
    root.reset();
}

TEST_F(RealClientTest, SurvivesARestartAndADeadEndpoint) {
    EtcdProcess etcd(programs_.front());
    const std::string dead = "127.0.0.1:" + std::to_string(EtcdProcess::free_port());
    std::unique_ptr<Client> root = etcd.client(loop_, "root", {dead, etcd.endpoint()});
    ASSERT_TRUE(run(ensure_auth(*root)).ok());
    EXPECT_TRUE(run(root->put("/x", "1")).ok());
    Result<Health> health = run(check_health(loop_, *root));
    ASSERT_TRUE(health.ok()) << health.error().to_string();
    EXPECT_THAT(health->endpoints[0].error, HasSubstr("refused"));
    EXPECT_EQ(health->endpoints[1].error, "");

    etcd.stop(SIGKILL);
    Result<Health> gone = run(check_health(loop_, *root));
    ASSERT_FALSE(gone.ok());
    EXPECT_EQ(gone.error().code(), Code::kUnavailable);
    EXPECT_THAT(gone.error().message(), HasSubstr(dead));
    EXPECT_THAT(gone.error().message(), HasSubstr(etcd.endpoint()));
    EXPECT_FALSE(run(root->put("/x", "2")).ok());
    etcd.restart(programs_.front());
    Result<RangeResult> read = run(root->range(KeyRange{"/x", {}}, 1, false));
    ASSERT_TRUE(read.ok()) << read.error().to_string();
    EXPECT_EQ(read->items.at(0).value, "1");
    root.reset();
}

TEST_F(RealClientTest, AServerThatHangsEndsInADeadline) {
    EtcdProcess etcd(programs_.front());
    ClientOptions options;
    options.endpoints = {etcd.endpoint()};
    options.tls = *net::make_tls_client(etcd.tls_config("root"));
    options.request_timeout = std::chrono::milliseconds(300);
    std::unique_ptr<Client> root = std::move(*make_client(loop_, std::move(options)));
    ASSERT_TRUE(run(root->put("/x", "1")).ok());
    etcd.pause();
    Result<void> put = run(root->put("/x", "2"));
    ASSERT_FALSE(put.ok());
    EXPECT_EQ(put.error().code(), Code::kDeadlineExceeded) << put.error().to_string();
    etcd.go_on();
    const TimePoint limit = loop_.now() + std::chrono::seconds(30);
    while (!put.ok() && loop_.now() < limit) put = run(root->put("/x", "3"));
    EXPECT_TRUE(put.ok()) << put.error().to_string();
    root.reset();
}

Task<void> write_until(Client& client, int id, const bool* stop, std::vector<Error>* errors) {
    for (int i = 0; !*stop; ++i) {
        std::string key = "/a/" + std::to_string(id) + "-" + std::to_string(i % 10);
        std::string value = "value";
        Result<void> put = co_await client.put(std::move(key), std::move(value));
        if (!put.ok()) errors->push_back(put.error());
    }
}

Task<Result<void>> make_tenants(Client& root, int count) {
    for (int i = 0; i < count; ++i) {
        const std::string name = "n" + std::to_string(i);
        // A named one: gcc 12 copies temporaries of aggregates bit by bit here.
        Tenant tenant{name + "-user", name, *tenant_range(name)};
        Result<bool> made = co_await ensure_tenant(root, std::move(tenant));
        if (!made.ok()) co_return std::move(made).error();
    }
    co_return Result<void>();
}

TEST_F(RealClientTest, ManyNewTenantsFailNoRequestOfAnother) {
    EtcdProcess etcd(programs_.front());
    std::unique_ptr<Client> root = etcd.client(loop_, "root");
    ASSERT_TRUE(run(ensure_auth(*root)).ok());
    Tenant first{"a-user", "a", *tenant_range("a")};
    ASSERT_TRUE(run(ensure_tenant(*root, first)).ok());
    std::unique_ptr<Client> user = etcd.client(loop_, "a-user");
    bool stop = false;
    std::vector<Error> errors;
    async::TaskGroup writers(loop_);
    for (int id = 0; id < 8; ++id) writers.spawn(write_until(*user, id, &stop, &errors));
    Result<void> made = run(make_tenants(*root, 20));
    EXPECT_TRUE(made.ok()) << made.error().to_string();
    stop = true;
    while (writers.size() > 0) (void)run(async::sleep_for(loop_, std::chrono::milliseconds(5)));
    EXPECT_TRUE(errors.empty()) << errors.size() << ": " << errors.front().to_string();
    user.reset();
    root.reset();
}

TEST_F(RealClientTest, AnotherIdentityTakesEffect) {
    EtcdProcess etcd(programs_.front());
    std::unique_ptr<Client> client = etcd.client(loop_, "root");
    ASSERT_TRUE(run(ensure_auth(*client)).ok());
    ASSERT_TRUE(run(client->user_list()).ok());
    ASSERT_TRUE(client->set_tls(*net::make_tls_client(etcd.tls_config("nobody"))).ok());
    EXPECT_FALSE(run(client->user_list()).ok());
    ASSERT_TRUE(client->set_tls(*net::make_tls_client(etcd.tls_config("root"))).ok());
    EXPECT_TRUE(run(client->user_list()).ok());
    ASSERT_TRUE(client->set_tls(*net::make_tls_client(etcd.tls_config("root", "other"))).ok());
    Result<std::vector<std::string>> forged = run(client->user_list());
    ASSERT_FALSE(forged.ok());
    EXPECT_EQ(forged.error().code(), Code::kUnauthenticated) << forged.error().to_string();
    client.reset();
}

}  // namespace
}  // namespace basalt::etcd
