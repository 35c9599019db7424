#include <gtest/gtest.h>

#include "controlplane/args.h"
#include "controlplane/objects.h"
#include "controlplane/testdata_test.h"

namespace basalt::controlplane {
namespace {

using data::Value;

Value without_tunnel() {
    Value object = example_object();
    object.at("spec").set("addons", Value::object({{"coreDNS", Value::object()}}));
    return object;
}

Surroundings local_surroundings() {
    Surroundings surroundings = example_surroundings();
    surroundings.etcd_endpoints = {
        "etcd-0.etcd.basalt-system.svc.cluster.local:2379",
        "etcd-1.etcd.basalt-system.svc.cluster.local:2379",
    };
    surroundings.protected_ranges = {"10.200.0.0/22", "10.32.0.0/16", "10.33.0.0/16"};
    return surroundings;
}

std::string egress_of(const Value& object, const Surroundings& surroundings) {
    return data::to_yaml(build_network_policy(settings_of(object), surroundings)["spec"]["egress"]);
}

bool mentions(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

TEST(NetworkPolicy, MatchesTheGoldenFiles) {
    expect_golden("network_policy.yaml", data::to_yaml(build_network_policy(
                                             settings_of(example_object()), local_surroundings())));
    expect_golden(
        "network_policy_without_tunnel.yaml",
        data::to_yaml(build_network_policy(settings_of(without_tunnel()), local_surroundings())));
}

TEST(NetworkPolicy, NamesDataStoresAsFarAsAPolicyCan) {
    Surroundings surroundings = local_surroundings();
    surroundings.etcd_endpoints = {"192.0.2.1:2379", "[2001:db8::1]:2380", "etcd:2381",
                                   "etcd.stores:2382", "etcd.example.org:2383"};
    surroundings.override_endpoints = {{"/events", {"events.logs.svc:2384"}}};
    const Value policy = build_network_policy(settings_of(example_object()), surroundings);
    const Value& egress = policy["spec"]["egress"];
    const Value& v4 = egress[0]["to"];
    ASSERT_EQ(v4.size(), 1u);
    EXPECT_EQ(v4[0]["ipBlock"]["cidr"].as_string(), "192.0.2.1/32");
    EXPECT_EQ(egress[0]["ports"][0]["port"].as_int(), 2379);
    EXPECT_EQ(egress[1]["to"][0]["ipBlock"]["cidr"].as_string(), "2001:db8::1/128");
    auto in_namespace = [](const Value& peer) {
        return peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"].str();
    };
    EXPECT_EQ(in_namespace(egress[2]["to"][0]), "team");
    EXPECT_EQ(in_namespace(egress[3]["to"][0]), "team");
    EXPECT_EQ(in_namespace(egress[3]["to"][1]), "stores");
    // Outside of the cluster, on that port, but not in the provider's networks.
    EXPECT_EQ(egress[4]["to"][0]["ipBlock"]["cidr"].as_string(), "0.0.0.0/0");
    EXPECT_TRUE(mentions(data::to_yaml(egress[4]), "10.32.0.0/16"));
    EXPECT_EQ(in_namespace(egress[5]["to"][0]), "logs");
}

TEST(NetworkPolicy, StaysClosedUntilTheProviderSaysWhatIsItsOwn) {
    Surroundings surroundings = local_surroundings();
    EXPECT_TRUE(mentions(egress_of(without_tunnel(), surroundings), "0.0.0.0/0"));
    // Nothing was said about IPv6: it is not opened.
    EXPECT_FALSE(mentions(egress_of(without_tunnel(), surroundings), "::/0"));
    EXPECT_FALSE(mentions(egress_of(example_object(), surroundings), "0.0.0.0/0"));
    surroundings.protected_ranges.clear();
    EXPECT_FALSE(mentions(egress_of(without_tunnel(), surroundings), "0.0.0.0/0"));
}

TEST(NetworkPolicy, LetsClientsReachWhatTheServiceOffers) {
    Value object = example_object();
    object.at("spec")
        .at("controlPlane")
        .at("service")
        .set("additionalPorts",
             Value::array({Value::object({{"name", "a"}, {"port", 80}, {"targetPort", "web"}}),
                           Value::object({{"name", "b"}, {"port", 53}, {"protocol", "UDP"}})}));
    const Value policy = build_network_policy(settings_of(object), local_surroundings());
    const Value& ingress = policy["spec"]["ingress"];
    ASSERT_EQ(ingress.size(), 1u);
    const Value& ports = ingress[0]["ports"];
    ASSERT_EQ(ports.size(), 4u);
    EXPECT_EQ(ports[0]["port"].as_int(), 6443);
    EXPECT_EQ(ports[1]["port"].as_int(), 8132);
    EXPECT_EQ(ports[2]["port"].as_string(), "web");
    EXPECT_EQ(ports[3]["port"].as_int(), 53);
    EXPECT_EQ(ports[3]["protocol"].as_string(), "UDP");
}

TEST(NetworkPolicy, AllowsResolversThatAreNoPods) {
    Surroundings surroundings = local_surroundings();
    surroundings.dns_addresses = {"169.254.20.10", "fd00::a"};
    std::string egress = egress_of(example_object(), surroundings);
    EXPECT_TRUE(mentions(egress, "169.254.20.10/32"));
    EXPECT_TRUE(mentions(egress, "fd00::a/128"));
}

TEST(DirectEgress, DeniesTheProviderAndItsDataStores) {
    Surroundings surroundings = local_surroundings();
    surroundings.etcd_endpoints.emplace_back("192.0.2.1:2379");
    surroundings.override_endpoints = {{"/events", {"[2001:db8::1]:2379"}}};
    std::vector<std::string> args = direct_egress_args(settings_of(without_tunnel()), surroundings);
    EXPECT_NE(
        std::find(args.begin(), args.end(),
                  "--deny=10.200.0.0/22,10.32.0.0/16,10.33.0.0/16,192.0.2.1,2001:db8::1,::/0"),
        args.end());
    surroundings.protected_ranges = {"10.0.0.0/8", "fd00::/8"};
    EXPECT_EQ(direct_egress_args(settings_of(without_tunnel()), surroundings).back(),
              "--deny=10.0.0.0/8,192.0.2.1,2001:db8::1,fd00::/8");
    // An address of a DataStore does not tell what is the provider's in its family.
    surroundings.protected_ranges = {"fd00::/8"};
    EXPECT_EQ(direct_egress_args(settings_of(without_tunnel()), surroundings).back(),
              "--deny=0.0.0.0/0,192.0.2.1,2001:db8::1,fd00::/8");
    surroundings.protected_ranges.clear();
    args = direct_egress_args(settings_of(without_tunnel()), surroundings);
    EXPECT_EQ(args.back(), "--deny-all");
}

TEST(DirectEgress, StandsBesideEveryApiServerWithoutTunnel) {
    Value deployment =
        build_deployment(settings_of(without_tunnel()), example_endpoint(), local_surroundings());
    const Value& containers = deployment["spec"]["template"]["spec"]["containers"];
    ASSERT_EQ(containers.size(), 4u);
    EXPECT_EQ(containers[1]["name"].as_string(), "egress");
    // It has neither keys nor a kubeconfig.
    ASSERT_EQ(containers[1]["volumeMounts"].size(), 2u);
    EXPECT_EQ(containers[1]["volumeMounts"][0]["name"].as_string(), "konnectivity-uds");
    EXPECT_EQ(containers[1]["volumeMounts"][1]["name"].as_string(), "basalt-start");
    EXPECT_TRUE(mentions(data::to_yaml(containers[0]), "--egress-selector-config-file="));
    EXPECT_TRUE(build_egress_selector(settings_of(without_tunnel())).is_object());
}

TEST(ProtectedRanges, AreRangesWithoutHostBits) {
    EXPECT_TRUE(check_ranges({"10.0.0.0/8", "fd00::/8", "192.0.2.1/32"}).ok());
    for (const char* bad : {"10.0.0.1/8", "10.0.0.0", "x/8", "10.0.0.0/33", "fd00::1/8"}) {
        EXPECT_FALSE(check_ranges({bad}).ok()) << bad;
    }
}

}  // namespace
}  // namespace basalt::controlplane
