// AgentLink: carries one link of an agent: packets on a MessageStream, bytes on the targets'
// sockets.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include "async/task_group.h"
#include "async/wait.h"
#include "net/stream.h"
#include "tunnel/agent_core.h"
#include "tunnel/message_stream.h"

namespace basalt::tunnel {

/// Connects to what the API server asked for. Not a capturing coroutine: see async/task.h.
using TargetDialer =
    std::function<async::Task<Result<std::unique_ptr<net::Stream>>>(std::string address)>;

inline constexpr Duration kTargetDialTimeout = std::chrono::seconds(5);  // upstream's agent
/// TCP to "host:port" from where this process runs.
TargetDialer make_tcp_dialer(async::Loop& loop, Duration timeout = kTargetDialTimeout);

class AgentLink {
 public:
    /// All references outlive run(). `peer_window` as in AgentCore.
    AgentLink(async::Loop& loop, MessageStream& stream, TargetDialer dialer,
              std::optional<uint32_t> peer_window, LinkLimits limits = {});
    AgentLink(const AgentLink&) = delete;
    AgentLink& operator=(const AgentLink&) = delete;

    /// Serves until the stream ends (OK when the server ended it) or the caller is cancelled; all
    /// targets are closed then.
    async::Task<Result<void>> run();

    /// Tells the server to send no more dials if it has another agent; connections go on.
    void drain() { core_.drain(); }
    const AgentCore& core() const { return core_; }
    /// Called when the server announced another number of servers.
    void on_servers(std::function<void()> callback) { on_servers_ = std::move(callback); }

 private:
    struct Target {
        async::Condition changed;
        std::unique_ptr<net::Stream> stream;
    };

    void wake(int64_t id);
    void stop(Result<void> result);
    async::Task<void> read_loop();
    async::Task<void> write_loop();
    async::Task<void> tick_loop();
    async::Task<void> serve_target(DialOrder order);
    async::Task<void> pump_target(int64_t id, Target& target);
    async::Task<void> read_target(int64_t id, Target& target);
    async::Task<void> write_target(int64_t id, Target& target);

    async::Loop& loop_;
    MessageStream& stream_;
    TargetDialer dialer_;
    async::TaskGroup group_;
    async::Condition link_changed_;
    async::Condition read_allowed_;
    async::Condition tick_needed_;
    std::unordered_map<int64_t, Target*> targets_;
    std::optional<Result<void>> result_;
    async::Condition stopped_;
    std::function<void()> on_servers_;
    AgentCore core_;
};

}  // namespace basalt::tunnel
