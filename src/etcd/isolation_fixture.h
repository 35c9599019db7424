// Two tenants of a real etcd, attacker and victim, and what tests of the wall between them need.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "etcd/etcd_process.h"
#include "etcd/rpc.pb.h"
#include "etcd/tenancy.h"

namespace basalt::etcd {

inline constexpr const char* kNoEtcd = "no etcd";
inline constexpr const char* kSecret = "the-victims-secret-value";
inline const std::string kEverything(1, '\0');

struct Call {
    std::string name;  ///< Of the attempt, for messages.
    std::string method;
    std::string request;
};

inline Call call(std::string name, std::string method,
                 const google::protobuf::MessageLite& request) {
    return {std::move(name), "/etcdserverpb." + std::move(method), request.SerializeAsString()};
}

class IsolationTest : public testing::TestWithParam<std::string> {
 protected:
    void SetUp() override {
        if (GetParam() == kNoEtcd) {
            GTEST_SKIP() << "*** NO REAL ETCD under /var/cache/basalt/bin and no BASALT_ETCD: "
                            "isolation is NOT tested ***";
        }
        etcd_ = std::make_unique<EtcdProcess>(GetParam());
        root_ = etcd_->client(loop_, "root");
        ASSERT_TRUE(run(ensure_auth(*root_)).ok());
        ASSERT_TRUE(run(ensure_tenant(*root_, attacker_)).ok());
        ASSERT_TRUE(run(ensure_tenant(*root_, victim_)).ok());
        channel_ = etcd_->channel(loop_, attacker_.user);
        victim_channel_ = etcd_->channel(loop_, victim_.user);
        root_channel_ = etcd_->channel(loop_, "root");
        for (const char* key : {"/b/one", "/b/two"})
            ASSERT_TRUE(run(root_->put(key, kSecret)).ok());
        ASSERT_TRUE(run(root_->put("/a/mine", "own")).ok());
        // A lease of the victim with a key of the victim.
        pb::LeaseGrantRequest grant;
        grant.set_ttl(3600);
        grant.set_id(kVictimLease);
        ASSERT_TRUE(unary(victim_channel_, call("", "Lease/LeaseGrant", grant)).ok());
        pb::PutRequest put;
        put.set_key("/b/leased");
        put.set_value(kSecret);
        put.set_lease(kVictimLease);
        ASSERT_TRUE(unary(victim_channel_, call("", "KV/Put", put)).ok());
    }
    void TearDown() override {
        root_.reset();
        channel_.reset();
        victim_channel_.reset();
        root_channel_.reset();
        loop_.keep_running(false);
        loop_.run();
        etcd_.reset();
    }

    template <class T>
    Result<T> run(async::Task<Result<T>> task) {
        return run_task(loop_, std::move(task));
    }
    Result<std::string> unary(const std::shared_ptr<net::GrpcChannel>& channel, const Call& attempt,
                              net::GrpcMetadata metadata = {}) {
        net::GrpcCallOptions options;
        options.metadata = std::move(metadata);
        options.deadline = loop_.now() + std::chrono::seconds(20);
        return run(channel->unary(attempt.method, attempt.request, std::move(options)));
    }

    /// The attempt is refused by authorization, not by chance.
    void expect_refused(const Call& attempt) {
        Result<std::string> answer = unary(channel_, attempt);
        ASSERT_FALSE(answer.ok()) << attempt.name << " was allowed";
        const Error error = map_error(answer.error());
        EXPECT_THAT(error.reason(), testing::AnyOf("PermissionDenied", "NoUser", "InvalidToken"))
            << attempt.name << ": " << error.to_string();
    }
    void expect_refused(const std::vector<Call>& attempts) {
        for (const Call& attempt : attempts) expect_refused(attempt);
        expect_untouched();
    }

    /// What the victim owns is as it was, users, roles and members are, too.
    void expect_untouched() {
        Result<RangeResult> data = run(root_->range(victim_.range, 0, false));
        ASSERT_TRUE(data.ok()) << data.error().to_string();
        ASSERT_EQ(data->items.size(), 3u);
        for (const KeyValue& item : data->items) EXPECT_EQ(item.value, kSecret) << item.key;
        EXPECT_TRUE(*run(root_->auth_enabled()));
        EXPECT_THAT(*run(root_->user_list()),
                    testing::UnorderedElementsAre("root", "a-user", "b-user"));
        EXPECT_THAT(*run(root_->role_list()), testing::UnorderedElementsAre("root", "a", "b"));
        EXPECT_THAT(*run(root_->user_get("a-user")), testing::ElementsAre("a"));
        EXPECT_THAT(*run(root_->user_get("b-user")), testing::ElementsAre("b"));
        const Permission own{Access::kReadWrite, attacker_.range};
        EXPECT_THAT(*run(root_->role_get("a")), testing::ElementsAre(own));
        EXPECT_EQ(run(root_->members())->size(), 1u);
        EXPECT_TRUE(run(root_->alarms())->empty());
    }

    static constexpr int64_t kVictimLease = 4711;
    const Tenant attacker_{"a-user", "a", *tenant_range("a")};
    const Tenant victim_{"b-user", "b", *tenant_range("b")};
    async::RealLoop loop_;
    std::unique_ptr<EtcdProcess> etcd_;
    std::unique_ptr<Client> root_;
    std::shared_ptr<net::GrpcChannel> channel_;  ///< The attacker's.
    std::shared_ptr<net::GrpcChannel> victim_channel_;
    std::shared_ptr<net::GrpcChannel> root_channel_;
};

inline pb::RangeRequest range_request(const std::string& key, const std::string& end) {
    pb::RangeRequest request;
    request.set_key(key);
    request.set_range_end(end);
    return request;
}

/// Of the tests' parameter: every etcd of this machine, or one name that says that there is none.
inline std::vector<std::string> isolation_programs() {
    std::vector<std::string> found = etcd_programs();
    if (found.empty()) found.push_back(kNoEtcd);
    return found;
}

inline std::string isolation_name(const testing::TestParamInfo<std::string>& info) {
    std::string name = info.param;
    for (char& c : name) {
        if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
    }
    return name;
}

}  // namespace basalt::etcd
