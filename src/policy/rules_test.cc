#include "policy/rules.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>

#include "async/subprocess.h"
#include "data/yaml.h"

namespace basalt::policy {
namespace {

using data::Value;

const std::string kTestdata = std::string(BASALT_SOURCE_DIR) + "/src/policy/testdata/";

std::string read(const std::string& name) {
    std::ifstream file(kTestdata + name);
    EXPECT_TRUE(file) << name;
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

World example() {
    const Value yaml = data::parse_yaml(read("world.yaml")).value();
    World world;
    world.node = yaml["node"].str();
    for (const Value& pod : yaml["pods"].items()) world.pods.push_back(pod);
    for (const Value& policy : yaml["policies"].items()) world.policies.push_back(policy);
    for (const data::Member& member : yaml["namespaces"].members()) {
        world.namespace_labels[std::string(member.key())] = member.value;
    }
    world.v4_routes = yaml["v4_routes"].str();
    world.v6_routes = yaml["v6_routes"].str();
    return world;
}

bool mentions(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

// The real nft, in a network namespace of its own, so that nothing of this machine changes, and
// without the names of protocols, which our image does not have either.
Result<void> nft_takes(const std::string& script) {
    async::SubprocessOptions options;
    options.argv = {
        "unshare",
        "--net",
        "--mount",
        "sh",
        "-c",
        "[ ! -e /etc/protocols ] || mount --bind /dev/null /etc/protocols && exec nft -f -"};
    options.input = script;
    BASALT_ASSIGN(async::SubprocessResult ran, async::run_subprocess_blocking(options));
    if (ran.exit_code != 0) return internal_error(ran.error_output);
    return {};
}

TEST(Rules, MatchTheGoldenFile) {
    const std::string actual = render_rules(example());
    if (std::getenv("BASALT_REWRITE_GOLDEN") != nullptr) {
        std::ofstream(kTestdata + "rules.nft") << actual;
        return;
    }
    EXPECT_EQ(actual, read("rules.nft"));
}

TEST(Rules, AreTakenByNft) {
    if (::geteuid() != 0) GTEST_SKIP() << "only root may change a network namespace";
    for (const World& world : {example(), World()}) {
        const std::string script = render_rules(world);
        Result<void> taken = nft_takes(script);
        EXPECT_TRUE(taken.ok()) << taken.error().message() << "\n" << script;
        // The second time there is something to replace.
        taken = nft_takes(script + script);
        EXPECT_TRUE(taken.ok()) << taken.error().message();
    }
}

TEST(Rules, DoNotDependOnTheOrderOfObjects) {
    World world = example();
    const std::string expected = render_rules(world);
    std::reverse(world.pods.begin(), world.pods.end());
    std::reverse(world.policies.begin(), world.policies.end());
    EXPECT_EQ(render_rules(world), expected);
}

TEST(Rules, NeedNoMoreThanWhatIsKept) {
    World world = example();
    const std::string expected = render_rules(world);
    for (Value& pod : world.pods) keep_of_pod(pod);
    EXPECT_EQ(render_rules(world), expected);
}

TEST(Rules, LeaveUnselectedPodsOpen) {
    World world = example();
    world.policies.clear();
    const std::string rules = render_rules(world);
    EXPECT_FALSE(mentions(rules, "jump"));
    EXPECT_FALSE(mentions(rules, "reject"));
}

TEST(Rules, TakeNothingOnTrust) {
    World world = example();
    const std::string before = render_rules(world);
    Value& policy = world.policies.front();
    Value& egress = policy.at("spec").at("egress");
    auto add = [&egress](Value peer, Value ports) {
        egress.push_back(
            Value::object({{"to", Value::array({std::move(peer)})}, {"ports", std::move(ports)}}));
    };
    auto block = [](std::string_view cidr, std::string_view except) {
        return Value::object(
            {{"ipBlock", Value::object({{"cidr", cidr}, {"except", Value::array({except})}})}});
    };
    add(block("0.0.0.0/0 accept #/0", "10.0.0.0/8"), Value());
    // An exception that is not understood must not make the block larger.
    add(block("0.0.0.0/0", "10.0.0.0/8; accept"), Value());
    add(block("0.0.0.0/0", "10.0.0.0/99"), Value());
    add(block("0.0.0.0/0", "10.0.0.0/8"),
        Value::array({Value::object({{"protocol", "tcp accept"}, {"port", 1}})}));
    add(block("0.0.0.0/0", "10.0.0.0/8"),
        Value::array({Value::object({{"port", 10}, {"endPort", 9}})}));
    // A selector with an unknown operator selects nothing.
    add(Value::object(
            {{"podSelector",
              data::parse_yaml("matchExpressions: [{key: a, operator: Perhaps}]").value()}}),
        Value());
    EXPECT_EQ(render_rules(world), before);
}

// Its link-local address is in no API: it must not lead where its other addresses do not.
TEST(Rules, CloseTheLinkLocalWayOfRestrictedPods) {
    World world = example();
    EXPECT_TRUE(mentions(render_rules(world), "iifname { \"veth5\" } ip6 saddr fe80::/10"));
    // Pods behind a bridge, which is the way of all of them.
    world.v4_routes =
        "eth0 00000000 0100C80A 0003 0 0 0 00000000 0 0 0\n"
        "cni0 0001200A 00000000 0001 0 0 0 00FFFFFF 0 0 0\n";
    world.v6_routes.clear();
    EXPECT_TRUE(mentions(render_rules(world), "iifname { \"cni0\" } ip6 saddr fe80::/10"));
    // Pods in the node's own network: what its neighbours say to it from there goes on.
    world.v4_routes =
        "eth0 00000000 0100C80A 0003 0 0 0 00000000 0 0 0\n"
        "eth0 0000200A 00000000 0001 0 0 0 0000FFFF 0 0 0\n";
    EXPECT_FALSE(mentions(render_rules(world), "fe80"));
    // Only names that need no quotes get into the script.
    world.v4_routes = "\"}accept 0501200A 00000000 0005 0 0 0 FFFFFFFF 0 0 0\nx\nveth9 zz\n";
    EXPECT_FALSE(mentions(render_rules(world), "fe80"));
    // A Pod that no policy selects is open.
    world = example();
    world.policies.clear();
    EXPECT_FALSE(mentions(render_rules(world), "fe80"));
}

TEST(Rules, DefaultTheTypes) {
    World world = example();
    world.node = "node-2";
    Value& spec = world.policies.back().at("spec");
    auto chains = [&world] {
        const std::string rules = render_rules(world);
        int count = 0;
        for (size_t at = 0; (at = rules.find("# kube-system/none", at)) != std::string::npos;
             ++at) {
            ++count;
        }
        return count;
    };
    EXPECT_EQ(chains(), 2);
    spec.erase("policyTypes");
    EXPECT_EQ(chains(), 1);
    spec.set("egress", Value::array());
    EXPECT_EQ(chains(), 2);
}

}  // namespace
}  // namespace basalt::policy
