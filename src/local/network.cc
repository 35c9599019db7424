#include "local/network.h"

#include <fmt/format.h>

#include "base/strings.h"
#include "linux/file.h"
#include "linux/process.h"

namespace basalt::local {
namespace {

/// Each cluster adds its own refusing routes, told apart by their metric.
constexpr int kRefusingRouteMetric = 42'000;

Result<void> ip_batch(const std::string& lines) {
    linux::Command command;
    command.argv = {"ip", "-batch", "-"};
    command.input = lines;
    BASALT_TRY(linux::run_ok(command));
    return {};
}

std::string refusing_routes(const AddressPlan& plan, const char* verb) {
    std::string lines;
    for (const char* range : {kPodRange, kServiceRange}) {
        lines += fmt::format("route {} unreachable {} metric {}\n", verb, range,
                             kRefusingRouteMetric + plan.index);
    }
    return lines;
}

bool interface_exists(const std::string& name) { return linux::exists("/sys/class/net/" + name); }

}  // namespace

Result<void> ensure_bridge(const AddressPlan& plan) {
    const std::string bridge = plan.bridge();
    std::string lines;
    // No spanning tree delay, and a fixed address: the bridge's would change with its ports.
    if (!interface_exists(bridge)) {
        lines +=
            fmt::format("link add {} address 02:ba:5a:17:{:02x}:01 type bridge forward_delay 0\n",
                        bridge, plan.index);
    }
    lines += fmt::format("address replace {} dev {}\nlink set {} up\n", plan.host_cidr(), bridge,
                         bridge);
    lines += refusing_routes(plan, "replace");
    return ip_batch(lines).context(fmt::format("bridge {}", bridge));
}

Result<void> remove_bridge(const AddressPlan& plan) {
    for (const char* range : {kPodRange, kServiceRange}) {
        BASALT_TRY(linux::run({{"ip", "route", "del", "unreachable", range, "metric",
                                std::to_string(kRefusingRouteMetric + plan.index)}}));
    }
    for (int node = 1; node <= kNodesMax; ++node) {
        const std::string port = plan.host_interface(node);
        // The kernel removes them with the node's namespace, a moment after its last process.
        if (interface_exists(port)) {
            BASALT_TRY(linux::run({{"ip", "link", "del", port}}));
        }
    }
    if (!interface_exists(plan.bridge())) return {};
    BASALT_TRY(linux::run_ok({"ip", "link", "del", plan.bridge()}));
    return {};
}

Result<void> plug_node(const NodeSpec& spec, pid_t pid) {
    const std::string port = spec.plan.host_interface(spec.number);
    // Left from a node that was killed a moment ago: its namespace may not be gone yet.
    if (interface_exists(port)) {
        BASALT_TRY(linux::run({{"ip", "link", "del", port}}));
    }
    const std::string address =
        fmt::format("02:ba:5a:{:02x}:{:02x}:02", spec.plan.index, spec.number);
    return ip_batch(fmt::format("link add {0} type veth peer name eth0 address {1} netns {2}\n"
                                "link set {0} master {3}\nlink set {0} up\n",
                                port, address, pid, spec.plan.bridge()))
        .context(fmt::format("connect {}", spec.name));
}

std::string render_node_routes(const NodeSpec& spec) {
    std::string lines = "link set lo up\n";
    lines += fmt::format("address add {} dev eth0\nlink set eth0 up\n",
                         spec.plan.node_cidr(spec.number));
    for (int node = 1; node <= kNodesMax; ++node) {
        if (node == spec.number) continue;
        lines += fmt::format("route add {} via {}\n", AddressPlan::pod_cidr(node),
                             spec.plan.node_address(node));
    }
    // Only so that the kernel finds a route before kube-proxy rewrites the address; the host drops
    // what is left.
    lines += fmt::format("route add {} via {}\n", kServiceRange, spec.plan.host_address());
    return lines;
}

Result<void> configure_node_network(const NodeSpec& spec) {
    BASALT_TRY(ip_batch(render_node_routes(spec)));
    BASALT_TRY(linux::write_file("/proc/sys/net/ipv4/ip_forward", "1"));
    BASALT_TRY(linux::run_ok({"nft", "-f", "/etc/basalt/network.nft"}));
    return {};
}

}  // namespace basalt::local
