#include "policy/enforcer.h"

#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>

#include "async/real_loop.h"
#include "async/task_group.h"
#include "data/yaml.h"
#include "kube/test_server.h"

namespace basalt::policy {
namespace {

using data::Value;
using namespace std::chrono_literals;

/// A program in nft's place keeps what it was given last; nft itself reads such texts in
/// rules_test.cc.
class EnforcerTest : public ::testing::Test {
 protected:
    EnforcerTest() {
        write("nft", "#!/bin/sh\ncd " + directory_ +
                         "\necho run >> runs\ntest -e broken && echo 'no rights' >&2 && exit 1\n"
                         "cat > new && mv new rules\n");
        ::chmod((directory_ + "/nft").c_str(), 0700);
        write("route", "veth5 0500010A 00000000 0005 0 0 0 FFFFFFFF 0 0 0\n");
        put_pod("web", "10.1.0.5");
        Value space = kube::make_object(kube::resources::namespaces(), kube::ObjectKey("a"));
        server->put("/api/v1/namespaces/a", space);
        put_policy();
        caches.start(group);
        group.spawn("enforcer", enforcer.run());
    }
    ~EnforcerTest() override {
        group.cancel();
        wait([&] { return group.size() == 0; });
        std::filesystem::remove_all(directory_);
    }
    static std::string make_directory() {
        std::string pattern = "/tmp/basalt-test-XXXXXX";
        return ::mkdtemp(pattern.data());
    }
    void put_pod(const std::string& name, const std::string& address) {
        server->put("/api/v1/namespaces/a/pods/" + name,
                    data::parse_yaml("{apiVersion: v1, kind: Pod, metadata: {name: " + name +
                                     ", namespace: a}, spec: {nodeName: n1}, status: {podIP: " +
                                     address + ", podIPs: [{ip: " + address + "}]}}")
                        .value());
    }
    void put_policy() {
        server->put(kPolicy,
                    data::parse_yaml("{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, "
                                     "metadata: {name: closed, namespace: a}, spec: "
                                     "{podSelector: {}, policyTypes: [Ingress, Egress]}}")
                        .value());
    }
    void write(const std::string& name, const std::string& text) {
        std::ofstream(directory_ + "/" + name) << text;
    }
    std::string read(const std::string& name) {
        std::ifstream file(directory_ + "/" + name);
        std::stringstream text;
        text << file.rdbuf();
        return text.str();
    }
    size_t runs_count() { return read("runs").size() / 4; }
    bool rules_mention(const std::string& text) {
        return read("rules").find(text) != std::string::npos;
    }
    bool wait(const std::function<bool()>& done) {
        const TimePoint deadline = loop.now() + 20s;
        while (!done()) {
            if (loop.now() >= deadline) return false;
            loop.call_at(loop.now() + 2ms, [this] { loop.stop(); });
            loop.run();
        }
        return true;
    }
    Enforcer::Options options() {
        Enforcer::Options made;
        made.node = "n1";
        made.nft = directory_ + "/nft";
        made.routes = directory_;
        return made;
    }

    static constexpr const char* kPolicy =
        "/apis/networking.k8s.io/v1/namespaces/a/networkpolicies/closed";
    const std::string directory_ = make_directory();
    async::RealLoop loop;
    std::shared_ptr<kube::testing::TestServer> server =
        std::make_shared<kube::testing::TestServer>(loop);
    kube::Client client{loop, server};
    kube::CacheSet caches{client};
    Enforcer enforcer{loop, caches, options()};
    async::TaskGroup group{loop};
};

TEST_F(EnforcerTest, FollowsTheCluster) {
    EXPECT_FALSE(enforcer.check_ready().ok());
    ASSERT_TRUE(wait([&] { return enforcer.check_ready().ok(); }));
    EXPECT_TRUE(rules_mention("10.1.0.5"));
    EXPECT_TRUE(rules_mention("iifname { \"veth5\" }"));
    put_pod("more", "10.1.0.6");
    ASSERT_TRUE(wait([&] { return rules_mention("10.1.0.6"); }));
    ASSERT_TRUE(rules_mention("reject"));
    server->erase(kPolicy);
    ASSERT_TRUE(wait([&] { return !rules_mention("reject"); }));
    EXPECT_TRUE(wait([&] { return enforcer.applied_count() == runs_count(); }));
}

TEST_F(EnforcerTest, TriesAgainWhenNftRefuses) {
    write("broken", "");
    ASSERT_TRUE(wait([&] { return runs_count() >= 2; }));
    EXPECT_FALSE(enforcer.check_ready().ok());
    std::filesystem::remove(directory_ + "/broken");
    EXPECT_TRUE(wait([&] { return enforcer.check_ready().ok(); }));
    EXPECT_TRUE(rules_mention("10.1.0.5"));
    // Old rules do not hold what came later.
    write("broken", "");
    put_pod("more", "10.1.0.6");
    EXPECT_TRUE(wait([&] { return !enforcer.check_ready().ok(); }));
    std::filesystem::remove(directory_ + "/broken");
    EXPECT_TRUE(wait([&] { return enforcer.check_ready().ok(); }));
    EXPECT_TRUE(rules_mention("10.1.0.6"));
}

}  // namespace
}  // namespace basalt::policy
