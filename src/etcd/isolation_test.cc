// With one tenant's credentials nothing of another can be read, written, watched, leased, compacted
// away or counted, by any RPC that etcd serves. On real servers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "etcd/isolation_fixture.h"

namespace basalt::etcd {
namespace {

using async::Task;
using testing::HasSubstr;
using testing::Not;

/// Ranges that hold at least one key of the victim's or that the attacker has no right to probe.
std::vector<KeyRange> foreign_ranges() {
    return {
        {"/b/one", {}},    {"/b/", "/b0"},       {"/b/one", "/b/onf"}, {kEverything, kEverything},
        {"/", "0"},        {"/a/", kEverything}, {"/a/", "/b/z"},      {"/a/mine", "/a1"},
        {"/a", "/a0"},     {"/a", {}},           {"/a0", {}},          {"/a-b/x", {}},
        {"/b/missing", {}}};
}

TEST_P(IsolationTest, OwnKeysWork) {
    // The control for all below: the credentials are good.
    pb::RangeRequest own = range_request("/a/", "/a0");
    Result<std::string> read = unary(channel_, call("own range", "KV/Range", own));
    ASSERT_TRUE(read.ok()) << read.error().to_string();
    pb::RangeResponse response;
    ASSERT_TRUE(response.ParseFromString(*read));
    ASSERT_EQ(response.kvs_size(), 1);
    EXPECT_EQ(response.kvs(0).value(), "own");
}

TEST_P(IsolationTest, KvRange) {
    std::vector<Call> attempts;
    for (const KeyRange& range : foreign_ranges()) {
        pb::RangeRequest request = range_request(range.begin, range.end);
        attempts.push_back(call("range " + range.begin, "KV/Range", request));
        request.set_serializable(true);
        attempts.push_back(call("serializable " + range.begin, "KV/Range", request));
        request.set_count_only(true);
        attempts.push_back(call("count " + range.begin, "KV/Range", request));
        request.set_count_only(false);
        request.set_keys_only(true);
        request.set_limit(1);
        request.set_revision(2);
        attempts.push_back(call("old revision " + range.begin, "KV/Range", request));
    }
    expect_refused(attempts);
}

TEST_P(IsolationTest, KvPutAndDelete) {
    std::vector<Call> attempts;
    for (const char* key : {"/b/one", "/b/new", "/a", "/a0", "/a-b/x", "x", "\xff"}) {
        pb::PutRequest put;
        put.set_key(key);
        put.set_value("overwritten");
        attempts.push_back(call(std::string("put ") + key, "KV/Put", put));
        put.set_prev_kv(true);
        attempts.push_back(call(std::string("put with previous ") + key, "KV/Put", put));
        put.clear_value();
        put.set_ignore_value(true);
        attempts.push_back(call(std::string("touch ") + key, "KV/Put", put));
        put.set_ignore_value(false);
        put.set_value("x");
        put.set_ignore_lease(true);
        attempts.push_back(call(std::string("keep lease ") + key, "KV/Put", put));
    }
    for (const KeyRange& range : foreign_ranges()) {
        pb::DeleteRangeRequest request;
        request.set_key(range.begin);
        request.set_range_end(range.end);
        attempts.push_back(call("delete " + range.begin, "KV/DeleteRange", request));
        request.set_prev_kv(true);
        attempts.push_back(call("delete with previous " + range.begin, "KV/DeleteRange", request));
    }
    expect_refused(attempts);
}

TEST_P(IsolationTest, KvTxn) {
    std::vector<Call> attempts;
    auto add = [&](const std::string& name, const pb::TxnRequest& txn) {
        attempts.push_back(call(name, "KV/Txn", txn));
    };
    for (const KeyRange& range : foreign_ranges()) {
        pb::TxnRequest compare;
        pb::Compare* condition = compare.add_compare();
        condition->set_key(range.begin);
        condition->set_range_end(range.end);
        condition->set_target(pb::Compare::VALUE);
        condition->set_result(pb::Compare::EQUAL);
        condition->set_value(kSecret);
        add("compare " + range.begin, compare);

        pb::TxnRequest read, read_else, wipe, nested;
        *read.add_success()->mutable_request_range() = range_request(range.begin, range.end);
        add("txn range " + range.begin, read);
        *read_else.add_failure()->mutable_request_range() = range_request(range.begin, range.end);
        add("txn range in the branch not taken " + range.begin, read_else);
        pb::DeleteRangeRequest* remove = wipe.add_success()->mutable_request_delete_range();
        remove->set_key(range.begin);
        remove->set_range_end(range.end);
        remove->set_prev_kv(true);
        add("txn delete " + range.begin, wipe);
        *nested.add_success()->mutable_request_txn() = read_else;
        add("nested txn " + range.begin, nested);
        pb::TxnRequest nested_compare;
        *nested_compare.add_failure()->mutable_request_txn() = compare;
        add("nested compare " + range.begin, nested_compare);
    }
    pb::TxnRequest write;
    pb::PutRequest* put = write.add_success()->mutable_request_put();
    put->set_key("/b/one");
    put->set_value("overwritten");
    add("txn put", write);
    // Own operations first do not carry a foreign one through.
    pb::TxnRequest mixed;
    *mixed.add_success()->mutable_request_range() = range_request("/a/mine", "");
    *mixed.add_success()->mutable_request_put() = *put;
    add("mixed txn", mixed);
    expect_refused(attempts);
}

TEST_P(IsolationTest, KvCompact) {
    pb::CompactionRequest compact;
    compact.set_revision(3);
    std::vector<Call> attempts = {call("compact", "KV/Compact", compact)};
    compact.set_physical(true);
    compact.set_revision(run(root_->range(victim_.range, 1, true))->revision);
    attempts.push_back(call("compact all", "KV/Compact", compact));
    expect_refused(attempts);
    // The history is still there.
    pb::RangeRequest old = range_request("/b/one", "");
    old.set_revision(2);
    EXPECT_TRUE(unary(victim_channel_, call("old revision", "KV/Range", old)).ok());
}

// --- Watch

Task<Result<std::vector<pb::WatchResponse>>> watch(std::shared_ptr<net::GrpcChannel> channel,
                                                   std::vector<pb::WatchRequest> requests,
                                                   size_t answers_count, TimePoint deadline) {
    net::GrpcCallOptions options;
    options.deadline = deadline;
    const std::string method = "/etcdserverpb.Watch/Watch";
    Result<std::unique_ptr<net::GrpcStream>> stream =
        co_await channel->open(method, std::move(options));
    if (!stream.ok()) co_return std::move(stream).error();
    for (const pb::WatchRequest& request : requests) {
        Result<void> sent = co_await (*stream)->write(request.SerializeAsString());
        if (!sent.ok()) co_return std::move(sent).error();
    }
    std::vector<pb::WatchResponse> answers;
    while (answers.size() < answers_count) {
        Result<std::optional<std::string>> message = co_await (*stream)->read();
        if (!message.ok()) {
            if (message.error().code() == Code::kDeadlineExceeded) break;
            co_return std::move(message).error();
        }
        if (!message->has_value()) break;
        pb::WatchResponse answer;
        if (!answer.ParseFromString(**message)) co_return internal_error("does not parse");
        answers.push_back(std::move(answer));
    }
    co_return std::move(answers);
}

TEST_P(IsolationTest, Watch) {
    // All on one stream: after a refusal the stream goes on, and the next attempt must be judged
    // anew.
    std::vector<pb::WatchRequest> requests;
    for (const KeyRange& range : foreign_ranges()) {
        for (int64_t start_revision : {0, 1, 2}) {
            pb::WatchRequest request;
            pb::WatchCreateRequest* create = request.mutable_create_request();
            create->set_key(range.begin);
            create->set_range_end(range.end);
            create->set_start_revision(start_revision);
            create->set_prev_kv(true);
            create->set_progress_notify(true);
            requests.push_back(std::move(request));
        }
    }
    const size_t refusals_count = requests.size();
    pb::WatchRequest own;
    own.mutable_create_request()->set_key("/a/");
    own.mutable_create_request()->set_range_end("/a0");
    own.mutable_create_request()->set_start_revision(1);
    requests.push_back(own);

    // The last two are the confirmation and the events of the watch that is allowed.
    Result<std::vector<pb::WatchResponse>> answers =
        run(watch(channel_, requests, refusals_count + 2, loop_.now() + std::chrono::seconds(20)));
    ASSERT_TRUE(answers.ok()) << answers.error().to_string();
    ASSERT_EQ(answers->size(), refusals_count + 2);
    size_t refused_count = 0, own_events_count = 0;
    for (const pb::WatchResponse& answer : *answers) {
        if (answer.canceled()) {
            ++refused_count;
            EXPECT_THAT(answer.cancel_reason(), HasSubstr("permission denied"));
        }
        for (const pb::Event& event : answer.events()) {
            EXPECT_TRUE(event.kv().key().starts_with("/a/")) << event.kv().key();
            EXPECT_THAT(event.kv().value(), Not(HasSubstr(kSecret)));
            ++own_events_count;
        }
    }
    EXPECT_EQ(refused_count, refusals_count);
    EXPECT_EQ(own_events_count, 1u);
    expect_untouched();
}

// --- Lease

Task<Result<int64_t>> keep_alive(std::shared_ptr<net::GrpcChannel> channel, int64_t id,
                                 TimePoint deadline) {
    net::GrpcCallOptions options;
    options.deadline = deadline;
    const std::string method = "/etcdserverpb.Lease/LeaseKeepAlive";
    Result<std::unique_ptr<net::GrpcStream>> stream =
        co_await channel->open(method, std::move(options));
    if (!stream.ok()) co_return std::move(stream).error();
    pb::LeaseIdRequest request;
    request.set_id(id);
    Result<void> sent = co_await (*stream)->write(request.SerializeAsString());
    if (!sent.ok()) co_return std::move(sent).error();
    Result<std::optional<std::string>> message = co_await (*stream)->read();
    if (!message.ok()) co_return std::move(message).error();
    if (!message->has_value()) co_return unavailable("stream ended");
    pb::LeaseKeepAliveResponse answer;
    if (!answer.ParseFromString(**message)) co_return internal_error("does not parse");
    co_return answer.ttl();
}

TEST_P(IsolationTest, Lease) {
    pb::LeaseIdRequest victims;
    victims.set_id(kVictimLease);
    pb::LeaseTimeToLiveRequest with_keys;
    with_keys.set_id(kVictimLease);
    with_keys.set_keys(true);
    pb::PutRequest attach;  // The lease's end would take the attacker's key along: harmless;
                            // refused all the same.
    attach.set_key("/a/attached");
    attach.set_value("x");
    attach.set_lease(kVictimLease);
    pb::TxnRequest attach_by_txn;
    *attach_by_txn.add_success()->mutable_request_put() = attach;
    pb::LeaseGrantRequest own;
    own.set_ttl(600);
    own.set_id(99);
    ASSERT_TRUE(unary(channel_, call("own lease", "Lease/LeaseGrant", own)).ok())
        << "granting is open to users";
    pb::PutRequest
        capture;  // Putting the victim's key under the attacker's lease would delete it at its end.
    capture.set_key("/b/one");
    capture.set_value(kSecret);
    capture.set_lease(99);
    expect_refused(
        {call("revoke", "Lease/LeaseRevoke", victims),
         call("time to live with keys", "Lease/LeaseTimeToLive", with_keys),
         call("list", "Lease/LeaseLeases", pb::Empty()), call("attach", "KV/Put", attach),
         call("attach by txn", "KV/Txn", attach_by_txn), call("capture", "KV/Put", capture)});

    Result<int64_t> kept =
        run(keep_alive(channel_, kVictimLease, loop_.now() + std::chrono::seconds(20)));
    ASSERT_FALSE(kept.ok());
    EXPECT_EQ(map_error(kept.error()).reason(), "PermissionDenied") << kept.error().to_string();
    Result<int64_t> own_kept =
        run(keep_alive(channel_, 99, loop_.now() + std::chrono::seconds(20)));
    ASSERT_TRUE(own_kept.ok()) << own_kept.error().to_string();
    EXPECT_EQ(*own_kept, 600);

    // Known and harmless: the time left of a lease whose number was guessed, without its keys.
    with_keys.set_keys(false);
    Result<std::string> time_left =
        unary(channel_, call("time to live", "Lease/LeaseTimeToLive", with_keys));
    if (time_left.ok()) {
        pb::LeaseTimeToLiveResponse response;
        ASSERT_TRUE(response.ParseFromString(*time_left));
        EXPECT_EQ(response.keys_size(), 0);
    }
}

// --- Auth, Cluster, Maintenance

TEST_P(IsolationTest, Auth) {
    auto name = [](const char* text) {
        pb::NameRequest request;
        request.set_name(text);
        return request;
    };
    auto pair = [](const char* user, const char* role) {
        pb::UserRoleRequest request;
        request.set_user(user);
        request.set_role(role);
        return request;
    };
    auto password = [](const char* user) {
        pb::ChangePasswordRequest request;
        request.set_name(user);
        request.set_password("p");
        return request;
    };
    pb::UserAddRequest add;
    add.set_name("c");
    add.set_password("p");
    std::vector<Call> attempts = {
        call("disable", "Auth/AuthDisable", pb::Empty()),
        call("enable", "Auth/AuthEnable", pb::Empty()),
        call("status", "Auth/AuthStatus", pb::Empty()),
        call("add user", "Auth/UserAdd", add),
        call("list users", "Auth/UserList", pb::Empty()),
        call("list roles", "Auth/RoleList", pb::Empty()),
        call("see victim", "Auth/UserGet", name("b-user")),
        call("see root", "Auth/UserGet", name("root")),
        call("see victim's role", "Auth/RoleGet", name("b")),
        call("see root's role", "Auth/RoleGet", name("root")),
        call("delete victim", "Auth/UserDelete", name("b-user")),
        call("delete self", "Auth/UserDelete", name("a-user")),
        call("delete root", "Auth/UserDelete", name("root")),
        call("delete role", "Auth/RoleDelete", name("b")),
        call("add role", "Auth/RoleAdd", name("c")),
        call("become root", "Auth/UserGrantRole", pair("a-user", "root")),
        call("become victim", "Auth/UserGrantRole", pair("a-user", "b")),
        call("strip victim", "Auth/UserRevokeRole", pair("b-user", "b")),
        call("victim's password", "Auth/UserChangePassword", password("b-user")),
        call("own password", "Auth/UserChangePassword", password("a-user")),
        call("root's password", "Auth/UserChangePassword", password("root"))};
    for (const KeyRange& range : foreign_ranges()) {
        pb::RoleGrantRequest grant;
        grant.set_name("a");
        grant.mutable_permission()->set_type(pb::Permission::READWRITE);
        grant.mutable_permission()->set_key(range.begin);
        grant.mutable_permission()->set_range_end(range.end);
        attempts.push_back(
            call("widen own role to " + range.begin, "Auth/RoleGrantPermission", grant));
    }
    pb::RoleRevokeRequest revoke;
    revoke.set_role("b");
    revoke.set_key(victim_.range.begin);
    revoke.set_range_end(victim_.range.end);
    attempts.push_back(call("narrow victim's role", "Auth/RoleRevokePermission", revoke));
    expect_refused(attempts);

    // Nobody has a password, so nobody gets a token with one.
    for (const char* user : {"root", "b-user", "a-user", ""}) {
        for (const char* text : {"", "p", "root"}) {
            pb::AuthenticateRequest request;
            request.set_name(user);
            request.set_password(text);
            Result<std::string> token =
                unary(channel_, call("authenticate", "Auth/Authenticate", request));
            EXPECT_FALSE(token.ok()) << user << " " << text;
        }
    }
    expect_untouched();
}

TEST_P(IsolationTest, Cluster) {
    const uint64_t member_id = run(root_->members())->front().id;
    pb::MemberAddRequest add;
    add.add_peer_urls("http://127.0.0.1:1");
    pb::MemberAddRequest learner = add;
    learner.set_is_learner(true);
    pb::MemberIdRequest member;
    member.set_id(member_id);
    pb::MemberUpdateRequest update;
    update.set_id(member_id);
    update.add_peer_urls("http://127.0.0.1:1");
    expect_refused({call("add", "Cluster/MemberAdd", add),
                    call("add learner", "Cluster/MemberAdd", learner),
                    call("remove", "Cluster/MemberRemove", member),
                    call("update", "Cluster/MemberUpdate", update),
                    call("promote", "Cluster/MemberPromote", member)});
}

Task<Result<size_t>> snapshot(std::shared_ptr<net::GrpcChannel> channel, TimePoint deadline) {
    net::GrpcCallOptions options;
    options.deadline = deadline;
    const std::string method = "/etcdserverpb.Maintenance/Snapshot";
    Result<std::unique_ptr<net::GrpcStream>> stream =
        co_await channel->server_stream(method, std::string(), std::move(options));
    if (!stream.ok()) co_return std::move(stream).error();
    size_t size = 0;
    while (true) {
        Result<std::optional<std::string>> message = co_await (*stream)->read();
        if (!message.ok()) co_return std::move(message).error();
        if (!message->has_value()) co_return size;
        size += (*message)->size();
    }
}

TEST_P(IsolationTest, Maintenance) {
    const uint64_t member_id = run(root_->members())->front().id;
    pb::AlarmRequest raise, clear;
    raise.set_action(pb::AlarmRequest::ACTIVATE);
    raise.set_alarm(pb::NOSPACE);
    raise.set_member_id(member_id);
    pb::AlarmRequest corrupt = raise;
    corrupt.set_alarm(pb::CORRUPT);
    clear.set_action(pb::AlarmRequest::DEACTIVATE);
    clear.set_alarm(pb::NOSPACE);
    clear.set_member_id(member_id);
    pb::MemberIdRequest member;
    member.set_id(member_id);
    pb::DowngradeRequest validate, enable, cancel;
    validate.set_version("3.5.0");
    enable.set_action(pb::DowngradeRequest::ENABLE);
    enable.set_version("3.5.0");
    cancel.set_action(pb::DowngradeRequest::CANCEL);
    expect_refused({call("raise NOSPACE", "Maintenance/Alarm", raise),
                    call("raise CORRUPT", "Maintenance/Alarm", corrupt),
                    call("clear", "Maintenance/Alarm", clear),
                    call("defragment", "Maintenance/Defragment", pb::Empty()),
                    call("hash", "Maintenance/Hash", pb::Empty()),
                    call("hash of keys", "Maintenance/HashKV", pb::HashKvRequest()),
                    call("move leader", "Maintenance/MoveLeader", member),
                    call("validate downgrade", "Maintenance/Downgrade", validate),
                    call("downgrade", "Maintenance/Downgrade", enable),
                    call("cancel downgrade", "Maintenance/Downgrade", cancel)});
    Result<size_t> stolen = run(snapshot(channel_, loop_.now() + std::chrono::seconds(20)));
    ASSERT_FALSE(stolen.ok());
    EXPECT_EQ(map_error(stolen.error()).reason(), "PermissionDenied");
    Result<size_t> whole = run(snapshot(root_channel_, loop_.now() + std::chrono::seconds(20)));
    ASSERT_TRUE(whole.ok()) << whole.error().to_string();
    EXPECT_GT(*whole, 10'000u);
}

// --- Services beside the six: they run on the same keys.

TEST_P(IsolationTest, LocksAndElections) {
    // LockRequest and CampaignRequest share: bytes name = 1, int64 lease = 2, bytes value = 3.
    // LeaderRequest: name = 1.
    pb::LeaseGrantRequest own;
    own.set_ttl(600);
    own.set_id(98);
    ASSERT_TRUE(unary(channel_, call("own lease", "Lease/LeaseGrant", own)).ok());
    pb::KeyValue name_and_lease;  // key = 1, create_revision = 2: the same numbers and types.
    name_and_lease.set_key("/b/one");
    name_and_lease.set_create_revision(98);
    const std::string request = name_and_lease.SerializeAsString();
    pb::KeyValue name_only;
    name_only.set_key("/b/one");
    expect_refused(
        {Call{"lock", "/v3lockpb.Lock/Lock", request},
         Call{"unlock", "/v3lockpb.Lock/Unlock", name_only.SerializeAsString()},
         Call{"campaign", "/v3electionpb.Election/Campaign", request},
         Call{"leader", "/v3electionpb.Election/Leader", name_only.SerializeAsString()}});
}

INSTANTIATE_TEST_SUITE_P(Real, IsolationTest, testing::ValuesIn(isolation_programs()),
                         isolation_name);

}  // namespace
}  // namespace basalt::etcd
