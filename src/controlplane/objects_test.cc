#include "controlplane/objects.h"

#include <algorithm>
#include <set>

#include <gtest/gtest.h>

#include "controlplane/datastore.h"
#include "controlplane/tenant_objects.h"
#include "controlplane/testdata_test.h"
#include "controlplane/write_permissions.h"
#include "data/patch.h"
#include "pki/digest.h"

namespace basalt::controlplane {
namespace {

using data::Value;

Value deployment_of(const Value& object) {
    return build_deployment(settings_of(object), example_endpoint(), example_surroundings());
}

const Value& container(const Value& deployment, std::string_view name) {
    static const Value kNone;
    for (const Value& item : deployment["spec"]["template"]["spec"]["containers"].items()) {
        if (item["name"].as_string() == name) return item;
    }
    return kNone;
}

bool has_arg(const Value& of, std::string_view arg) {
    for (const Value& item : of["args"].items()) {
        if (item.as_string() == arg) return true;
    }
    return false;
}

TEST(Objects, MatchTheGoldenFiles) {
    Value object = example_object();
    Settings settings = settings_of(object);
    expect_golden("deployment.yaml", data::to_yaml(deployment_of(object)));
    expect_golden("service.yaml", data::to_yaml(build_service(settings)));
    expect_golden("kubeadm_config.yaml",
                  data::to_yaml(build_kubeadm_config(settings, example_endpoint())));
    TenantInputs inputs{"-----BEGIN CERTIFICATE-----\n", example_endpoint(),
                        "ghcr.io/basalt/basalt:test"};
    expect_golden("tenant.yaml",
                  data::to_yaml_documents(build_tenant_objects(settings, inputs).value()));
}

// What Kamaji's users select by.
TEST(Objects, AreLabelledAsKamajiDoes) {
    const Value object = example_object();
    const Value egress = build_egress_selector(settings_of(object));
    EXPECT_EQ(egress["metadata"]["labels"]["kamaji.clastix.io/component"].as_string(),
              "konnectivity-egress-selector-configuration");
    EXPECT_EQ(egress["metadata"]["annotations"]["kamaji.clastix.io/checksum"].as_string(),
              pki::md5_hex(egress["data"]["egress-selector-configuration.yaml"].as_string()));
    // Texts in the order of their keys, as Kamaji makes it.
    const Value config = build_kubeadm_config(settings_of(object), example_endpoint());
    EXPECT_EQ(config["metadata"]["annotations"]["kamaji.clastix.io/checksum"].as_string(),
              pki::md5_hex(config["data"]["ClusterConfiguration"].str() +
                           config["data"]["InitConfiguration"].str()));
}

TEST(Objects, LimitWrites) {
    Value object = example_object();
    EXPECT_TRUE(sealed_ranges(settings_of(object)).empty());
    EXPECT_EQ(describe_limits(settings_of(object).write_permissions), "");
    object.at("metadata").set("creationTimestamp", "2026-01-02T03:04:05Z");
    object.at("spec").set("writePermissions",
                          Value::object({{"blockCreation", true}, {"blockUpdate", true}}));
    Settings settings = settings_of(object);
    expect_golden("write_permissions.yaml",
                  data::to_yaml_documents(build_write_permissions(settings, object)));
    // The policy and its binding; in a cluster that takes no write at all, all of their kinds.
    std::vector<etcd::KeyRange> sealed = sealed_ranges(settings);
    ASSERT_EQ(sealed.size(), 2u);
    EXPECT_EQ(sealed[0].begin,
              "/" + settings.schema + "/validatingadmissionpolicies/kamaji-write-permissions");
    object.at("spec").at("writePermissions").set("blockDeletion", true);
    sealed = sealed_ranges(settings_of(object));
    ASSERT_EQ(sealed.size(), 6u);
    etcd::Tenant tenant = etcd_tenant(settings.user, settings.schema).value();
    tenant.sealed = sealed;
    EXPECT_EQ(etcd::permissions_of(tenant).size(), 8u);
}

TEST(Deployment, NamesTheServersOfOverrides) {
    Value object = example_object();
    Surroundings surroundings = example_surroundings();
    surroundings.override_endpoints = {{"/events", {"events-0:2379", "events-1:2379"}},
                                       {"coordination.k8s.io/leases", {"leases:2379"}}};
    Value deployment = build_deployment(settings_of(object), example_endpoint(), surroundings);
    expect_golden("api_server_overrides.yaml",
                  data::to_yaml(container(deployment, "kube-apiserver")["args"]));
}

TEST(Deployment, SeparatesKeys) {
    Value deployment = deployment_of(example_object());
    std::string api_server = data::to_yaml(container(deployment, "kube-apiserver"));
    std::string scheduler = data::to_yaml(container(deployment, "kube-scheduler"));
    EXPECT_EQ(api_server.find("controller-manager-pki"), std::string::npos);
    EXPECT_EQ(scheduler.find("apiserver-pki"), std::string::npos);
    EXPECT_FALSE(
        deployment["spec"]["template"]["spec"]["automountServiceAccountToken"].as_bool(true));
}

// Kamaji's own test sets a security context with nothing but a seccomp profile, and wants it as it
// is. Programs of several users, in no common group, must read their keys then.
TEST(Deployment, RunsWithASecurityContextOfTheUsers) {
    auto mode_with = [](const Value& context) {
        Value object = example_object();
        object.at("spec").at("controlPlane").at("deployment").set("podSecurityContext", context);
        const Value deployment = deployment_of(object);
        const Value& spec = deployment["spec"]["template"]["spec"];
        if (!context.empty()) {
            EXPECT_EQ(spec["securityContext"], context);
        }
        std::set<int64_t> modes;
        for (const Value& volume : spec["volumes"].items()) {
            if (volume["projected"].is_object())
                modes.insert(volume["projected"]["defaultMode"].as_int());
        }
        EXPECT_EQ(modes.size(), 1u);
        return *modes.begin();
    };
    const Value seccomp = data::parse_yaml("{seccompProfile: {type: RuntimeDefault}}").value();
    EXPECT_EQ(mode_with(Value()), 0440);
    EXPECT_EQ(mode_with(seccomp), 0444);
    EXPECT_EQ(mode_with(data::parse_yaml("{runAsUser: 1000}").value()), 0444);
    EXPECT_EQ(mode_with(data::parse_yaml("{runAsUser: 1000, fsGroup: 1000}").value()), 0440);
}

TEST(Deployment, LetsAnExplicitProbeWinFieldByField) {
    Value object = example_object();
    Value& probes = object.at("spec").at("controlPlane").at("deployment").at("probes");
    probes.set("liveness", Value::object({{"periodSeconds", 30}}));
    probes.set("apiServer", Value::object({{"liveness", Value::object({{"timeoutSeconds", 3}})}}));
    Value deployment = deployment_of(object);
    const Value& api_server = container(deployment, "kube-apiserver")["livenessProbe"];
    EXPECT_EQ(api_server["periodSeconds"].as_int(), 30);
    EXPECT_EQ(api_server["timeoutSeconds"].as_int(), 3);
    EXPECT_EQ(api_server["failureThreshold"].as_int(), 8);
    EXPECT_EQ(container(deployment, "kube-scheduler")["livenessProbe"]["timeoutSeconds"].as_int(),
              15);
}

TEST(Deployment, KeepsAnExistingSelector) {
    Surroundings surroundings = example_surroundings();
    surroundings.existing_selector =
        Value::object({{"matchLabels", Value::object({{"kamaji.clastix.io/soot", "x"}})}});
    Value deployment =
        build_deployment(settings_of(example_object()), example_endpoint(), surroundings);
    EXPECT_EQ(deployment["spec"]["selector"], surroundings.existing_selector);
    EXPECT_EQ(
        deployment["spec"]["template"]["metadata"]["labels"]["kamaji.clastix.io/soot"].as_string(),
        "x");
}

// Without our labels an object is in no cache: it would be written again in every pass.
TEST(Objects, KeepOurLabelsAndAnnotations) {
    const Value from_user = data::parse_yaml(R"(
labels: {kamaji.clastix.io/project: x, kamaji.clastix.io/name: x, component.kamaji.clastix.io/ca: x, team: stone}
annotations: {storage.kamaji.clastix.io/config: x, example.org/team: stone}
)")
                                .value();
    Value object = example_object();
    Value& plane = object.at("spec").at("controlPlane");
    plane.at("service").set("additionalMetadata", from_user);
    plane.at("deployment").set("additionalMetadata", from_user);
    plane.at("deployment").set("podAdditionalMetadata", from_user);
    const Value deployment = deployment_of(object);
    const Value service = build_service(settings_of(object));
    const Value& pod = deployment["spec"]["template"]["metadata"];
    for (const Value* meta : {&deployment["metadata"], &service["metadata"], &pod}) {
        EXPECT_EQ((*meta)["labels"]["kamaji.clastix.io/project"].as_string(), "kamaji");
        EXPECT_EQ((*meta)["labels"]["kamaji.clastix.io/name"].as_string(), "tenant-a");
        EXPECT_EQ((*meta)["labels"]["team"].as_string(), "stone");
        EXPECT_EQ((*meta)["annotations"]["example.org/team"].as_string(), "stone");
    }
    EXPECT_EQ(pod["labels"]["component.kamaji.clastix.io/ca"].as_string(), "11");
    EXPECT_EQ(pod["annotations"]["storage.kamaji.clastix.io/config"].as_string(), "33");
}

TEST(Deployment, PutsUserContainersFirst) {
    Value object = example_object();
    object.at("spec")
        .at("controlPlane")
        .at("deployment")
        .set("additionalContainers",
             Value::array({Value::object({{"name", "audit"}, {"image", "audit:1"}})}));
    Value deployment = deployment_of(object);
    const Value& containers = deployment["spec"]["template"]["spec"]["containers"];
    EXPECT_EQ(containers[0]["name"].as_string(), "audit");
    EXPECT_EQ(containers[1]["name"].as_string(), "kube-apiserver");
    EXPECT_EQ(containers.size(), 5u);
}

TEST(Deployment, MountsATokenOnlyForContainersOfTheUsers) {
    auto automounts = [](const char* patch) {
        const Value object =
            data::apply_merge_patch(example_object(), data::parse_yaml(patch).value());
        return deployment_of(object)["spec"]["template"]["spec"]["automountServiceAccountToken"];
    };
    EXPECT_EQ(automounts("{}"), Value(false));
    EXPECT_EQ(automounts("{spec: {controlPlane: {deployment: {automountServiceAccountToken: "
                         "true}}}}"),
              Value(true));
    EXPECT_TRUE(automounts("{spec: {controlPlane: {deployment: {additionalContainers: [{name: a, "
                           "image: a}]}}}}")
                    .is_null());
    EXPECT_TRUE(automounts("{spec: {controlPlane: {deployment: {additionalInitContainers: [{name: "
                           "a, image: a}]}}}}")
                    .is_null());
    EXPECT_EQ(automounts("{spec: {controlPlane: {deployment: {automountServiceAccountToken: "
                         "false, additionalContainers: [{name: a, image: a}]}}}}"),
              Value(false));
}

// Containers start in this order, each after the hook of the one before it.
TEST(Deployment, HoldsCompanionsUntilTheApiServerIsReady) {
    Value deployment = deployment_of(example_object());
    const Value& containers = deployment["spec"]["template"]["spec"]["containers"];
    ASSERT_EQ(containers.size(), 4u);
    EXPECT_EQ(containers[0]["name"].as_string(), "kube-apiserver");
    EXPECT_EQ(containers[0]["command"], Value::array({"kube-apiserver"}));
    EXPECT_EQ(containers[1]["name"].as_string(), "konnectivity-server");
    EXPECT_EQ(
        containers[1]["lifecycle"]["postStart"]["exec"]["command"],
        Value::array({"/usr/local/bin/basalt-start", "install", "/run/basalt-start/basalt-start"}));
    for (size_t number : {2u, 3u}) {
        const char* name = number == 2 ? "kube-controller-manager" : "kube-scheduler";
        const Value& container = containers[number];
        EXPECT_EQ(container["name"].as_string(), name);
        EXPECT_EQ(container["command"],
                  Value::array({"/run/basalt-start/basalt-start", "run",
                                "/run/basalt-start/api-server-ready", "240", name}));
    }
}

// Who can write there can run programs beside the CA's key.
TEST(Deployment, OnlyTheTunnelWritesWhatCompanionsRun) {
    Value object = example_object();
    for (bool tunnel : {true, false}) {
        if (!tunnel) object.at("spec").at("addons").erase("konnectivity");
        Value deployment = deployment_of(object);
        for (const Value& container :
             deployment["spec"]["template"]["spec"]["containers"].items()) {
            const std::string name = container["name"].str();
            const bool writer = name == "konnectivity-server" || name == "egress";
            bool mounted = false;
            for (const Value& mount : container["volumeMounts"].items()) {
                if (mount["name"].as_string() != "basalt-start") continue;
                mounted = true;
                EXPECT_EQ(mount["readOnly"].as_bool(false), !writer) << name;
            }
            EXPECT_EQ(mounted, name != "kube-apiserver") << name;
        }
    }
}

void use_upstreams_tunnel(Value& object) {
    object.at("spec")
        .at("addons")
        .at("konnectivity")
        .set("server", Value::object({{"image", "registry.k8s.io/kas-network-proxy/proxy-server"},
                                      {"version", "v0.36.0"}}));
}

// Upstream's tunnel server has no such program.
TEST(Deployment, StartsAllAtOnceWithUpstreamsTunnel) {
    Value object = example_object();
    use_upstreams_tunnel(object);
    Value deployment = deployment_of(object);
    const Value& spec = deployment["spec"]["template"]["spec"];
    for (const Value& volume : spec["volumes"].items())
        EXPECT_NE(volume["name"].str(), "basalt-start");
    EXPECT_EQ(spec["containers"][2]["command"], Value::array({"kube-controller-manager"}));
}

// A command that a user runs ends with the API server that carries it, so the kubelet asks first.
TEST(Deployment, StopsTheApiServerAfterItsCommands) {
    Value object = example_object();
    Value without_tunnel = object;
    without_tunnel.at("spec").at("addons").erase("konnectivity");
    for (const Value& each : {object, without_tunnel}) {
        Value deployment = deployment_of(each);
        const Value& page = container(deployment, "kube-apiserver")["lifecycle"]["preStop"];
        EXPECT_EQ(page["httpGet"]["path"].as_string(), "/idle");
        EXPECT_EQ(page["httpGet"]["port"].as_int(), 8134);
        const char* name = each == object ? "konnectivity-server" : "egress";
        EXPECT_TRUE(has_arg(container(deployment, name), "--commands-limit=60s"));
        EXPECT_TRUE(has_arg(container(deployment, name), "--graceful-shutdown-timeout=90s"));
        EXPECT_EQ(deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].as_int(),
                  105);
    }
}

TEST(Deployment, DropsTheModeForAStructuredAuthorization) {
    Value object = example_object();
    object.at("spec")
        .at("controlPlane")
        .at("deployment")
        .at("extraArgs")
        .set("apiServer", Value::array({"--authorization-config=/etc/authz.yaml"}));
    Value deployment = deployment_of(object);
    const Value& api_server = container(deployment, "kube-apiserver");
    EXPECT_TRUE(has_arg(api_server, "--authorization-config=/etc/authz.yaml"));
    EXPECT_FALSE(has_arg(api_server, "--authorization-mode=Node,RBAC"));
}

TEST(Deployment, SpreadsReplicas) {
    Value object = example_object();
    object.at("spec").at("controlPlane").at("deployment").set("replicas", 2);
    Value deployment = deployment_of(object);
    EXPECT_EQ(deployment["spec"]["template"]["spec"]["topologySpreadConstraints"].size(), 2u);
    EXPECT_TRUE(build_disruption_budget(settings_of(object)).is_object());
    EXPECT_TRUE(build_disruption_budget(settings_of(example_object())).is_null());
}

TEST(Deployment, ReplacesPodsAsKamajiDoes) {
    const char* cases[][2] = {
        {"{}", "{type: RollingUpdate, rollingUpdate: {maxSurge: 100%, maxUnavailable: 0}}"},
        {"{type: RollingUpdate}",
         "{type: RollingUpdate, rollingUpdate: {maxSurge: 100%, maxUnavailable: 0}}"},
        {"{type: RollingUpdate, rollingUpdate: {maxSurge: 1}}",
         "{type: RollingUpdate, rollingUpdate: {maxSurge: 1, maxUnavailable: 25%}}"},
        {"{type: Recreate}", "{type: Recreate}"},
        {"{type: Recreate, rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}", "{type: Recreate}"}};
    for (const auto& [from_user, wanted] : cases) {
        Value object = example_object();
        object.at("spec")
            .at("controlPlane")
            .at("deployment")
            .set("strategy", data::parse_yaml(from_user).value());
        EXPECT_EQ(deployment_of(object)["spec"]["strategy"], data::parse_yaml(wanted).value())
            << from_user;
    }
}

TEST(Deployment, ScalingRestartsNothing) {
    Value object = example_object();
    Value one = deployment_of(object);
    object.at("spec").at("controlPlane").at("deployment").set("replicas", 3);
    EXPECT_EQ(deployment_of(object)["spec"]["template"], one["spec"]["template"]);
}

TEST(Deployment, LetsOurTunnelServersFindEachOther) {
    Value deployment = deployment_of(example_object());
    const Value& server = container(deployment, "konnectivity-server");
    EXPECT_TRUE(has_arg(server, "--peer-address=tenant-a.team.svc:8132"));
    EXPECT_TRUE(has_arg(server, "--graceful-shutdown-timeout=90s"));
    EXPECT_EQ(server["readinessProbe"]["httpGet"]["path"].as_string(), "/readyz");
    // A takeover waits for it.
    EXPECT_EQ(server["readinessProbe"]["periodSeconds"].as_int(), 2);
    EXPECT_EQ(server["livenessProbe"]["httpGet"]["path"].as_string(), "/healthz");
}

// Upstream's server ends on flags that it does not know, and has no page of its own for readiness.
TEST(Deployment, TellsUpstreamsTunnelServerWhatItKnows) {
    Value object = example_object();
    object.at("spec").at("controlPlane").at("deployment").set("replicas", 2);
    use_upstreams_tunnel(object);
    Value deployment = deployment_of(object);
    const Value& server = container(deployment, "konnectivity-server");
    EXPECT_TRUE(has_arg(server, "--server-count=2"));
    for (const Value& arg : server["args"].items()) {
        EXPECT_FALSE(arg.as_string().starts_with("--peer-address")) << arg.as_string();
        EXPECT_FALSE(arg.as_string().starts_with("--graceful-shutdown")) << arg.as_string();
    }
    EXPECT_TRUE(server["readinessProbe"].is_null());
    EXPECT_TRUE(server["lifecycle"].is_null());
    EXPECT_TRUE(container(deployment, "kube-apiserver")["lifecycle"].is_null());
    EXPECT_EQ(deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].as_int(), 45);
}

TEST(Deployment, BindsLowPortsWithoutRoot) {
    Value object = example_object();
    object.at("spec").at("networkProfile").set("port", 443);
    for (const char* from_user : {"{}", "{runAsUser: 1000}"}) {
        object.at("spec")
            .at("controlPlane")
            .at("deployment")
            .set("podSecurityContext", data::parse_yaml(from_user).value());
        Value deployment = deployment_of(object);
        const Value& context = deployment["spec"]["template"]["spec"]["securityContext"];
        EXPECT_EQ(context["sysctls"][0]["value"].as_string(), "0") << from_user;
    }
}

// Agents dial address:port, wherever that leads.
TEST(Service, OpensTheSamePortsOnNodes) {
    Value object = example_object();
    object.at("spec").at("controlPlane").at("service").set("serviceType", "NodePort");
    object.at("spec").at("networkProfile").set("port", 31443);
    object.at("spec")
        .at("addons")
        .at("konnectivity")
        .set("server", Value::object({{"port", 31132}}));
    const Value service = build_service(settings_of(object));
    const Value& ports = service["spec"]["ports"];
    EXPECT_EQ(ports[0]["nodePort"].as_int(), 31443);
    EXPECT_EQ(ports[1]["nodePort"].as_int(), 31132);
    const Value balanced = build_service(settings_of(example_object()));
    EXPECT_TRUE(balanced["spec"]["ports"][1]["nodePort"].is_null());
}

TEST(Endpoint, ComesFromTheService) {
    Value object = example_object();
    Value waiting = Value::object({{"spec", Value::object({{"clusterIP", "10.96.7.7"}})}});
    EXPECT_FALSE(find_endpoint(settings_of(object), waiting).value().has_value());

    Value balanced = waiting;
    balanced.at("status")
        .at("loadBalancer")
        .set("ingress", Value::array({Value::object({{"hostname", "lb.example.org"}}),
                                      Value::object({{"ip", "192.0.2.7"}})}));
    EXPECT_EQ(find_endpoint(settings_of(object), balanced).value()->host_port(), "192.0.2.7:6443");

    Value named = waiting;
    named.at("status")
        .at("loadBalancer")
        .set("ingress", Value::array({Value::object({{"hostname", "lb.example.org"}})}));
    auto unannounced = find_endpoint(settings_of(object), named);
    ASSERT_FALSE(unannounced.ok());
    EXPECT_NE(unannounced.error().message().find("spec.networkProfile.advertiseAddress"),
              std::string::npos);
    Value announced = object;
    announced.at("spec").at("networkProfile").set("advertiseAddress", "192.0.2.9");
    const Endpoint endpoint = *find_endpoint(settings_of(announced), named).value();
    EXPECT_EQ(endpoint.host_port(), "lb.example.org:6443");
    EXPECT_EQ(endpoint.advertise_host_port(), "192.0.2.9:6443");

    Value node_port = object;
    node_port.at("spec").at("controlPlane").at("service").set("serviceType", "NodePort");
    auto missing = find_endpoint(settings_of(node_port), waiting);
    ASSERT_FALSE(missing.ok());
    EXPECT_EQ(missing.error().code(), Code::kFailedPrecondition);
}

TEST(Endpoint, AdvertisesAnotherAddressToTenants) {
    Value object = example_object();
    object.at("spec")
        .at("networkProfile")
        .set("address", "192.0.2.1")
        .set("advertiseAddress", "10.0.0.254");
    Endpoint endpoint = *find_endpoint(settings_of(object), Value()).value();
    EXPECT_EQ(endpoint.host_port(), "192.0.2.1:6443");
    EXPECT_EQ(endpoint.advertise_host_port(), "10.0.0.254:6443");
}

// A Service has one address of each family.
TEST(TenantObjects, TakeTheFirstDnsAddressOfEachFamily) {
    auto addresses = [](const char* cidrs, const char* ips) {
        Value object = example_object();
        object.at("spec")
            .at("networkProfile")
            .set("serviceCidrs", data::parse_yaml(cidrs).value())
            .set("dnsServiceIPs", data::parse_yaml(ips).value());
        for (const Value& item : build_core_dns(settings_of(object))) {
            if (item["kind"].as_string() == "Service") return item["spec"];
        }
        return Value();
    };
    Value spec = addresses("[10.96.0.0/16, 'fd00::/112']",
                           "[10.96.0.10, 10.96.0.11, 'fd00::10', 'fd00::11']");
    EXPECT_EQ(spec["clusterIP"].as_string(), "10.96.0.10");
    EXPECT_EQ(spec["clusterIPs"], Value::array({"10.96.0.10", "fd00::10"}));
    EXPECT_EQ(spec["ipFamilyPolicy"].as_string(), "RequireDualStack");
    spec = addresses("[10.96.0.0/16, 'fd00::/112']", "[10.96.0.10, 10.96.0.11]");
    EXPECT_EQ(spec["clusterIPs"], Value::array({"10.96.0.10"}));
    EXPECT_EQ(spec["ipFamilyPolicy"].as_string(), "SingleStack");
    spec = addresses("[10.96.0.0/16]", "[10.96.0.10, 10.96.0.11]");
    EXPECT_EQ(spec["clusterIPs"], Value::array({"10.96.0.10"}));
}

TEST(TenantObjects, RefuseKubeletPatchesThatDoNotFit) {
    Value object = example_object();
    object.at("spec")
        .at("kubernetes")
        .at("kubelet")
        .set("configurationJSONPatches",
             Value::array(
                 {Value::object({{"op", "replace"}, {"path", "/nothing/here"}, {"value", 1}})}));
    auto refused = build_kubelet_configuration(settings_of(object));
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(
        refused.error().message().rfind("spec.kubernetes.kubelet.configurationJSONPatches", 0), 0u);
}

}  // namespace
}  // namespace basalt::controlplane
