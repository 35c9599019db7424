#include "etcd/health.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "async/task_group.h"
#include "base/strings.h"
#include "etcd/version.h"

namespace basalt::etcd {

using async::Task;

namespace {

Task<Result<void>> ask_endpoint(Client& client, size_t index, EndpointHealth* out) {
    Result<MemberStatus> status = co_await client.status(index);
    if (status.ok()) {
        out->status = std::move(*status);
    } else {
        out->error = status.error().to_string();
        if (status.error().code() == Code::kCancelled) co_return std::move(status).error();
    }
    co_return Result<void>();
}

bool older(const Version& a, const Version& b) {
    if (a.major != b.major) return a.major < b.major;
    if (a.minor != b.minor) return a.minor < b.minor;
    if (a.patch != b.patch) return a.patch < b.patch;
    return a.prerelease && !b.prerelease;
}

void judge_versions(Health* health) {
    std::optional<Version> oldest;
    health->keeps_tenants_apart = true;
    for (const EndpointHealth& endpoint : health->endpoints) {
        if (!endpoint.error.empty()) continue;
        Result<Version> version = parse_version(endpoint.status.version);
        if (!version.ok()) {
            health->keeps_tenants_apart = false;
            health->oldest_version = endpoint.status.version;
            return;
        }
        if (!keeps_tenants_apart(*version)) health->keeps_tenants_apart = false;
        if (!oldest || older(*version, *oldest)) {
            oldest = *version;
            health->oldest_version = endpoint.status.version;
        }
    }
}

Error nobody_answers(const std::vector<EndpointHealth>& endpoints) {
    std::vector<std::string> errors;
    for (const EndpointHealth& endpoint : endpoints) errors.push_back(endpoint.error);
    return unavailable(fmt::format("no endpoint answers: {}", join(errors, "; ")));
}

}  // namespace

Task<Result<Health>> check_health(async::Loop& loop, Client& client) {
    Health health;
    health.endpoints.resize(client.endpoints().size());
    std::vector<Task<Result<void>>> questions;
    for (size_t i = 0; i < health.endpoints.size(); ++i) {
        health.endpoints[i].endpoint = client.endpoints()[i];
        questions.push_back(ask_endpoint(client, i, &health.endpoints[i]));
    }
    Result<void> asked = co_await async::join_all(loop, std::move(questions));
    if (!asked.ok()) co_return std::move(asked).error();
    bool any = false;
    for (const EndpointHealth& endpoint : health.endpoints) any = any || endpoint.error.empty();
    if (!any) co_return nobody_answers(health.endpoints);
    judge_versions(&health);

    Result<bool> auth = co_await client.auth_enabled();
    if (!auth.ok()) co_return std::move(auth).error();
    health.auth_enabled = *auth;
    Result<std::vector<Alarm>> alarms = co_await client.alarms();
    if (!alarms.ok()) co_return std::move(alarms).error();
    health.alarms = std::move(*alarms);
    for (const Alarm& alarm : health.alarms) {
        health.no_space = health.no_space || alarm.type == AlarmType::kNoSpace;
        health.corrupt = health.corrupt || alarm.type == AlarmType::kCorrupt;
    }
    // Goes through the leader and a quorum; status and alarms above come from one member's memory.
    const KeyRange slash{"/", {}};
    Result<RangeResult> read = co_await client.range(slash, 1, true);
    if (!read.ok()) co_return std::move(read).error();
    co_return std::move(health);
}

namespace {

struct Space {
    int64_t largest = 0;
    int64_t quota = 0;
    int64_t revision = 0;
};

Task<Result<Space>> measure(Client& client) {
    Space space;
    for (size_t i = 0; i < client.endpoints().size(); ++i) {
        Result<MemberStatus> status = co_await client.status(i);
        if (!status.ok()) co_return std::move(status).error();
        space.largest = std::max(space.largest, status->db_size);
        space.revision = std::max(space.revision, status->revision);
        if (status->db_size_quota > 0 &&
            (space.quota == 0 || status->db_size_quota < space.quota)) {
            space.quota = status->db_size_quota;
        }
    }
    co_return space;
}

bool fits(const Space& space) {
    return space.quota > 0 &&
           static_cast<double>(space.largest) < kSpaceTarget * static_cast<double>(space.quota);
}

Task<Result<void>> shrink(Client& client, int64_t revision) {
    Result<void> compacted = co_await client.compact(revision);
    if (!compacted.ok() && compacted.error().code() != Code::kOutOfRange)
        co_return std::move(compacted);
    for (size_t i = 0; i < client.endpoints().size(); ++i) {
        Result<void> done = co_await client.defragment(i);
        if (!done.ok()) co_return std::move(done);
    }
    co_return Result<void>();
}

}  // namespace

Task<Result<SpaceRelief>> relieve_space(Client& client) {
    Result<Space> space = co_await measure(client);
    if (!space.ok()) co_return std::move(space).error();
    if (!fits(*space)) {
        Result<void> shrunk = co_await shrink(client, space->revision);
        if (!shrunk.ok()) co_return std::move(shrunk).error();
        space = co_await measure(client);
        if (!space.ok()) co_return std::move(space).error();
    }
    SpaceRelief relief{false, space->largest, space->quota};
    if (!fits(*space)) co_return relief;
    Result<std::vector<Alarm>> alarms = co_await client.alarms();
    if (!alarms.ok()) co_return std::move(alarms).error();
    for (const Alarm& alarm : *alarms) {
        if (alarm.type != AlarmType::kNoSpace) continue;
        Result<void> disarmed = co_await client.disarm(alarm);
        if (!disarmed.ok()) co_return std::move(disarmed).error();
        relief.alarm_cleared = true;
    }
    co_return relief;
}

}  // namespace basalt::etcd
