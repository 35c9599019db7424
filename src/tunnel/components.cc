#include "tunnel/components.h"

#include <algorithm>

namespace basalt::tunnel {

using async::Task;

namespace {

constexpr Duration kInterval = std::chrono::milliseconds(100);
constexpr Duration kOneLookTimeout = std::chrono::seconds(2);

/// Ready; or it serves and does not tell strangers (--anonymous-auth=false). Before its roles are
/// there, an API server answers 403.
bool serves(const Result<net::HttpResponse>& response) {
    return response.ok() && (response->status == 200 || response->status == 401);
}

}  // namespace

Components::Components(async::Loop& loop, std::vector<Server> servers,
                       std::function<bool()> open_gate)
    : loop_(loop), open_gate_(std::move(open_gate)), group_(loop) {
    for (Server& server : servers) components_.push_back({std::move(server)});
}

void Components::start() { wake_watch(); }

Task<void> Components::stop() {
    group_.cancel();
    co_await group_.join();
}

bool Components::wanted() const { return waiting_ > 0 || open_gate_ != nullptr; }

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
    request.target = component->server.page;
    auto sending = component->server.transport->send(std::move(request));
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
            if (open_gate_ && open_gate_()) open_gate_ = nullptr;
            if (waiting_ == 0) break;
        }
        looked_.notify_all();
        Result<void> slept = co_await async::sleep_for(loop_, kInterval);
        if (!slept.ok()) break;
    }
    watching_ = false;
}

Task<bool> Components::started(std::string name) {
    auto found =
        std::find_if(components_.begin(), components_.end(),
                     [&](const Component& component) { return component.server.name == name; });
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

}  // namespace basalt::tunnel
