#include "controlplane/diagnosis.h"

#include <gtest/gtest.h>

#include "data/yaml.h"

namespace basalt::controlplane {
namespace {

using data::Value;

data::SharedValue pod(const char* yaml) {
    return std::make_shared<const Value>(data::parse_yaml(yaml).value());
}

const Value& deployment() {
    static const Value value = data::parse_yaml("{spec: {replicas: 1}, status: {}}").value();
    return value;
}

TEST(Diagnosis, QuotesTheLastWordsOfAContainer) {
    Diagnosis diagnosis = diagnose_pods(deployment(), {pod(R"(
metadata: {name: a-1}
status:
  containerStatuses:
  - name: kube-apiserver
    ready: false
    state: {waiting: {reason: CrashLoopBackOff, message: back-off}}
    lastState: {terminated: {exitCode: 1, message: "starting\nError: bind: address already in use\n"}}
)")});
    EXPECT_EQ(diagnosis.reason, "CrashLoopBackOff");
    EXPECT_EQ(diagnosis.message,
              "container kube-apiserver of Pod a-1 ended with code 1: Error: bind: address already "
              "in use");
    EXPECT_TRUE(diagnosis.is_failure);
}

TEST(Diagnosis, NamesAnImageThatCannotBePulled) {
    Diagnosis diagnosis = diagnose_pods(deployment(), {pod(R"(
metadata: {name: a-1}
status:
  containerStatuses:
  - {name: kube-apiserver, state: {waiting: {reason: ImagePullBackOff, message: "no such image"}}}
)")});
    EXPECT_EQ(diagnosis.reason, "ImagePullBackOff");
    EXPECT_EQ(diagnosis.message, "container kube-apiserver of Pod a-1: no such image");
}

TEST(Diagnosis, SaysWhyNothingWasScheduled) {
    Diagnosis diagnosis = diagnose_pods(deployment(), {pod(R"(
metadata: {name: a-1}
status:
  conditions:
  - {type: PodScheduled, status: "False", reason: Unschedulable, message: "0/1 nodes are available"}
)")});
    EXPECT_EQ(diagnosis.reason, "Unschedulable");
}

TEST(Diagnosis, IgnoresPodsOnTheirWayOut) {
    Diagnosis diagnosis = diagnose_pods(deployment(), {pod(R"(
metadata: {name: a-1, deletionTimestamp: "2026-01-01T00:00:00Z"}
status:
  containerStatuses:
  - {name: kube-apiserver, state: {terminated: {exitCode: 1, message: bye}}}
)")});
    EXPECT_EQ(diagnosis.reason, "Starting");
    EXPECT_FALSE(diagnosis.is_failure);
}

}  // namespace
}  // namespace basalt::controlplane
