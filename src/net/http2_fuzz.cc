// Any bytes from a peer into an HTTP/2 session of either side, with the calls that a driver makes
// in between.
#include "net/http2_session.h"

namespace {

using namespace basalt::net;
using namespace basalt::net::internal;

class Peer final : public Http2Events {
 public:
    explicit Peer(bool server)
        : server_(server), session_({.server = server, .max_streams = 10}, *this) {}

    void drive(std::string_view bytes, size_t step) {
        if (!server_) {
            for (int i = 0; i < 3; ++i) {
                auto id = session_.submit_request({"POST", "https", "a", "/", 0, {}}, i == 0);
                if (id.ok() && i > 0) session_.write(*id, std::string(1000, 'x'));
            }
        }
        session_.output(100'000);
        while (!bytes.empty()) {
            std::string_view part = bytes.substr(0, step);
            bytes.remove_prefix(part.size());
            if (!session_.receive(part).ok()) break;
            session_.output(100'000);
            if (session_.finished()) break;
        }
        session_.output(100'000);
    }

 private:
    void on_head(int32_t id, Http2Head head) override {
        if (!server_) return;
        if (head.path.size() % 3 == 0) {
            session_.reset(id, kH2Cancel);
        } else if (session_.submit_response(id, 200, head.headers, head.path.size() % 3 == 1)
                       .ok()) {
            session_.write(id, head.path);
            session_.end_with_trailers(id, Headers{{"grpc-status", "0"}});
        }
    }
    void on_trailers(int32_t, Headers) override {}
    void on_data(int32_t id, std::string_view data) override { session_.consume(id, data.size()); }
    void on_end(int32_t id) override { session_.end(id); }
    void on_drained(int32_t) override {}
    void on_head_sent(int32_t) override {}
    void on_closed(int32_t, uint32_t) override {}
    void on_goaway(uint32_t, std::string) override {}
    void on_settings() override {}
    void on_ping_ack() override {}

    bool server_;
    Http2Session session_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < 2) return 0;
    const bool server = (data[0] & 1) != 0;
    size_t step = data[1] + size_t{1};
    std::string bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
    if (server && (data[0] & 2) != 0) bytes = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes;
    Peer(server).drive(bytes, step);
    return 0;
}
