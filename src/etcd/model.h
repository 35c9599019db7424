// A model of one etcd cluster for simulations: keys, users, roles, permissions, alarms and quota,
// in memory.
//
// It answers as etcd does where Client can see it, errors included; the tests of tenancy run
// against it and against real servers. What it leaves out: leases, watches, old revisions, several
// members with different states. Every call takes one turn of the loop, or as long as `latency`
// says, before its effect and one turn after it, so that callers interleave and a cancelled or
// failed answer may have had its effect. A call that is cancelled before has none.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "async/loop.h"
#include "etcd/client.h"

namespace basalt::etcd {

class ModelEtcd {
 public:
    explicit ModelEtcd(async::Loop& loop) : loop_(loop) {}

    /// A connection whose certificate names `user`; `who` is told to observers. The model must
    /// outlive it.
    std::unique_ptr<Client> connect(std::string user, std::string who = {});

    /// Asked before and after the effect of each call ("Put", "UserAdd", …); an Error is the call's
    /// answer.
    struct Fault {
        std::function<std::optional<Error>(std::string_view method)> before;
        std::function<std::optional<Error>(std::string_view method)> after;
    };
    Fault fault;
    /// How long the call that `who` makes now is on its way; none: no time.
    std::function<Duration(const std::string& who)> latency;
    /// Called after each call that is there to change something, whatever came of it.
    std::function<void(const std::string& who, const std::string& method)> on_write;
    /// Of such calls.
    size_t writes_count() const { return writes_count_; }

    std::string version = "3.6.16";
    int64_t quota = 2'000'000'000;  ///< Bytes; at most so much is stored, then the alarm is raised.

    // State, for checks.
    std::map<std::string, std::string> data;
    std::map<std::string, std::set<std::string>> users;    ///< Roles by user.
    std::map<std::string, std::vector<Permission>> roles;  ///< Permissions by role.
    bool auth_on = false;
    bool no_space = false;
    int64_t file_size = 0;  ///< Grows with writes, shrinks by defragmentation.

    int64_t bytes_in_use() const;

 private:
    friend class ModelClient;
    async::Loop& loop_;
    size_t writes_count_ = 0;
    int64_t revision_ = 1;
};

}  // namespace basalt::etcd
