#include "etcd/client.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "base/strings.h"
#include "etcd/rpc.pb.h"
#include "net/url.h"

namespace basalt::etcd {
namespace {

using async::Loop;
using async::Task;

struct Mapping {
    std::string_view text;  ///< Contained in the server's message.
    Code code;
    const char* reason;
};

// etcd's texts are stable: clients of other languages match them, too
// (api/v3rpc/rpctypes/error.go).
constexpr std::array<Mapping, 17> kMappings = {{
    {"database space exceeded", Code::kResourceExhausted, "NoSpace"},
    {"too many requests", Code::kResourceExhausted, "TooManyRequests"},
    {"user name already exists", Code::kAlreadyExists, "UserExists"},
    {"role name already exists", Code::kAlreadyExists, "RoleExists"},
    {"user name not found", Code::kNotFound, "UserNotFound"},
    {"role name not found", Code::kNotFound, "RoleNotFound"},
    {"role is not granted to the user", Code::kNotFound, "RoleNotGranted"},
    {"permission is not granted to the role", Code::kNotFound, "PermissionNotGranted"},
    {"member not found", Code::kNotFound, "MemberNotFound"},
    {"revision of auth store is old", Code::kAborted, "AuthRevision"},
    {"permission denied", Code::kPermissionDenied, "PermissionDenied"},
    {"user name is empty", Code::kUnauthenticated, "NoUser"},
    {"invalid auth token", Code::kUnauthenticated, "InvalidToken"},
    {"authentication is not enabled", Code::kFailedPrecondition, "AuthDisabled"},
    {"revision has been compacted", Code::kOutOfRange, "Compacted"},
    {"corrupt cluster", Code::kDataLoss, "Corrupt"},
    {"no leader", Code::kUnavailable, "NoLeader"},
}};

Result<net::Url> parse_etcd_endpoint(std::string_view text) {
    std::string url(text);
    if (text.find("://") == std::string_view::npos) url = "https://" + url;
    Result<net::Url> parsed = net::parse_url(url);
    if (!parsed.ok()) return std::move(parsed).context(fmt::format("endpoint \"{}\"", text));
    if (parsed->scheme != "https" || (parsed->path != "/" && !parsed->path.empty()) ||
        !parsed->query.empty()) {
        return invalid_argument(
            fmt::format("endpoint \"{}\": must be host:port, reached by TLS", text));
    }
    // net::Url fills in 443, which is no etcd port; 2379 is what etcdctl assumes.
    const std::string_view authority = std::string_view(url).substr(url.find("://") + 3);
    const size_t colon = authority.rfind(':');
    if (colon == std::string_view::npos || authority.find(']', colon) != std::string_view::npos) {
        return invalid_argument(fmt::format("endpoint \"{}\": has no port", text));
    }
    return parsed;
}

template <class Message>
Result<Message> decode(const std::string& bytes) {
    Message message;
    if (!message.ParseFromString(bytes)) return internal_error("etcd's answer does not parse");
    return message;
}

Permission from_pb(const pb::Permission& permission) {
    Access access = permission.type() == pb::Permission::READ    ? Access::kRead
                    : permission.type() == pb::Permission::WRITE ? Access::kWrite
                                                                 : Access::kReadWrite;
    return Permission{access, KeyRange{permission.key(), permission.range_end()}};
}

AlarmType from_pb(pb::AlarmType type) {
    if (type == pb::NOSPACE) return AlarmType::kNoSpace;
    if (type == pb::CORRUPT) return AlarmType::kCorrupt;
    return AlarmType::kOther;
}

using Guard = std::function<Result<void>()>;

class GrpcClient final : public Client {
 public:
    GrpcClient(Loop& loop, ClientOptions options, std::vector<net::Url> urls)
        : loop_(loop),
          options_(std::move(options)),
          urls_(std::move(urls)),
          channels_(urls_.size()) {}

    Answer<RangeResult> range(KeyRange range, int64_t limit, bool keys_only) override;
    Answer<void> put(std::string key, std::string value) override;
    Answer<int64_t> delete_range(KeyRange range) override;
    Answer<void> compact(int64_t revision) override;
    Answer<bool> auth_enabled() override;
    Answer<void> auth_enable() override;
    Answer<void> user_add(std::string name) override;
    Answer<std::vector<std::string>> user_get(std::string name) override;
    Answer<void> user_delete(std::string name) override;
    Answer<std::vector<std::string>> user_list() override;
    Answer<void> user_grant_role(std::string user, std::string role) override;
    Answer<void> user_revoke_role(std::string user, std::string role) override;
    Answer<void> role_add(std::string name) override;
    Answer<std::vector<Permission>> role_get(std::string name) override;
    Answer<void> role_delete(std::string name) override;
    Answer<std::vector<std::string>> role_list() override;
    Answer<void> role_grant_permission(std::string role, Permission permission) override;
    Answer<void> role_revoke_permission(std::string role, KeyRange range) override;
    Answer<std::vector<Alarm>> alarms() override;
    Answer<void> disarm(Alarm alarm) override;
    Answer<std::vector<Member>> members() override;
    Answer<MemberStatus> status(size_t endpoint) override;
    Answer<void> defragment(size_t endpoint) override;
    const std::vector<std::string>& endpoints() const override { return options_.endpoints; }
    Result<void> set_tls(std::shared_ptr<const net::TlsContext> tls) override;
    void set_write_guard(Guard guard) override { write_guard_ = std::move(guard); }

 private:
    std::shared_ptr<net::GrpcChannel> channel(size_t endpoint);
    Task<Result<std::string>> call_endpoint(size_t endpoint, std::string method,
                                            std::string request, Duration timeout, Guard guard);
    Task<Result<std::string>> call(std::string method, std::string request, Guard guard = Guard());
    /// Of all that changes something and answers nothing.
    Task<Result<void>> call_void(std::string method, std::string request);
    Task<Result<std::vector<std::string>>> call_names(std::string method, std::string request);

    Loop& loop_;
    ClientOptions options_;
    std::vector<net::Url> urls_;
    std::vector<std::shared_ptr<net::GrpcChannel>> channels_;
    size_t current_ = 0;  ///< The endpoint that answered last.
    Guard write_guard_;
};

/// Defragmenting a full database of the default maximum (8 GiB) on a slow disk.
constexpr Duration kDefragmentTimeout = std::chrono::minutes(10);

/// Of a request that met "AuthRevision"; each repeat needs another change of users to fail again.
constexpr int kMaxRepeats = 10;

std::shared_ptr<net::GrpcChannel> GrpcClient::channel(size_t endpoint) {
    std::shared_ptr<net::GrpcChannel>& slot = channels_[endpoint];
    if (slot) return slot;
    if (options_.make_channel) {
        slot = options_.make_channel(options_.endpoints[endpoint]);
    } else {
        net::HttpClientOptions http;
        http.tls = options_.tls;
        http.version = net::HttpVersion::kHttp2;
        http.connect_timeout = options_.request_timeout;
        slot = net::make_grpc_channel(loop_, urls_[endpoint], std::move(http));
    }
    return slot;
}

Result<void> GrpcClient::set_tls(std::shared_ptr<const net::TlsContext> tls) {
    options_.tls = std::move(tls);
    for (std::shared_ptr<net::GrpcChannel>& slot : channels_)
        slot.reset();  // Calls in flight hold theirs.
    return {};
}

Task<Result<std::string>> GrpcClient::call_endpoint(size_t endpoint, std::string method,
                                                    std::string request, Duration timeout,
                                                    Guard guard) {
    if (guard) {
        Result<void> allowed = guard();
        if (!allowed.ok()) co_return std::move(allowed).error();
    }
    std::shared_ptr<net::GrpcChannel> used = channel(endpoint);
    net::GrpcCallOptions options;
    options.guard = std::move(guard);
    options.deadline = loop_.now() + timeout;
    options.max_message_size = kMaxMessageSize;
    Result<std::string> answer =
        co_await used->unary(method, std::move(request), std::move(options));
    if (!answer.ok()) {
        std::string where = fmt::format("etcd {} {}", options_.endpoints[endpoint],
                                        method.substr(method.rfind('/') + 1));
        co_return map_error(std::move(answer).error()).context(where);
    }
    co_return std::move(answer);
}

Task<Result<std::string>> GrpcClient::call(std::string method, std::string request, Guard guard) {
    std::optional<Error> last;
    const size_t first = current_;
    int repeats_left = kMaxRepeats;
    for (size_t tried = 0; tried < urls_.size();) {
        const size_t endpoint = (first + tried) % urls_.size();
        Result<std::string> answer =
            co_await call_endpoint(endpoint, method, request, options_.request_timeout, guard);
        const Code code = answer.ok() ? Code::kOk : answer.error().code();
        // Not executed: users changed between its check and its turn.
        if (code == Code::kAborted && repeats_left-- > 0) continue;
        // Another member may do better when this one is away, hangs or has no leader. What etcd
        // decided stands.
        if (code != Code::kUnavailable && code != Code::kDeadlineExceeded) {
            current_ = endpoint;
            co_return std::move(answer);
        }
        last = answer.error();
        ++tried;
    }
    current_ = (first + 1) % urls_.size();
    co_return std::move(*last);
}

Task<Result<void>> GrpcClient::call_void(std::string method, std::string request) {
    Result<std::string> answer = co_await call(std::move(method), std::move(request), write_guard_);
    if (!answer.ok()) co_return std::move(answer).error();
    co_return Result<void>();
}

Task<Result<std::vector<std::string>>> GrpcClient::call_names(std::string method,
                                                              std::string request) {
    BASALT_CO_ASSIGN(std::string bytes, co_await call(std::move(method), std::move(request)));
    BASALT_CO_ASSIGN(pb::NamesResponse response, decode<pb::NamesResponse>(bytes));
    co_return std::vector<std::string>(response.names().begin(), response.names().end());
}

Task<Result<RangeResult>> GrpcClient::range(KeyRange range, int64_t limit, bool keys_only) {
    pb::RangeRequest request;
    request.set_key(std::move(range.begin));
    request.set_range_end(std::move(range.end));
    request.set_limit(limit);
    request.set_keys_only(keys_only);
    BASALT_CO_ASSIGN(std::string bytes,
                     co_await call("/etcdserverpb.KV/Range", request.SerializeAsString()));
    BASALT_CO_ASSIGN(pb::RangeResponse response, decode<pb::RangeResponse>(bytes));
    RangeResult result;
    result.more = response.more();
    result.count = response.count();
    result.revision = response.header().revision();
    for (pb::KeyValue& item : *response.mutable_kvs()) {
        result.items.push_back({std::move(*item.mutable_key()), std::move(*item.mutable_value()),
                                item.mod_revision()});
    }
    co_return std::move(result);
}

Task<Result<void>> GrpcClient::put(std::string key, std::string value) {
    pb::PutRequest request;
    request.set_key(std::move(key));
    request.set_value(std::move(value));
    return call_void("/etcdserverpb.KV/Put", request.SerializeAsString());
}

Task<Result<int64_t>> GrpcClient::delete_range(KeyRange range) {
    pb::DeleteRangeRequest request;
    request.set_key(std::move(range.begin));
    request.set_range_end(std::move(range.end));
    BASALT_CO_ASSIGN(std::string bytes, co_await call("/etcdserverpb.KV/DeleteRange",
                                                      request.SerializeAsString(), write_guard_));
    BASALT_CO_ASSIGN(pb::DeleteRangeResponse response, decode<pb::DeleteRangeResponse>(bytes));
    co_return response.deleted();
}

Task<Result<void>> GrpcClient::compact(int64_t revision) {
    pb::CompactionRequest request;
    request.set_revision(revision);
    request.set_physical(true);
    return call_void("/etcdserverpb.KV/Compact", request.SerializeAsString());
}

Task<Result<bool>> GrpcClient::auth_enabled() {
    BASALT_CO_ASSIGN(std::string bytes,
                     co_await call("/etcdserverpb.Auth/AuthStatus", std::string()));
    BASALT_CO_ASSIGN(pb::AuthStatusResponse response, decode<pb::AuthStatusResponse>(bytes));
    co_return response.enabled();
}

Task<Result<void>> GrpcClient::auth_enable() {
    return call_void("/etcdserverpb.Auth/AuthEnable", std::string());
}

std::string name_request(std::string name) {
    pb::NameRequest request;
    request.set_name(std::move(name));
    return request.SerializeAsString();
}

std::string user_role_request(std::string user, std::string role) {
    pb::UserRoleRequest request;
    request.set_user(std::move(user));
    request.set_role(std::move(role));
    return request.SerializeAsString();
}

Task<Result<void>> GrpcClient::user_add(std::string name) {
    pb::UserAddRequest request;
    request.set_name(std::move(name));
    request.mutable_options()->set_no_password(true);
    return call_void("/etcdserverpb.Auth/UserAdd", request.SerializeAsString());
}

Task<Result<std::vector<std::string>>> GrpcClient::user_get(std::string name) {
    return call_names("/etcdserverpb.Auth/UserGet", name_request(std::move(name)));
}

Task<Result<void>> GrpcClient::user_delete(std::string name) {
    return call_void("/etcdserverpb.Auth/UserDelete", name_request(std::move(name)));
}

Task<Result<std::vector<std::string>>> GrpcClient::user_list() {
    return call_names("/etcdserverpb.Auth/UserList", std::string());
}

Task<Result<void>> GrpcClient::user_grant_role(std::string user, std::string role) {
    return call_void("/etcdserverpb.Auth/UserGrantRole",
                     user_role_request(std::move(user), std::move(role)));
}

Task<Result<void>> GrpcClient::user_revoke_role(std::string user, std::string role) {
    return call_void("/etcdserverpb.Auth/UserRevokeRole",
                     user_role_request(std::move(user), std::move(role)));
}

Task<Result<void>> GrpcClient::role_add(std::string name) {
    return call_void("/etcdserverpb.Auth/RoleAdd", name_request(std::move(name)));
}

Task<Result<std::vector<Permission>>> GrpcClient::role_get(std::string name) {
    BASALT_CO_ASSIGN(std::string bytes,
                     co_await call("/etcdserverpb.Auth/RoleGet", name_request(std::move(name))));
    BASALT_CO_ASSIGN(pb::RoleGetResponse response, decode<pb::RoleGetResponse>(bytes));
    std::vector<Permission> permissions;
    for (const pb::Permission& permission : response.permissions())
        permissions.push_back(from_pb(permission));
    co_return std::move(permissions);
}

Task<Result<void>> GrpcClient::role_delete(std::string name) {
    return call_void("/etcdserverpb.Auth/RoleDelete", name_request(std::move(name)));
}

Task<Result<std::vector<std::string>>> GrpcClient::role_list() {
    return call_names("/etcdserverpb.Auth/RoleList", std::string());
}

Task<Result<void>> GrpcClient::role_grant_permission(std::string role, Permission permission) {
    pb::RoleGrantRequest request;
    request.set_name(std::move(role));
    pb::Permission* wanted = request.mutable_permission();
    wanted->set_type(permission.access == Access::kRead    ? pb::Permission::READ
                     : permission.access == Access::kWrite ? pb::Permission::WRITE
                                                           : pb::Permission::READWRITE);
    wanted->set_key(std::move(permission.range.begin));
    wanted->set_range_end(std::move(permission.range.end));
    return call_void("/etcdserverpb.Auth/RoleGrantPermission", request.SerializeAsString());
}

Task<Result<void>> GrpcClient::role_revoke_permission(std::string role, KeyRange range) {
    pb::RoleRevokeRequest request;
    request.set_role(std::move(role));
    request.set_key(std::move(range.begin));
    request.set_range_end(std::move(range.end));
    return call_void("/etcdserverpb.Auth/RoleRevokePermission", request.SerializeAsString());
}

Task<Result<std::vector<Alarm>>> GrpcClient::alarms() {
    pb::AlarmRequest request;
    BASALT_CO_ASSIGN(std::string bytes,
                     co_await call("/etcdserverpb.Maintenance/Alarm", request.SerializeAsString()));
    BASALT_CO_ASSIGN(pb::AlarmResponse response, decode<pb::AlarmResponse>(bytes));
    std::vector<Alarm> found;
    for (const pb::AlarmMember& alarm : response.alarms()) {
        found.push_back({alarm.member_id(), from_pb(alarm.alarm())});
    }
    co_return std::move(found);
}

Task<Result<void>> GrpcClient::disarm(Alarm alarm) {
    pb::AlarmRequest request;
    request.set_action(pb::AlarmRequest::DEACTIVATE);
    request.set_member_id(alarm.member_id);
    request.set_alarm(alarm.type == AlarmType::kNoSpace ? pb::NOSPACE : pb::CORRUPT);
    return call_void("/etcdserverpb.Maintenance/Alarm", request.SerializeAsString());
}

Task<Result<std::vector<Member>>> GrpcClient::members() {
    pb::MemberListRequest request;
    request.set_linearizable(true);
    BASALT_CO_ASSIGN(std::string bytes, co_await call("/etcdserverpb.Cluster/MemberList",
                                                      request.SerializeAsString()));
    BASALT_CO_ASSIGN(pb::MemberListResponse response, decode<pb::MemberListResponse>(bytes));
    std::vector<Member> found;
    for (const pb::Member& member : response.members()) {
        found.push_back({member.id(),
                         member.name(),
                         {member.client_urls().begin(), member.client_urls().end()},
                         member.is_learner()});
    }
    co_return std::move(found);
}

Task<Result<MemberStatus>> GrpcClient::status(size_t endpoint) {
    BASALT_CO_ASSIGN(std::string bytes,
                     co_await call_endpoint(endpoint, "/etcdserverpb.Maintenance/Status",
                                            std::string(), options_.request_timeout, Guard()));
    BASALT_CO_ASSIGN(pb::StatusResponse response, decode<pb::StatusResponse>(bytes));
    MemberStatus status;
    status.version = response.version();
    status.member_id = response.header().member_id();
    status.leader_id = response.leader();
    status.revision = response.header().revision();
    status.db_size = response.db_size();
    status.db_size_in_use = response.db_size_in_use();
    status.db_size_quota = response.db_size_quota();
    status.is_learner = response.is_learner();
    status.errors.assign(response.errors().begin(), response.errors().end());
    co_return std::move(status);
}

Task<Result<void>> GrpcClient::defragment(size_t endpoint) {
    Result<std::string> answer =
        co_await call_endpoint(endpoint, "/etcdserverpb.Maintenance/Defragment", std::string(),
                               kDefragmentTimeout, write_guard_);
    if (!answer.ok()) co_return std::move(answer).error();
    co_return Result<void>();
}

}  // namespace

Error map_error(Error error) {
    // All that etcd itself says starts so; errors of the connection and of files may use the same
    // words.
    if (error.message().find("etcdserver: ") == std::string::npos) return error;
    for (const Mapping& mapping : kMappings) {
        if (error.message().find(mapping.text) == std::string::npos) continue;
        return Error(mapping.code, error.message()).with_cause(error.cause_code(), mapping.reason);
    }
    return error;
}

Result<std::unique_ptr<Client>> make_client(Loop& loop, ClientOptions options) {
    if (options.endpoints.empty()) return invalid_argument("endpoints: there are none");
    if (options.endpoints.size() > kMaxEndpoints) {
        return invalid_argument(fmt::format("endpoints: more than {}", kMaxEndpoints));
    }
    if (!options.tls && !options.make_channel)
        return invalid_argument("etcd is reached by TLS only");
    std::vector<net::Url> urls;
    for (const std::string& endpoint : options.endpoints) {
        BASALT_ASSIGN(net::Url url, parse_etcd_endpoint(endpoint));
        urls.push_back(std::move(url));
    }
    return std::unique_ptr<Client>(
        std::make_unique<GrpcClient>(loop, std::move(options), std::move(urls)));
}

}  // namespace basalt::etcd
