// The DataStore "default": an etcd in the cluster, on local volumes, with TLS on every connection
// and authentication by client certificate. One member on a small cluster, three where three nodes
// are.
#pragma once

#include <string>

#include "base/result.h"
#include "local/images.h"
#include "local/kubectl.h"
#include "local/node.h"
#include "local/paths.h"
#include "local/state.h"

namespace basalt::local {

int datastore_members(int nodes);
/// Members of the etcd that exists, or as many as a new one gets: a running etcd does not change
/// its size.
Result<int> current_members(const Kubectl& kubectl, int nodes);

/// "etcd-0=https://etcd-0.etcd.basalt-system.svc.cluster.local:2380,…"
std::string render_initial_cluster(int members);
/// A Secret of type Opaque from PEM texts.
std::string render_secret(const std::string& name,
                          const std::vector<std::pair<std::string, std::string>>& texts);

/// Certificates (made when missing) as Secrets, Service and StatefulSet.
Result<std::string> datastore_manifests(const Paths& paths, const ClusterState& state,
                                        const Image& etcd, int members);
/// The DataStore object.
Result<std::string> datastore_object(const Paths& paths, int members);

/// Creates etcd's user and role "root" and switches authentication on. `node` is where to dial
/// from.
Result<void> enable_authentication(const Paths& paths, const ClusterState& state,
                                   const Kubectl& kubectl, const Node& node);

}  // namespace basalt::local
