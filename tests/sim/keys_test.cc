// The watch over private keys sees what it is there to see.
#include "tests/sim/keys.h"

#include <gtest/gtest.h>

#include "async/sim_loop.h"
#include "base/assert.h"
#include "controlplane/names.h"
#include "data/base64.h"
#include "data/yaml.h"
#include "tests/sim/shape.h"

namespace basalt::sim {
namespace {

using namespace std::chrono_literals;
namespace names = controlplane::names;

const Kind& kind_named(const std::string& name) {
    for (const auto* list : {&built_in_kinds(), &custom_kinds()}) {
        for (const Kind& kind : *list) {
            if (kind.resource.kind == name) return kind;
        }
    }
    BASALT_ASSERT(false);
    return built_in_kinds().front();
}

class KeyWatchTest : public ::testing::Test {
 protected:
    /// A Secret of control plane "one" with that uid and that key.
    SharedValue secret(const std::string& key, const std::string& uid = "uid-1") {
        Value object = data::parse_yaml(
                           "{metadata: {ownerReferences: [{name: one, kind: "
                           "TenantControlPlane, controller: true}]}}")
                           .value();
        object.at("metadata").at("ownerReferences").mutable_items()[0].set("uid", uid);
        object.at("data").set("x.key",
                              data::base64_encode("-----BEGIN PRIVATE KEY-----\n" + key + "\n"));
        return std::make_shared<const Value>(std::move(object));
    }
    size_t note(const std::string& name, SharedValue before, SharedValue after,
                bool by_controller = true) {
        loop.run_for(10min);
        const Write write{by_controller ? "controller-1" : "user",
                          &kind_named("Secret"),
                          ObjectKey("ns", name),
                          std::move(before),
                          std::move(after),
                          "PATCH"};
        return watch.note(write, by_controller).size();
    }
    void change_spec(const char* before, const char* after) {
        loop.run_for(10min);
        auto plane = [](const char* spec) {
            return std::make_shared<const Value>(
                Value::object({{"spec", data::parse_yaml(spec).value()}}));
        };
        const Write write{"user",        &kind_named("TenantControlPlane"),
                          {"ns", "one"}, plane(before),
                          plane(after),  "PATCH"};
        EXPECT_TRUE(watch.note(write, false).empty());
    }

    async::SimLoop loop{1};
    KeyWatch watch{loop};
    const std::string ca = names::ca("one");
    const std::string server = names::api_server("one");
    const std::string client = names::kubelet_client("one");
};

TEST_F(KeyWatchTest, AKeyIsNotReplacedWithoutAReason) {
    EXPECT_EQ(note(client, nullptr, secret("a")), 0U);
    EXPECT_EQ(note(client, secret("a"), secret("a")), 0U);
    EXPECT_EQ(note(client, secret("a"), secret("b")), 1U);
    // Deleted and made anew by a controller itself.
    EXPECT_EQ(note(client, secret("b"), nullptr), 0U);
    EXPECT_EQ(note(client, nullptr, secret("c")), 1U);
    // Another control plane of that name.
    EXPECT_EQ(note(client, nullptr, secret("d", "uid-2")), 0U);
}

TEST_F(KeyWatchTest, AReasonIsGoodForOnce) {
    EXPECT_EQ(note(ca, nullptr, secret("a")), 0U);
    EXPECT_EQ(note(ca, secret("a"), nullptr, false), 0U);
    EXPECT_EQ(note(ca, nullptr, secret("b")), 0U);
    EXPECT_EQ(note(ca, secret("b"), secret("c")), 1U);
}

TEST_F(KeyWatchTest, LeavesFollowTheirAuthorityAndNotTheOtherWayRound) {
    EXPECT_EQ(note(ca, nullptr, secret("a")), 0U);
    EXPECT_EQ(note(client, nullptr, secret("b")), 0U);
    EXPECT_EQ(note(ca, secret("a"), nullptr, false), 0U);
    EXPECT_EQ(note(ca, nullptr, secret("c")), 0U);
    EXPECT_EQ(note(client, secret("b"), secret("d")), 0U);
    EXPECT_EQ(note(client, secret("d"), nullptr, false), 0U);
    EXPECT_EQ(note(client, nullptr, secret("e")), 0U);
    EXPECT_EQ(note(ca, secret("c"), secret("f")), 1U);
}

TEST_F(KeyWatchTest, ASpecExplainsWhatFollowsFromIt) {
    EXPECT_EQ(note(server, nullptr, secret("a")), 0U);
    EXPECT_EQ(note(client, nullptr, secret("b")), 0U);
    change_spec("{networkProfile: {certSANs: [x]}}", "{networkProfile: {}}");
    EXPECT_EQ(note(client, secret("b"), secret("c")), 1U);
    EXPECT_EQ(note(server, secret("a"), secret("d")), 0U);
    change_spec("{addons: {coreDNS: {}}}", "{addons: {}}");
    EXPECT_EQ(note(server, secret("d"), secret("e")), 1U);
}

TEST_F(KeyWatchTest, AClockThatIsPutBackExplainsNothing) {
    EXPECT_EQ(note(ca, nullptr, secret("1")), 0U);
    EXPECT_EQ(note(client, nullptr, secret("1")), 0U);
    loop.jump_wall_clock(-12h);
    EXPECT_EQ(note(client, secret("1"), secret("2")), 1U);
    EXPECT_EQ(note(ca, secret("1"), secret("2")), 1U);
}

TEST_F(KeyWatchTest, RotationIsAReason) {
    EXPECT_EQ(note(client, nullptr, secret("a")), 0U);
    Value asked = *secret("a");
    asked.at("metadata").at("annotations").set(names::kRotateAnnotation, "");
    SharedValue marked = std::make_shared<const Value>(std::move(asked));
    EXPECT_EQ(note(client, secret("a"), marked, false), 0U);
    EXPECT_EQ(note(client, marked, secret("b")), 0U);
    EXPECT_EQ(note(client, secret("b"), secret("c")), 1U);
}

}  // namespace
}  // namespace basalt::sim
