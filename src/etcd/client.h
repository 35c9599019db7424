// etcd as its administrator uses it: users, roles, key ranges, health. No watches, no leases, no
// locks: those are the API servers' business.
//
// One Client serves all control planes of a datastore: one HTTP/2 connection per member in use, to
// the first endpoint that answers, and to the next when that fails. mTLS: the client certificate's
// common name is the etcd user. The interface is abstract so that a model can stand in its place.
// One loop.
//
// Errors carry etcd's gRPC code as cause_code() and these codes and reasons:
//   ResourceExhausted "NoSpace"        the quota is used up, an alarm is raised, nothing can be
//   written ResourceExhausted "TooManyRequests" AlreadyExists "UserExists" / "RoleExists"; NotFound
//   "UserNotFound" / "RoleNotFound" / "RoleNotGranted" / "PermissionNotGranted" / "MemberNotFound"
//   Aborted "AuthRevision"             users changed between a request's check and its execution
//   (repeated inside a
//                                      few times, as etcd's own client does)
//   PermissionDenied "PermissionDenied"; Unauthenticated "NoUser" (certificate without a name),
//   "InvalidToken" FailedPrecondition "AuthDisabled"; OutOfRange "Compacted"; DataLoss "Corrupt";
//   Unavailable "NoLeader"
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "async/task.h"
#include "net/grpc.h"
#include "net/tls.h"

namespace basalt::etcd {

/// For one request to one endpoint. etcd's own limit for a request is 5 s plus two elections.
inline constexpr Duration kRequestTimeout = std::chrono::seconds(7);
inline constexpr size_t kMaxEndpoints = 64;
/// Of one answer; etcd refuses requests above 1.5 MiB, ranges are limited by us.
inline constexpr size_t kMaxMessageSize = 16 * 1024 * 1024;

/// Keys from `begin` up to, not including, `end`. An empty end means the one key `begin`; "\0"
/// means no end.
struct KeyRange {
    std::string begin;
    std::string end;
    friend bool operator==(const KeyRange&, const KeyRange&) = default;
};

struct KeyValue {
    std::string key;
    std::string value;
    int64_t mod_revision = 0;
};

struct RangeResult {
    std::vector<KeyValue> items;
    bool more = false;
    int64_t count = 0;  ///< Of all keys of the range, beyond the limit, too.
    int64_t revision = 0;
};

enum class Access { kRead, kWrite, kReadWrite };

struct Permission {
    Access access = Access::kReadWrite;
    KeyRange range;
    friend bool operator==(const Permission&, const Permission&) = default;
};

struct MemberStatus {
    std::string version;  ///< "3.6.16"
    uint64_t member_id = 0;
    uint64_t leader_id = 0;  ///< 0: no leader.
    int64_t revision = 0;
    int64_t db_size = 0;         ///< Bytes of the file.
    int64_t db_size_in_use = 0;  ///< What remains after defragmentation.
    int64_t db_size_quota = 0;   ///< 0: not told (before 3.6).
    bool is_learner = false;
    std::vector<std::string> errors;
};

enum class AlarmType { kNoSpace, kCorrupt, kOther };

struct Alarm {
    uint64_t member_id = 0;
    AlarmType type = AlarmType::kOther;
};

struct Member {
    uint64_t id = 0;
    std::string name;
    std::vector<std::string> client_urls;
    bool is_learner = false;
};

/// A call may reach etcd twice when a connection breaks in between; all of these end in the same
/// state then, though the answer may be AlreadyExists or NotFound.
class Client {
 public:
    template <class T>
    using Answer = async::Task<Result<T>>;

    virtual ~Client() = default;

    virtual Answer<RangeResult> range(KeyRange range, int64_t limit, bool keys_only) = 0;
    virtual Answer<void> put(std::string key, std::string value) = 0;
    /// How many keys were deleted.
    virtual Answer<int64_t> delete_range(KeyRange range) = 0;
    virtual Answer<void> compact(int64_t revision) = 0;

    virtual Answer<bool> auth_enabled() = 0;
    virtual Answer<void> auth_enable() = 0;
    /// Without a password: the user exists through its certificate only.
    virtual Answer<void> user_add(std::string name) = 0;
    /// Its roles.
    virtual Answer<std::vector<std::string>> user_get(std::string name) = 0;
    virtual Answer<void> user_delete(std::string name) = 0;
    virtual Answer<std::vector<std::string>> user_list() = 0;
    virtual Answer<void> user_grant_role(std::string user, std::string role) = 0;
    virtual Answer<void> user_revoke_role(std::string user, std::string role) = 0;
    virtual Answer<void> role_add(std::string name) = 0;
    virtual Answer<std::vector<Permission>> role_get(std::string name) = 0;
    virtual Answer<void> role_delete(std::string name) = 0;
    virtual Answer<std::vector<std::string>> role_list() = 0;
    virtual Answer<void> role_grant_permission(std::string role, Permission permission) = 0;
    virtual Answer<void> role_revoke_permission(std::string role, KeyRange range) = 0;

    virtual Answer<std::vector<Alarm>> alarms() = 0;
    virtual Answer<void> disarm(Alarm alarm) = 0;
    virtual Answer<std::vector<Member>> members() = 0;

    /// These two ask one member and do not fall back to others. `endpoint` is an index into
    /// endpoints().
    virtual Answer<MemberStatus> status(size_t endpoint) = 0;
    /// The member does not answer others meanwhile (seconds per gigabyte).
    virtual Answer<void> defragment(size_t endpoint) = 0;
    virtual const std::vector<std::string>& endpoints() const = 0;

    /// Asked before each try of a call that changes something (keys, users, roles, alarms, files),
    /// at the last moment: its error is the answer then. What it refers to must outlive the
    /// client.
    virtual void set_write_guard(std::function<Result<void>()> guard) = 0;
    /// Another identity or authority: present calls finish, later ones use new connections.
    virtual Result<void> set_tls(std::shared_ptr<const net::TlsContext> tls) = 0;
};

struct ClientOptions {
    std::vector<std::string> endpoints;  ///< "host:port"; "https://host:port" is accepted, too.
    std::shared_ptr<const net::TlsContext> tls;
    Duration request_timeout = kRequestTimeout;
    /// Instead of a connection with TLS; for tests.
    std::function<std::shared_ptr<net::GrpcChannel>(const std::string& endpoint)> make_channel;
};

/// InvalidArgument names the endpoint that does not parse. Connects with the first call.
Result<std::unique_ptr<Client>> make_client(async::Loop& loop, ClientOptions options);

/// What etcd's words mean for us, see above; what does not come from etcd stays as it is.
Error map_error(Error error);

}  // namespace basalt::etcd
