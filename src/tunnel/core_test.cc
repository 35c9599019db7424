// The cores against scripts: testdata/{server_core,agent_core}/*.txt. Each block is one command,
// "----", and what the core then wants to send, one line a packet. BASALT_REWRITE=1 writes the
// files anew.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include <fmt/format.h>

#include "base/strings.h"
#include "tunnel/agent_core.h"
#include "tunnel/link.h"
#include "tunnel/server_core.h"

namespace basalt::tunnel {
namespace {

std::map<std::string, std::string> arguments(const std::vector<std::string>& words) {
    std::map<std::string, std::string> result;
    for (const std::string& word : words) {
        if (auto pair = cut(word, "="))
            result[std::string(pair->first)] = std::string(pair->second);
    }
    return result;
}

int64_t number(const std::map<std::string, std::string>& args, const std::string& name) {
    auto it = args.find(name);
    return it == args.end() ? 0 : parse_number<int64_t>(it->second).value_or(0);
}

std::string text(const std::map<std::string, std::string>& args, const std::string& name) {
    auto it = args.find(name);
    return it == args.end() ? std::string() : it->second;
}

/// "DIAL_REQ dial=5 to=10.0.0.1:443", "DATA conn=7 size=100", …
Packet parse_packet(const std::vector<std::string>& words) {
    auto args = arguments(words);
    const std::string& kind = words.at(0);
    if (kind == "DIAL_REQ") return dial_request(number(args, "dial"), text(args, "to"));
    if (kind == "DIAL_RSP") {
        return dial_response(number(args, "dial"), number(args, "conn"), text(args, "error"));
    }
    if (kind == "DIAL_CLS") return dial_close(number(args, "dial"));
    if (kind == "CLOSE_REQ") return close_request(number(args, "conn"));
    if (kind == "CLOSE_RSP") return close_response(number(args, "conn"), text(args, "error"));
    if (kind == "DATA") {
        return data_packet(number(args, "conn"),
                           std::string(static_cast<size_t>(number(args, "size")), 'x'));
    }
    if (kind == "CREDIT")
        return credit_packet(number(args, "conn"), static_cast<uint32_t>(number(args, "size")));
    Packet packet;
    packet.kind = kind == "DRAIN" ? PacketKind::kDrain : PacketKind::kServers;
    packet.number = static_cast<uint32_t>(number(args, "count"));
    return packet;
}

LinkLimits small_limits() {
    LinkLimits limits;
    limits.send_queue_size = 1000;
    limits.window_size = 2000;
    limits.chunk_size = 400;
    limits.stall_progress = 500;
    limits.control_queue_count = 50;
    return limits;
}

class ServerScript {
 public:
    ServerScript() : core_(options(), [this] { return random_++; }, [](StreamId) {}) {}

    std::string run(const std::vector<std::string>& words) {
        auto args = arguments(words);
        const std::string& verb = words.at(0);
        std::string out;
        if (verb == "agent") {
            add_agent(words.at(1), args, out);
        } else if (verb == "direct") {
            streams_[words.at(1)] = core_.add_direct(text(args, "to"), 2000);
        } else if (verb == "frontend" || verb == "peer-frontend") {
            Result<StreamId> id = core_.add_frontend(verb == "peer-frontend");
            if (id.ok()) streams_[words.at(1)] = *id;
        } else if (verb == "peer") {
            if (!peers_.contains(words.at(1))) peers_[words.at(1)] = core_.new_id();
            core_.set_peer(peers_[words.at(1)], static_cast<size_t>(number(args, "agents")),
                           number(args, "leaving") != 0, now_);
        } else if (verb == "remove-peer") {
            core_.remove_peer(peers_.at(words.at(1)), now_);
        } else if (verb == "remove") {
            core_.remove(streams_.at(words.at(1)), now_);
            streams_.erase(words.at(1));
        } else if (verb == "wait") {
            now_ += parse_duration(words.at(1)).value();
            core_.tick(now_);
        } else if (verb == "servers") {
            core_.set_server_count(static_cast<uint32_t>(number(args, "count")));
        } else if (verb == "commands") {
            out += fmt::format("{}\n", core_.commands_count());
        } else if (verb == "block" || verb == "unblock") {
            blocked_[words.at(1)] = verb == "block";
        } else if (verb == "stats") {
            const ServerCounters& c = core_.counters();
            out += fmt::format(
                "agents={} links={} frontends={} connections={} pending={} dials={} moved={} "
                "violations={} "
                "stalled={}\n",
                core_.agents_count(), core_.links_count(), core_.frontends_count(),
                core_.connections_count(), core_.pending_count(), c.dials, c.dials_moved,
                c.violations, c.stalled_closed);
        } else {
            core_.packet(streams_.at(verb), parse_packet({words.begin() + 2, words.end()}), now_);
        }
        return out + flush();
    }

 private:
    static ServerCoreOptions options() {
        ServerCoreOptions options;
        options.link = small_limits();
        options.strategies = {Strategy::kDestHost, Strategy::kDefault};
        options.relay_queue_size = 1000;
        return options;
    }

    void add_agent(const std::string& name, const std::map<std::string, std::string>& args,
                   std::string& out) {
        AgentInfo info;
        info.agent_id = text(args, "id");
        if (args.contains("host")) info.identifiers.hosts.push_back(text(args, "host"));
        if (args.contains("window")) info.window = static_cast<uint32_t>(number(args, "window"));
        Result<StreamId> id = core_.add_agent(std::move(info), now_);
        if (!id.ok()) {
            out += id.error().to_string() + "\n";
            return;
        }
        streams_[name] = *id;
    }

    std::string flush() {
        std::string out;
        for (const ServerCore::RelayOrder& order : core_.take_orders()) {
            std::string name = fmt::format("relay{}", ++relays_count_);
            streams_[name] = order.relay;
            out += fmt::format("open {}\n", name);
        }
        for (bool again = true; again;) {
            again = false;
            for (const auto& [name, id] : streams_) {
                if (blocked_[name]) continue;
                while (std::optional<Packet> packet = core_.next(id, now_)) {
                    out += fmt::format("{} < {}\n", name, to_string(*packet));
                    again = true;
                }
            }
        }
        for (auto it = streams_.begin(); it != streams_.end();) {
            if (!core_.may_read(it->second)) out += fmt::format("{} waits\n", it->first);
            if (!core_.finished(it->second)) {
                ++it;
                continue;
            }
            out += fmt::format("{} ends\n", it->first);
            core_.remove(it->second, now_);
            it = streams_.erase(it);
        }
        return out;
    }

    uint64_t random_ = 0;
    TimePoint now_{};
    ServerCore core_;
    std::map<std::string, StreamId> streams_;
    std::map<std::string, StreamId> peers_;
    std::map<std::string, bool> blocked_;
    int relays_count_ = 0;
};

class AgentScript {
 public:
    std::string run(const std::vector<std::string>& words) {
        auto args = arguments(words);
        const std::string& verb = words.at(0);
        std::string out;
        int64_t conn = number(args, "conn");
        if (verb == "link") {
            std::optional<uint32_t> window;
            if (args.contains("window")) window = static_cast<uint32_t>(number(args, "window"));
            core_.emplace(small_limits(), window, [](int64_t) {});
        } else if (verb == "server") {
            std::optional<DialOrder> order =
                core_->packet(parse_packet({words.begin() + 2, words.end()}), now_);
            if (order)
                out += fmt::format("dial conn={} to={}\n", order->connection_id, order->address);
        } else if (verb == "dialed") {
            core_->dialed(conn);
        } else if (verb == "dial-failed") {
            core_->dial_failed(conn, text(args, "error"));
        } else if (verb == "target") {
            core_->from_target(conn, std::string(static_cast<size_t>(number(args, "size")), 'y'));
        } else if (verb == "target-closed") {
            core_->target_closed(conn, text(args, "error"), now_);
        } else if (verb == "take") {
            while (std::optional<Inbound> inbound = core_->take(conn)) {
                out += inbound->end
                           ? fmt::format("target {} < end\n", conn)
                           : fmt::format("target {} < size={}\n", conn, inbound->data.size());
                if (inbound->end) core_->closed(conn, now_);
            }
        } else if (verb == "wait") {
            now_ += parse_duration(words.at(1)).value();
            core_->tick(now_);
        } else if (verb == "drain") {
            core_->drain();
        }
        while (std::optional<Packet> packet = core_->next())
            out += fmt::format("server < {}\n", to_string(*packet));
        if (!core_->may_read()) out += "server waits\n";
        if (conn != 0)
            out += fmt::format("conn {}{}{}\n", conn, core_->alive(conn) ? " alive" : " gone",
                               core_->accepts(conn) ? " accepts" : "");
        return out;
    }

 private:
    TimePoint now_{};
    std::optional<AgentCore> core_;
};

template <class Script>
void run_file(const std::filesystem::path& path) {
    std::ifstream in(path);
    ASSERT_TRUE(in) << path;
    Script script;
    std::string rewritten;
    std::string line;
    std::string expected;
    std::string actual;
    std::string command;
    auto check = [&] {
        if (!command.empty()) {
            EXPECT_EQ(actual, expected) << path << ": " << command;
        }
        command.clear();
        expected.clear();
    };
    enum { kBefore, kExpecting } state = kBefore;
    while (std::getline(in, line)) {
        if (state == kExpecting) {
            if (line.empty()) {
                check();
                state = kBefore;
                rewritten += actual + "\n";
            } else {
                expected += line + "\n";
            }
            continue;
        }
        rewritten += line + "\n";
        if (line == "----") {
            state = kExpecting;
            continue;
        }
        if (line.empty() || line[0] == '#') continue;
        command = line;
        std::vector<std::string> words;
        for (std::string_view word : split(line, ' ')) {
            if (!word.empty()) words.emplace_back(word);
        }
        actual = script.run(words);
    }
    if (state == kExpecting) {
        check();
        rewritten += actual;
    }
    if (std::getenv("BASALT_REWRITE") != nullptr) std::ofstream(path) << rewritten;
}

std::vector<std::filesystem::path> scripts(const std::string& folder) {
    std::vector<std::filesystem::path> paths;
    std::filesystem::path root =
        std::filesystem::path(BASALT_SOURCE_DIR) / "src/tunnel/testdata" / folder;
    for (const auto& entry : std::filesystem::directory_iterator(root))
        paths.push_back(entry.path());
    std::sort(paths.begin(), paths.end());
    return paths;
}

TEST(ServerCore, Scripts) {
    auto paths = scripts("server_core");
    EXPECT_GE(paths.size(), 5u);
    for (const auto& path : paths) run_file<ServerScript>(path);
}

class ManyPackets : public ::testing::Test {
 protected:
    ManyPackets() : core_({}, [] { return uint64_t{0}; }, [](StreamId) {}) {}
    /// What a stream has to send when nobody asked until now.
    std::vector<Packet> all_of(StreamId id) {
        std::vector<Packet> packets;
        while (std::optional<Packet> packet = core_.next(id, now_)) packets.push_back(*packet);
        return packets;
    }
    ServerCore core_;
    TimePoint now_{};
};

// A peer that only asks: what waits for it must not grow with what it sends.
TEST_F(ManyPackets, OfAFrontendThatDoesNotReadAreNotAnswered) {
    AgentInfo info;
    info.agent_id = "a";
    info.window = 1000;
    StreamId agent = core_.add_agent(info, now_).value();
    StreamId closes = core_.add_frontend(true).value();
    StreamId dials = core_.add_frontend(true).value();
    for (int i = 0; i < 100'000; ++i) {
        core_.packet(closes, close_request(i), now_);
        core_.packet(dials, dial_request(i, "10.0.0.1:443"), now_);
    }
    EXPECT_EQ(all_of(closes).size(), 1u);
    EXPECT_TRUE(core_.finished(closes));
    // The second one ended it, and the agent was told that nobody waits for the first.
    EXPECT_EQ(all_of(dials).size(), 1u);
    EXPECT_TRUE(core_.finished(dials));
    EXPECT_EQ(all_of(agent).size(), 2u);
}

TEST_F(ManyPackets, ThatWaitForAStreamStopItsReading) {
    AgentInfo info;
    info.agent_id = "a";
    StreamId agent = core_.add_agent(info, now_).value();
    StreamId frontend = core_.add_frontend(false).value();
    core_.packet(frontend, dial_request(1, "10.0.0.1:443"), now_);
    core_.packet(agent, dial_response(1, 7), now_);
    EXPECT_TRUE(core_.may_read(frontend));
    // The agent goes with much that nobody has read yet: that is for the frontend, before the end.
    core_.packet(agent, data_packet(7, std::string(300'000, 'x')), now_);
    core_.remove(agent, now_);
    EXPECT_FALSE(core_.may_read(frontend));
    EXPECT_EQ(all_of(frontend).size(), 3u);
    EXPECT_TRUE(core_.may_read(frontend));
}

// Many connections with slow readers: within one limit, and the others go on.
TEST_F(ManyPackets, ForSlowReadersStayWithinOneLimit) {
    ServerCoreOptions options;
    options.memory_limit = size_t{4} << 20;
    ServerCore core(options, [] { return uint64_t{0}; }, [](StreamId) {});
    AgentInfo info;
    info.agent_id = "a";
    info.window = options.link.window_size;
    StreamId agent = core.add_agent(info, now_).value();
    std::vector<StreamId> frontends;
    for (int64_t i = 1; i <= 20; ++i) {
        frontends.push_back(core.add_frontend(false).value());
        core.packet(frontends.back(), dial_request(i, "10.0.0.1:443"), now_);
        core.packet(agent, dial_response(i, i), now_);
        EXPECT_TRUE(core.next(frontends.back(), now_));
    }
    const std::string block(size_t{32} << 10, 'x');
    // As the driver does: it reads only while it may.
    auto flood = [&] {
        for (int64_t i = 0; i < 20 * 32 && core.may_read(agent); ++i)
            core.packet(agent, data_packet(i % 20 + 1, block), now_);
    };
    flood();
    EXPECT_FALSE(core.may_read(agent));
    EXPECT_FALSE(core.may_read(frontends[0]));
    EXPECT_LE(core.held_size(), options.memory_limit + block.size() + 64);
    // One reader takes what is there: not enough for all, so that those who wait most are ended.
    while (core.next(frontends[19], now_)) {
    }
    now_ += options.link.stall_interval / 2;
    core.tick(now_);
    EXPECT_EQ(core.counters().overflow_closed, 0u);
    // All at once, so that the others wait no longer than they must.
    now_ += options.link.stall_interval;
    core.tick(now_);
    EXPECT_TRUE(core.may_read(agent));
    EXPECT_GT(core.counters().overflow_closed, 0u);
    EXPECT_LT(core.counters().overflow_closed, 10u);
    EXPECT_LE(core.held_size(), options.memory_limit / 4 * 3);
    core.packet(agent, data_packet(20, block), now_);
    std::optional<Packet> packet = core.next(frontends[19], now_);
    ASSERT_TRUE(packet);
    EXPECT_EQ(packet->data.size(), block.size());
    // Whatever ends is counted off.
    for (StreamId id : frontends) core.remove(id, now_);
    core.remove(agent, now_);
    EXPECT_EQ(core.held_size(), 0u);
}

// What an agent left behind is not its link's any more, and its readers may be just as slow.
TEST_F(ManyPackets, OfAnAgentThatLeftEndToo) {
    ServerCoreOptions options;
    options.memory_limit = size_t{1} << 20;
    ServerCore core(options, [] { return uint64_t{0}; }, [](StreamId) {});
    AgentInfo info;
    info.agent_id = "a";
    StreamId agent = core.add_agent(info, now_).value();
    for (int64_t i = 1; i <= 4; ++i) {
        StreamId frontend = core.add_frontend(false).value();
        core.packet(frontend, dial_request(i, "10.0.0.1:443"), now_);
        core.packet(agent, dial_response(i, i), now_);
        core.packet(agent, data_packet(i, std::string(300'000, 'x')), now_);
    }
    core.remove(agent, now_);
    EXPECT_GT(core.held_size(), options.memory_limit);
    StreamId next = core.add_frontend(false).value();
    EXPECT_FALSE(core.may_read(next));
    for (int i = 0; i < 10; ++i) {
        now_ += std::chrono::milliseconds(500);
        core.tick(now_);
    }
    EXPECT_TRUE(core.may_read(next));
    EXPECT_EQ(core.counters().overflow_closed, 2u);
}

TEST(Link, PacketsOfAByteAreJoined) {
    LinkLimits limits;
    Link link(limits, limits.window_size);
    ASSERT_TRUE(link.open(1));
    for (uint32_t i = 0; i < limits.window_size; ++i) {
        std::string byte(1, static_cast<char>('a' + i % 26));
        ASSERT_TRUE(link.receive_data(1, byte, {}).ok());
        link.send_data(1, byte);
    }
    EXPECT_FALSE(link.receive_data(1, "x", {}).ok());
    size_t held = 0, next = 0;
    while (next < limits.window_size) {
        std::optional<Inbound> inbound = link.take(1);
        ASSERT_TRUE(inbound);
        held += sizeof(std::string) + inbound->data.capacity();
        for (char c : inbound->data.substr(0, limits.window_size - next))
            ASSERT_EQ(c, static_cast<char>('a' + next++ % 26));
    }
    EXPECT_LE(held, size_t{2} * limits.window_size);
    size_t packets_count = 0, sent = 0;
    while (std::optional<Packet> packet = link.next()) {
        if (packet->kind != PacketKind::kData) continue;
        ++packets_count;
        for (char c : packet->data) ASSERT_EQ(c, static_cast<char>('a' + sent++ % 26));
    }
    EXPECT_EQ(sent, limits.window_size);
    EXPECT_EQ(packets_count, limits.window_size / limits.chunk_size);
}

TEST(AgentCore, Scripts) {
    auto paths = scripts("agent_core");
    EXPECT_GE(paths.size(), 2u);
    for (const auto& path : paths) run_file<AgentScript>(path);
}

TEST(Packet, RoundTrip) {
    std::vector<Packet> packets{dial_request(-5, "[fd00::1]:443"),
                                dial_response(7, 3),
                                dial_response(7, 0, "refused"),
                                dial_close(9),
                                data_packet(3, std::string("a\0b", 3)),
                                close_request(3),
                                close_response(3, "why"),
                                credit_packet(3, 70000)};
    for (const Packet& packet : packets) {
        Result<Packet> again = decode(encode(packet));
        ASSERT_TRUE(again.ok()) << to_string(packet);
        EXPECT_EQ(*again, packet) << to_string(packet);
    }
}

TEST(Packet, WireNumbers) {
    // type=DATA(4) in field 1; field 4 {connectID=1 (field 1), data="hi" (field 3)}.
    EXPECT_EQ(encode(data_packet(1, "hi")), std::string("\x08\x04\x22\x06\x08\x01\x1a\x02hi", 10));
    // DIAL_REQ is 0 and left out; field 2 {protocol="tcp", address="a:1", random=2}.
    EXPECT_EQ(encode(dial_request(2, "a:1")), std::string("\x12\x0c\x0a\x03tcp\x12\x03"
                                                          "a:1\x18\x02",
                                                          14));
    // DRAIN with its empty body in field 8.
    Packet drain;
    drain.kind = PacketKind::kDrain;
    EXPECT_EQ(encode(drain), std::string("\x08\x06\x42\x00", 4));
}

TEST(Packet, UnknownAndBroken) {
    Result<Packet> unknown = decode(std::string_view("\x08\x63", 2));
    ASSERT_TRUE(unknown.ok());
    EXPECT_EQ(static_cast<int>(unknown->kind), 99);
    EXPECT_FALSE(decode("\x0a\xff\xff\xff\xff\xff").ok());
}

TEST(Identifiers, Parse) {
    Result<Identifiers> parsed = parse_identifiers(
        "host=localhost&host=node1.mydomain.com&cidr=10.0.0.0%2F8&ipv4=1.2.3.4&ipv6=100::1&"
        "default-route=true&later=x");
    ASSERT_TRUE(parsed.ok());
    EXPECT_THAT(parsed->hosts, testing::ElementsAre("localhost", "node1.mydomain.com"));
    EXPECT_THAT(parsed->cidrs, testing::ElementsAre("10.0.0.0/8"));
    EXPECT_TRUE(parsed->serves_host("100::1"));
    EXPECT_FALSE(parsed->serves_host(""));
    EXPECT_TRUE(parsed->default_route);
    EXPECT_FALSE(parse_identifiers(";").ok());
    EXPECT_FALSE(parse_identifiers("default-route=false&default-route=true")->default_route);
    EXPECT_EQ(parse_identifiers("")->hosts.size(), 0u);
    EXPECT_FALSE(parse_identifiers(std::string(5000, 'a')).ok());
}

TEST(Identifiers, Strategies) {
    EXPECT_THAT(parse_strategies("destHost,default").value(),
                testing::ElementsAre(Strategy::kDestHost, Strategy::kDefault));
    EXPECT_FALSE(parse_strategies("").ok());
    EXPECT_FALSE(parse_strategies("nearest").ok());
}

TEST(Identifiers, HostOf) {
    EXPECT_EQ(host_of("10.0.0.1:443"), "10.0.0.1");
    EXPECT_EQ(host_of("[fd00::1]:443"), "fd00::1");
    EXPECT_EQ(host_of("name"), "name");
    EXPECT_EQ(host_of("fd00::1"), "fd00::1");
}

}  // namespace
}  // namespace basalt::tunnel
