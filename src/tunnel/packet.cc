#include "tunnel/packet.h"

#include <fmt/format.h>

#include "tunnel/packet.pb.h"

namespace basalt::tunnel {

Packet dial_request(int64_t dial_id, std::string address) {
    Packet packet;
    packet.kind = PacketKind::kDialRequest;
    packet.dial_id = dial_id;
    packet.network = "tcp";
    packet.address = std::move(address);
    return packet;
}

Packet dial_response(int64_t dial_id, int64_t connection_id, std::string error) {
    Packet packet;
    packet.kind = PacketKind::kDialResponse;
    packet.dial_id = dial_id;
    packet.connection_id = connection_id;
    packet.error = std::move(error);
    return packet;
}

Packet dial_close(int64_t dial_id) {
    Packet packet;
    packet.kind = PacketKind::kDialClose;
    packet.dial_id = dial_id;
    return packet;
}

Packet data_packet(int64_t connection_id, std::string data) {
    Packet packet;
    packet.kind = PacketKind::kData;
    packet.connection_id = connection_id;
    packet.data = std::move(data);
    return packet;
}

Packet close_request(int64_t connection_id) {
    Packet packet;
    packet.kind = PacketKind::kCloseRequest;
    packet.connection_id = connection_id;
    return packet;
}

Packet close_response(int64_t connection_id, std::string error) {
    Packet packet;
    packet.kind = PacketKind::kCloseResponse;
    packet.connection_id = connection_id;
    packet.error = std::move(error);
    return packet;
}

Packet credit_packet(int64_t connection_id, uint32_t size) {
    Packet packet;
    packet.kind = PacketKind::kCredit;
    packet.connection_id = connection_id;
    packet.number = size;
    return packet;
}

std::string encode(const Packet& packet) {
    wire::Packet message;
    message.set_kind(static_cast<wire::Kind>(packet.kind));
    switch (packet.kind) {
        case PacketKind::kDialRequest:
            message.mutable_dial_request()->set_network(packet.network);
            message.mutable_dial_request()->set_address(packet.address);
            message.mutable_dial_request()->set_dial_id(packet.dial_id);
            break;
        case PacketKind::kDialResponse:
            message.mutable_dial_response()->set_error(packet.error);
            message.mutable_dial_response()->set_connection_id(packet.connection_id);
            message.mutable_dial_response()->set_dial_id(packet.dial_id);
            break;
        case PacketKind::kCloseRequest:
            message.mutable_close_request()->set_connection_id(packet.connection_id);
            break;
        case PacketKind::kCloseResponse:
            message.mutable_close_response()->set_connection_id(packet.connection_id);
            message.mutable_close_response()->set_error(packet.error);
            break;
        case PacketKind::kData:
            message.mutable_data()->set_connection_id(packet.connection_id);
            message.mutable_data()->set_data(packet.data);
            break;
        case PacketKind::kDialClose:
            message.mutable_dial_close()->set_dial_id(packet.dial_id);
            break;
        case PacketKind::kDrain: message.mutable_drain(); break;
        case PacketKind::kCredit:
            message.mutable_credit()->set_connection_id(packet.connection_id);
            message.mutable_credit()->set_size(packet.number);
            break;
        case PacketKind::kServers: message.mutable_servers()->set_count(packet.number); break;
    }
    return message.SerializeAsString();
}

Result<Packet> decode(std::string_view bytes) {
    if (bytes.size() > kMaxPacketSize) return resource_exhausted("a tunnel packet above 4 MiB");
    wire::Packet message;
    if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
        return invalid_argument("not a tunnel packet");
    }
    Packet packet;
    packet.kind = static_cast<PacketKind>(static_cast<int>(message.kind()));
    switch (packet.kind) {
        case PacketKind::kDialRequest:
            packet.dial_id = message.dial_request().dial_id();
            packet.network = message.dial_request().network();
            packet.address = message.dial_request().address();
            break;
        case PacketKind::kDialResponse:
            packet.dial_id = message.dial_response().dial_id();
            packet.connection_id = message.dial_response().connection_id();
            packet.error = message.dial_response().error();
            break;
        case PacketKind::kCloseRequest:
            packet.connection_id = message.close_request().connection_id();
            break;
        case PacketKind::kCloseResponse:
            packet.connection_id = message.close_response().connection_id();
            packet.error = message.close_response().error();
            break;
        case PacketKind::kData:
            packet.connection_id = message.data().connection_id();
            if (message.has_data())
                packet.data = std::move(*message.mutable_data()->mutable_data());
            break;
        case PacketKind::kDialClose: packet.dial_id = message.dial_close().dial_id(); break;
        case PacketKind::kDrain: break;
        case PacketKind::kCredit:
            packet.connection_id = message.credit().connection_id();
            packet.number = message.credit().size();
            break;
        case PacketKind::kServers: packet.number = message.servers().count(); break;
    }
    return packet;
}

std::string to_string(const Packet& packet) {
    auto with_error = [&packet](std::string text) {
        return packet.error.empty() ? text : fmt::format("{} error=\"{}\"", text, packet.error);
    };
    switch (packet.kind) {
        case PacketKind::kDialRequest:
            return fmt::format("DIAL_REQ dial={} {}://{}", packet.dial_id, packet.network,
                               packet.address);
        case PacketKind::kDialResponse:
            return with_error(
                fmt::format("DIAL_RSP dial={} conn={}", packet.dial_id, packet.connection_id));
        case PacketKind::kCloseRequest:
            return fmt::format("CLOSE_REQ conn={}", packet.connection_id);
        case PacketKind::kCloseResponse:
            return with_error(fmt::format("CLOSE_RSP conn={}", packet.connection_id));
        case PacketKind::kData:
            return fmt::format("DATA conn={} size={}", packet.connection_id, packet.data.size());
        case PacketKind::kDialClose: return fmt::format("DIAL_CLS dial={}", packet.dial_id);
        case PacketKind::kDrain: return "DRAIN";
        case PacketKind::kCredit:
            return fmt::format("CREDIT conn={} size={}", packet.connection_id, packet.number);
        case PacketKind::kServers: return fmt::format("SERVERS count={}", packet.number);
    }
    return fmt::format("PACKET kind={}", static_cast<int>(packet.kind));
}

}  // namespace basalt::tunnel
