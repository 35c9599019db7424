// Bytes of a tunnel peer: decoding, and whole conversations with both cores. The first byte of each
// piece says which stream it is for; what the cores answer must decode again.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/assert.h"
#include "tunnel/agent_core.h"
#include "tunnel/server_core.h"

namespace {

using namespace basalt;
using namespace basalt::tunnel;

void drain(ServerCore& core, StreamId id, TimePoint now) {
    for (int i = 0; i < 64; ++i) {
        std::optional<Packet> packet = core.next(id, now);
        if (!packet) return;
        BASALT_ASSERT(decode(encode(*packet)).ok());
    }
}

void converse(std::string_view input) {
    LinkLimits limits;
    limits.window_size = 64;
    limits.send_queue_size = 64;
    limits.chunk_size = 16;
    limits.control_queue_count = 64;
    ServerCoreOptions options;
    options.link = limits;
    uint64_t random = 1;
    ServerCore server(options, [&random] { return random++; }, [](StreamId) {});
    AgentCore agent(limits, uint32_t{64}, [](int64_t) {});
    TimePoint now{};
    StreamId streams[4] = {};
    AgentInfo info;
    info.agent_id = "a";
    info.window = 64;
    streams[0] = server.add_agent(info, now).value();
    info.agent_id = "b";
    info.window.reset();
    streams[1] = server.add_agent(info, now).value();
    streams[2] = server.add_frontend(false).value();
    streams[3] = server.add_frontend(true).value();
    while (input.size() >= 2) {
        auto selector = static_cast<uint8_t>(input[0]);
        size_t size = static_cast<uint8_t>(input[1]);
        input.remove_prefix(2);
        Result<Packet> packet = decode(input.substr(0, size));
        input.remove_prefix(std::min(size, input.size()));
        if (!packet.ok()) continue;
        (void)to_string(*packet);
        if ((selector & 4) != 0) {
            std::optional<DialOrder> order = agent.packet(*packet, now);
            if (order && (selector & 8) != 0) agent.dialed(order->connection_id);
            if ((selector & 16) != 0) agent.from_target(1, "payload of the target");
            if ((selector & 32) != 0) agent.target_closed(1, {}, now);
            if ((selector & 64) != 0) (void)agent.take(1);
            for (int i = 0; i < 64 && agent.next(); ++i) {
            }
        } else {
            server.packet(streams[selector & 3], std::move(*packet), now);
            if ((selector & 8) != 0) {
                for (StreamId id : streams) drain(server, id, now);
            }
            if ((selector & 16) != 0) server.remove(streams[(selector >> 5) & 3], now);
        }
        if ((selector & 128) != 0) {
            now += std::chrono::seconds(1);
            server.tick(now);
            agent.tick(now);
        }
    }
    for (StreamId id : streams) server.remove(id, now);
    BASALT_ASSERT(server.connections_count() == 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    std::string_view input(reinterpret_cast<const char*>(data), size);
    (void)basalt::tunnel::decode(input);
    (void)basalt::tunnel::parse_identifiers(input);
    converse(input);
    return 0;
}
