#include "etcd/guarded.h"

namespace basalt::etcd {

namespace {

class GuardedClient final : public Client {
 public:
    GuardedClient(std::shared_ptr<Client> client, std::function<Result<void>()> guard)
        : client_(std::move(client)), guard_(std::move(guard)) {}

    Answer<RangeResult> range(KeyRange range, int64_t limit, bool keys_only) override {
        return client_->range(std::move(range), limit, keys_only);
    }
    Answer<void> put(std::string key, std::string value) override {
        return unless_refused(client_->put(std::move(key), std::move(value)));
    }
    Answer<int64_t> delete_range(KeyRange range) override {
        return unless_refused(client_->delete_range(std::move(range)));
    }
    Answer<void> compact(int64_t revision) override {
        return unless_refused(client_->compact(revision));
    }
    Answer<bool> auth_enabled() override { return client_->auth_enabled(); }
    Answer<void> auth_enable() override { return unless_refused(client_->auth_enable()); }
    Answer<void> user_add(std::string name) override {
        return unless_refused(client_->user_add(std::move(name)));
    }
    Answer<std::vector<std::string>> user_get(std::string name) override {
        return client_->user_get(std::move(name));
    }
    Answer<void> user_delete(std::string name) override {
        return unless_refused(client_->user_delete(std::move(name)));
    }
    Answer<std::vector<std::string>> user_list() override { return client_->user_list(); }
    Answer<void> user_grant_role(std::string user, std::string role) override {
        return unless_refused(client_->user_grant_role(std::move(user), std::move(role)));
    }
    Answer<void> user_revoke_role(std::string user, std::string role) override {
        return unless_refused(client_->user_revoke_role(std::move(user), std::move(role)));
    }
    Answer<void> role_add(std::string name) override {
        return unless_refused(client_->role_add(std::move(name)));
    }
    Answer<std::vector<Permission>> role_get(std::string name) override {
        return client_->role_get(std::move(name));
    }
    Answer<void> role_delete(std::string name) override {
        return unless_refused(client_->role_delete(std::move(name)));
    }
    Answer<std::vector<std::string>> role_list() override { return client_->role_list(); }
    Answer<void> role_grant_permission(std::string role, Permission permission) override {
        return unless_refused(
            client_->role_grant_permission(std::move(role), std::move(permission)));
    }
    Answer<void> role_revoke_permission(std::string role, KeyRange range) override {
        return unless_refused(client_->role_revoke_permission(std::move(role), std::move(range)));
    }
    Answer<std::vector<Alarm>> alarms() override { return client_->alarms(); }
    Answer<void> disarm(Alarm alarm) override { return unless_refused(client_->disarm(alarm)); }
    Answer<std::vector<Member>> members() override { return client_->members(); }
    Answer<MemberStatus> status(size_t endpoint) override { return client_->status(endpoint); }
    Answer<void> defragment(size_t endpoint) override {
        return unless_refused(client_->defragment(endpoint));
    }
    const std::vector<std::string>& endpoints() const override { return client_->endpoints(); }
    Result<void> set_tls(std::shared_ptr<const net::TlsContext> tls) override {
        return client_->set_tls(std::move(tls));
    }

 private:
    /// A call does nothing before it is awaited.
    template <class T>
    Answer<T> unless_refused(Answer<T> call) {
        Result<void> allowed = guard_();
        if (!allowed.ok()) co_return std::move(allowed).error();
        Result<T> answer = co_await call;
        co_return std::move(answer);
    }

    std::shared_ptr<Client> client_;
    std::function<Result<void>()> guard_;
};

}  // namespace

std::shared_ptr<Client> guard_writes(std::shared_ptr<Client> client,
                                     std::function<Result<void>()> guard) {
    return std::make_shared<GuardedClient>(std::move(client), std::move(guard));
}

}  // namespace basalt::etcd
