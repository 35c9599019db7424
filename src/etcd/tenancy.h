// Tenants of a shared etcd: one user, one role, one exact key range each.
//
// A control plane keeps its objects under "/<schema>/". Its API server authenticates by a client
// certificate whose common name is the user; the user has one role and the role one permission,
// read and write on that range and nothing else. The range has to be exact: an end that is left
// open hands every key that sorts behind to the tenant (CVE-2024-42480), a prefix without its last
// slash hands "/a-b/" to the tenant "a".
//
// What etcd (3.6.16, checked by identity_test.cc) lets every authenticated user do all the same:
// read cluster status, members and active alarms, see its own user and role, grant leases that hold
// nothing (no quota: a tenant can fill memory with them) under numbers of its choice, ask for the
// time left of any lease whose number it guesses, attach a key of its own to a lease that has none
// yet, which shuts the lease's owner out. So a hostile tenant can disturb others (events and
// endpoint leases of their API servers), though neither read nor change their data; who cannot
// accept that takes an etcd of his own. Compact, Defragment, Snapshot, Hash, HashKV, MoveLeader,
// Downgrade, raising and clearing alarms and all changes of users, roles and members need the role
// root. The JSON gateway drops the certificate's name, so that users without a password cannot do
// anything through it. Shared by design and not separable: disk space (quota and NOSPACE alarm),
// request rate, revision numbers. Every change of users or roles makes requests that others have in
// flight fail with "revision of auth store is old" (measured: one or two of eight writers; etcd's
// Go client in the API servers repeats them by itself, as does Client), and costs etcd time
// proportional to the number of users: so nothing is written here that is already as it should be.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "etcd/client.h"

namespace basalt::etcd {

/// The first key after all keys that start with `prefix`: its last byte below 0xff plus one, what
/// follows cut off.
/// "\0" (no end) for a prefix of 0xff bytes only, or an empty one.
std::string prefix_end(std::string_view prefix);

/// ["/<schema>/", "/<schema>0"). InvalidArgument for a schema that is empty, ".", "..", too long,
/// or contains a slash or control characters: API servers clean their prefix as a path and would
/// land elsewhere.
Result<KeyRange> tenant_range(std::string_view schema);
inline constexpr size_t kMaxSchemaSize = 253;

/// Makes sure that the user root has the role root and that authentication is on; until then
/// everybody whose certificate the server accepts may do everything. True when something was
/// changed.
async::Task<Result<bool>> ensure_auth(Client& client);

struct Tenant {
    std::string user;
    std::string role;
    KeyRange range;
    /// Parts of `range` that the tenant may read and not write, sorted, apart from each other: the
    /// role has then one permission to read the whole range, and one to write each part between.
    std::vector<KeyRange> sealed = {};
};

/// What the tenant's role has to hold, in an order in which it can be granted without taking away
/// what a running tenant needs meanwhile. Each permission begins at a key of its own: etcd cannot
/// change the second of two that begin at the same.
std::vector<Permission> permissions_of(const Tenant& tenant);

/// Converges user, role and permission; what is as it should be is not written. Permissions of the
/// role on other ranges are revoked (after the right one was granted: a running tenant is not
/// interrupted), and other roles of the user. True when something was changed. FailedPrecondition
/// for a user or role named root, and for a user that has the role root: that is an administrator,
/// not a tenant. (Whether an existing user has a password cannot be seen; ours have none.)
async::Task<Result<bool>> ensure_tenant(Client& client, Tenant tenant);

/// Keys of one delete request. One request for everything would stop a large etcd for seconds.
inline constexpr int64_t kDeleteBatchSize = 1000;
/// Deletes the user and the role, then the data in batches. Repeats from any point. How many keys
/// were deleted.
async::Task<Result<int64_t>> remove_tenant(Client& client, Tenant tenant);

}  // namespace basalt::etcd
