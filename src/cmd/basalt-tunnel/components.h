// Looks at the other servers of the Pod that this program runs in: kube-apiserver,
// kube-controller-manager and kube-scheduler, on loopback.
//
// No identity is shown and no answer is trusted: all that follows from them is when something is
// started, when the kubelet hears that something has started, and when this program may end.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "async/loop.h"
#include "async/task_group.h"
#include "async/wait.h"
#include "net/http_client.h"

namespace basalt::cmd {

/// Lives on one loop. Looks only while somebody waits.
class Components {
 public:
    /// `gate`: a file to make once the API server is ready, for which others wait (basalt-start);
    /// none when empty.
    static Result<std::unique_ptr<Components>> make(async::Loop& loop, net::Endpoint api_server,
                                                    std::string gate);
    void start();
    async::Task<void> stop();

    /// True as soon as the server of this name answers, false when that takes longer than
    /// kHoldLimit, or when there is none of this name: the kubelet's startup probe, which learns of
    /// it at once instead of at its next try. Answers for all servers come in the same moment,
    /// where they follow each other within kTogetherLimit: a kubelet that looks through a Pod does
    /// so again only up to a second later, with what it knows by then.
    async::Task<bool> started(std::string name);

    /// Ends when the API server accepted no connection several times in a row and `drained` holds,
    /// or at `deadline`: all containers of a Pod are told to stop in the same moment, but the API
    /// server still needs what carries its connections.
    async::Task<void> until_gone(TimePoint deadline, std::function<bool()> drained);

    static constexpr Duration kHoldLimit = std::chrono::seconds(5);
    static constexpr Duration kTogetherLimit = std::chrono::seconds(2);

 private:
    struct Component {
        std::string name;
        std::string page;
        std::shared_ptr<net::HttpClient> client;
        bool up = false;
        TimePoint up_since{};
    };

    Components(async::Loop& loop, net::Endpoint api_server, std::string gate);
    Result<void> add(std::string name, std::string page, const net::Endpoint& endpoint);
    void wake_watch();
    async::Task<void> watch();
    async::Task<void> look(Component* component);
    bool wanted() const;
    bool all_up() const;

    async::Loop& loop_;
    net::Endpoint api_server_;
    std::string gate_;                   ///< Empty once it is open.
    std::vector<Component> components_;  ///< The API server first: others need it.
    size_t waiting_ = 0;
    bool watching_ = false;
    async::Condition looked_;
    async::TaskGroup group_;
};

}  // namespace basalt::cmd
