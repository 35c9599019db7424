// The generated types: what an API server serves becomes a value and back, and no input makes them
// fall over.
#include "api/kamaji/types.h"

#include <fstream>
#include <sstream>

#include <gtest/gtest.h>

#include "data/json.h"
#include "data/patch.h"
#include "data/yaml.h"

namespace basalt::api::kamaji {
namespace {

using data::Value;

Value parse(std::string_view yaml) {
    Result<Value> value = data::parse_yaml(yaml);
    EXPECT_TRUE(value.ok()) << value.error().to_string();
    return std::move(value).value();
}

// The cases that the API server is tested with, too.
Value validation_cases() {
    std::ifstream file(BASALT_SOURCE_DIR "/api/testdata/kamaji/validation.yaml");
    std::stringstream text;
    text << file.rdbuf();
    return parse(text.str());
}

Value case_object(const Value& all, const Value& one) {
    Value object = all["base"][one["kind"].as_string()];
    for (const char* step : {"set", "update"}) {
        if (one.contains(step)) {
            object = data::apply_merge_patch(std::move(object), one[step]);
        }
    }
    if (one.contains("status")) {
        object.set("status", one["status"]);
    }
    return object;
}

template <class T>
std::string error_of(const Value& value) {
    Result<T> result = T::from_value(value);
    if (result.ok()) {
        return "";
    }
    EXPECT_EQ(result.error().code(), Code::kInvalidArgument);
    return result.error().message();
}

// Everything in `part` is in `whole`, which may have more: defaults.
bool contains(const Value& whole, const Value& part) {
    if (part.is_object()) {
        for (const data::Member& member : part.members()) {
            if (!member.value.empty() && !contains(whole[member.key()], member.value)) {
                return false;
            }
        }
        return true;
    }
    if (part.is_array()) {
        if (part.size() != whole.size()) {
            return false;
        }
        for (size_t i = 0; i < part.size(); ++i) {
            if (!contains(whole[i], part[i])) {
                return false;
            }
        }
        return true;
    }
    return whole == part;
}

template <class T>
void round_trip(const Value& object) {
    Result<T> first = T::from_value(object);
    ASSERT_TRUE(first.ok()) << first.error().to_string();
    const Value written = first->to_value();
    EXPECT_TRUE(contains(written, object)) << data::to_json(written);
    Result<T> second = T::from_value(written);
    ASSERT_TRUE(second.ok()) << second.error().to_string();
    EXPECT_EQ(*first, *second);
    EXPECT_EQ(second->to_value(), written);
}

void round_trip_any(const Value& object) {
    if (object["kind"].as_string() == TenantControlPlane::kKind) {
        round_trip<TenantControlPlane>(object);
    } else if (object["kind"].as_string() == DataStore::kKind) {
        round_trip<DataStore>(object);
    } else {
        round_trip<KubeconfigGenerator>(object);
    }
}

TEST(Types, AcceptedObjectsSurviveTheRoundTrip) {
    const Value all = validation_cases();
    size_t count = 0;
    for (const Value& one : all["cases"].items()) {
        if (!one.contains("refused")) {
            SCOPED_TRACE(one["name"].str());
            round_trip_any(case_object(all, one));
            ++count;
        }
    }
    EXPECT_GT(count, 40U);
}

constexpr std::string_view kLeast = R"(
apiVersion: kamaji.clastix.io/v1alpha1
kind: TenantControlPlane
metadata: {name: a, namespace: b, uid: u, generation: 3}
spec:
  controlPlane: {service: {serviceType: NodePort}}
  kubernetes: {version: v1.36.3}
)";

TEST(Types, DefaultsFillWhatIsMissing) {
    Result<TenantControlPlane> tcp = TenantControlPlane::from_value(parse(kLeast));
    ASSERT_TRUE(tcp.ok()) << tcp.error().to_string();
    EXPECT_EQ(tcp->name(), "a");
    EXPECT_EQ(tcp->namespace_name(), "b");
    EXPECT_EQ(tcp->uid(), "u");
    EXPECT_EQ(tcp->generation(), 3);
    EXPECT_FALSE(tcp->is_deleting());
    const TenantControlPlaneSpec& spec = tcp->spec;
    EXPECT_EQ(spec.control_plane.service.service_type, kServiceTypeNodePort);
    EXPECT_EQ(spec.control_plane.deployment.replicas, 2);
    EXPECT_EQ(spec.control_plane.deployment.registry_settings.registry, "registry.k8s.io");
    EXPECT_EQ(spec.control_plane.deployment.strategy["rollingUpdate"]["maxSurge"].as_string(),
              "100%");
    EXPECT_EQ(spec.control_plane.deployment.strategy["rollingUpdate"]["maxUnavailable"].as_int(1),
              0);
    EXPECT_EQ(spec.network_profile.port, 6443);
    EXPECT_EQ(spec.network_profile.cluster_domain, "cluster.local");
    EXPECT_EQ(spec.kubernetes.admission_controllers.size(), 17U);
    EXPECT_EQ(spec.kubernetes.kubelet.preferred_address_types,
              (std::vector<std::string>{"InternalIP", "ExternalIP", "Hostname"}));
    EXPECT_FALSE(spec.addons.konnectivity.has_value());
    EXPECT_FALSE(spec.control_plane.deployment.automount_service_account_token.has_value());
    EXPECT_EQ(spec.control_plane.deployment.probes.startup, ProbeSpec{});
}

TEST(Types, AbsentAndEmptyAddonsDiffer) {
    Value object = parse(kLeast);
    object.at("spec").set("addons",
                          parse("{coreDNS: {}, konnectivity: {agent: {tolerations: []}}}"));
    Result<TenantControlPlane> tcp = TenantControlPlane::from_value(object);
    ASSERT_TRUE(tcp.ok()) << tcp.error().to_string();
    const Addons& addons = tcp->spec.addons;
    EXPECT_TRUE(addons.core_dns.has_value());
    EXPECT_FALSE(addons.kube_proxy.has_value());
    ASSERT_TRUE(addons.konnectivity.has_value());
    EXPECT_EQ(addons.konnectivity->server.port, 8132);
    // An empty list is not a missing one: no default.
    EXPECT_TRUE(addons.konnectivity->agent.tolerations.empty());
    const Value written = addons.to_value();
    EXPECT_TRUE(written.contains("coreDNS"));
    EXPECT_FALSE(written.contains("kubeProxy"));
    EXPECT_TRUE(written["konnectivity"]["agent"]["tolerations"].is_array());
}

TEST(Types, UnsetFieldsAreLeftOut) {
    EXPECT_EQ(ProbeSpec{}.to_value(), Value::object());
    EXPECT_EQ((ProbeSpec{.period_seconds = 1}.to_value()), Value::object({{"periodSeconds", 1}}));
    EXPECT_EQ(DeploymentStatus{}.to_value(), Value::object());
    EXPECT_EQ(DataStoreStatus{}.to_value(), Value::object({{"ready", false}}));
    // Zero is a value, not an absence.
    EXPECT_EQ((ProbeSpec{.initial_delay_seconds = 0}.to_value()),
              Value::object({{"initialDelaySeconds", 0}}));
}

TEST(Types, InlinedStatusStandsBesideOwnFields) {
    const Value in =
        parse("{name: a, replicas: 2, readyReplicas: 1, conditions: [{type: Available}]}");
    Result<DeploymentStatus> status = DeploymentStatus::from_value(in);
    ASSERT_TRUE(status.ok());
    EXPECT_EQ(status->name, "a");
    EXPECT_EQ(status->inlined["readyReplicas"].as_int(), 1);
    EXPECT_FALSE(status->inlined.contains("name"));
    EXPECT_EQ(status->to_value(), in);
}

TEST(Types, FieldsThatTheSchemaDoesNotHaveAreDropped) {
    Value object = parse(kLeast);
    object.at("spec").set("surprise", 1);
    Result<TenantControlPlane> tcp = TenantControlPlane::from_value(object);
    ASSERT_TRUE(tcp.ok());
    EXPECT_FALSE(tcp->to_value()["spec"].contains("surprise"));
}

TEST(Types, ErrorsNameTheField) {
    Value object = parse(kLeast);
    object.at("spec").at("networkProfile").set("port", "many");
    EXPECT_EQ(error_of<TenantControlPlane>(object),
              "spec.networkProfile.port: expected an integer, got a string");
    object.at("spec").set("networkProfile", parse("{port: 4294967296}"));
    EXPECT_EQ(error_of<TenantControlPlane>(object),
              "spec.networkProfile.port: 4294967296 does not fit into 32 bits");
    object.at("spec").set("networkProfile", parse("{port: 1.5}"));
    EXPECT_EQ(error_of<TenantControlPlane>(object),
              "spec.networkProfile.port: expected an integer, got a number");
    object.at("spec").set("networkProfile", parse("{certSANs: [a, 1]}"));
    EXPECT_EQ(error_of<TenantControlPlane>(object),
              "spec.networkProfile.certSANs[1]: expected a string, got a number");
    object.at("spec").set("networkProfile", parse("{certSANs: a}"));
    EXPECT_EQ(error_of<TenantControlPlane>(object),
              "spec.networkProfile.certSANs: expected a list, got a string");
    object = parse(kLeast);
    object.at("spec").at("kubernetes").erase("version");
    EXPECT_EQ(error_of<TenantControlPlane>(object), "spec.kubernetes.version: is missing");
    object.at("spec").at("kubernetes").set("version", nullptr);
    EXPECT_EQ(error_of<TenantControlPlane>(object), "spec.kubernetes.version: is missing");
    object = parse(kLeast);
    object.at("spec").set("dataStoreOverrides", parse("[{resource: /events}]"));
    EXPECT_EQ(error_of<TenantControlPlane>(object),
              "spec.dataStoreOverrides[0].dataStore: is missing");
    object = parse(kLeast);
    object.at("spec").at("controlPlane").set("deployment", parse("{nodeSelector: {a: 1}}"));
    EXPECT_EQ(error_of<TenantControlPlane>(object),
              "spec.controlPlane.deployment.nodeSelector[\"a\"]: expected a string, got a number");
    object.erase("spec");
    EXPECT_EQ(error_of<TenantControlPlane>(object), "spec: is missing");
    EXPECT_EQ(error_of<TenantControlPlane>(Value("text")), "expected an object, got a string");
    EXPECT_EQ(error_of<DataStore>(parse("{kind: Pod}")), "kind: expected DataStore");
}

// Puts `wrong` in place of every value below `node` in turn and reads the whole.
template <class T>
void try_everywhere(Value& root, Value& node, const Value& wrong) {
    auto attempt = [&](Value& place) {
        const Value kept = place;
        place = wrong;
        Result<T> result = T::from_value(root);
        if (!result.ok()) {
            EXPECT_EQ(result.error().code(), Code::kInvalidArgument);
        } else {
            (void)result->to_value();
        }
        place = kept;
    };
    if (node.is_object()) {
        for (data::Member& member : node.mutable_members()) {
            attempt(member.value);
            try_everywhere<T>(root, member.value, wrong);
        }
    } else if (node.is_array()) {
        for (Value& item : node.mutable_items()) {
            attempt(item);
            try_everywhere<T>(root, item, wrong);
        }
    }
}

TEST(Types, NoInputMakesThemFallOver) {
    const std::vector<Value> wrongs = {nullptr,
                                       true,
                                       -1,
                                       1e300,
                                       uint64_t{18446744073709551615U},
                                       "text",
                                       Value::array({1, "a", nullptr}),
                                       Value::object({{"a", 1}})};
    const Value all = validation_cases();
    for (const Value& one : all["cases"].items()) {
        if (one.contains("refused")) {
            continue;
        }
        Value object = case_object(all, one);
        object.set("status", parse(R"(
            storage: {setup: {schema: a}}
            kubernetesResources: {version: {status: Ready}, deployment: {replicas: 1, name: a}, gateway: {parents: [{parentRef: {name: a}}]}}
            addons: {coreDNS: {enabled: true}, konnectivity: {enabled: true, service: {port: 1}}}
            conditions: [{type: Ready}]
            errors: [{resource: a, message: b}]
            usedBy: [a/b]
        )"));
        for (const Value& wrong : wrongs) {
            if (one["kind"].as_string() == TenantControlPlane::kKind) {
                try_everywhere<TenantControlPlane>(object, object, wrong);
            } else if (one["kind"].as_string() == DataStore::kKind) {
                try_everywhere<DataStore>(object, object, wrong);
            } else {
                try_everywhere<KubeconfigGenerator>(object, object, wrong);
            }
        }
    }
}

TEST(Types, StatusIsWrittenOnceThereIsSomethingToSay) {
    DataStore store;
    store.spec.driver = kDriverEtcd;
    store.spec.endpoints = {"a:1"};
    store.status.observed_generation = 2;
    const Value written = store.to_value();
    EXPECT_EQ(written["apiVersion"].as_string(), kApiVersion);
    EXPECT_EQ(written["kind"].as_string(), DataStore::kKind);
    EXPECT_EQ(written["status"], Value::object({{"observedGeneration", 2}, {"ready", false}}));
    EXPECT_FALSE(written["spec"].contains("basicAuth"));
    EXPECT_FALSE(written.contains("metadata"));
}

}  // namespace
}  // namespace basalt::api::kamaji
