// Whether a datastore can take tenants, seen from its administrator's connection.
#pragma once

#include <string>
#include <vector>

#include "etcd/client.h"

namespace basalt::etcd {

struct EndpointHealth {
    std::string endpoint;
    std::string error;    ///< Empty when it answered.
    MemberStatus status;  ///< When it answered.
};

struct Health {
    std::vector<EndpointHealth> endpoints;  ///< In the client's order.
    std::string oldest_version;             ///< Of the members that answered.
    bool keeps_tenants_apart = false;  ///< All members that answered are new enough (version.h).
    bool auth_enabled = false;         ///< Without it every tenant reads everything.
    bool no_space = false;             ///< A NOSPACE alarm is raised: no writes.
    bool corrupt = false;              ///< A CORRUPT alarm is raised.
    std::vector<Alarm> alarms;
};

/// Asks every endpoint at the same time, then the cluster (through a quorum). An Error when no
/// endpoint answers, the cluster has no leader or refuses our credentials: its message tells which
/// endpoint said what.
async::Task<Result<Health>> check_health(async::Loop& loop, Client& client);

struct SpaceRelief {
    bool alarm_cleared = false;
    int64_t db_size = 0;   ///< The largest member's, afterwards.
    int64_t db_quota = 0;  ///< 0 when not told.
};

/// Below this part of the quota an alarm is cleared; above it would be back at once.
inline constexpr double kSpaceTarget = 0.9;

/// Called while NOSPACE is raised, when writes fail anyway: if any member's file is still above the
/// target, drops old revisions and defragments the members one after the other; clears the alarm
/// when all are below. Nothing is lost but history: watches that lag start anew.
async::Task<Result<SpaceRelief>> relieve_space(Client& client);

}  // namespace basalt::etcd
