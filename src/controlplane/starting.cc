// When the controller writes a Deployment that starts Pods: start_slots.h.
#include <charconv>
#include <cmath>

#include <fmt/format.h>

#include "controlplane/names.h"
#include "controlplane/pass.h"

namespace basalt::controlplane {

using data::Value;

namespace {

// A start is bound by the API server's two seconds of CPU and by waiting for others in equal parts:
// with twice as many slots as cores the cores are busy and nobody's probes run out.
constexpr size_t kSlotsPerCore = 2;

double cores_of(const Value& quantity) {
    std::string text = quantity.is_string() ? quantity.str() : std::to_string(quantity.as_int());
    double number = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc()) return 0;
    return *end == 'm' ? number / 1000 : number;
}

// True when writing `intent` over `live` makes new Pods.
bool starts_pods(const Value& intent, const data::SharedValue& live) {
    if (intent["spec"]["replicas"].as_int(1) == 0) return false;
    if (live == nullptr || (*live)["spec"]["replicas"].as_int(1) == 0) return true;
    return !controller::is_subset(intent["spec"]["template"], (*live)["spec"]["template"]);
}

}  // namespace

bool ControlPlaneController::may_start(Pass* pass, const Value& intent) {
    const std::string key = pass->settings.key();
    if (!starts_pods(intent, pass->deployment)) return true;
    if (slots_.acquire(key, pass->settings.namespace_name, manager_.loop().now())) return true;
    TimePoint when;
    if (slots_.next_expiry(when)) pass->again = when - manager_.loop().now();
    return pass->stop(
        kPodsReady, "Queued",
        fmt::format("Waiting to start: {} start now, this one is number {} of {} that wait",
                    slots_.holding_count(), slots_.position(key), slots_.waiting_count()));
}

void ControlPlaneController::free_slot(const std::string& key) {
    slots_.release(key);
    wake_granted();
}

void ControlPlaneController::count_cores() {
    double cores = 0;
    nodes_.for_each([&](const data::SharedValue& node) {
        cores += cores_of((*node)["status"]["allocatable"]["cpu"]);
    });
    slots_.set_capacity(static_cast<size_t>(std::lround(cores)) * kSlotsPerCore);
    wake_granted();
}

void ControlPlaneController::wake_granted() {
    for (const std::string& key : slots_.take_granted(manager_.loop().now())) {
        size_t slash = key.find('/');
        controller_->enqueue(controller::Key(key.substr(0, slash), key.substr(slash + 1)));
    }
}

}  // namespace basalt::controlplane
