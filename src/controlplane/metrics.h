// Metrics about control planes, DataStores and certificates, under Kamaji's names and labels so
// that its dashboards work.
//
// All but the histogram is computed at a scrape, from caches. Certificates are parsed once for each
// version of their Secret, when it arrives. Series with names of objects grow with the number of
// control planes, as Kamaji's do.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "base/time.h"
#include "controller/manager.h"
#include "controller/metrics.h"
#include "data/value.h"

namespace basalt::controlplane {

struct BuildInfo {
    BuildInfo() = default;
    std::string version, commit, dirty, repo, build_time;
};

/// Observes its own lifetime in kamaji_handler_time_seconds{handler}: a step of a pass, or a
/// webhook. The manager outlives it.
class HandlerTimer {
 public:
    HandlerTimer(controller::Manager& manager, const char* handler);
    ~HandlerTimer();
    HandlerTimer(const HandlerTimer&) = delete;
    HandlerTimer& operator=(const HandlerTimer&) = delete;

 private:
    controller::Manager& manager_;
    const char* handler_;
    TimePoint began_;
};

/// "valid"; "expiring" when the renewal is overdue; "invalid" when it has ended or does not parse.
std::string_view certificate_status(std::optional<WallTime> ends_at, WallTime now);
/// The first end of the certificates in a Secret's data; nothing when one of them is broken or
/// there is none.
std::optional<WallTime> certificates_end(const data::Value& secret);

/// Must live as long as the manager's metrics are scraped.
class ControlPlaneMetrics {
 public:
    ControlPlaneMetrics(controller::Manager& manager, const BuildInfo& build);
    ~ControlPlaneMetrics();
    ControlPlaneMetrics(const ControlPlaneMetrics&) = delete;
    ControlPlaneMetrics& operator=(const ControlPlaneMetrics&) = delete;

 private:
    struct Certificate {
        std::string namespace_name, control_plane, strategy;
        std::optional<WallTime> ends_at;
    };
    void update();
    void update_control_planes();
    void update_data_stores();
    void update_certificates();
    void read_certificate(const kube::Change& change);

    controller::Manager& manager_;
    kube::Cache& control_planes_;
    kube::Cache& data_stores_;
    kube::Cache& secrets_;
    kube::Cache::HandlerId handler_ = 0;
    uint64_t scrape_ = 0;
    std::map<kube::ObjectKey, Certificate> certificates_;
};

}  // namespace basalt::controlplane
