// Who may start now.
//
// Problem: a starting API server takes a core for two seconds; thirty at once on a small machine
// take a minute each, and everything that runs already suffers. So creations, wake-ups and upgrades
// take a slot before their Deployment is written, and give it back when the control plane is Ready
// or has had its time. Waiting means only that our own write is late: Pods that the kubelet
// restarts never ask here.
//
// Fair over namespaces: the next slot goes to the namespace that holds fewest, there to who came
// first. Pure: time comes by argument. One loop. Nothing is lost with the process: who waits asks
// again.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/time.h"

namespace basalt::controlplane {

class StartSlots {
 public:
    /// A holder that is not done after this gives way to others: it may never become Ready.
    static constexpr Duration kHoldMax = std::chrono::minutes(2);

    explicit StartSlots(size_t capacity) : capacity_(capacity) {}
    /// At least 1. Holders above a smaller capacity keep their slots.
    void set_capacity(size_t capacity) { capacity_ = capacity == 0 ? 1 : capacity; }
    size_t capacity() const { return capacity_; }

    /// True when `key` holds a slot, now or already. Else it waits from its first call on.
    bool acquire(const std::string& key, const std::string& namespace_name, TimePoint now);
    /// Gives a slot, or a place in the queue, back.
    void release(const std::string& key);
    /// Those to whom a slot was given since the last call: they should ask again.
    std::vector<std::string> take_granted(TimePoint now);
    /// When the next holder runs out of time, if anyone waits for that.
    bool next_expiry(TimePoint& when) const;

    bool holds(const std::string& key) const { return holders_.contains(key); }
    size_t holding_count() const { return holders_.size(); }
    size_t waiting_count() const { return waiting_.size(); }
    /// 1 for who comes next; 0 when not waiting.
    size_t position(const std::string& key) const;

 private:
    struct Holder {
        std::string namespace_name;
        TimePoint until;
    };
    struct Waiting {
        std::string namespace_name;
        uint64_t order;
    };
    void expire(TimePoint now);
    void grant(TimePoint now);
    const std::string* next() const;

    size_t capacity_;
    uint64_t next_order_ = 1;
    std::map<std::string, Holder> holders_;
    std::map<std::string, Waiting> waiting_;
    std::vector<std::string> granted_;
};

}  // namespace basalt::controlplane
