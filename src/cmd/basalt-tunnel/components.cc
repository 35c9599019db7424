#include "cmd/basalt-tunnel/components.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "base/log.h"

namespace basalt::cmd {

using async::Task;

namespace {

constexpr Duration kInterval = std::chrono::milliseconds(100);
constexpr Duration kOneLookTimeout = std::chrono::seconds(2);
constexpr Duration kGoneInterval = std::chrono::milliseconds(250);
/// Looks in a row that must find it gone.
constexpr int kGoneEnough = 3;
// Where upstream's listen unless told otherwise; Basalt does not tell them.
constexpr uint16_t kControllerManagerPort = 10257;
constexpr uint16_t kSchedulerPort = 10259;

/// Ready; or it serves and does not tell strangers (--anonymous-auth=false). Before its roles are
/// there, an API server answers 403.
bool serves(const Result<net::HttpResponse>& response) {
    return response.ok() && (response->status == 200 || response->status == 401);
}

bool make_file(const std::string& path) {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) {
        log_error("cannot open the gate", {{"error", errno_error(errno, path)}});
        return false;
    }
    ::close(fd);
    return true;
}

}  // namespace

Components::Components(async::Loop& loop, net::Endpoint api_server, std::string gate)
    : loop_(loop), api_server_(std::move(api_server)), gate_(std::move(gate)), group_(loop) {}

Result<std::unique_ptr<Components>> Components::make(async::Loop& loop, net::Endpoint api_server,
                                                     std::string gate) {
    std::unique_ptr<Components> made(new Components(loop, api_server, std::move(gate)));
    BASALT_TRY(made->add("kube-apiserver", "/readyz", api_server));
    BASALT_TRY(made->add("kube-controller-manager", "/healthz",
                         net::Endpoint::tcp("127.0.0.1", kControllerManagerPort)));
    BASALT_TRY(
        made->add("kube-scheduler", "/healthz", net::Endpoint::tcp("127.0.0.1", kSchedulerPort)));
    return made;
}

Result<void> Components::add(std::string name, std::string page, const net::Endpoint& endpoint) {
    net::TlsConfig tls;
    tls.insecure_skip_verify = true;
    net::HttpClientOptions options;
    BASALT_ASSIGN(options.tls, net::make_tls_client(std::move(tls)));
    options.version = net::HttpVersion::kHttp1;
    options.max_connections = 1;
    net::Url url;
    url.scheme = "https";
    url.host = endpoint.host;
    url.port = endpoint.port;
    url.path = "/";
    components_.push_back(
        {std::move(name), std::move(page), net::make_http_client(loop_, url, std::move(options))});
    return {};
}

void Components::start() { wake_watch(); }

Task<void> Components::stop() {
    group_.cancel();
    co_await group_.join();
}

bool Components::wanted() const { return waiting_ > 0 || !gate_.empty(); }

bool Components::all_up() const {
    return std::all_of(components_.begin(), components_.end(),
                       [](const Component& component) { return component.up; });
}

void Components::wake_watch() {
    if (watching_ || !wanted()) return;
    watching_ = true;
    // What was seen long ago does not count.
    for (Component& component : components_) component.up = false;
    group_.spawn(watch());
}

Task<void> Components::look(Component* component) {
    net::HttpRequest request;
    request.target = component->page;
    auto sending = component->client->send(std::move(request));
    Result<net::HttpResponse> response =
        co_await async::with_timeout(loop_, kOneLookTimeout, std::move(sending));
    const bool up = serves(response);
    if (up && !component->up) component->up_since = loop_.now();
    component->up = up;
}

Task<void> Components::watch() {
    while (wanted()) {
        for (Component& component : components_) {
            co_await look(&component);
            // Others answer only after it does.
            if (!components_.front().up) break;
            if (!gate_.empty() && make_file(gate_)) gate_.clear();
            if (waiting_ == 0) break;
        }
        looked_.notify_all();
        Result<void> slept = co_await async::sleep_for(loop_, kInterval);
        if (!slept.ok()) break;
    }
    watching_ = false;
}

Task<bool> Components::started(std::string name) {
    auto found = std::find_if(components_.begin(), components_.end(),
                              [&](const Component& component) { return component.name == name; });
    if (found == components_.end()) co_return false;
    const Component& own = *found;
    ++waiting_;
    wake_watch();
    bool good = false;
    const TimePoint deadline = loop_.now() + kHoldLimit;
    while (!good && loop_.now() < deadline) {
        Result<void> looked = co_await looked_.wait();
        if (!looked.ok()) break;
        good = own.up && (all_up() || loop_.now() - own.up_since >= kTogetherLimit);
    }
    --waiting_;
    co_return good;
}

Task<void> Components::until_gone(TimePoint deadline, std::function<bool()> drained) {
    int gone_count = 0;
    while (loop_.now() < deadline) {
        net::Endpoint endpoint = api_server_;
        auto stream = co_await net::connect(loop_, std::move(endpoint), std::chrono::seconds(1));
        gone_count = stream.ok() ? 0 : gone_count + 1;
        if (gone_count >= kGoneEnough && drained()) co_return;
        Result<void> slept = co_await async::sleep_for(loop_, kGoneInterval);
        if (!slept.ok()) co_return;
    }
}

}  // namespace basalt::cmd
