// The state of a world as text that two worlds with the same wishes have in common.
//
// The normalisation, by name:
//   keys      generated key material becomes what it says: subject, organisations, issuer, usage,
//             and which key it fits; checksums of Secrets become the Secret's name, a stale one
//             stays as it is
//   names     a server's certificate may have more names than asked for: one that a spec does not
//             ask for any more stays until the certificate is renewed
//   identity  uids become the name of their object, wherever they appear (owner references,
//             schemas, users)
//   versions  resourceVersion, generation and managedFields drop out; observedGeneration becomes
//             "current" or "old"
//   times     creationTimestamp, lastTransitionTime, lastUpdate and the rotate annotation drop out
//   runtime   Pods, ReplicaSets, Events, Leases and Nodes drop out; a Deployment says how many Pods
//             of its present template serve
//   events    of tenants, as keys in etcd: they expire by themselves, so those in a datastore that
//             was theirs before are left where other objects of the tenant stay
//   left      what a control plane left in a datastore that did not answer until patience ended
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tests/sim/world.h"

namespace basalt::sim {

/// "where: Kind namespace/name" -> the object.
using Snapshot = std::map<std::string, Value>;

Snapshot take_snapshot(World& world);
/// A line for each difference, with the path; empty when equal.
std::vector<std::string> compare_snapshots(const Snapshot& actual, const Snapshot& expected);

/// What a certificate says: for comparing two with different keys.
std::string describe_certificate(const pki::Certificate& certificate);

}  // namespace basalt::sim
