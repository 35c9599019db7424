// The Service in front of a control plane and the endpoint that follows from it; what all objects
// have in common.
#include <fmt/format.h>

#include "base/ip.h"
#include "controlplane/names.h"
#include "controlplane/objects.h"
#include "controlplane/resources.h"
#include "pki/digest.h"

namespace basalt::controlplane {

using data::Value;

namespace {

std::string join_host_port(const std::string& host, int64_t port) {
    return is_ipv6_address(host) ? fmt::format("[{}]:{}", host, port)
                                 : fmt::format("{}:{}", host, port);
}

Value service_port(const char* name, int64_t port) {
    return Value::object(
        {{"name", name}, {"protocol", "TCP"}, {"port", port}, {"targetPort", port}});
}

Value build_ports(const Settings& settings) {
    Value api_server = service_port("kube-apiserver", settings.network.port);
    if (settings.service.type == "NodePort") api_server.set("nodePort", settings.network.port);
    Value ports = Value::array({api_server});
    if (settings.tunnel) {
        Value tunnel = service_port("konnectivity-server", settings.tunnel->server_port);
        // Agents dial the address of the control plane at this very port.
        if (settings.service.type == "NodePort")
            tunnel.set("nodePort", settings.tunnel->server_port);
        ports.push_back(std::move(tunnel));
    }
    for (const Value& additional : settings.service.additional_ports.items()) {
        Value port = additional;
        if (port["protocol"].empty()) port.set("protocol", "TCP");
        if (port["targetPort"].is_null()) port.set("targetPort", port["port"]);
        ports.push_back(std::move(port));
    }
    return ports;
}

bool has_both_families(const std::vector<std::string>& cidrs) {
    bool v4 = false;
    bool v6 = false;
    for (const std::string& cidr : cidrs) {
        (cidr.find(':') == std::string::npos ? v4 : v6) = true;
    }
    return v4 && v6;
}

}  // namespace

std::string Endpoint::host_port() const { return join_host_port(address, port); }
std::string Endpoint::advertise_host_port() const {
    return join_host_port(advertise_address, port);
}

Value object_meta(const Settings& settings, const std::string& name, std::string_view component) {
    Value owner = Value::object({{"apiVersion", kApiVersion},
                                 {"kind", "TenantControlPlane"},
                                 {"name", settings.name},
                                 {"uid", settings.uid},
                                 {"controller", true},
                                 {"blockOwnerDeletion", true}});
    return Value::object({{"name", name},
                          {"namespace", settings.namespace_name},
                          {"labels", Value::object({{names::kProjectLabel, names::kProject},
                                                    {names::kNameLabel, settings.name},
                                                    {names::kComponentLabel, component}})},
                          {"ownerReferences", Value::array({owner})}});
}

Value build_config_map(const Settings& settings, const std::string& name,
                       std::string_view component,
                       const std::map<std::string, std::string>& content) {
    std::string texts;
    Value items = Value::object();
    for (const auto& [key, text] : content) {
        items.set(key, text);
        texts += text;
    }
    Value meta = object_meta(settings, name, component);
    meta.at("annotations").set(names::kChecksumAnnotation, pki::md5_hex(texts));
    return Value::object({{"apiVersion", "v1"},
                          {"kind", "ConfigMap"},
                          {"metadata", std::move(meta)},
                          {"data", std::move(items)}});
}

void add_metadata(Value& meta, const Metadata& from_user) {
    for (const auto& [key, text] : from_user.labels) {
        if (!meta["labels"].contains(key)) meta.at("labels").set(key, text);
    }
    for (const auto& [key, text] : from_user.annotations) {
        if (!meta["annotations"].contains(key)) meta.at("annotations").set(key, text);
    }
}

Value build_service(const Settings& settings) {
    Value service = Value::object({{"apiVersion", "v1"}, {"kind", "Service"}});
    Value& meta = service.at("metadata") = object_meta(settings, settings.name, "service");
    add_metadata(meta, settings.service.metadata);
    Value spec = Value::object({{"type", settings.service.type},
                                {"selector", Value::object({{names::kNameLabel, settings.name}})},
                                {"ports", build_ports(settings)}});
    const NetworkSettings& network = settings.network;
    if (settings.service.type == "LoadBalancer") {
        spec.set_unless_empty("loadBalancerSourceRanges",
                              Value::from(network.load_balancer_source_ranges));
        spec.set_unless_empty("loadBalancerClass", network.load_balancer_class);
        if (settings.service.allocate_load_balancer_node_ports) {
            spec.set("allocateLoadBalancerNodePorts",
                     *settings.service.allocate_load_balancer_node_ports);
        }
    } else if (network.address_as_external_ip && !network.address.empty()) {
        spec.set("externalIPs", Value::array({network.address}));
    }
    if (has_both_families(network.service_cidrs)) spec.set("ipFamilyPolicy", "PreferDualStack");
    service.set("spec", std::move(spec));
    return service;
}

Result<std::optional<Endpoint>> find_endpoint(const Settings& settings, const Value& service) {
    Endpoint endpoint;
    endpoint.port = settings.network.port;
    endpoint.address = settings.network.address;
    const Value& spec = service["spec"];
    if (endpoint.address.empty() && settings.service.type == "ClusterIP") {
        endpoint.address = spec["clusterIP"].str();
    }
    if (endpoint.address.empty() && settings.service.type == "NodePort") {
        return failed_precondition(
            "spec.networkProfile.address: a Service of type NodePort needs the address of a node, "
            "or of a balancer in front of the nodes");
    }
    if (endpoint.address.empty()) {
        for (const Value& ingress : service["status"]["loadBalancer"]["ingress"].items()) {
            // Of several the first address; a host name only when there is no address at all.
            if (!ingress["ip"].empty()) {
                endpoint.address = ingress["ip"].str();
                break;
            }
            if (endpoint.address.empty()) endpoint.address = ingress["hostname"].str();
        }
    }
    if (endpoint.address.empty() || endpoint.address == "None") return std::optional<Endpoint>();
    endpoint.advertise_address = settings.network.advertise_address.empty()
                                     ? endpoint.address
                                     : settings.network.advertise_address;
    // Its Pods' addresses would stand in the tenant's Service `kubernetes` instead.
    if (!is_ip_address(endpoint.advertise_address)) {
        return failed_precondition(fmt::format(
            "spec.networkProfile.advertiseAddress: the control plane is reached at the host name "
            "{}, which an API server cannot announce to its nodes: set its IP address here as well",
            endpoint.address));
    }
    return std::optional<Endpoint>(endpoint);
}

}  // namespace basalt::controlplane
