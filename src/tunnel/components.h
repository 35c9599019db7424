// Looks at the other servers of the Pod that this program runs in, and tells when they have
// started.
//
// No identity is shown and no answer is trusted: all that follows from them is when something is
// started and when the kubelet hears of it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "async/loop.h"
#include "async/task_group.h"
#include "async/wait.h"
#include "net/http.h"

namespace basalt::tunnel {

/// Lives on one loop. Looks only while somebody waits. stop(), and the end of all started(), before
/// its destruction.
class Components {
 public:
    struct Server {
        std::string name;
        /// Good with 200; or with 401, of a server that does not tell strangers.
        std::string page;
        std::shared_ptr<net::HttpTransport> transport;
    };
    /// The first server is the one that the others need. `open_gate` is called once it has started,
    /// again until it returns true; it may be empty.
    Components(async::Loop& loop, std::vector<Server> servers, std::function<bool()> open_gate);
    /// Looks until the gate is open.
    void start();
    async::Task<void> stop();

    /// True as soon as the server of this name answers, false when that takes longer than
    /// kHoldLimit, or when there is none of this name: the kubelet's startup probe, which learns of
    /// it at once instead of at its next try. Answers for all servers come in the same moment,
    /// where they follow each other within kTogetherLimit: a kubelet that looks through a Pod does
    /// so again only up to a second later, with what it knows by then.
    async::Task<bool> started(std::string name);

    static constexpr Duration kHoldLimit = std::chrono::seconds(5);
    static constexpr Duration kTogetherLimit = std::chrono::seconds(2);

 private:
    struct Component {
        Server server;
        bool up = false;
        TimePoint up_since{};
    };

    void wake_watch();
    async::Task<void> watch();
    async::Task<void> look(Component* component);
    bool wanted() const;
    bool all_up() const;

    async::Loop& loop_;
    std::function<bool()> open_gate_;  ///< Null once it is open.
    std::vector<Component> components_;
    size_t waiting_ = 0;
    bool watching_ = false;
    async::Condition looked_;
    async::TaskGroup group_;
};

}  // namespace basalt::tunnel
