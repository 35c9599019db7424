// Watch: decode and cache the events of 50,000 Pods. Prints events and bytes a second, and what a
// cached object costs beside the size of its JSON.
//
// "--write FILE" writes the body of that watch instead, for others to read (tests/bench/informer);
// "--numbers" prints one line for a program: events, seconds, heap bytes, resident bytes, bytes of
// JSON of the objects alone.
#include <malloc.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "async/sim_loop.h"
#include "data/json.h"
#include "kube/cache.h"
#include "kube/test_server.h"

namespace {

using namespace basalt;
using namespace basalt::kube;
using std::chrono::steady_clock;

constexpr int kPodsCount = 50'000;
constexpr size_t kChunkSize = 16 * 1024;  // a DATA frame of HTTP/2

/// A Pod of a Deployment as a cluster holds it: managedFields, volumes, conditions, statuses.
std::string pod_json(int number, int version) {
    const std::string name = fmt::format("web-{:05}-7d4b9c6f5-{:05x}", number % 700, number);
    const std::string managed =
        R"([{"manager":"kube-controller-manager","operation":"Update","apiVersion":"v1","time":"2026-01-01T00:00:00Z","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:generateName":{},"f:labels":{".":{},"f:app":{},"f:pod-template-hash":{}},"f:ownerReferences":{".":{},"k:{\"uid\":\"5e9f\"}":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"web\"}":{".":{},"f:image":{},"f:imagePullPolicy":{},"f:name":{},"f:ports":{".":{},"k:{\"containerPort\":8080,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{},"f:protocol":{}}},"f:resources":{".":{},"f:limits":{".":{},"f:memory":{}},"f:requests":{".":{},"f:cpu":{},"f:memory":{}}},"f:terminationMessagePath":{},"f:terminationMessagePolicy":{}}},"f:dnsPolicy":{},"f:enableServiceLinks":{},"f:restartPolicy":{},"f:schedulerName":{},"f:securityContext":{},"f:terminationGracePeriodSeconds":{}}}},{"manager":"kubelet","operation":"Update","apiVersion":"v1","time":"2026-01-01T00:00:01Z","fieldsType":"FieldsV1","fieldsV1":{"f:status":{"f:conditions":{"k:{\"type\":\"ContainersReady\"}":{".":{},"f:lastProbeTime":{},"f:lastTransitionTime":{},"f:status":{},"f:type":{}},"k:{\"type\":\"Initialized\"}":{".":{},"f:lastProbeTime":{},"f:lastTransitionTime":{},"f:status":{},"f:type":{}},"k:{\"type\":\"Ready\"}":{".":{},"f:lastProbeTime":{},"f:lastTransitionTime":{},"f:status":{},"f:type":{}}},"f:containerStatuses":{},"f:hostIP":{},"f:phase":{},"f:podIP":{},"f:startTime":{}}},"subresource":"status"}])";
    std::string conditions;
    for (const char* type :
         {"PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"}) {
        if (!conditions.empty()) conditions += ',';
        conditions +=
            std::string(R"({"type":")") + type +
            R"(","status":"True","lastProbeTime":null,"lastTransitionTime":"2026-01-01T00:00:01Z"})";
    }
    return fmt::format(
        R"({{"kind":"Pod","apiVersion":"v1","metadata":{{"name":"{0}","generateName":"web-7d4b9c6f5-","namespace":"team-{1}","uid":"3c1f2a9e-0000-4000-8000-{2:012x}","resourceVersion":"{3}","generation":1,"creationTimestamp":"2026-01-01T00:00:00Z","labels":{{"app":"web","pod-template-hash":"7d4b9c6f5","tier":"frontend","team":"team-{1}"}},"annotations":{{"prometheus.io/scrape":"true","prometheus.io/port":"8080"}},"ownerReferences":[{{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web-7d4b9c6f5","uid":"5e9f0000-0000-4000-8000-000000000001","controller":true,"blockOwnerDeletion":true}}],"managedFields":{4}}},"spec":{{"volumes":[{{"name":"kube-api-access-x7k2p","projected":{{"sources":[{{"serviceAccountToken":{{"expirationSeconds":3607,"path":"token"}}}},{{"configMap":{{"name":"kube-root-ca.crt","items":[{{"key":"ca.crt","path":"ca.crt"}}]}}}},{{"downwardAPI":{{"items":[{{"path":"namespace","fieldRef":{{"apiVersion":"v1","fieldPath":"metadata.namespace"}}}}]}}}}],"defaultMode":420}}}}],"containers":[{{"name":"web","image":"registry.example.com/team/web:1.2.{5}","args":["--port=8080","--log-level=info"],"ports":[{{"containerPort":8080,"protocol":"TCP"}}],"env":[{{"name":"POD_IP","valueFrom":{{"fieldRef":{{"apiVersion":"v1","fieldPath":"status.podIP"}}}}}},{{"name":"MODE","value":"production"}}],"resources":{{"limits":{{"memory":"256Mi"}},"requests":{{"cpu":"100m","memory":"128Mi"}}}},"volumeMounts":[{{"name":"kube-api-access-x7k2p","readOnly":true,"mountPath":"/var/run/secrets/kubernetes.io/serviceaccount"}}],"livenessProbe":{{"httpGet":{{"path":"/healthz","port":8080,"scheme":"HTTP"}},"timeoutSeconds":1,"periodSeconds":10,"successThreshold":1,"failureThreshold":3}},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File","imagePullPolicy":"IfNotPresent"}}],"restartPolicy":"Always","terminationGracePeriodSeconds":30,"dnsPolicy":"ClusterFirst","serviceAccountName":"default","serviceAccount":"default","nodeName":"node-{6:03}","securityContext":{{}},"schedulerName":"default-scheduler","tolerations":[{{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute","tolerationSeconds":300}},{{"key":"node.kubernetes.io/unreachable","operator":"Exists","effect":"NoExecute","tolerationSeconds":300}}],"priority":0,"enableServiceLinks":true,"preemptionPolicy":"PreemptLowerPriority"}},"status":{{"phase":"Running","conditions":[{7}],"hostIP":"10.0.0.{8}","hostIPs":[{{"ip":"10.0.0.{8}"}}],"podIP":"10.244.{8}.{9}","podIPs":[{{"ip":"10.244.{8}.{9}"}}],"startTime":"2026-01-01T00:00:00Z","containerStatuses":[{{"name":"web","state":{{"running":{{"startedAt":"2026-01-01T00:00:01Z"}}}},"lastState":{{}},"ready":true,"restartCount":0,"image":"registry.example.com/team/web:1.2.3","imageID":"registry.example.com/team/web@sha256:4bf3a1c2e5d6f7a8b9c0d1e2f3a4b5c6d7e8f9a0b1c2d3e4f5a6b7c8d9e0f1a2","containerID":"containerd://8c1d2e3f4a5b6c7d8e9f0a1b2c3d4e5f6a7b8c9d0e1f2a3b4c5d6e7f8a9b{2:05x}","started":true}}],"qosClass":"Burstable"}}}})",
        name, number % 40, number, version, managed, version % 10, number % 500, conditions,
        number % 250, (number / 250) % 250);
}

struct Sample {
    double seconds = 0;
    size_t text_size = 0;
    size_t json_size = 0;    ///< Of the objects alone.
    size_t memory_size = 0;  ///< Heap of the process after caching, pipes emptied.
    size_t resident_size = 0;
    size_t objects_size = 0;
    uint64_t events = 0;
    double read_seconds = 0;  ///< Of one object.
};

/// Anonymous resident memory of the process.
size_t resident() {
    std::ifstream file("/proc/self/status");
    for (std::string word; file >> word;) {
        size_t kilobytes = 0;
        if (word == "RssAnon:" && file >> kilobytes) return kilobytes * 1024;
    }
    return 0;
}

/// Yields the body of a watch in batches: the initial state, then one change of each Pod.
class Events {
 public:
    /// The next few megabytes; empty at the end.
    std::string next() {
        std::string batch;
        while (batch.size() < kBatchSize && number_ < 2 * kPodsCount) {
            const bool initial = number_ < kPodsCount;
            const int pod_number = number_ % kPodsCount;
            const std::string pod = pod_json(pod_number, (initial ? 1000 : 100'000) + pod_number);
            if (initial) json_size_ += pod.size();
            batch += fmt::format("{{\"type\":\"{}\",\"object\":{}}}\n",
                                 initial ? "ADDED" : "MODIFIED", pod);
            if (++number_ == kPodsCount) batch += kBookmark;
        }
        return batch;
    }
    size_t json_size() const { return json_size_; }

 private:
    static constexpr size_t kBatchSize = 4'000'000;
    static constexpr const char* kBookmark =
        R"({"type":"BOOKMARK","object":{"kind":"Pod","apiVersion":"v1","metadata":)"
        R"({"resourceVersion":"99999","annotations":{"k8s.io/initial-events-end":"true"}}}})"
        "\n";
    int number_ = 0;
    size_t json_size_ = 0;
};

size_t heap_in_use() { return mallinfo2().uordblks + mallinfo2().hblkhd; }

struct Kept {
    bool managed_fields = false;
    bool metadata_only = false;
    bool packed = false;
};

/// Streams `count` events through client, reflector and cache. Text is made on the fly, outside of
/// the clock.
Sample run(const Kept& kept) {
    async::SimLoop loop(1);
    auto pipe = std::make_shared<testing::BodyPipe>();
    auto transport = std::make_shared<testing::ScriptedTransport>(
        loop, [&](const net::HttpRequest&) { return testing::respond_stream(pipe); });
    Client client(loop, transport);
    CacheOptions options(resources::pods());
    options.packed = kept.packed;
    if (kept.managed_fields) options.keep_manager = "kubelet";
    if (kept.metadata_only) {
        options.transform = [](Value& object) {
            object.erase("spec");
            object.erase("status");
        };
    }
    Cache cache(client, options);
    uint64_t changes = 0;
    cache.add_handler([&](const Change&) { ++changes; });
    async::TaskGroup group(loop);
    Sample sample;
    const size_t before = heap_in_use();
    cache.start(group);
    const auto feed = [&](std::string text) {
        sample.text_size += text.size();
        for (size_t at = 0; at < text.size(); at += kChunkSize)
            pipe->chunks.push_back(text.substr(at, kChunkSize));
        const auto start = steady_clock::now();
        pipe->changed.notify_all();
        loop.run_ready();
        sample.seconds += std::chrono::duration<double>(steady_clock::now() - start).count();
    };
    loop.run_for(std::chrono::milliseconds(10));
    Events events;
    for (std::string batch = events.next(); !batch.empty(); batch = events.next())
        feed(std::move(batch));
    sample.json_size = events.json_size();
    sample.events = cache.stats().events_count;
    sample.memory_size = heap_in_use() - before;
    sample.resident_size = resident();
    sample.objects_size = cache.memory_size();
    const auto start = steady_clock::now();
    size_t read_count = 0;
    cache.for_each([&](const SharedValue& object) { read_count += object->is_object() ? 1 : 0; });
    sample.read_seconds = std::chrono::duration<double>(steady_clock::now() - start).count() /
                          static_cast<double>(read_count);
    if (cache.size() != kPodsCount || changes != 2 * kPodsCount) {
        fmt::print("wrong: {} objects, {} changes\n", cache.size(), changes);
    }
    group.cancel();
    loop.run_until([&] { return group.size() == 0; }, std::chrono::seconds(1));
    return sample;
}

int write_events(const char* path) {
    std::ofstream file(path, std::ios::binary);
    Events events;
    for (std::string batch = events.next(); !batch.empty(); batch = events.next()) file << batch;
    return file.flush() ? 0 : 1;
}

void print_numbers() {
    const Sample sample = run(Kept());
    fmt::print("{} {} {} {} {}\n", sample.events, sample.seconds, sample.memory_size,
               sample.resident_size, sample.json_size);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc == 3 && std::string_view(argv[1]) == "--write") return write_events(argv[2]);
    if (argc == 2 && std::string_view(argv[1]) == "--numbers") {
        print_numbers();
        return 0;
    }
    struct Case {
        const char* name;
        Kept kept;
    };
    for (const Case& each : {Case{"whole objects without managedFields", {}},
                             Case{"with one manager's managedFields", {.managed_fields = true}},
                             Case{"the same, packed", {.managed_fields = true, .packed = true}},
                             Case{"metadata only", {.metadata_only = true}}}) {
        const Sample sample = run(each.kept);
        fmt::print(
            "{}: {:.0f} events/s, {:.0f} MB/s; JSON {} B, cached object {} B (heap {} B with "
            "table): {:.2f}; {:.1f} us to read one\n",
            each.name, static_cast<double>(sample.events) / sample.seconds,
            static_cast<double>(sample.text_size) / sample.seconds / 1e6,
            sample.json_size / kPodsCount, sample.objects_size / kPodsCount,
            sample.memory_size / kPodsCount,
            static_cast<double>(sample.memory_size) / static_cast<double>(sample.json_size),
            sample.read_seconds * 1e6);
    }
    return 0;
}
