// Watches over the private keys of control planes: authorities', leaves', in kubeconfigs, those of
// generators included. A controller may replace one for a reason only:
//
//   its Secret was changed or deleted by somebody else, or asked to be rotated;
//   its control plane has another authority (but for keys of authorities and service accounts);
//   the spec wants other names, other datastores, the tunnel off or on; a generator another user;
//   it was made so short a while ago that the answer may have been lost (not authorities' either).
//
// A clock that is put back is no reason: the world's are late by less than a day.
//
// Keys are remembered by the uid of their control plane: a Secret that is deleted and made again is
// no excuse, a control plane that is deleted and made again is another one. One loop.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "async/loop.h"
#include "tests/sim/api_server.h"

namespace basalt::sim {

class KeyWatch {
 public:
    explicit KeyWatch(async::Loop& loop) : loop_(loop) {}
    /// A write in the management cluster; what was wrong with it.
    std::vector<std::string> note(const Write& write, bool by_controller);
    /// Of which a key is remembered.
    size_t keys_count() const { return known_.size(); }

 private:
    struct Known {
        uint64_t key = 0;  ///< A hash.
        TimePoint since{};
    };
    void note_reasons(const Write& write);
    void note_secret_reasons(const Write& write);
    void because(const std::string& what) { reasons_[what] = loop_.now(); }
    bool is_explained(const Write& write, const Known& known) const;

    async::Loop& loop_;
    std::map<std::string, Known> known_;        ///< By "uid secret entry".
    std::map<std::string, TimePoint> reasons_;  ///< "what namespace/name" -> last.
};

}  // namespace basalt::sim
