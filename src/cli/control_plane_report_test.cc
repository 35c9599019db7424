#include "cli/control_plane_report.h"

#include <gtest/gtest.h>

#include "data/base64.h"
#include "data/yaml.h"
#include "pki/certificate.h"

namespace basalt::cli {
namespace {

using data::Value;

Value parse(const char* yaml) { return data::parse_yaml(yaml).value(); }

ControlPlaneWorld world() {
    ControlPlaneWorld world;
    world.now = WallTime(std::chrono::seconds(1'767'225'600));
    world.control_plane = parse(R"(
metadata: {name: a, namespace: team}
status:
  controlPlaneEndpoint: 10.0.0.1:6443
  storage: {dataStoreName: default, setup: {schema: abc}}
  kubernetesResources: {version: {version: v1.36.3, status: Ready}}
  conditions:
  - {type: Ready, status: "True", reason: Joinable, message: Nodes can join}
  - {type: PodsReady, status: "True", reason: Serving}
)");
    world.datastore =
        parse(R"({status: {conditions: [{type: Ready, status: "True", reason: Ready}]}})");
    world.deployment = parse("{spec: {replicas: 1}, status: {readyReplicas: 1}}");
    world.pods = {parse(R"(
metadata: {name: a-1}
status:
  phase: Running
  containerStatuses: [{name: kube-apiserver, ready: true, restartCount: 2, state: {running: {}}}]
)")};
    return world;
}

TEST(ControlPlaneReport, SaysWhereToJoin) {
    ControlPlaneReport report = describe_control_plane(world());
    EXPECT_TRUE(report.ready);
    EXPECT_EQ(report.headline, "team/a is Ready: nodes can join at 10.0.0.1:6443");
}

TEST(ControlPlaneReport, PutsTheRootCauseFirst) {
    ControlPlaneWorld broken = world();
    broken.control_plane.at("status").set("conditions", parse(R"(
- {type: Ready, status: "False", reason: ImagePullBackOff, message: "container kube-apiserver of Pod a-1: no such image"}
)"));
    ControlPlaneReport report = describe_control_plane(broken);
    EXPECT_FALSE(report.ready);
    EXPECT_EQ(report.headline,
              "team/a is not Ready: ImagePullBackOff: container kube-apiserver of Pod a-1: no such "
              "image");
}

TEST(ControlPlaneReport, NamesTheDataStoreBeforeOneIsChosen) {
    ControlPlaneWorld fresh = world();
    fresh.datastore = Value();
    fresh.control_plane = parse("{metadata: {name: a, namespace: team}, spec: {}}");
    EXPECT_EQ(datastore_name(fresh.control_plane), "");
    std::string drawn = draw(describe_control_plane(fresh).tree, false);
    EXPECT_NE(drawn.find("DataStore  not chosen yet\n"), std::string::npos) << drawn;
    fresh.control_plane = parse("{metadata: {name: a, namespace: team}, spec: {dataStore: fast}}");
    EXPECT_EQ(datastore_name(fresh.control_plane), "fast");
    drawn = draw(describe_control_plane(fresh).tree, false);
    EXPECT_NE(drawn.find("DataStore fast  not found\n"), std::string::npos) << drawn;
    EXPECT_EQ(datastore_name(world().control_plane), "default");
}

TEST(ControlPlaneReport, DrawsTheTree) {
    ControlPlaneWorld with_certificate = world();
    pki::SimKeySource keys(1);
    auto ca = pki::CertificateAuthority::create(keys, "kubernetes", with_certificate.now);
    Value secret = parse("{metadata: {name: a-ca}}");
    secret.at("data").set("ca.crt", data::base64_encode(ca.certificate().to_pem()));
    with_certificate.secrets = {secret};
    EXPECT_EQ(draw(describe_control_plane(with_certificate).tree, false),
              "TenantControlPlane team/a  v1.36.3 Ready\n"
              "├─ Conditions\n"
              "│  └─ PodsReady  Serving\n"
              "├─ DataStore default  Ready\n"
              "│  └─ keys under /abc/\n"
              "├─ Service a  10.0.0.1:6443\n"
              "├─ Deployment a  1 of 1 replicas ready\n"
              "│  └─ Pod a-1  Running\n"
              "│     └─ kube-apiserver  ready, 2 restarts\n"
              "└─ Certificates\n"
              "   └─ a-ca  3650 days left\n");
}

TEST(ControlPlaneReport, ColoursOnlyWhenAsked) {
    Tree tree{"a", "fine", Mood::kGood, {}};
    EXPECT_EQ(draw(tree, true), "a  \033[32mfine\033[0m\n");
    EXPECT_EQ(draw(tree, false), "a  fine\n");
}

}  // namespace
}  // namespace basalt::cli
