// spec.writePermissions: what of a tenant's writes is refused, and how that stays so.
//
// A ValidatingAdmissionPolicy in the tenant refuses the operations, in words that say why. It looks
// at what is written, never at who writes: identities of a cluster's own components are its
// administrator's to take (impersonation, tokens, keys on the nodes). What keeps a cluster alive is
// let through for everybody: kube-system, status, leases that are renewed, events, endpoints,
// certificates of nodes, and what the API server itself maintains.
//
// Nothing inside a Kubernetes cluster can protect such a policy from the cluster's administrator,
// for admission does not apply to admission's own objects. So the protection is outside: the
// tenant's role in etcd loses the right to write the keys of the policy and its binding (all
// others it keeps), and the two objects are then written into etcd by us, past the tenant's API
// server, which learns them by its watch. No API server of the tenant, whoever asks it, can change
// or delete them, and there is no moment in which somebody could come between. When all three
// operations are refused, all objects that configure admission are sealed in that way, since no
// policy applies to them.
#pragma once

#include <string>
#include <vector>

#include "controlplane/settings.h"
#include "data/value.h"
#include "etcd/client.h"

namespace basalt::controlplane {

/// Name of the policy and of its binding.
inline constexpr std::string_view kLimitsName = "kamaji-write-permissions";

/// The policy and the binding that puts it in force, as an API server stores them.
/// `control_plane` gives them a uid and a time: equal inputs, equal objects.
std::vector<data::Value> build_write_permissions(const Settings& settings,
                                                 const data::Value& control_plane);

struct StoredLimit {
    std::string resource;  ///< "group/plural", as in overrides.
    std::string key, value;
};
/// The same as keys and values in etcd. Storage paths of kube-apiserver 1.31-1.36 for its own
/// cluster-wide kinds: "<prefix>/<plural>/<name>"; it reads JSON as well as what it writes itself.
std::vector<StoredLimit> stored_limits(const Settings& settings, const data::Value& control_plane);

/// Where Kamaji's webhooks against writes are, of writePermissions and of a migration: they call
/// Kamaji, and refuse everything when it is gone. Without values.
std::vector<StoredLimit> kamaji_limits(const Settings& settings);

/// Keys that the tenant must not write while writes are limited, sorted; none when they are not.
std::vector<etcd::KeyRange> sealed_ranges(const Settings& settings);

/// For a condition; "" when nothing is refused.
std::string describe_limits(const WritePermissions& permissions);

/// The user's argument of kube-apiserver that keeps such a policy from being in force; "" when
/// there is none.
std::string find_hindrance(const std::vector<std::string>& api_server_args);

}  // namespace basalt::controlplane
