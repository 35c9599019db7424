// The objects of one control plane in the management cluster, as a pure function of its Settings
// and of what is known about its neighbours. Each is a complete server-side-apply intent: it holds
// what we own, no more.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/settings.h"
#include "data/value.h"

namespace basalt::controlplane {

/// What the plan has to know beyond the spec.
struct Surroundings {
    std::vector<std::string> etcd_endpoints;  ///< host:port of the DataStore's members.
    std::map<std::string, std::vector<std::string>> override_endpoints;  ///< resource -> host:port
    std::string datastore_name;

    /// Label suffix ("ca", "api-server-certificate", …) -> checksum; a change rolls the Pods.
    std::map<std::string, std::string> secret_checksums;
    std::string datastore_config_checksum, datastore_certificate_checksum;
    std::string tunnel_kubeconfig_checksum;  ///< "" without a tunnel.

    /// Selector of a Deployment that exists already; it is immutable and stays.
    data::Value existing_selector;
    std::string tunnel_image;  ///< Of our own tunnel.
    /// What a control plane without a tunnel must not dial: the provider's nodes, Pods, Services,
    /// load balancers. Empty: it dials nothing at all.
    std::vector<std::string> protected_ranges;
    std::vector<std::string> dns_addresses;  ///< Resolvers beside the management cluster's own.
};

/// Address and port of the API server as tenants and kubeconfigs use it.
struct Endpoint {
    std::string address;            ///< On the management side.
    std::string advertise_address;  ///< On the tenants' side; equal to `address` unless set.
    int64_t port = 6443;
    std::string host_port() const;  ///< "10.0.0.1:6443", "[fd00::1]:6443"
    std::string advertise_host_port() const;
};

/// metadata with name, namespace, labels and owner reference.
data::Value object_meta(const Settings& settings, const std::string& name,
                        std::string_view component);

/// With Kamaji's checksum of its data as annotation.
data::Value build_config_map(const Settings& settings, const std::string& name,
                             std::string_view component,
                             const std::map<std::string, std::string>& content);

/// Labels and annotations of the user's, beside those that `meta` has: these win.
void add_metadata(data::Value& meta, const Metadata& from_user);

data::Value build_service(const Settings& settings);
data::Value build_deployment(const Settings& settings, const Endpoint& endpoint,
                             const Surroundings& surroundings);
/// Null unless there is more than one replica.
data::Value build_disruption_budget(const Settings& settings);
/// What may be dialled from the control plane's Pods, and who may dial them.
data::Value build_network_policy(const Settings& settings, const Surroundings& surroundings);
/// Addresses and ranges that `basalt-tunnel direct` refuses: the protected ones, the DataStores',
/// and the whole of an address family of which no range is protected.
std::vector<std::string> denied_destinations(const Surroundings& surroundings);
/// Of protected_ranges: "10.0.0.0/8", "fd00::/8", without host bits.
Result<void> check_ranges(const std::vector<std::string>& ranges);
/// Sends all that a tenant can steer through the socket of the container beside the API server.
data::Value build_egress_selector(const Settings& settings);
data::Value build_kubeadm_config(const Settings& settings, const Endpoint& endpoint);

/// The address under which the Service is reached, as far as it is known; nullopt while it has to
/// be waited for. FailedPrecondition names the field that has to be set when waiting would not
/// help. What is announced is always an IP address.
Result<std::optional<Endpoint>> find_endpoint(const Settings& settings, const data::Value& service);

/// Upstream's order of arguments: what we manage and our defaults, sorted, then the user's. A user
/// value for a managed flag is dropped; for a default it wins.
std::vector<std::string> merge_args(const std::map<std::string, std::string>& managed,
                                    const std::map<std::string, std::string>& defaults,
                                    const std::vector<std::string>& user_args);

}  // namespace basalt::controlplane
