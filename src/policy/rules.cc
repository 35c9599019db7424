#include "policy/rules.h"

#include <algorithm>
#include <set>
#include <tuple>

#include <fmt/format.h>

#include "base/ip.h"
#include "kube/object.h"
#include "policy/interfaces.h"

namespace basalt::policy {

using data::Value;
using kube::LabelSelector;

namespace {

enum class Direction { kIngress, kEgress };

struct Pod {
    std::string ns, name;
    const Value* object = nullptr;
    std::vector<std::string> v4, v6;
    bool local = false;

    const std::vector<std::string>& addresses(bool v6_wanted) const { return v6_wanted ? v6 : v4; }
};

// What is spliced into the script comes from the API server, which validates it; but the text of a
// program that runs with privileges takes nothing on trust.
bool is_address(const std::string& text, bool v6) {
    const std::optional<IpAddress> address = IpAddress::parse(text);
    return address && address->is_v6() == v6;
}

bool is_cidr(const std::string& text, bool v6) {
    const Result<IpNetwork> network = IpNetwork::parse(text);
    return network.ok() && network->is_v6() == v6;
}

LabelSelector selector_of(const Value& value) {
    // One that cannot be understood selects nothing: as a peer it opens nothing.
    auto selector = LabelSelector::from_value(value);
    return selector.ok() ? *std::move(selector) : *LabelSelector::from_value(Value());
}

std::vector<Pod> read_pods(const World& world) {
    std::vector<Pod> pods;
    for (const Value& object : world.pods) {
        const std::string_view phase = object["status"]["phase"].as_string();
        // The address of one that has ended may be another's by now.
        if (phase == "Succeeded" || phase == "Failed") continue;
        if (object["spec"]["hostNetwork"].as_bool()) continue;
        Pod pod;
        pod.ns = kube::namespace_of(object);
        pod.name = object["metadata"]["name"].str();
        pod.object = &object;
        pod.local = object["spec"]["nodeName"].as_string() == world.node;
        for (const Value& entry : object["status"]["podIPs"].items()) {
            std::string ip = entry["ip"].str();
            if (is_address(ip, false)) pod.v4.push_back(ip);
            if (is_address(ip, true)) pod.v6.push_back(ip);
        }
        if (!pod.v4.empty() || !pod.v6.empty()) pods.push_back(std::move(pod));
    }
    std::sort(pods.begin(), pods.end(), [](const Pod& a, const Pod& b) {
        return std::tie(a.ns, a.name) < std::tie(b.ns, b.name);
    });
    return pods;
}

bool has_type(const Value& spec, Direction direction) {
    const Value& types = spec["policyTypes"];
    // The API server fills this in; the rule is its own.
    if (types.empty()) return direction == Direction::kIngress || spec.contains("egress");
    for (const Value& type : types.items()) {
        if (type.as_string() == (direction == Direction::kIngress ? "Ingress" : "Egress")) {
            return true;
        }
    }
    return false;
}

std::string join_set(const std::set<std::string>& items) {
    return fmt::format("{{ {} }}", fmt::join(items, ", "));
}

/// Writes the chain of one group of Pods: those of this node that the same policies select.
class ChainWriter {
 public:
    ChainWriter(const World& world, const std::vector<Pod>& pods, Direction direction,
                std::vector<const Pod*> members)
        : world_(world), pods_(pods), direction_(direction), members_(std::move(members)) {}

    std::string write(const std::string& name, const std::vector<const Value*>& policies) {
        std::string names;
        for (const Value* policy : policies) {
            ns_ = kube::namespace_of(*policy);
            names += fmt::format("{}{}/{}", names.empty() ? "" : " ", ns_,
                                 (*policy)["metadata"]["name"].as_string());
            const bool ingress = direction_ == Direction::kIngress;
            for (const Value& rule : (*policy)["spec"][ingress ? "ingress" : "egress"].items()) {
                add_rule(rule[ingress ? "from" : "to"], rule["ports"]);
            }
        }
        std::string text = fmt::format("\tchain {} {{\n\t\t# {}\n", name, names);
        for (const std::string& line : lines_) text += "\t\t" + line + " return\n";
        text += "\t\treject with icmpx admin-prohibited\n\t}\n";
        return text;
    }

 private:
    void add_rule(const Value& peers, const Value& ports) {
        if (peers.empty()) {
            for (bool v6 : {false, true}) add_ports(family(v6), v6, nullptr, ports);
            return;
        }
        for (const Value& peer : peers.items()) {
            if (peer.contains("ipBlock")) {
                add_block(peer["ipBlock"], ports);
            } else {
                add_selected(peer, ports);
            }
        }
    }

    static std::string family(bool v6) { return v6 ? "meta nfproto ipv6" : "meta nfproto ipv4"; }
    std::string far_end(bool v6) const {
        return fmt::format("{} {}", v6 ? "ip6" : "ip",
                           direction_ == Direction::kIngress ? "saddr" : "daddr");
    }

    void add_block(const Value& block, const Value& ports) {
        const std::string cidr = block["cidr"].str();
        const bool v6 = cidr.find(':') != std::string::npos;
        if (!is_cidr(cidr, v6)) return;
        std::string match = family(v6);
        if (!cidr.ends_with("/0")) match = fmt::format("{} {}", far_end(v6), cidr);
        for (const Value& except : block["except"].items()) {
            // An exception that cannot be understood closes the block.
            if (!is_cidr(except.str(), v6)) return;
            match += fmt::format(" {} != {}", far_end(v6), except.as_string());
        }
        add_ports(match, v6, nullptr, ports);
    }

    void add_selected(const Value& peer, const Value& ports) {
        const bool by_namespace = peer.contains("namespaceSelector");
        const LabelSelector namespaces = selector_of(peer["namespaceSelector"]);
        const LabelSelector labels =
            peer.contains("podSelector") ? selector_of(peer["podSelector"]) : LabelSelector();
        std::vector<const Pod*> selected;
        for (const Pod& pod : pods_) {
            if (by_namespace ? !namespaces.matches_labels(labels_of_namespace(pod.ns))
                             : pod.ns != ns_)
                continue;
            if (labels.matches(*pod.object)) selected.push_back(&pod);
        }
        for (bool v6 : {false, true}) {
            std::set<std::string> addresses;
            for (const Pod* pod : selected) {
                addresses.insert(pod->addresses(v6).begin(), pod->addresses(v6).end());
            }
            if (addresses.empty()) continue;
            add_ports(fmt::format("{} {}", far_end(v6), join_set(addresses)), v6, &selected, ports);
        }
    }

    const Value& labels_of_namespace(const std::string& ns) const {
        static const Value kNone = Value::object();
        auto found = world_.namespace_labels.find(ns);
        return found == world_.namespace_labels.end() ? kNone : found->second;
    }

    /// `selected`: the Pods at the far end, where the rule says which; for ports by name.
    void add_ports(const std::string& match, bool v6, const std::vector<const Pod*>* selected,
                   const Value& ports) {
        if (ports.empty()) {
            lines_.push_back(match);
            return;
        }
        for (const Value& port : ports.items()) add_port(match, v6, selected, port);
    }

    void add_port(const std::string& match, bool v6, const std::vector<const Pod*>* selected,
                  const Value& port) {
        std::string protocol = port["protocol"].str();
        std::transform(protocol.begin(), protocol.end(), protocol.begin(),
                       [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
        if (protocol.empty()) protocol = "tcp";
        if (protocol != "tcp" && protocol != "udp" && protocol != "sctp") return;
        const Value& number = port["port"];
        if (number.is_null()) {
            lines_.push_back(fmt::format("{} meta l4proto {}", match, protocol));
        } else if (number.is_string()) {
            add_named_port(match, v6, selected, protocol, number.as_string());
        } else {
            const int64_t first = number.as_int();
            const int64_t last = port["endPort"].is_null() ? first : port["endPort"].as_int();
            if (first < 0 || last > 65535 || last < first) return;
            lines_.push_back(first == last
                                 ? fmt::format("{} {} dport {}", match, protocol, first)
                                 : fmt::format("{} {} dport {}-{}", match, protocol, first, last));
        }
    }

    /// The name is the destination Pod's: a member's for ingress, a peer's for egress.
    void add_named_port(const std::string& match, bool v6, const std::vector<const Pod*>* selected,
                        const std::string& protocol, std::string_view name) {
        std::vector<const Pod*> destinations;
        if (direction_ == Direction::kIngress) {
            destinations = members_;
        } else if (selected != nullptr) {
            destinations = *selected;
        } else {
            for (const Pod& pod : pods_) destinations.push_back(&pod);
        }
        std::set<std::string> ends;
        for (const Pod* pod : destinations) {
            for (const Value& container : (*pod->object)["spec"]["containers"].items()) {
                for (const Value& port : container["ports"].items()) {
                    if (port["name"].as_string() != name || !same_protocol(port, protocol))
                        continue;
                    for (const std::string& address : pod->addresses(v6)) {
                        ends.insert(
                            fmt::format("{} . {}", address, port["containerPort"].as_int()));
                    }
                }
            }
        }
        if (ends.empty()) return;
        lines_.push_back(fmt::format("{} {} daddr . {} dport {}", match, v6 ? "ip6" : "ip",
                                     protocol, join_set(ends)));
    }

    static bool same_protocol(const Value& port, const std::string& protocol) {
        const std::string_view own = port["protocol"].as_string("TCP");
        return own.size() == protocol.size() &&
               std::equal(own.begin(), own.end(), protocol.begin(),
                          [](char a, char b) { return (a | 32) == b; });
    }

    const World& world_;
    const std::vector<Pod>& pods_;
    Direction direction_;
    std::vector<const Pod*> members_;
    std::string ns_;
    std::vector<std::string> lines_;
};

std::vector<const Value*> sorted_policies(const World& world) {
    std::vector<const Value*> policies;
    for (const Value& policy : world.policies) policies.push_back(&policy);
    std::sort(policies.begin(), policies.end(), [](const Value* a, const Value* b) {
        return std::make_pair(kube::namespace_of(*a), (*a)["metadata"]["name"].as_string()) <
               std::make_pair(kube::namespace_of(*b), (*b)["metadata"]["name"].as_string());
    });
    return policies;
}

/// The chains of a direction, and which address goes to which.
struct Dispatch {
    std::string chains;
    std::vector<std::string> v4, v6;
    std::set<std::string> addresses;
};

Dispatch dispatch(const World& world, const std::vector<Pod>& pods, Direction direction) {
    const std::vector<const Value*> policies = sorted_policies(world);
    std::map<std::vector<size_t>, std::vector<const Pod*>> groups;
    for (const Pod& pod : pods) {
        if (!pod.local) continue;
        std::vector<size_t> selecting;
        for (size_t i = 0; i < policies.size(); ++i) {
            const Value& spec = (*policies[i])["spec"];
            if (kube::namespace_of(*policies[i]) != pod.ns || !has_type(spec, direction)) continue;
            const Value& selector = spec["podSelector"];
            // Absent and {} are the same here: all Pods of the namespace.
            if (selector.is_null() || selector_of(selector).matches(*pod.object)) {
                selecting.push_back(i);
            }
        }
        if (!selecting.empty()) groups[selecting].push_back(&pod);
    }
    Dispatch out;
    int number = 0;
    for (const auto& [indices, members] : groups) {
        const std::string name =
            fmt::format("{}-{}", direction == Direction::kIngress ? "ingress" : "egress", ++number);
        std::vector<const Value*> of_group;
        for (size_t index : indices) of_group.push_back(policies[index]);
        ChainWriter writer(world, pods, direction, members);
        out.chains += writer.write(name, of_group);
        for (const Pod* pod : members) {
            out.addresses.insert(pod->v4.begin(), pod->v4.end());
            out.addresses.insert(pod->v6.begin(), pod->v6.end());
            for (const std::string& ip : pod->v4) {
                out.v4.push_back(fmt::format("{} : jump {}", ip, name));
            }
            for (const std::string& ip : pod->v6) {
                out.v6.push_back(fmt::format("{} : jump {}", ip, name));
            }
        }
    }
    return out;
}

std::string jumps(const char* end, const Dispatch& to) {
    std::string text;
    if (!to.v4.empty())
        text += fmt::format("\t\tip {} vmap {{ {} }}\n", end, fmt::join(to.v4, ", "));
    if (!to.v6.empty())
        text += fmt::format("\t\tip6 {} vmap {{ {} }}\n", end, fmt::join(to.v6, ", "));
    return text;
}

// What restricted Pods send from their link-local addresses, which are known only by the interface.
// The interfaces that lead out of the node are not among them: its own link-local traffic stays.
std::string from_link_local(const World& world, const Dispatch& egress) {
    const std::set<std::string> interfaces =
        interfaces_to(egress.addresses, world.v4_routes, world.v6_routes);
    if (interfaces.empty()) return {};
    return fmt::format(
        "\t\tiifname {{ \"{}\" }} ip6 saddr fe80::/10 meta l4proto != icmpv6 "
        "reject with icmpx admin-prohibited\n",
        fmt::join(interfaces, "\", \""));
}

// A Pod that reaches itself through its Service.
std::string to_itself(const std::vector<Pod>& pods) {
    std::string text;
    for (bool v6 : {false, true}) {
        std::set<std::string> ends;
        for (const Pod& pod : pods) {
            if (!pod.local) continue;
            for (const std::string& ip : pod.addresses(v6)) {
                ends.insert(fmt::format("{0} . {0}", ip));
            }
        }
        if (!ends.empty()) {
            text += fmt::format("\t\t{0} saddr . {0} daddr {1} accept\n", v6 ? "ip6" : "ip",
                                join_set(ends));
        }
    }
    return text;
}

}  // namespace

std::string render_rules(const World& world) {
    const std::vector<Pod> pods = read_pods(world);
    const Dispatch egress = dispatch(world, pods, Direction::kEgress);
    const Dispatch ingress = dispatch(world, pods, Direction::kIngress);
    // "add" before "delete": the first transaction finds no table.
    std::string text =
        fmt::format("add table inet {0}\ndelete table inet {0}\ntable inet {0} {{\n", kTable);
    text += egress.chains + ingress.chains;
    text +=
        "\tchain forward {\n\t\ttype filter hook forward priority filter; policy accept;\n"
        "\t\tct state established,related accept\n";
    text += to_itself(pods) + jumps("saddr", egress) + jumps("daddr", ingress) + "\t}\n";
    // From a Pod to its own node.
    text +=
        "\tchain input {\n\t\ttype filter hook input priority filter; policy accept;\n"
        "\t\tct state established,related accept\n";
    text += from_link_local(world, egress) + jumps("saddr", egress) + "\t}\n}\n";
    return text;
}

void keep_of_pod(Value& pod) {
    Value containers = Value::array();
    for (const Value& container : pod["spec"]["containers"].items()) {
        if (container["ports"].empty()) continue;
        containers.push_back(Value::object({{"ports", container["ports"]}}));
    }
    Value spec = Value::object();
    spec.set_unless_empty("nodeName", pod["spec"]["nodeName"]);
    if (pod["spec"]["hostNetwork"].as_bool()) spec.set("hostNetwork", true);
    spec.set_unless_empty("containers", containers);
    Value status = Value::object();
    status.set_unless_empty("phase", pod["status"]["phase"]);
    status.set_unless_empty("podIPs", pod["status"]["podIPs"]);
    Value meta = Value::object();
    for (const char* field : {"name", "namespace", "uid", "resourceVersion", "labels"}) {
        meta.set_unless_empty(field, pod["metadata"][field]);
    }
    pod = Value::object({{"apiVersion", "v1"},
                         {"kind", "Pod"},
                         {"metadata", std::move(meta)},
                         {"spec", std::move(spec)},
                         {"status", std::move(status)}});
}

}  // namespace basalt::policy
