#include "etcd/model.h"

#include <algorithm>

#include "async/wait.h"

namespace basalt::etcd {

using async::Task;

namespace {

/// As the server's status reaches map_error().
Error server_error(Code code, const std::string& text) {
    return map_error(Error(code, "etcdserver: " + text).with_cause(static_cast<int>(code)));
}
Error denied() { return server_error(Code::kPermissionDenied, "permission denied"); }
Error precondition(const std::string& text) {
    return server_error(Code::kFailedPrecondition, text);
}

bool is_open(const std::string& end) { return end == std::string(1, '\0'); }

bool contains(const KeyRange& outer, const KeyRange& inner) {
    if (outer.end.empty()) return inner.end.empty() && inner.begin == outer.begin;
    if (inner.begin < outer.begin) return false;
    if (is_open(outer.end)) return true;
    if (inner.end.empty()) return inner.begin < outer.end;
    return !is_open(inner.end) && inner.end <= outer.end;
}

bool allows(Access granted, Access wanted) {
    return granted == Access::kReadWrite || granted == wanted;
}

/// Goes through etcd's log, even when it changes nothing.
bool is_write(std::string_view method) {
    static const std::set<std::string_view> kQuestions = {"Range",    "AuthStatus", "UserGet",
                                                          "UserList", "RoleGet",    "RoleList",
                                                          "AlarmGet", "MemberList", "Status"};
    return !kQuestions.contains(method);
}

bool begins_before(const Permission& a, const Permission& b) {
    return a.range.begin < b.range.begin;
}

}  // namespace

int64_t ModelEtcd::bytes_in_use() const {
    size_t bytes = 0;
    for (const auto& [key, value] : data) bytes += key.size() + value.size();
    return static_cast<int64_t>(bytes);
}

class ModelClient final : public Client {
 public:
    ModelClient(ModelEtcd& model, std::string user, std::string who)
        : model_(model), user_(std::move(user)), who_(std::move(who)), endpoints_{"model:2379"} {}

    Answer<RangeResult> range(KeyRange range, int64_t limit, bool keys_only) override {
        return answer<RangeResult>(
            "Range", [this, range, limit, keys_only] { return do_range(range, limit, keys_only); });
    }
    Answer<void> put(std::string key, std::string value) override {
        return answer<void>("Put", [this, key, value] { return do_put(key, value); });
    }
    Answer<int64_t> delete_range(KeyRange range) override {
        return answer<int64_t>("DeleteRange", [this, range] { return do_delete(range); });
    }
    Answer<void> compact(int64_t) override {
        return answer<void>("Compact", [this] { return admin(); });
    }
    Answer<bool> auth_enabled() override {
        return answer<bool>("AuthStatus", [this]() -> Result<bool> {
            BASALT_TRY(admin());
            return model_.auth_on;
        });
    }
    Answer<void> auth_enable() override {
        return answer<void>("AuthEnable", [this] { return do_auth_enable(); });
    }
    Answer<void> user_add(std::string name) override {
        return answer<void>("UserAdd", [this, name]() -> Result<void> {
            BASALT_TRY(admin());
            if (name.empty()) return server_error(Code::kInvalidArgument, "user name is empty");
            if (!model_.users.emplace(name, std::set<std::string>()).second) {
                return precondition("user name already exists");
            }
            return {};
        });
    }
    Answer<std::vector<std::string>> user_get(std::string name) override {
        return answer<std::vector<std::string>>(
            "UserGet", [this, name]() -> Result<std::vector<std::string>> {
                if (name != user_) {
                    BASALT_TRY(admin());
                }
                auto found = model_.users.find(name);
                if (found == model_.users.end()) return precondition("user name not found");
                return std::vector<std::string>(found->second.begin(), found->second.end());
            });
    }
    Answer<void> user_delete(std::string name) override {
        return answer<void>("UserDelete", [this, name]() -> Result<void> {
            BASALT_TRY(admin());
            if (model_.auth_on && name == "root") {
                return server_error(Code::kInvalidArgument, "invalid auth management");
            }
            if (model_.users.erase(name) == 0) return precondition("user name not found");
            return {};
        });
    }
    Answer<std::vector<std::string>> user_list() override {
        return answer<std::vector<std::string>>("UserList", [this] { return names(model_.users); });
    }
    Answer<void> user_grant_role(std::string user, std::string role) override {
        return answer<void>("UserGrantRole", [this, user, role]() -> Result<void> {
            BASALT_TRY(admin());
            auto found = model_.users.find(user);
            if (found == model_.users.end()) return precondition("user name not found");
            if (role != "root" && !model_.roles.contains(role))
                return precondition("role name not found");
            found->second.insert(role);
            return {};
        });
    }
    Answer<void> user_revoke_role(std::string user, std::string role) override {
        return answer<void>("UserRevokeRole", [this, user, role]() -> Result<void> {
            BASALT_TRY(admin());
            auto found = model_.users.find(user);
            if (found == model_.users.end()) return precondition("user name not found");
            if (found->second.erase(role) == 0)
                return precondition("role is not granted to the user");
            return {};
        });
    }
    Answer<void> role_add(std::string name) override {
        return answer<void>("RoleAdd", [this, name]() -> Result<void> {
            BASALT_TRY(admin());
            if (name.empty()) return server_error(Code::kInvalidArgument, "role name is empty");
            if (!model_.roles.emplace(name, std::vector<Permission>()).second) {
                return precondition("role name already exists");
            }
            return {};
        });
    }
    Answer<std::vector<Permission>> role_get(std::string name) override {
        return answer<std::vector<Permission>>(
            "RoleGet", [this, name]() -> Result<std::vector<Permission>> {
                auto self = model_.users.find(user_);
                if (self == model_.users.end() || !self->second.contains(name)) {
                    BASALT_TRY(admin());
                }
                auto found = model_.roles.find(name);
                if (found == model_.roles.end()) return precondition("role name not found");
                return found->second;
            });
    }
    Answer<void> role_delete(std::string name) override {
        return answer<void>("RoleDelete", [this, name]() -> Result<void> {
            BASALT_TRY(admin());
            if (model_.roles.erase(name) == 0) return precondition("role name not found");
            for (auto& [user, granted] : model_.users) granted.erase(name);
            return {};
        });
    }
    Answer<std::vector<std::string>> role_list() override {
        return answer<std::vector<std::string>>("RoleList", [this] { return names(model_.roles); });
    }
    Answer<void> role_grant_permission(std::string role, Permission permission) override {
        return answer<void>("RoleGrantPermission",
                            [this, role, permission] { return do_grant(role, permission); });
    }
    Answer<void> role_revoke_permission(std::string role, KeyRange range) override {
        return answer<void>("RoleRevokePermission", [this, role, range]() -> Result<void> {
            BASALT_TRY(admin());
            auto found = model_.roles.find(role);
            if (found == model_.roles.end()) return precondition("role name not found");
            if (std::erase_if(found->second,
                              [&](const Permission& p) { return p.range == range; }) == 0) {
                return precondition("permission is not granted to the role");
            }
            return {};
        });
    }
    Answer<std::vector<Alarm>> alarms() override {
        return answer<std::vector<Alarm>>("AlarmGet", [this]() -> Result<std::vector<Alarm>> {
            std::vector<Alarm> found;
            if (model_.no_space) found.push_back({1, AlarmType::kNoSpace});
            return found;
        });
    }
    Answer<void> disarm(Alarm) override {
        return answer<void>("AlarmDisarm", [this]() -> Result<void> {
            BASALT_TRY(admin());
            model_.no_space = false;
            return {};
        });
    }
    Answer<std::vector<Member>> members() override {
        return answer<std::vector<Member>>("MemberList", [this]() -> Result<std::vector<Member>> {
            return std::vector<Member>{{1, "model", {"https://" + endpoints_[0]}, false}};
        });
    }
    Answer<MemberStatus> status(size_t) override {
        return answer<MemberStatus>("Status", [this]() -> Result<MemberStatus> {
            MemberStatus status;
            status.version = model_.version;
            status.member_id = status.leader_id = 1;
            status.revision = model_.revision_;
            status.db_size = model_.file_size;
            status.db_size_in_use = model_.bytes_in_use();
            status.db_size_quota = model_.quota;
            return status;
        });
    }
    Answer<void> defragment(size_t) override {
        return answer<void>("Defragment", [this]() -> Result<void> {
            BASALT_TRY(admin());
            model_.file_size = model_.bytes_in_use();
            return {};
        });
    }
    const std::vector<std::string>& endpoints() const override { return endpoints_; }
    Result<void> set_tls(std::shared_ptr<const net::TlsContext>) override { return {}; }
    void set_write_guard(std::function<Result<void>()> guard) override {
        write_guard_ = std::move(guard);
    }

 private:
    template <class T>
    struct Call {
        std::string method;
        std::function<Result<T>()> effect;
        std::function<void(Result<T>)> done;
        async::Loop::TimerId timer = 0;
        std::optional<Result<T>> result;
    };

    // On the model's own loop: who asks may stand still meanwhile.
    template <class T>
    Task<Result<T>> answer(std::string method, std::function<Result<T>()> effect) {
        async::Loop& loop = model_.loop_;
        if (write_guard_ && is_write(method)) {
            Result<void> allowed = write_guard_();
            if (!allowed.ok()) co_return std::move(allowed).error();
        }
        Call<T> call{std::move(method), std::move(effect), {}, 0, {}};
        async::Operation<T> operation(
            [this, &call, &loop](std::function<void(Result<T>)> done) {
                call.done = std::move(done);
                const Duration there = model_.latency ? model_.latency(who_) : Duration(0);
                call.timer = loop.call_at(loop.now() + there, [this, &call] { arrive(call); });
            },
            [&call, &loop] {
                loop.cancel_timer(call.timer);
                call.done(cancelled());
            });
        Result<T> result = co_await operation;
        co_return std::move(result);
    }

    template <class T>
    void arrive(Call<T>& call) {
        call.result.emplace(act(call));
        async::Loop& loop = model_.loop_;
        call.timer = loop.call_at(loop.now(), [&call] { call.done(std::move(*call.result)); });
    }

    template <class T>
    Result<T> act(const Call<T>& call) {
        if (model_.fault.before) {
            std::optional<Error> error = model_.fault.before(call.method);
            if (error) return std::move(*error);
        }
        Result<T> result = call.effect();
        if (is_write(call.method)) {
            ++model_.writes_count_;
            if (model_.on_write) model_.on_write(who_, call.method);
        }
        if (model_.fault.after) {
            std::optional<Error> error = model_.fault.after(call.method);
            if (error) return std::move(*error);
        }
        return result;
    }

    Result<void> admin() const {
        if (!model_.auth_on) return {};
        if (user_.empty()) return server_error(Code::kInvalidArgument, "user name is empty");
        auto found = model_.users.find(user_);
        if (found == model_.users.end()) return precondition("user name not found");
        if (!found->second.contains("root")) return denied();
        return {};
    }

    Result<void> permitted(const KeyRange& range, Access wanted) const {
        if (admin().ok()) return {};
        auto found = model_.users.find(user_);
        if (found == model_.users.end()) return denied();
        for (const std::string& role : found->second) {
            auto permissions = model_.roles.find(role);
            if (permissions == model_.roles.end()) continue;
            for (const Permission& permission : permissions->second) {
                if (allows(permission.access, wanted) && contains(permission.range, range))
                    return {};
            }
        }
        return denied();
    }

    template <class Map>
    Result<std::vector<std::string>> names(const Map& map) const {
        BASALT_TRY(admin());
        std::vector<std::string> result;
        for (const auto& [name, unused] : map) result.push_back(name);
        return result;
    }

    std::pair<std::map<std::string, std::string>::iterator,
              std::map<std::string, std::string>::iterator>
    bounds(const KeyRange& range) {
        auto begin = model_.data.lower_bound(range.begin);
        if (range.end.empty()) return {begin, model_.data.upper_bound(range.begin)};
        if (is_open(range.end)) return {begin, model_.data.end()};
        if (range.end <= range.begin) return {begin, begin};
        return {begin, model_.data.lower_bound(range.end)};
    }

    Result<RangeResult> do_range(const KeyRange& range, int64_t limit, bool keys_only) {
        BASALT_TRY(permitted(range, Access::kRead));
        RangeResult result;
        result.revision = model_.revision_;
        auto [begin, end] = bounds(range);
        for (auto item = begin; item != end; ++item) {
            ++result.count;
            if (limit > 0 && result.count > limit) {
                result.more = true;
                continue;
            }
            result.items.push_back({item->first, keys_only ? std::string() : item->second, 1});
        }
        return result;
    }

    Result<void> do_put(const std::string& key, const std::string& value) {
        BASALT_TRY(permitted(KeyRange{key, {}}, Access::kWrite));
        const auto size = static_cast<int64_t>(key.size() + value.size());
        if (model_.no_space || model_.file_size + size > model_.quota) {
            model_.no_space = true;
            return server_error(Code::kResourceExhausted, "mvcc: database space exceeded");
        }
        model_.data[key] = value;
        model_.file_size += size;
        ++model_.revision_;
        return {};
    }

    Result<int64_t> do_delete(const KeyRange& range) {
        BASALT_TRY(permitted(range, Access::kWrite));
        auto [begin, end] = bounds(range);
        const auto count = static_cast<int64_t>(std::distance(begin, end));
        model_.data.erase(begin, end);
        if (count > 0) ++model_.revision_;
        return count;
    }

    Result<void> do_auth_enable() {
        BASALT_TRY(admin());
        auto root = model_.users.find("root");
        if (root == model_.users.end()) return precondition("root user does not exist");
        if (!root->second.contains("root"))
            return precondition("root user does not have root role");
        model_.auth_on = true;
        return {};
    }

    Result<void> do_grant(const std::string& role, const Permission& permission) {
        BASALT_TRY(admin());
        auto found = model_.roles.find(role);
        if (found == model_.roles.end()) return precondition("role name not found");
        // Only the first with this begin is compared, as in etcd: there may be two for one range.
        auto first =
            std::lower_bound(found->second.begin(), found->second.end(), permission, begins_before);
        if (first != found->second.end() && first->range == permission.range) {
            first->access = permission.access;
            return {};
        }
        found->second.push_back(permission);
        std::stable_sort(found->second.begin(), found->second.end(), begins_before);
        return {};
    }

    ModelEtcd& model_;
    std::string user_;
    std::string who_;
    std::function<Result<void>()> write_guard_;
    std::vector<std::string> endpoints_;
};

std::unique_ptr<Client> ModelEtcd::connect(std::string user, std::string who) {
    return std::make_unique<ModelClient>(*this, std::move(user), std::move(who));
}

}  // namespace basalt::etcd
