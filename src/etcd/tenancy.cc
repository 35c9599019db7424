#include "etcd/tenancy.h"

#include <algorithm>

#include <fmt/format.h>

namespace basalt::etcd {

using async::Task;

std::string prefix_end(std::string_view prefix) {
    std::string end(prefix);
    while (!end.empty()) {
        auto last = static_cast<unsigned char>(end.back());
        if (last < 0xff) {
            end.back() = static_cast<char>(last + 1);
            return end;
        }
        end.pop_back();
    }
    return std::string(1, '\0');
}

Result<KeyRange> tenant_range(std::string_view schema) {
    auto refuse = [&](std::string_view why) {
        return invalid_argument(
            fmt::format("datastore schema \"{}\": {}", schema.substr(0, 64), why));
    };
    if (schema.empty()) return refuse("is empty");
    if (schema.size() > kMaxSchemaSize)
        return refuse(fmt::format("is longer than {} bytes", kMaxSchemaSize));
    if (schema == "." || schema == "..") return refuse("would be cleaned away from a path");
    for (char c : schema) {
        if (c == '/') return refuse("must not contain a slash");
        if (static_cast<unsigned char>(c) <= 0x20 || c == 0x7f)
            return refuse("contains a blank or control character");
    }
    const std::string prefix = fmt::format("/{}/", schema);
    return KeyRange{prefix, prefix_end(prefix)};
}

std::vector<Permission> permissions_of(const Tenant& tenant) {
    if (tenant.sealed.empty()) return {Permission{Access::kReadWrite, tenant.range}};
    std::vector<Permission> permissions;
    // The range's first key itself, "/<schema>/", names no object.
    std::string begin = tenant.range.begin + std::string(1, '\0');
    for (const KeyRange& part : tenant.sealed) {
        BASALT_ASSERT(begin <= part.begin && part.begin < part.end);
        if (begin < part.begin)
            permissions.push_back(Permission{Access::kReadWrite, KeyRange{begin, part.begin}});
        begin = part.end;
    }
    permissions.push_back(Permission{Access::kReadWrite, KeyRange{begin, tenant.range.end}});
    permissions.push_back(Permission{Access::kRead, tenant.range});
    return permissions;
}

namespace {

constexpr std::string_view kRoot = "root";
/// After writing, the state is read again; somebody else may write at the same time.
constexpr int kMaxRounds = 4;

bool is(const Result<void>& result, Code code) {
    return !result.ok() && result.error().code() == code;
}

Task<Result<bool>> ensure_role(Client& client, Tenant tenant) {
    Result<std::vector<Permission>> present = co_await client.role_get(tenant.role);
    bool changed = false;
    if (!present.ok()) {
        if (present.error().code() != Code::kNotFound) co_return std::move(present).error();
        Result<void> added = co_await client.role_add(tenant.role);
        if (!added.ok() && !is(added, Code::kAlreadyExists)) co_return std::move(added).error();
        changed = true;
    }
    const std::vector<Permission> permissions = present.ok() ? *present : std::vector<Permission>();
    const std::vector<Permission> wanted = permissions_of(tenant);
    for (const Permission& permission : wanted) {
        const auto same_range =
            std::count_if(permissions.begin(), permissions.end(),
                          [&](const Permission& p) { return p.range == permission.range; });
        if (same_range > 1) {
            // etcd changes a permission in place only when it is the first with its begin;
            // otherwise it adds a second for the same range. Revoking takes both.
            Result<void> revoked =
                co_await client.role_revoke_permission(tenant.role, permission.range);
            if (!revoked.ok() && !is(revoked, Code::kNotFound))
                co_return std::move(revoked).error();
        }
        if (same_range == 1 &&
            std::find(permissions.begin(), permissions.end(), permission) != permissions.end()) {
            continue;
        }
        Result<void> granted = co_await client.role_grant_permission(tenant.role, permission);
        if (!granted.ok()) co_return std::move(granted).error();
        changed = true;
    }
    for (const Permission& permission : permissions) {
        const bool kept = std::any_of(wanted.begin(), wanted.end(), [&](const Permission& p) {
            return p.range == permission.range;
        });
        if (kept) continue;
        Result<void> revoked =
            co_await client.role_revoke_permission(tenant.role, permission.range);
        if (!revoked.ok() && !is(revoked, Code::kNotFound)) co_return std::move(revoked).error();
        changed = true;
    }
    co_return changed;
}

Task<Result<bool>> ensure_user(Client& client, Tenant tenant) {
    Result<std::vector<std::string>> present = co_await client.user_get(tenant.user);
    bool changed = false;
    if (!present.ok()) {
        if (present.error().code() != Code::kNotFound) co_return std::move(present).error();
        Result<void> added = co_await client.user_add(tenant.user);
        if (!added.ok() && !is(added, Code::kAlreadyExists)) co_return std::move(added).error();
        changed = true;
    }
    const std::vector<std::string> roles = present.ok() ? *present : std::vector<std::string>();
    if (std::find(roles.begin(), roles.end(), tenant.role) == roles.end()) {
        Result<void> granted = co_await client.user_grant_role(tenant.user, tenant.role);
        if (!granted.ok()) co_return std::move(granted).error();
        changed = true;
    }
    for (const std::string& role : roles) {
        if (role == tenant.role) continue;
        Result<void> revoked = co_await client.user_revoke_role(tenant.user, role);
        if (!revoked.ok() && !is(revoked, Code::kNotFound)) co_return std::move(revoked).error();
        changed = true;
    }
    co_return changed;
}

/// Before anything is written: nobody's administrator becomes a tenant.
Task<Result<void>> check_names(Client& client, Tenant tenant) {
    if (tenant.user.empty() || tenant.role.empty() || tenant.range.begin.empty() ||
        tenant.range.end.empty()) {
        co_return invalid_argument("a tenant needs a user, a role and a range");
    }
    if (tenant.user == kRoot || tenant.role == kRoot) {
        co_return failed_precondition(
            "the name root belongs to etcd's administrator; choose another user and schema");
    }
    Result<std::vector<std::string>> roles = co_await client.user_get(tenant.user);
    if (!roles.ok()) {
        if (roles.error().code() == Code::kNotFound) co_return Result<void>();
        co_return std::move(roles).error();
    }
    if (std::find(roles->begin(), roles->end(), kRoot) != roles->end()) {
        co_return failed_precondition(fmt::format(
            "the etcd user \"{}\" is an administrator; choose another user name", tenant.user));
    }
    co_return Result<void>();
}

Task<Result<int64_t>> delete_data(Client& client, KeyRange range) {
    int64_t deleted = 0;
    while (true) {
        Result<RangeResult> batch = co_await client.range(range, kDeleteBatchSize, true);
        if (!batch.ok()) co_return std::move(batch).error();
        if (batch->items.empty()) co_return deleted;
        // Just behind the last key of the batch.
        KeyRange part{range.begin, batch->items.back().key + std::string(1, '\0')};
        Result<int64_t> count = co_await client.delete_range(std::move(part));
        if (!count.ok()) co_return std::move(count).error();
        deleted += *count;
    }
}

}  // namespace

Task<Result<bool>> ensure_auth(Client& client) {
    Result<bool> enabled = co_await client.auth_enabled();
    if (!enabled.ok()) co_return std::move(enabled);
    if (*enabled) co_return false;
    const std::string root(kRoot);
    Result<void> user = co_await client.user_add(root);
    if (!user.ok() && !is(user, Code::kAlreadyExists)) co_return std::move(user).error();
    Result<void> role = co_await client.role_add(root);
    if (!role.ok() && !is(role, Code::kAlreadyExists)) co_return std::move(role).error();
    Result<void> granted = co_await client.user_grant_role(root, root);
    if (!granted.ok()) co_return std::move(granted).error();
    Result<void> on = co_await client.auth_enable();
    if (!on.ok()) co_return std::move(on).error();
    co_return true;
}

Task<Result<bool>> ensure_tenant(Client& client, Tenant tenant) {
    Result<void> checked = co_await check_names(client, tenant);
    if (!checked.ok()) co_return std::move(checked).error();
    bool changed = false;
    std::optional<Error> last;
    for (int round = 0; round < kMaxRounds; ++round) {
        Result<bool> role = co_await ensure_role(client, tenant);
        Result<bool> user = role;
        if (role.ok()) user = co_await ensure_user(client, tenant);
        if (user.ok()) {
            if (!*role && !*user) co_return changed;
            changed = true;
            continue;
        }
        // Gone or there meanwhile, or the users changed under the request: look again.
        const Code code = user.error().code();
        if (code != Code::kAborted && code != Code::kNotFound && code != Code::kAlreadyExists) {
            co_return std::move(user).error();
        }
        last = user.error();
    }
    if (last) co_return std::move(*last);
    co_return aborted(
        fmt::format("the etcd user \"{}\" and its role keep changing; is another program at work?",
                    tenant.user));
}

Task<Result<int64_t>> remove_tenant(Client& client, Tenant tenant) {
    Result<void> checked = co_await check_names(client, tenant);
    if (!checked.ok()) co_return std::move(checked).error();
    // First the access: what is deleted afterwards cannot come back.
    Result<void> user = co_await client.user_delete(tenant.user);
    if (!user.ok() && !is(user, Code::kNotFound)) co_return std::move(user).error();
    Result<void> role = co_await client.role_delete(tenant.role);
    if (!role.ok() && !is(role, Code::kNotFound)) co_return std::move(role).error();
    Result<int64_t> deleted = co_await delete_data(client, tenant.range);
    co_return std::move(deleted);
}

}  // namespace basalt::etcd
