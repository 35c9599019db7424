#include "net/stream.h"

#include "base/strings.h"

namespace basalt::net {

std::string Endpoint::to_string() const {
    if (is_unix()) return "unix:" + unix_path;
    if (host.find(':') != std::string::npos) return "[" + host + "]:" + std::to_string(port);
    return host + ":" + std::to_string(port);
}

Result<Endpoint> parse_endpoint(std::string_view text) {
    if (text.starts_with("unix:")) {
        text.remove_prefix(5);
        if (text.starts_with("///")) text.remove_prefix(2);
        if (text.size() < 2 || text[0] != '/')
            return invalid_argument("a unix endpoint needs an absolute path");
        return Endpoint::local_socket(std::string(text));
    }
    size_t colon = text.rfind(':');
    if (colon == std::string_view::npos) return invalid_argument("an endpoint is host:port");
    std::string_view host = text.substr(0, colon);
    std::optional<uint16_t> port = parse_number<uint16_t>(text.substr(colon + 1));
    if (!port) return invalid_argument("the endpoint's port is not valid");
    if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
        host = host.substr(1, host.size() - 2);
    } else if (host.find(':') != std::string_view::npos) {
        return invalid_argument("an IPv6 address in an endpoint needs brackets");
    }
    return Endpoint::tcp(std::string(host), *port);
}

namespace {

async::Task<Result<std::unique_ptr<Stream>>> dial(async::Loop* loop, Endpoint endpoint,
                                                  Duration timeout) {
    return connect(*loop, std::move(endpoint), timeout);
}

class PrefixStream final : public Stream {
 public:
    PrefixStream(std::string head, std::unique_ptr<Stream> stream)
        : head_(std::move(head)), stream_(std::move(stream)) {}

    async::Task<Result<std::string>> read(size_t max_size) override {
        if (head_.empty()) return stream_->read(max_size);
        return take_head(max_size);
    }
    async::Task<Result<void>> write(std::string data) override {
        return stream_->write(std::move(data));
    }
    async::Task<Result<void>> close_write() override { return stream_->close_write(); }
    void close() override { stream_->close(); }
    const StreamInfo& info() const override { return stream_->info(); }

 private:
    async::Task<Result<std::string>> take_head(size_t max_size) {
        std::string part = head_.substr(0, max_size);
        head_.erase(0, part.size());
        co_return std::move(part);
    }
    std::string head_;
    std::unique_ptr<Stream> stream_;
};

}  // namespace

Dialer make_dialer(async::Loop& loop, Endpoint endpoint, Duration timeout) {
    return [loop = &loop, endpoint = std::move(endpoint), timeout] {
        return dial(loop, endpoint, timeout);
    };
}

std::unique_ptr<Stream> with_prefix(std::string head, std::unique_ptr<Stream> stream) {
    if (head.empty()) return stream;
    return std::make_unique<PrefixStream>(std::move(head), std::move(stream));
}

}  // namespace basalt::net
