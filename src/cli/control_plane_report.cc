#include "cli/control_plane_report.h"

#include <algorithm>

#include <fmt/format.h>

#include "cli/condition.h"
#include "data/base64.h"
#include "pki/certificate.h"
#include "pki/kubeconfig.h"

namespace basalt::cli {

using data::Value;

namespace {

constexpr int64_t kDaysToWorry = 30;

Mood mood_of(std::string_view status) {
    if (status == "True") return Mood::kGood;
    return status == "False" ? Mood::kBad : Mood::kWaiting;
}

Tree conditions_tree(const Value& control_plane) {
    Tree tree{"Conditions", "", Mood::kNeutral, {}};
    for (const Value& item : control_plane["status"]["conditions"].items()) {
        std::string_view type = item["type"].as_string();
        if (type == "Ready" || type == "Progressing") continue;
        // Unsupported is bad news when it is true.
        Mood mood = type == "Unsupported" ? Mood::kWaiting : mood_of(item["status"].as_string());
        tree.add({item["type"].str(), reason_and_message(item), mood, {}});
    }
    return tree;
}

Tree datastore_tree(const ControlPlaneWorld& world) {
    const Value& storage = world.control_plane["status"]["storage"];
    // Before the first pass over a control plane there is only what was asked for.
    const std::string name = datastore_name(world.control_plane);
    if (name.empty()) return {"DataStore", "not chosen yet", Mood::kWaiting, {}};
    Tree tree{fmt::format("DataStore {}", name), "", Mood::kNeutral, {}};
    if (world.datastore.is_null()) {
        tree.note = "not found";
        tree.mood = Mood::kBad;
        return tree;
    }
    const Value& ready = condition(world.datastore, "Ready");
    tree.note = reason_and_message(ready);
    tree.mood = mood_of(ready["status"].as_string());
    if (!storage["setup"]["schema"].empty()) {
        tree.add({fmt::format("keys under /{}/", storage["setup"]["schema"].as_string()),
                  "",
                  Mood::kNeutral,
                  {}});
    }
    return tree;
}

Tree container_tree(const Value& container) {
    Tree tree{container["name"].str(), "", Mood::kWaiting, {}};
    const Value& state = container["state"];
    if (state["running"].is_object()) {
        bool ready = container["ready"].as_bool();
        tree.note = ready ? "ready" : "running, not ready";
        tree.mood = ready ? Mood::kGood : Mood::kWaiting;
    } else if (state["waiting"].is_object()) {
        tree.note = reason_and_message(state["waiting"]);
        tree.mood = state["waiting"]["reason"].as_string() == "ContainerCreating" ? Mood::kWaiting
                                                                                  : Mood::kBad;
    } else {
        tree.note = fmt::format("ended with code {}", state["terminated"]["exitCode"].as_int());
        tree.mood = Mood::kBad;
    }
    int64_t restarts = container["restartCount"].as_int();
    if (restarts > 0) tree.note += fmt::format(", {} restarts", restarts);
    return tree;
}

Tree pods_tree(const ControlPlaneWorld& world) {
    const Value& status = world.deployment["status"];
    Tree tree{fmt::format("Deployment {}", world.control_plane["metadata"]["name"].as_string()),
              fmt::format("{} of {} replicas ready", status["readyReplicas"].as_int(),
                          world.deployment["spec"]["replicas"].as_int()),
              Mood::kNeutral,
              {}};
    if (world.deployment.is_null()) tree.note = "not there yet";
    for (const Value& pod : world.pods) {
        Tree& child =
            tree.add({fmt::format("Pod {}", pod["metadata"]["name"].as_string()),
                      pod["metadata"]["deletionTimestamp"].is_null() ? pod["status"]["phase"].str()
                                                                     : "Terminating",
                      Mood::kNeutral,
                      {}});
        for (const Value& container : pod["status"]["containerStatuses"].items()) {
            child.add(container_tree(container));
        }
    }
    return tree;
}

// The end of the certificate that expires first in a Secret's data.
std::optional<WallTime> first_end(const Value& secret) {
    std::optional<WallTime> first;
    for (const data::Member& member : secret["data"].members()) {
        auto bytes = data::base64_decode(member.value.as_string());
        if (!bytes.ok()) continue;
        std::string pem = *bytes;
        auto kubeconfig = pki::parse_kubeconfig(pem);
        if (kubeconfig.ok()) pem = kubeconfig->client_certificate_pem;
        auto certificate = pki::Certificate::parse(pem);
        if (certificate.ok() && (!first || certificate->not_after() < *first))
            first = certificate->not_after();
    }
    return first;
}

Tree certificates_tree(const ControlPlaneWorld& world) {
    Tree tree{"Certificates", "", Mood::kNeutral, {}};
    for (const Value& secret : world.secrets) {
        std::optional<WallTime> end = first_end(secret);
        if (!end) continue;
        int64_t days =
            std::chrono::duration_cast<std::chrono::hours>(*end - world.now).count() / 24;
        Mood mood = days < 0 ? Mood::kBad : days < kDaysToWorry ? Mood::kWaiting : Mood::kGood;
        tree.add({secret["metadata"]["name"].str(),
                  days < 0 ? fmt::format("expired {} days ago", -days)
                           : fmt::format("{} days left", days),
                  mood,
                  {}});
    }
    return tree;
}

}  // namespace

std::string datastore_name(const Value& control_plane) {
    const Value& chosen = control_plane["status"]["storage"]["dataStoreName"];
    return chosen.empty() ? control_plane["spec"]["dataStore"].str() : chosen.str();
}

ControlPlaneReport describe_control_plane(const ControlPlaneWorld& world) {
    ControlPlaneReport report;
    const Value& meta = world.control_plane["metadata"];
    const Value& status = world.control_plane["status"];
    const Value& ready = condition(world.control_plane, "Ready");
    report.ready = ready["status"].as_string() == "True";
    std::string name =
        fmt::format("{}/{}", meta["namespace"].as_string(), meta["name"].as_string());
    if (report.ready) {
        report.headline = fmt::format("{} is Ready: nodes can join at {}", name,
                                      status["controlPlaneEndpoint"].as_string());
    } else if (ready.is_null()) {
        report.headline =
            fmt::format("{} was not looked at yet: does basalt-controller run?", name);
    } else {
        report.headline = fmt::format("{} is not Ready: {}", name, reason_and_message(ready));
    }
    const Value& version = status["kubernetesResources"]["version"];
    report.tree = {
        fmt::format("TenantControlPlane {}", name),
        fmt::format("{} {}", version["version"].as_string(), version["status"].as_string()),
        report.ready ? Mood::kGood : Mood::kBad,
        {}};
    report.tree.add(conditions_tree(world.control_plane));
    report.tree.add(datastore_tree(world));
    report.tree.add({fmt::format("Service {}", meta["name"].as_string()),
                     status["controlPlaneEndpoint"].empty() ? "no address yet"
                                                            : status["controlPlaneEndpoint"].str(),
                     status["controlPlaneEndpoint"].empty() ? Mood::kWaiting : Mood::kGood,
                     {}});
    report.tree.add(pods_tree(world));
    report.tree.add(certificates_tree(world));
    return report;
}

}  // namespace basalt::cli
