#include "controlplane/diagnosis.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

namespace basalt::controlplane {

using data::Value;

namespace {

constexpr size_t kLastWordsSize = 400;

// The end of a container's log says why it died; its beginning does not.
std::string last_words(const Value& terminated) {
    std::string_view text = terminated["message"].as_string();
    while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
    if (text.size() > kLastWordsSize) text = text.substr(text.size() - kLastWordsSize);
    size_t line = text.rfind('\n');
    return std::string(line == std::string_view::npos ? text : text.substr(line + 1));
}

std::optional<Diagnosis> diagnose_container(std::string_view pod, const Value& container) {
    std::string_view name = container["name"].as_string();
    const Value& waiting = container["state"]["waiting"];
    std::string_view reason = waiting["reason"].as_string();
    const Value& terminated = container["state"]["terminated"].is_object()
                                  ? container["state"]["terminated"]
                                  : container["lastState"]["terminated"];
    if (reason == "CrashLoopBackOff" || (terminated.is_object() && !container["ready"].as_bool() &&
                                         terminated["exitCode"].as_int() != 0)) {
        return Diagnosis{"CrashLoopBackOff",
                         fmt::format("container {} of Pod {} ended with code {}: {}", name, pod,
                                     terminated["exitCode"].as_int(), last_words(terminated)),
                         true};
    }
    if (reason.empty() || reason == "ContainerCreating" || reason == "PodInitializing")
        return std::nullopt;
    return Diagnosis{
        std::string(reason),
        fmt::format("container {} of Pod {}: {}", name, pod, waiting["message"].as_string()), true};
}

std::optional<Diagnosis> diagnose_pod(const Value& pod) {
    std::string_view name = pod["metadata"]["name"].as_string();
    const Value& status = pod["status"];
    for (const char* list : {"initContainerStatuses", "containerStatuses"}) {
        for (const Value& container : status[list].items()) {
            if (auto found = diagnose_container(name, container)) return found;
        }
    }
    for (const Value& condition : status["conditions"].items()) {
        if (condition["type"].as_string() == "PodScheduled" &&
            condition["status"].as_string() == "False") {
            return Diagnosis{condition["reason"].str(),
                             fmt::format("Pod {}: {}", name, condition["message"].as_string()),
                             true};
        }
    }
    return std::nullopt;
}

}  // namespace

Diagnosis diagnose_pods(const Value& deployment, const std::vector<data::SharedValue>& pods) {
    std::vector<data::SharedValue> newest_first = pods;
    std::sort(newest_first.begin(), newest_first.end(), [](const auto& a, const auto& b) {
        return (*a)["metadata"]["creationTimestamp"].as_string() >
               (*b)["metadata"]["creationTimestamp"].as_string();
    });
    for (const data::SharedValue& pod : newest_first) {
        if (!(*pod)["metadata"]["deletionTimestamp"].is_null()) continue;
        if (auto found = diagnose_pod(*pod)) return *found;
    }
    const Value& status = deployment["status"];
    for (const Value& condition : status["conditions"].items()) {
        if (condition["type"].as_string() == "ReplicaFailure" &&
            condition["status"].as_string() == "True") {
            return {condition["reason"].str(), condition["message"].str(), true};
        }
    }
    return {
        "Starting",
        fmt::format("{} of {} replicas are ready and current",
                    std::min(status["updatedReplicas"].as_int(), status["readyReplicas"].as_int()),
                    deployment["spec"]["replicas"].as_int(1)),
        false};
}

}  // namespace basalt::controlplane
