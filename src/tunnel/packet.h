// Packets of the konnectivity protocol, as values.
//
// The API server opens one gRPC stream /ProxyService/Proxy a connection; an agent keeps one stream
// /AgentService/Connect to each tunnel server, on which all its connections run beside each other.
// Both carry the same packets, one a gRPC message:
//
//     API server              tunnel server                agent
//     kDialRequest  dial id ->              dial id ->      dials host:port
//                           <- kDialResponse dial id, connection id (or error)
//     kData ... <-> kData ... <-> kData ...                 both ways, by connection id
//     kCloseRequest         ->  kCloseRequest ->            or kCloseResponse, when the target
//     closes first
//                           <-  kCloseResponse
//
// kDialClose gives up a dial; kDrain says that an agent is about to leave. A connection id is
// unique within one agent's stream only. There is no half-close: the end of either side ends the
// connection.
//
// Two kinds are ours: kCredit (flow control a connection, which the protocol lacks) and kServers
// (the number of tunnel servers changed). They are sent only when both ends said so in metadata
// (kWindowHeader). Facts: sigs.k8s.io/apiserver-network-proxy v0.36, its .proto files. Pure
// functions, any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace basalt::tunnel {

enum class PacketKind : int {
    kDialRequest = 0,
    kDialResponse = 1,
    kCloseRequest = 2,
    kCloseResponse = 3,
    kData = 4,
    kDialClose = 5,
    kDrain = 6,
    kCredit = 64,
    kServers = 65,
};

struct Packet {
    PacketKind kind = PacketKind::kData;
    int64_t dial_id = 0;        ///< kDialRequest, kDialResponse, kDialClose
    int64_t connection_id = 0;  ///< kDialResponse, kData, kCloseRequest, kCloseResponse, kCredit
    std::string network;        ///< kDialRequest: "tcp"
    std::string address;        ///< kDialRequest: "host:port"
    std::string error;          ///< kDialResponse, kCloseResponse; empty is success
    std::string data;           ///< kData
    uint32_t number = 0;        ///< kCredit: bytes; kServers: servers

    friend bool operator==(const Packet&, const Packet&) = default;
};

Packet dial_request(int64_t dial_id, std::string address);
Packet dial_response(int64_t dial_id, int64_t connection_id, std::string error = {});
Packet dial_close(int64_t dial_id);
Packet data_packet(int64_t connection_id, std::string data);
Packet close_request(int64_t connection_id);
Packet close_response(int64_t connection_id, std::string error = {});
Packet credit_packet(int64_t connection_id, uint32_t size);

/// Bytes of one packet: upstream's gRPC refuses messages above 4 MiB.
inline constexpr size_t kMaxPacketSize = size_t{4} << 20;

std::string encode(const Packet& packet);
/// InvalidArgument for what is no packet. A missing body reads as zeros, as in upstream; kinds that
/// are not known keep their number, for the receiver to ignore.
Result<Packet> decode(std::string_view bytes);

/// One line for logs and tests: "DATA conn=7 size=12".
std::string to_string(const Packet& packet);

// gRPC methods and metadata (lower case, as HTTP/2 has them).
inline constexpr std::string_view kProxyMethod = "/ProxyService/Proxy";
inline constexpr std::string_view kConnectMethod = "/AgentService/Connect";
inline constexpr std::string_view kAgentIdHeader = "agentid";
inline constexpr std::string_view kAgentIdentifiersHeader = "agentidentifiers";
inline constexpr std::string_view kServerIdHeader = "serverid";
inline constexpr std::string_view kServerCountHeader = "servercount";
inline constexpr std::string_view kAuthorizationHeader = "authorization";
inline constexpr std::string_view kBearerPrefix = "Bearer ";
/// Ours: the bytes a connection that the sender of this header is ready to receive before it gives
/// credit. With it in request and response both ends use kCredit, and the server may send kServers.
inline constexpr std::string_view kWindowHeader = "basalt-window";

}  // namespace basalt::tunnel
