// The model of Deployments and the real controller manager bring the same changes to the same end:
// as many Pods of each image, as many of them ready, the same counts in the Deployment's status.
//
// The kubelet is a part of the test on both sides: a Pod becomes ready unless its image is "bad".
#include <fstream>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "async/sim_loop.h"
#include "data/json.h"
#include "data/patch.h"
#include "data/yaml.h"
#include "pki/kubeconfig.h"
#include "tests/integration/kube_server.h"
#include "tests/sim/cluster.h"

namespace basalt::sim {
namespace {

using namespace std::chrono_literals;
namespace r = kube::resources;

const ObjectKey kKey("rollout", "d");
constexpr std::string_view kBadImage = "bad";

constexpr const char* kFirst = R"(
replicas: 2
selector: {matchLabels: {app: d}}
strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 100%, maxUnavailable: 0}}
template:
  metadata: {labels: {app: d}}
  spec: {containers: [{name: c, image: one}]}
)";

/// Merge patches of the spec, one after the other.
constexpr const char* kSteps[] = {
    "{template: {spec: {containers: [{name: c, image: two}]}}}",
    "{template: {spec: {containers: [{name: c, image: bad}]}}}",
    "{template: {spec: {containers: [{name: c, image: three}]}}}",
    "{replicas: 3}",
    "{replicas: 0}",
    "{replicas: 1, template: {spec: {containers: [{name: c, image: four}]}}}",
    "{template: {spec: {containers: [{name: c, image: bad}]}}}",
    "{template: {spec: {containers: [{name: c, image: four}]}}}",
    "{strategy: {type: Recreate, rollingUpdate: null}, template: {spec: {containers: [{name: c, "
    "image: five}]}}}",
    "{template: {spec: {containers: [{name: c, image: bad}]}}}",
    "{template: {spec: {containers: [{name: c, image: six}]}}}",
};

std::string image_of(const Value& pod) { return pod["spec"]["containers"][0]["image"].str(); }

bool is_ready_pod(const Value& pod) {
    for (const Value& condition : pod["status"]["conditions"].items()) {
        if (condition["type"].as_string() == "Ready")
            return condition["status"].as_string() == "True";
    }
    return false;
}

/// What is compared.
Value outcome_of(const Value& deployment, const std::vector<Value>& pods) {
    Value out = Value::object();
    for (const char* name : {"replicas", "updatedReplicas", "readyReplicas", "availableReplicas",
                             "unavailableReplicas"}) {
        out.set(name, deployment["status"][name].as_int());
    }
    out.set("seen",
            deployment["status"]["observedGeneration"].as_int() == kube::generation_of(deployment));
    for (const Value& condition : deployment["status"]["conditions"].items()) {
        if (condition["type"].as_string() == "Available") out.set("available", condition["status"]);
    }
    Value& images = out.at("pods") = Value::object();
    for (const Value& pod : pods) {
        const std::string name = image_of(pod) + (kube::is_deleting(pod) ? " ends"
                                                  : is_ready_pod(pod)    ? " ready"
                                                                         : "");
        images.set(name, images[name].as_int() + 1);
    }
    return data::parse_json(data::to_canonical_json(out)).value();
}

class Kubelet final : public Workload {
 public:
    std::string probe(const RunningPod& pod) override {
        return image_of(*pod.pod) == kBadImage ? "it is bad" : "";
    }
    void serving(const RunningPod&) override {}
    void stopped(const std::string&) override {}
};

class RolloutTest : public integration::KubeTest {
 protected:
    void SetUp() override {
        KubeTest::SetUp();
        if (IsSkipped() || HasFatalFailure()) return;
        for (const Kind& kind : built_in_kinds()) kinds_.push_back(&kind);
        model = std::make_unique<ApiServer>(sim, "model", kinds_);
        cluster = std::make_unique<Cluster>(sim, chaos, *model, kubelet);
        cluster->calm = true;
        model->on_write = [this](const Write& write) { cluster->note(write); };
        const Value ns = kube::make_object(r::namespaces(), ObjectKey(kKey.ns));
        ASSERT_TRUE(model->create(r::namespaces(), ns, "test").ok());
        ASSERT_TRUE(run(client->create(r::namespaces(), ns)).ok());
        start_controller_manager();
    }
    void TearDown() override {
        cluster.reset();
        model.reset();
        controller_manager.reset();
        KubeTest::TearDown();
    }

    void start_controller_manager() {
        const kube::Access access = server->access();
        pki::Kubeconfig config;
        config.server = access.server;
        std::ifstream ca(access.ca.file);
        config.ca_pem.assign(std::istreambuf_iterator<char>(ca), {});
        config.user = "admin";
        config.client_certificate_pem = std::string(access.client_certificate.inline_data.reveal());
        config.client_key_pem = access.client_key.inline_data;
        const std::string path = server->directory() + "/controller-manager.conf";
        std::ofstream(path) << pki::to_yaml(config).reveal();
        controller_manager = std::make_unique<integration::Process>(
            std::vector<std::string>{
                server->program("kube-controller-manager"), "--kubeconfig=" + path,
                "--controllers=deployment-controller,replicaset-controller,"
                "garbage-collector-controller",
                "--leader-elect=false", "--authentication-skip-lookup", "--bind-address=127.0.0.1",
                fmt::format("--secure-port={}", integration::free_port()),
                "--cert-dir=" + server->directory()},
            server->directory() + "/kube-controller-manager.log");
    }

    /// Plays kubelet for the real side, then looks.
    Value real_outcome() {
        Result<kube::ObjectList> pods = run(client->list(r::pods(), kKey.ns));
        Result<Value> deployment = run(client->get(r::deployments(), kKey));
        if (!pods.ok() || !deployment.ok()) return Value("gone");
        for (const Value& pod : pods->items) {
            if (image_of(pod) == kBadImage || is_ready_pod(pod) || kube::is_deleting(pod)) continue;
            kube::WriteOptions write;
            write.subresource = "status";
            const Value status =
                data::parse_yaml(
                    "{status: {phase: Running, conditions: [{type: Ready, status: 'True'}]}}")
                    .value();
            (void)run(client->merge_patch(r::pods(), kube::key_of(pod), status, write));
        }
        return outcome_of(*deployment, pods->items);
    }

    Value model_outcome() {
        SharedValue deployment = model->get(r::deployments(), kKey);
        if (deployment == nullptr) return Value("gone");
        std::vector<Value> pods;
        for (const SharedValue& pod : model->list(r::pods(), kKey.ns)) pods.push_back(*pod);
        return outcome_of(*deployment, pods);
    }

    /// Waits until the real side has been like the model for a while.
    void expect_agreement(const std::string& step) {
        sim.run_for(3min);
        const Value wanted = model_outcome();
        Value seen;
        TimePoint since = loop->now();
        const bool agreed = wait_until(
            [&] {
                seen = real_outcome();
                if (!(seen == wanted)) since = loop->now();
                return loop->now() - since > 1s;
            },
            40s);
        EXPECT_TRUE(agreed) << step << "\n  model: " << data::to_json(wanted)
                            << "\n  real:  " << data::to_json(seen);
    }

    std::vector<const Kind*> kinds_;
    async::SimLoop sim{1};
    Chaos chaos{1};
    Kubelet kubelet;
    std::unique_ptr<ApiServer> model;
    std::unique_ptr<Cluster> cluster;
    std::unique_ptr<integration::Process> controller_manager;
};

TEST_P(RolloutTest, AgreementOnEveryChange) {
    Value object = kube::make_object(r::deployments(), kKey);
    object.set("spec", data::parse_yaml(kFirst).value());
    ASSERT_TRUE(model->create(r::deployments(), object, "test").ok());
    ASSERT_TRUE(run(client->create(r::deployments(), object)).ok());
    expect_agreement("create");
    for (const char* step : kSteps) {
        const Value patch = Value::object({{"spec", data::parse_yaml(step).value()}});
        ASSERT_TRUE(model->patch(r::deployments(), kKey, patch, "test").ok());
        ASSERT_TRUE(run(client->merge_patch(r::deployments(), kKey, patch)).ok());
        expect_agreement(step);
    }
    Value options = Value::object({{"propagationPolicy", "Foreground"}});
    ASSERT_TRUE(model->remove(r::deployments(), kKey, "test", options).ok());
    kube::DeleteOptions foreground;
    foreground.propagation = kube::Propagation::kForeground;
    ASSERT_TRUE(run(client->remove(r::deployments(), kKey, foreground)).ok());
    expect_agreement("delete");
    EXPECT_TRUE(model->list(r::pods(), kKey.ns).empty());
    EXPECT_TRUE(run(client->list(r::pods(), kKey.ns)).value().items.empty());
}

INSTANTIATE_TEST_SUITE_P(Versions, RolloutTest, ::testing::Values("1.36.3"),
                         integration::version_name);

}  // namespace
}  // namespace basalt::sim
