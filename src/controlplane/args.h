// Command lines of the components, and where in their containers files are found.
//
// Flags are those of kube-apiserver, kube-controller-manager and kube-scheduler 1.31-1.36 and of
// upstream's proxy-server; which of them a user may override is Kamaji's rule (merge_args() in
// objects.h).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "controlplane/objects.h"

namespace basalt::controlplane {

inline constexpr std::string_view kPkiDir = "/etc/kubernetes/pki";
inline constexpr std::string_view kEtcdDir = "/etc/kubernetes/etcd";
inline constexpr std::string_view kKubeconfigDir = "/etc/kubernetes/conf";
inline constexpr std::string_view kTunnelConfigDir = "/etc/kubernetes/konnectivity";
inline constexpr std::string_view kTunnelSocketDir = "/run/konnectivity";
/// basalt-start, and the file that says that the API server is ready. Only what carries the API
/// server's connections writes here.
inline constexpr std::string_view kStartDir = "/run/basalt-start";
inline constexpr std::string_view kStartGate = "/run/basalt-start/api-server-ready";

/// How a Pod ends, in seconds from its deletion on. The API server goes on while it carries
/// commands, at most kCommandsLimitSeconds, then for kShutdownDelaySeconds; what carries its
/// connections goes on while somebody needs it, at most kTunnelGraceSeconds; the kubelet waits
/// longer than all. The delay: endpoints leave every node's rules within 3 s (measured), and
/// requests end.
inline constexpr int kCommandsLimitSeconds = 60;
inline constexpr int kShutdownDelaySeconds = 8;
inline constexpr int kTunnelGraceSeconds = 90;
inline constexpr int kTerminationGraceSeconds = 105;
static_assert(kCommandsLimitSeconds + kShutdownDelaySeconds + 10 < kTunnelGraceSeconds);
static_assert(kTunnelGraceSeconds + 10 < kTerminationGraceSeconds);
/// With upstream's tunnel server, which cannot tell who uses it.
inline constexpr int kUpstreamTerminationGraceSeconds = 45;

std::vector<std::string> api_server_args(const Settings& settings, const Endpoint& endpoint,
                                         const Surroundings& surroundings);
std::vector<std::string> controller_manager_args(const Settings& settings);
std::vector<std::string> scheduler_args(const Settings& settings);
std::vector<std::string> tunnel_server_args(const Settings& settings);
/// Of `basalt-tunnel direct`, where there is no tunnel.
std::vector<std::string> direct_egress_args(const Settings& settings,
                                            const Surroundings& surroundings);

}  // namespace basalt::controlplane
