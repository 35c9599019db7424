#include "controlplane/start_slots.h"

#include <algorithm>
#include <tuple>

namespace basalt::controlplane {

bool StartSlots::acquire(const std::string& key, const std::string& namespace_name, TimePoint now) {
    expire(now);
    if (holders_.contains(key)) return true;
    auto [waiting, is_new] = waiting_.try_emplace(key, Waiting{namespace_name, next_order_});
    if (is_new) ++next_order_;
    grant(now);
    if (!holders_.contains(key)) return false;
    std::erase(granted_, key);
    return true;
}

void StartSlots::release(const std::string& key) {
    holders_.erase(key);
    waiting_.erase(key);
}

std::vector<std::string> StartSlots::take_granted(TimePoint now) {
    expire(now);
    grant(now);
    return std::exchange(granted_, {});
}

bool StartSlots::next_expiry(TimePoint& when) const {
    if (waiting_.empty() || holders_.empty()) return false;
    when = std::min_element(holders_.begin(), holders_.end(), [](const auto& a, const auto& b) {
               return a.second.until < b.second.until;
           })->second.until;
    return true;
}

void StartSlots::expire(TimePoint now) {
    std::erase_if(holders_, [now](const auto& holder) { return holder.second.until <= now; });
}

void StartSlots::grant(TimePoint now) {
    while (holders_.size() < capacity_) {
        const std::string* key = next();
        if (key == nullptr) return;
        auto node = waiting_.extract(*key);
        holders_[node.key()] = {node.mapped().namespace_name, now + kHoldMax};
        granted_.push_back(node.key());
    }
}

const std::string* StartSlots::next() const {
    std::map<std::string, size_t> held;
    for (const auto& [key, holder] : holders_) ++held[holder.namespace_name];
    auto rank = [&](const Waiting& waiting) {
        auto found = held.find(waiting.namespace_name);
        return std::tuple(found == held.end() ? size_t{0} : found->second, waiting.order);
    };
    auto best = std::min_element(
        waiting_.begin(), waiting_.end(),
        [&](const auto& a, const auto& b) { return rank(a.second) < rank(b.second); });
    return best == waiting_.end() ? nullptr : &best->first;
}

size_t StartSlots::position(const std::string& key) const {
    if (!waiting_.contains(key)) return 0;
    StartSlots rest = *this;
    for (size_t place = 1;; ++place) {
        const std::string* first = rest.next();
        if (*first == key) return place;
        auto node = rest.waiting_.extract(*first);
        rest.holders_[node.key()] = {node.mapped().namespace_name, TimePoint::max()};
    }
}

}  // namespace basalt::controlplane
