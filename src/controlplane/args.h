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

/// Long enough for endpoints to leave every node's rules (measured: under 3 s) and for commands
/// that users run in Pods by exec, which end with the API server that carries them; short beside
/// the grace period.
inline constexpr int kShutdownDelaySeconds = 15;
inline constexpr int kTerminationGraceSeconds = 45;
/// Our tunnel's server goes on while somebody needs it, so that a replacement finds it: longer than
/// its limit (kTunnelGraceSeconds).
inline constexpr int kTunnelTerminationGraceSeconds = 75;
inline constexpr int kTunnelGraceSeconds = 60;

std::vector<std::string> api_server_args(const Settings& settings, const Endpoint& endpoint,
                                         const Surroundings& surroundings);
std::vector<std::string> controller_manager_args(const Settings& settings);
std::vector<std::string> scheduler_args(const Settings& settings);
std::vector<std::string> tunnel_server_args(const Settings& settings);
/// Of `basalt-tunnel direct`, where there is no tunnel.
std::vector<std::string> direct_egress_args(const Settings& settings,
                                            const Surroundings& surroundings);

}  // namespace basalt::controlplane
