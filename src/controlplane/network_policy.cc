// The NetworkPolicy of a control plane: who may reach its Pods, and what they may dial. The second
// wall: what a tenant can steer already leaves through the tunnel, or through `basalt-tunnel
// direct`; docs/design/walls.md.
#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "base/ip.h"
#include "base/strings.h"
#include "controlplane/names.h"
#include "controlplane/objects.h"

namespace basalt::controlplane {

using data::Value;

namespace {

// On every namespace since Kubernetes 1.22.
constexpr std::string_view kNamespaceLabel = "kubernetes.io/metadata.name";
constexpr std::string_view kAnyV4 = "0.0.0.0/0";
constexpr std::string_view kAnyV6 = "::/0";
// Link-local and loopback: what a node keeps for itself.
constexpr const char* kNeverV4[] = {"127.0.0.0/8", "169.254.0.0/16"};
constexpr const char* kNeverV6[] = {"::1/128", "fe80::/10"};

Value port_of(int64_t port, std::string_view protocol = "TCP") {
    return Value::object({{"protocol", protocol}, {"port", port}});
}

Value siblings(const Settings& settings) {
    return Value::object(
        {{"podSelector",
          Value::object({{"matchLabels", Value::object({{names::kNameLabel, settings.name}})}})}});
}

Value pods_of_namespace(const std::string& name) {
    return Value::object(
        {{"namespaceSelector",
          Value::object({{"matchLabels", Value::object({{kNamespaceLabel, name}})}})}});
}

Value block(std::string_view cidr, const std::vector<std::string>& except = {}) {
    Value ip_block = Value::object({{"cidr", cidr}});
    ip_block.set_unless_empty("except", Value::from(except));
    return Value::object({{"ipBlock", ip_block}});
}

// Networks of one address family.
std::vector<std::string> of_family(const std::vector<std::string>& ranges, bool v6) {
    std::vector<std::string> out;
    for (const std::string& range : ranges) {
        if ((range.find(':') != std::string::npos) == v6) out.push_back(range);
    }
    return out;
}

// Everything but the provider. A family of which the provider named no range is not opened.
std::vector<Value> outside(const std::vector<std::string>& protected_ranges) {
    std::vector<Value> peers;
    for (bool v6 : {false, true}) {
        std::vector<std::string> except = of_family(protected_ranges, v6);
        if (except.empty()) continue;
        for (const char* never : v6 ? kNeverV6 : kNeverV4) except.emplace_back(never);
        std::sort(except.begin(), except.end());
        except.erase(std::unique(except.begin(), except.end()), except.end());
        peers.push_back(block(v6 ? kAnyV6 : kAnyV4, except));
    }
    return peers;
}

struct HostPort {
    std::string host;
    int64_t port = 0;
};

std::optional<HostPort> parse_host_port(const std::string& text) {
    const size_t colon = text.rfind(':');
    if (colon == std::string::npos) return std::nullopt;
    HostPort out;
    out.host = text.substr(0, colon);
    if (out.host.size() > 2 && out.host.front() == '[' && out.host.back() == ']') {
        out.host = out.host.substr(1, out.host.size() - 2);
    }
    auto port = parse_number<int64_t>(std::string_view(text).substr(colon + 1));
    if (!port) return std::nullopt;
    out.port = *port;
    return out;
}

// A policy can name addresses, Pods and namespaces, but no Services and no DNS names. So: an
// address is itself; a Service's name stands for its namespace; of any other name only the port is
// known.
std::vector<Value> peers_of_host(const std::string& host, const Settings& settings,
                                 const std::vector<std::string>& protected_ranges) {
    if (is_ip_address(host)) return {block(host + (is_ipv6_address(host) ? "/128" : "/32"))};
    std::vector<std::string_view> labels = split(host, '.');
    for (size_t i = 2; i < labels.size(); ++i) {
        if (labels[i] == "svc") return {pods_of_namespace(std::string(labels[i - 1]))};
    }
    // Completed by the Pod's search path: "service", "service.namespace", "pod.service".
    if (labels.size() == 1) return {pods_of_namespace(settings.namespace_name)};
    std::vector<Value> peers;
    if (labels.size() == 2) {
        peers.push_back(pods_of_namespace(settings.namespace_name));
        if (labels[1] != settings.namespace_name) {
            peers.push_back(pods_of_namespace(std::string(labels[1])));
        }
    }
    std::vector<Value> beyond = outside(protected_ranges);
    if (beyond.empty()) beyond = {block(kAnyV4), block(kAnyV6)};
    for (Value& peer : beyond) peers.push_back(std::move(peer));
    return peers;
}

// One rule a port, with all members that use it.
void add_datastores(const Settings& settings, const Surroundings& surroundings, Value& egress) {
    std::vector<std::string> endpoints = surroundings.etcd_endpoints;
    for (const auto& [resource, more] : surroundings.override_endpoints) {
        endpoints.insert(endpoints.end(), more.begin(), more.end());
    }
    std::map<int64_t, std::set<std::string>> hosts;
    for (const std::string& endpoint : endpoints) {
        std::optional<HostPort> parsed = parse_host_port(endpoint);
        if (parsed) hosts[parsed->port].insert(parsed->host);
    }
    for (const auto& [port, names] : hosts) {
        Value to = Value::array();
        for (const std::string& host : names) {
            for (Value& peer : peers_of_host(host, settings, surroundings.protected_ranges)) {
                const auto& known = to.items();
                if (std::find(known.begin(), known.end(), peer) == known.end()) {
                    to.push_back(std::move(peer));
                }
            }
        }
        egress.push_back(Value::object({{"to", to}, {"ports", Value::array({port_of(port)})}}));
    }
}

void add_dns(const Surroundings& surroundings, Value& egress) {
    Value to = Value::array({Value::object(
        {{"namespaceSelector",
          Value::object({{"matchLabels", Value::object({{kNamespaceLabel, "kube-system"}})}})},
         {"podSelector",
          Value::object({{"matchLabels", Value::object({{"k8s-app", "kube-dns"}})}})}})});
    for (const std::string& address : surroundings.dns_addresses) {
        to.push_back(block(address + (is_ipv6_address(address) ? "/128" : "/32")));
    }
    egress.push_back(Value::object(
        {{"to", to}, {"ports", Value::array({port_of(53, "UDP"), port_of(53, "TCP")})}}));
}

Value own_ports(const Settings& settings) {
    Value ports = Value::array({port_of(settings.network.port)});
    if (settings.tunnel) ports.push_back(port_of(settings.tunnel->server_port));
    return ports;
}

Value build_ingress(const Settings& settings) {
    // From anywhere: these are what the Service offers to nodes and administrators.
    Value ports = own_ports(settings);
    for (const Value& additional : settings.service.additional_ports.items()) {
        const Value& target = additional["targetPort"];
        Value port =
            port_of(0, additional["protocol"].empty() ? std::string_view("TCP")
                                                      : additional["protocol"].as_string());
        port.set("port", target.is_null() ? additional["port"] : target);
        ports.push_back(std::move(port));
    }
    return Value::array({Value::object({{"ports", ports}})});
}

Value build_egress(const Settings& settings, const Surroundings& surroundings) {
    Value egress = Value::array();
    add_datastores(settings, surroundings, egress);
    add_dns(surroundings, egress);
    egress.push_back(Value::object(
        {{"to", Value::array({siblings(settings)})}, {"ports", own_ports(settings)}}));
    if (settings.tunnel) return egress;
    Value to = Value::array();
    for (Value& peer : outside(surroundings.protected_ranges)) to.push_back(std::move(peer));
    if (!to.empty()) egress.push_back(Value::object({{"to", to}}));
    return egress;
}

}  // namespace

Value build_network_policy(const Settings& settings, const Surroundings& surroundings) {
    return Value::object(
        {{"apiVersion", "networking.k8s.io/v1"},
         {"kind", "NetworkPolicy"},
         {"metadata", object_meta(settings, settings.name, "network-policy")},
         {"spec",
          Value::object({{"podSelector",
                          Value::object({{"matchLabels",
                                          Value::object({{names::kNameLabel, settings.name}})}})},
                         {"policyTypes", Value::array({"Ingress", "Egress"})},
                         {"ingress", build_ingress(settings)},
                         {"egress", build_egress(settings, surroundings)}})}});
}

std::vector<std::string> denied_destinations(const Surroundings& surroundings) {
    std::set<std::string> denied(surroundings.protected_ranges.begin(),
                                 surroundings.protected_ranges.end());
    auto add = [&denied](const std::vector<std::string>& endpoints) {
        for (const std::string& endpoint : endpoints) {
            std::optional<HostPort> parsed = parse_host_port(endpoint);
            if (parsed && is_ip_address(parsed->host)) denied.insert(parsed->host);
        }
    };
    add(surroundings.etcd_endpoints);
    for (const auto& [resource, endpoints] : surroundings.override_endpoints) add(endpoints);
    // As outside() above: closed until somebody said what of it is the provider's.
    for (bool v6 : {false, true}) {
        if (of_family(surroundings.protected_ranges, v6).empty())
            denied.emplace(v6 ? kAnyV6 : kAnyV4);
    }
    return {denied.begin(), denied.end()};
}

Result<void> check_ranges(const std::vector<std::string>& ranges) {
    for (const std::string& range : ranges) {
        auto network = IpNetwork::parse(range);
        if (!network.ok()) return std::move(network).error();
        // NetworkPolicies are refused by the API server otherwise, long after this.
        auto first = network->address_at(0);
        if (!first.ok() || range != fmt::format("{}/{}", *first, network->prefix_length())) {
            return invalid_argument(
                fmt::format("\"{}\" is not the first address of its range", range));
        }
    }
    return {};
}

}  // namespace basalt::controlplane
