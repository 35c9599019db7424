// Speed of parsing, printing and splitting, and the memory of a cache of 50,000 Pods against the
// size of their text.
#include <fmt/format.h>
#include <malloc.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "base/time.h"
#include "data/hash.h"
#include "data/json.h"
#include "data/yaml.h"

using namespace basalt;
using namespace basalt::data;

namespace {

constexpr int kPods = 50'000;

Value condition(std::string_view type, int i) {
    return Value::object(
        {{"type", type},
         {"status", "True"},
         {"lastProbeTime", nullptr},
         {"lastTransitionTime", fmt::format("2024-03-01T10:{:02}:{:02}Z", i / 60 % 60, i % 60)}});
}

Value metadata(int i) {
    const std::string app = fmt::format("app-{}", i % 200);
    const std::string hash = fmt::format("{:010x}", i % 200 * 7919);
    return Value::object({
        {"name", fmt::format("{}-{}-{:05x}", app, hash, i)},
        {"generateName", fmt::format("{}-{}-", app, hash)},
        {"namespace", fmt::format("tenant-{:03}", i % 100)},
        {"uid",
         fmt::format("{:08x}-1111-4222-8333-{:012x}", static_cast<unsigned>(i) * 2654435761u, i)},
        {"resourceVersion", std::to_string(1'000'000 + i)},
        {"creationTimestamp", "2024-03-01T10:00:00Z"},
        {"labels",
         Value::object(
             {{"app.kubernetes.io/name", app}, {"pod-template-hash", hash}, {"tier", "backend"}})},
        {"annotations",
         Value::object({{"prometheus.io/scrape", "true"}, {"prometheus.io/port", "9090"}})},
        {"ownerReferences",
         Value::array(
             {Value::object({{"apiVersion", "apps/v1"},
                             {"kind", "ReplicaSet"},
                             {"name", fmt::format("{}-{}", app, hash)},
                             {"uid", fmt::format("{:08x}-2222-4222-8333-000000000000", i % 200)},
                             {"controller", true},
                             {"blockOwnerDeletion", true}})})},
    });
}

Value container(int i) {
    return Value::object({
        {"name", "main"},
        {"image", fmt::format("registry.example.com/team/app-{}:v1.{}.0", i % 200, i % 30)},
        {"args", Value::array({"--config=/etc/app/config.yaml", "--v=2"})},
        {"ports", Value::array({Value::object(
                      {{"name", "http"}, {"containerPort", 8080}, {"protocol", "TCP"}})})},
        {"env",
         Value::array({Value::object(
             {{"name", "POD_IP"},
              {"valueFrom",
               Value::object({{"fieldRef", Value::object({{"apiVersion", "v1"},
                                                          {"fieldPath", "status.podIP"}})}})}})})},
        {"resources",
         Value::object({{"limits", Value::object({{"cpu", "500m"}, {"memory", "256Mi"}})},
                        {"requests", Value::object({{"cpu", "100m"}, {"memory", "128Mi"}})}})},
        {"volumeMounts", Value::array({Value::object(
                             {{"name", "kube-api-access-x7k2p"},
                              {"readOnly", true},
                              {"mountPath", "/var/run/secrets/kubernetes.io/serviceaccount"}})})},
        {"livenessProbe", Value::object({{"httpGet", Value::object({{"path", "/healthz"},
                                                                    {"port", "http"},
                                                                    {"scheme", "HTTP"}})},
                                         {"timeoutSeconds", 1},
                                         {"periodSeconds", 10},
                                         {"successThreshold", 1},
                                         {"failureThreshold", 3}})},
        {"terminationMessagePath", "/dev/termination-log"},
        {"terminationMessagePolicy", "File"},
        {"imagePullPolicy", "IfNotPresent"},
        {"securityContext",
         Value::object({{"runAsNonRoot", true}, {"allowPrivilegeEscalation", false}})},
    });
}

Value spec(int i) {
    return Value::object({
        {"volumes",
         Value::array({Value::object({{"name", "kube-api-access-x7k2p"},
                                      {"projected", Value::object({{"defaultMode", 420}})}})})},
        {"containers", Value::array({container(i)})},
        {"restartPolicy", "Always"},
        {"terminationGracePeriodSeconds", 30},
        {"dnsPolicy", "ClusterFirst"},
        {"serviceAccountName", "default"},
        {"nodeName", fmt::format("node-{:03}.example.com", i % 500)},
        {"securityContext", Value::object()},
        {"schedulerName", "default-scheduler"},
        {"tolerations", Value::array({Value::object({{"key", "node.kubernetes.io/not-ready"},
                                                     {"operator", "Exists"},
                                                     {"effect", "NoExecute"},
                                                     {"tolerationSeconds", 300}}),
                                      Value::object({{"key", "node.kubernetes.io/unreachable"},
                                                     {"operator", "Exists"},
                                                     {"effect", "NoExecute"},
                                                     {"tolerationSeconds", 300}})})},
        {"priority", 0},
        {"enableServiceLinks", true},
        {"preemptionPolicy", "PreemptLowerPriority"},
    });
}

Value status(int i) {
    const std::string ip = fmt::format("10.{}.{}.{}", i >> 16 & 255, i >> 8 & 255, i & 255);
    return Value::object({
        {"phase", "Running"},
        {"conditions",
         Value::array({condition("Initialized", i), condition("Ready", i),
                       condition("ContainersReady", i), condition("PodScheduled", i)})},
        {"hostIP", fmt::format("192.168.{}.{}", i % 500 / 250, i % 250)},
        {"podIP", ip},
        {"podIPs", Value::array({Value::object({{"ip", ip}})})},
        {"startTime", "2024-03-01T10:00:00Z"},
        {"containerStatuses",
         Value::array({Value::object({
             {"name", "main"},
             {"state",
              Value::object({{"running", Value::object({{"startedAt", "2024-03-01T10:00:05Z"}})}})},
             {"lastState", Value::object()},
             {"ready", true},
             {"restartCount", 0},
             {"image", fmt::format("registry.example.com/team/app-{}:v1.{}.0", i % 200, i % 30)},
             {"imageID", fmt::format("registry.example.com/team/app@sha256:{:064x}", i % 200)},
             {"containerID", fmt::format("containerd://{:064x}", i)},
             {"started", true},
         })})},
        {"qosClass", "Burstable"},
    });
}

Value pod(int i) {
    return Value::object({{"apiVersion", "v1"},
                          {"kind", "Pod"},
                          {"metadata", metadata(i)},
                          {"spec", spec(i)},
                          {"status", status(i)}});
}

size_t allocated() { return mallinfo2().uordblks + mallinfo2().hblkhd; }

template <class Work>
double seconds_of(Work&& work) {
    const TimePoint start = Clock::now();
    work();
    return std::chrono::duration<double>(Clock::now() - start).count();
}

void report(std::string_view what, size_t bytes, double seconds) {
    fmt::print("{:<22} {:8.1f} MB/s\n", what, static_cast<double>(bytes) / 1e6 / seconds);
}

}  // namespace

int main() {
    std::vector<std::string> texts;
    size_t bytes = 0;
    for (int i = 0; i < kPods; ++i) {
        texts.push_back(to_json(pod(i)));
        bytes += texts.back().size();
    }
    fmt::print("{} Pods of {} bytes of JSON on average\n", kPods, bytes / kPods);

    std::vector<SharedValue> cache;
    cache.reserve(kPods);
    const size_t before = allocated();
    report("parse", bytes, seconds_of([&] {
               for (const std::string& text : texts) {
                   cache.push_back(std::make_shared<const Value>(parse_json(text).value()));
               }
           }));
    const auto held = static_cast<double>(allocated() - before);
    size_t exact = 0;
    for (const SharedValue& value : cache) exact += value->heap_size();
    fmt::print("{:<22} {:8.0f} bytes ({:.2f} of the text; {:.2f} without allocator overhead)\n",
               "cached Pod", held / kPods, held / static_cast<double>(bytes),
               static_cast<double>(exact) / static_cast<double>(bytes));

    size_t sink = 0;
    report("print", bytes, seconds_of([&] {
               for (const SharedValue& value : cache) sink += to_json(*value).size();
           }));
    report("print canonical", bytes, seconds_of([&] {
               for (const SharedValue& value : cache) sink += to_canonical_json(*value).size();
           }));
    report("hash", bytes, seconds_of([&] {
               for (const SharedValue& value : cache) sink += hash(*value) & 1;
           }));
    report("compare", bytes, seconds_of([&] {
               for (size_t i = 1; i < cache.size(); ++i)
                   sink += *cache[i] == Value(*cache[i]) ? 1 : 0;
           }));
    report("split", bytes, seconds_of([&] {
               JsonLineSplitter splitter;
               for (const std::string& text : texts) {
                   splitter.feed(text);
                   sink += splitter.next().value()->size();
               }
           }));
    size_t yaml_bytes = 0;
    report("YAML print and parse", bytes / 50, seconds_of([&] {
               for (size_t i = 0; i < cache.size(); i += 50) {
                   const std::string yaml = to_yaml(*cache[i]);
                   yaml_bytes += yaml.size();
                   sink += parse_yaml(yaml)->size();
               }
           }));
    fmt::print("checksum {}\n", sink + yaml_bytes);
    return 0;
}
