#include "controlplane/validate.h"

#include <gtest/gtest.h>

#include "controlplane/testdata_test.h"
#include "data/base64.h"
#include "data/patch.h"
#include "kube/object.h"
#include "pki/certificate.h"

namespace basalt::controlplane {
namespace {

using data::Value;

Value yaml(const std::string& text) { return data::parse_yaml(text).value(); }

ValidationContext context() {
    ValidationContext known;
    known.datastores["default"] = KnownDataStore("etcd");
    known.datastores["same-ca"] = KnownDataStore("etcd");
    known.datastores["mysql"] = KnownDataStore("MySQL");
    return known;
}

/// The example with a merge patch on it.
Value patched(const std::string& patch) {
    return data::apply_merge_patch(example_object(), yaml(patch));
}

std::vector<FieldError> on_create(const std::string& patch) {
    return validate_control_plane(patched(patch), nullptr, context());
}
std::vector<FieldError> on_update(const std::string& before, const std::string& after) {
    Value old = patched(before);
    Value now = data::apply_merge_patch(old, yaml(after));
    return validate_control_plane(now, &old, context());
}

/// One field and a part of its message; an empty field: accepted.
struct Case {
    const char* name;
    const char* patch;
    const char* field;
    const char* message;
};

void expect(const Case& item, const std::vector<FieldError>& errors) {
    SCOPED_TRACE(item.name);
    if (std::string_view(item.field).empty()) {
        EXPECT_TRUE(errors.empty()) << to_text(errors);
        return;
    }
    ASSERT_EQ(errors.size(), 1u) << to_text(errors);
    EXPECT_EQ(errors[0].field, item.field);
    EXPECT_NE(errors[0].message.find(item.message), std::string::npos) << errors[0].message;
}

constexpr Case kCreate[] = {
    {"the example", "{}", "", ""},
    // versions
    {"the oldest", "{spec: {kubernetes: {version: v1.31.0}}}", "", ""},
    {"too old", "{spec: {kubernetes: {version: v1.30.9}}}", "spec.kubernetes.version",
     "use one from v1.31 to v1.36"},
    {"too new", "{spec: {kubernetes: {version: v1.37.0}}}", "spec.kubernetes.version",
     "use one from v1.31 to v1.36"},
    {"another major", "{spec: {kubernetes: {version: v2.0.0}}}", "spec.kubernetes.version",
     "is not supported"},
    {"no version", "{spec: {kubernetes: {version: latest}}}", "spec.kubernetes.version",
     "write it like"},
    // datastores
    {"named datastore", "{spec: {dataStore: same-ca}}", "", ""},
    {"unknown datastore", "{spec: {dataStore: nowhere}}", "spec.dataStore",
     "there is no DataStore \"nowhere\": create it"},
    {"another driver is a condition's business", "{spec: {dataStore: mysql}}", "", ""},
    {"override", "{spec: {dataStoreOverrides: [{resource: /events, dataStore: same-ca}]}}", "", ""},
    {"overrides",
     "{spec: {dataStoreOverrides: [{resource: /events, dataStore: same-ca}, {resource: "
     "apps/deployments, dataStore: same-ca}]}}",
     "", ""},
    {"override with the datastore named, too",
     "{spec: {dataStore: default, dataStoreOverrides: [{resource: /events, dataStore: nowhere}]}}",
     "spec.dataStoreOverrides[0].dataStore", "there is no DataStore \"nowhere\""},
    {"override that is not there",
     "{spec: {dataStoreOverrides: [{resource: /events, dataStore: same-ca}, {resource: /pods, "
     "dataStore: nowhere}]}}",
     "spec.dataStoreOverrides[1].dataStore", "create it, or name another one"},
    {"override twice",
     "{spec: {dataStoreOverrides: [{resource: /events, dataStore: same-ca}, {resource: /events, "
     "dataStore: default}]}}",
     "spec.dataStoreOverrides[1].resource", "/events is named twice"},
    {"override of another driver",
     "{spec: {dataStoreOverrides: [{resource: /events, dataStore: mysql}]}}",
     "spec.dataStoreOverrides[0].dataStore", "overrides need driver etcd"},
    {"override of a datastore of another driver",
     "{spec: {dataStore: mysql, dataStoreOverrides: [{resource: /events, dataStore: same-ca}]}}",
     "spec.dataStoreOverrides", "the one in spec.dataStore has MySQL"},
    // admission plugins
    {"plugins of all versions",
     "{spec: {kubernetes: {admissionControllers: [LimitRanger, PodSecurity, EventRateLimit]}}}", "",
     ""},
    {"plugin that is gone",
     "{spec: {kubernetes: {admissionControllers: [LimitRanger, PodSecurityPolicy]}}}",
     "spec.kubernetes.admissionControllers[1]",
     "Kubernetes 1.36 has no admission plugin PodSecurityPolicy: remove it"},
    {"plugin that comes later",
     "{spec: {kubernetes: {version: v1.32.1, admissionControllers: [PodTopologyLabels]}}}",
     "spec.kubernetes.admissionControllers[0]", "Kubernetes 1.32 has no"},
    {"plugin that has come",
     "{spec: {kubernetes: {version: v1.33.0, admissionControllers: [PodTopologyLabels]}}}", "", ""},
    {"plugin of 1.36",
     "{spec: {kubernetes: {version: v1.35.4, admissionControllers: [JobValidation]}}}",
     "spec.kubernetes.admissionControllers[0]", "Kubernetes 1.35 has no"},
    // kubelet
    {"kubelet patches",
     "{spec: {kubernetes: {kubelet: {configurationJSONPatches: [{op: add, path: /maxPods, value: "
     "200}, {op: replace, path: /maxPods, value: 10}]}}}}",
     "", ""},
    {"patch of what is not there",
     "{spec: {kubernetes: {kubelet: {configurationJSONPatches: [{op: add, path: /a, value: 1}, "
     "{op: replace, path: /maxPods, value: 10}]}}}}",
     "spec.kubernetes.kubelet.configurationJSONPatches[1]", "correct or remove it"},
    {"patch whose test fails",
     "{spec: {kubernetes: {kubelet: {configurationJSONPatches: [{op: test, path: /kind, value: "
     "Pod}]}}}}",
     "spec.kubernetes.kubelet.configurationJSONPatches[0]", "cannot be carried out"},
    {"patch of the kind",
     "{spec: {kubernetes: {kubelet: {configurationJSONPatches: [{op: replace, path: /kind, value: "
     "Pod}]}}}}",
     "spec.kubernetes.kubelet.configurationJSONPatches", "must stay"},
    {"patch of everything",
     "{spec: {kubernetes: {kubelet: {configurationJSONPatches: [{op: replace, path: '', value: "
     "1}]}}}}",
     "spec.kubernetes.kubelet.configurationJSONPatches", "must stay"},
};

constexpr Case kPods[] = {
    {"additions", R"({spec: {controlPlane: {deployment: {
        additionalInitContainers: [{name: init, image: a}], additionalContainers: [{name: side, image: a, volumeMounts: [{name: v, mountPath: /v}]}],
        additionalVolumes: [{name: v, emptyDir: {}}],
        additionalVolumeMounts: {apiServer: [{name: v, mountPath: /v}], controllerManager: [{name: v, mountPath: /v}], scheduler: [{name: v, mountPath: /v}]}}}}})",
     "", ""},
    {"container of ours",
     "{spec: {controlPlane: {deployment: {additionalContainers: [{name: konnectivity-server, "
     "image: a}]}}}}",
     "spec.controlPlane.deployment.additionalContainers[0].name",
     "is a container of the control plane"},
    {"init container of ours",
     "{spec: {controlPlane: {deployment: {additionalInitContainers: [{name: a, image: a}, {name: "
     "kube-apiserver, image: a}]}}}}",
     "spec.controlPlane.deployment.additionalInitContainers[1].name", "give yours another name"},
    {"one name in both lists",
     "{spec: {controlPlane: {deployment: {additionalInitContainers: [{name: a, image: a}], "
     "additionalContainers: [{name: a, image: a}]}}}}",
     "spec.controlPlane.deployment.additionalContainers[0].name",
     "additionalInitContainers[0].name, too"},
    {"volume of ours",
     "{spec: {controlPlane: {deployment: {additionalVolumes: [{name: apiserver-pki, emptyDir: "
     "{}}]}}}}",
     "spec.controlPlane.deployment.additionalVolumes[0].name", "is a volume of the control plane"},
    {"mount of ours",
     "{spec: {controlPlane: {deployment: {additionalVolumes: [{name: v, emptyDir: {}}], "
     "additionalVolumeMounts: {apiServer: [{name: v, mountPath: /etc/kubernetes/pki/}]}}}}}",
     "spec.controlPlane.deployment.additionalVolumeMounts.apiServer[0].mountPath",
     "/etc/kubernetes/pki is a mount of the control plane"},
    {"mount twice",
     "{spec: {controlPlane: {deployment: {additionalVolumes: [{name: v, emptyDir: {}}], "
     "additionalVolumeMounts: {scheduler: [{name: v, mountPath: /v}, {name: v, mountPath: "
     "//v/}]}}}}}",
     "spec.controlPlane.deployment.additionalVolumeMounts.scheduler[1].mountPath",
     "/v is mounted twice"},
    {"mount of no volume",
     "{spec: {controlPlane: {deployment: {additionalVolumeMounts: {controllerManager: [{name: v, "
     "mountPath: /v}]}}}}}",
     "spec.controlPlane.deployment.additionalVolumeMounts.controllerManager[0].name",
     "there is no volume \"v\""},
    {"mount of no volume in a container",
     "{spec: {controlPlane: {deployment: {additionalContainers: [{name: a, image: a, volumeMounts: "
     "[{name: v, mountPath: /v}]}]}}}}",
     "spec.controlPlane.deployment.additionalContainers[0].volumeMounts[0].name", "add it to"},
};

constexpr Case kNetwork[] = {
    {"NodePort",
     "{spec: {controlPlane: {service: {serviceType: NodePort}}, networkProfile: {address: "
     "192.0.2.1, port: 31443}}}",
     "", ""},
    {"NodePort without address", "{spec: {controlPlane: {service: {serviceType: NodePort}}}}",
     "spec.networkProfile.address", "needs the address of a node"},
    {"port of the scheduler", "{spec: {networkProfile: {port: 10259}}}", "spec.networkProfile.port",
     "kube-scheduler"},
    {"port of the tunnel's health check",
     "{spec: {addons: {konnectivity: {server: {port: 8134}}}}}",
     "spec.addons.konnectivity.server.port", "choose another port"},
    {"port of a tunnel that is off",
     "{spec: {addons: {konnectivity: null}, networkProfile: {port: 8133}}}", "", ""},
    {"port of what stands in for a tunnel",
     "{spec: {addons: {konnectivity: null}, networkProfile: {port: 8134}}}",
     "spec.networkProfile.port", "choose another port"},
    // DNS
    {"DNS addresses of one network",
     "{spec: {networkProfile: {serviceCidrs: [10.96.0.0/16, 'fd00::/120'], dnsServiceIPs: "
     "[10.96.0.10, 10.96.0.11, 'fd00::10']}}}",
     "", ""},
    {"DNS address in the second network",
     "{spec: {networkProfile: {serviceCidrs: [10.96.0.0/16, 'fd00::/112'], dnsServiceIPs: "
     "['fd00::10']}}}",
     "", ""},
    {"DNS address in the former network",
     "{spec: {networkProfile: {serviceCidr: 10.96.0.0/16, dnsServiceIPs: [10.96.0.10]}}}", "", ""},
    {"DNS address outside",
     "{spec: {networkProfile: {serviceCidrs: [10.96.0.0/16], dnsServiceIPs: [10.97.0.10]}}}",
     "spec.networkProfile.dnsServiceIPs[0]", "choose an address in 10.96.0.0/16"},
    {"DNS address of the API", "{spec: {networkProfile: {dnsServiceIPs: [10.96.0.1]}}}",
     "spec.networkProfile.dnsServiceIPs[0]", "the Service kubernetes"},
    // networks
    {"dual stack",
     "{spec: {networkProfile: {serviceCidrs: [10.1.0.0/16, 'fd00:1::/112'], podCidrs: "
     "['fd00:2::/48', 10.2.0.0/16]}}}",
     "", ""},
    {"services too many for 1.33",
     "{spec: {kubernetes: {version: v1.33.1}, networkProfile: {serviceCidrs: ['fd00:1::/64']}}}",
     "spec.networkProfile.serviceCidrs", "choose /108 or smaller"},
    {"services not too many for 1.34",
     "{spec: {kubernetes: {version: v1.34.1}, networkProfile: {serviceCidrs: ['fd00:1::/64']}}}",
     "", ""},
    {"services without room for DNS", "{spec: {networkProfile: {serviceCidr: 10.1.0.0/30}}}",
     "spec.networkProfile.serviceCidr", "choose a larger network"},
    {"pods of one node", "{spec: {networkProfile: {podCidr: 10.2.0.0/24}}}", "", ""},
    {"pods of no node", "{spec: {networkProfile: {podCidr: 10.2.0.0/25}}}",
     "spec.networkProfile.podCidr", "choose a network from /8 to /24"},
    {"pods of no node in IPv6", "{spec: {networkProfile: {podCidrs: ['fd00:2::/112']}}}",
     "spec.networkProfile.podCidrs", "--node-cidr-mask-size-ipv6"},
    {"pods of nodes with a mask of their own",
     "{spec: {networkProfile: {podCidr: 10.2.0.0/25}, controlPlane: {deployment: {extraArgs: "
     "{controllerManager: [--node-cidr-mask-size-ipv4=27]}}}}}",
     "", ""},
};

TEST(ValidateControlPlane, OnCreation) {
    for (const Case& item : kCreate) expect(item, on_create(item.patch));
}
TEST(ValidateControlPlane, PodsOnCreation) {
    for (const Case& item : kPods) expect(item, on_create(item.patch));
}
TEST(ValidateControlPlane, NetworksOnCreation) {
    for (const Case& item : kNetwork) expect(item, on_create(item.patch));
}
TEST(ValidateControlPlane, PodsOnUpdate) {
    for (const Case& item : kPods) expect(item, on_update("{}", item.patch));
}
TEST(ValidateControlPlane, NetworksOnUpdate) {
    for (const Case& item : kNetwork) expect(item, on_update("{}", item.patch));
}

TEST(ValidateControlPlane, ComparesWithTheInstalledVersion) {
    auto update = [](const char* installed, const char* spec, const char* wanted) {
        Value old =
            patched(std::string("{spec: {kubernetes: {version: ") + spec +
                    "}}, status: {kubernetesResources: {version: {version: " + installed + "}}}}");
        Value now = data::apply_merge_patch(
            old, yaml(std::string("{spec: {kubernetes: {version: ") + wanted + "}}}"));
        return validate_control_plane(now, &old, context());
    };
    EXPECT_TRUE(update("v1.35.4", "v1.35.4", "v1.36.3").empty());
    EXPECT_TRUE(update("v1.35.4", "v1.35.4", "v1.35.9").empty());
    expect({"two minors", "", "spec.kubernetes.version", "upgrade to v1.35 first"},
           update("v1.34.1", "v1.34.1", "v1.36.0"));
    // The schema's rule compares with the spec before; 1.35 was asked for, but 1.34 is what runs.
    expect(
        {"before the first step is done", "", "spec.kubernetes.version", "upgrade to v1.35 first"},
        update("v1.34.1", "v1.35.0", "v1.36.0"));
    expect({"downgrade", "", "spec.kubernetes.version", "downgraded"},
           update("v1.36.3", "v1.36.3", "v1.35.4"));
    expect({"unsupported", "", "spec.kubernetes.version", "not supported"},
           update("v1.36.3", "v1.36.3", "v1.37.0"));
}

TEST(ValidateControlPlane, LeavesAloneWhatDoesNotChange) {
    // Accepted long ago; the DataStore is gone, the version too old, the plugin, too.
    const std::string old_one =
        "{spec: {dataStore: nowhere, kubernetes: {version: v1.36.3, admissionControllers: "
        "[SecurityContextDeny]}, "
        "networkProfile: {podCidr: 10.2.0.0/25}}}";
    EXPECT_TRUE(on_update(old_one, "{metadata: {labels: {a: b}}}").empty());
    EXPECT_TRUE(on_update(old_one, "{spec: {controlPlane: {deployment: {replicas: 3}}}}").empty());
    EXPECT_FALSE(
        on_update(old_one, "{spec: {kubernetes: {admissionControllers: [PodSecurityPolicy]}}}")
            .empty());
    EXPECT_TRUE(on_update("{spec: {kubernetes: {version: v1.29.0}}}",
                          "{spec: {controlPlane: {deployment: {replicas: 3}}}}")
                    .empty());
    EXPECT_TRUE(
        on_update(
            old_one,
            "{metadata: {deletionTimestamp: '2026-01-01T00:00:00Z'}, spec: {dataStore: gone}}")
            .empty());
}

TEST(ValidateControlPlane, ChecksOverridesOnUpdate) {
    expect(
        {"not there", "", "spec.dataStoreOverrides[0].dataStore", "nowhere"},
        on_update("{}", "{spec: {dataStoreOverrides: [{resource: /events, dataStore: nowhere}]}}"));
    expect({"DNS of the new object", "", "spec.networkProfile.dnsServiceIPs[0]", "outside"},
           on_update("{spec: {networkProfile: {dnsServiceIPs: [10.96.0.53]}}}",
                     "{spec: {networkProfile: {dnsServiceIPs: [10.97.0.53]}}}"));
}

TEST(ValidateControlPlane, KeepsTheClustersDnsWhereNodesAsk) {
    const std::string running =
        "{spec: {networkProfile: {serviceCidrs: [10.96.0.0/16]}}, "
        "status: {kubernetesResources: {version: {version: v1.36.3}}}}";
    expect({"another address", "", "spec.networkProfile.dnsServiceIPs", "DNS is at 10.96.0.10"},
           on_update(running, "{spec: {networkProfile: {dnsServiceIPs: [10.96.0.53]}}}"));
    expect({"another network", "", "spec.networkProfile.serviceCidrs", "DNS is at 10.96.0.10"},
           on_update(running, "{spec: {networkProfile: {serviceCidrs: [10.97.0.0/16]}}}"));
    expect({"the same, named", "", "", ""},
           on_update(running, "{spec: {networkProfile: {dnsServiceIPs: [10.96.0.10]}}}"));
    expect(
        {"a second one for kubelets", "", "", ""},
        on_update(running, "{spec: {networkProfile: {dnsServiceIPs: [10.96.0.10, 10.96.0.11]}}}"));
    expect({"a second family", "", "", ""},
           on_update(running,
                     "{spec: {networkProfile: {serviceCidrs: [10.96.0.0/16, 'fd00::/112']}}}"));
    expect({"without our DNS", "", "", ""},
           on_update(running,
                     "{spec: {addons: {coreDNS: null}, networkProfile: {dnsServiceIPs: "
                     "[10.96.0.53]}}}"));
    expect({"before it runs", "", "", ""},
           on_update("{}", "{spec: {networkProfile: {dnsServiceIPs: [10.96.0.53]}}}"));
}

TEST(ValidateControlPlane, KeepsOverridesWhereObjectsAre) {
    const std::string set_up =
        "{spec: {dataStoreOverrides: [{resource: /events, dataStore: same-ca}, {resource: "
        "/secrets, dataStore: same-ca}]}, status: {storage: {setup: {schema: a, user: a}, "
        "overrides: [{resource: /events, dataStoreName: same-ca}, {resource: /secrets, "
        "dataStoreName: same-ca}]}}}";
    auto update = [&](const std::string& list) {
        return on_update(set_up, "{spec: {dataStoreOverrides: " + list + "}}");
    };
    EXPECT_TRUE(update("[{resource: /secrets, dataStore: same-ca}]").empty()) << "events may go";
    EXPECT_TRUE(update("[{resource: /events, dataStore: default}, {resource: /secrets, dataStore: "
                       "same-ca}]")
                    .empty());
    expect({"moved", "", "spec.dataStoreOverrides[0]", "cannot be moved"},
           update("[{resource: /secrets, dataStore: default}]"));
    expect({"added", "", "spec.dataStoreOverrides[1]", "/pods are in another DataStore already"},
           update("[{resource: /secrets, dataStore: same-ca}, {resource: /pods, dataStore: "
                  "same-ca}]"));
    expect({"removed", "", "spec.dataStoreOverrides", "put the override back"},
           update("[{resource: /events, dataStore: same-ca}]"));
}

TEST(ValidateControlPlane, RefusesKeysAndUsersOfAnother) {
    ValidationContext known = context();
    Value victim = patched(
        "{metadata: {name: victim, uid: victim-uid}, status: {storage: {dataStoreName: default, "
        "setup: {schema: team_victim, user: team_victim}}}}");
    known.claims = storage_claims(victim, known.defaults);
    auto create = [&](const std::string& patch) {
        return validate_control_plane(patched(patch), nullptr, known);
    };
    expect({"schema", "", "spec.dataStoreSchema",
            "in use in DataStore default by another control plane"},
           create("{spec: {dataStoreSchema: team_victim}}"));
    expect({"user", "", "spec.dataStoreUsername", "in use"},
           create("{spec: {dataStoreUsername: team_victim}}"));
    EXPECT_TRUE(create("{spec: {dataStoreSchema: team_victim, dataStore: same-ca}}").empty());
    expect({"in an override", "", "spec.dataStoreSchema", "DataStore default"},
           create("{spec: {dataStoreSchema: team_victim, dataStore: same-ca, dataStoreOverrides: "
                  "[{resource: /events, dataStore: default}]}}"));
    // Without names of its own, a control plane's uid is its schema.
    known.claims =
        storage_claims(patched("{metadata: {name: plain, uid: plain-uid}}"), known.defaults);
    expect({"uid of another", "", "spec.dataStoreSchema", "in use"},
           create("{spec: {dataStoreSchema: plain-uid}}"));
    known.claims = storage_claims(example_object(), known.defaults);
    EXPECT_TRUE(create("{}").empty());
}

TEST(ValidateControlPlane, TellsEverythingAtOnce) {
    std::vector<FieldError> errors = on_create(
        "{spec: {dataStore: nowhere, kubernetes: {admissionControllers: [SecurityContextDeny]}, "
        "controlPlane: {service: {serviceType: NodePort}}}}");
    EXPECT_EQ(errors.size(), 3u) << to_text(errors);
    EXPECT_NE(to_text(errors).find("spec.dataStore: there is no"), std::string::npos);
    EXPECT_NE(to_text(errors).find("; spec."), std::string::npos);
}

// Every plugin that is on by default exists in every version that can be run.
TEST(AdmissionPlugins, DefaultsExistEverywhere) {
    for (int minor = kOldestMinor; minor <= kNewestMinor; ++minor) {
        Value object =
            patched("{spec: {kubernetes: {version: v1." + std::to_string(minor) + ".0}}}");
        for (const std::string& plugin : settings_of(object).kubernetes.admission_plugins) {
            EXPECT_TRUE(has_admission_plugin(plugin, minor)) << plugin << " in 1." << minor;
        }
    }
}

std::string base64(std::string_view text) { return data::base64_encode(text); }

class ValidateDataStore : public ::testing::Test {
 protected:
    pki::SimKeySource keys{1};
    WallTime now{std::chrono::seconds(1'800'000'000)};
    pki::CertificateAuthority ca = pki::CertificateAuthority::create(keys, "etcd", now);
    pki::KeyPair client = make_client();

    pki::KeyPair make_client() {
        pki::CertificateSpec spec;
        spec.common_name = "root";
        spec.client = true;
        return ca.issue(spec, keys, now).value();
    }
    Value datastore() {
        Value object = yaml(
            "{apiVersion: kamaji.clastix.io/v1alpha1, kind: DataStore, metadata: {name: a}, spec: "
            "{driver: etcd, endpoints: ['etcd-0:2379', '[fd00::1]:2379']}}");
        Value& tls = object.at("spec").at("tlsConfig");
        tls.at("certificateAuthority")
            .at("certificate")
            .set("content", base64(ca.certificate().to_pem()));
        tls.at("certificateAuthority")
            .at("privateKey")
            .set("content", base64(ca.key().to_pem().reveal()));
        tls.at("clientCertificate")
            .at("certificate")
            .set("content", base64(client.certificate_pem()));
        tls.at("clientCertificate")
            .at("privateKey")
            .set("content", base64(client.key_pem().reveal()));
        return object;
    }
};

TEST_F(ValidateDataStore, AcceptsWhatFitsTogether) {
    EXPECT_TRUE(validate_data_store(datastore(), nullptr).empty());
}

TEST_F(ValidateDataStore, NamesWhatIsWrong) {
    Value object = datastore();
    object.at("spec").set("endpoints",
                          Value::array({"etcd-0:2379", "etcd-0:99999", "ETCD-0:2379"}));
    Value& tls = object.at("spec").at("tlsConfig");
    tls.at("certificateAuthority").at("certificate").set("content", base64("no PEM"));
    tls.at("clientCertificate").at("privateKey").set("content", base64(ca.key().to_pem().reveal()));
    std::vector<FieldError> errors = validate_data_store(object, nullptr);
    ASSERT_EQ(errors.size(), 4u) << to_text(errors);
    EXPECT_EQ(errors[0].field, "spec.endpoints[1]");
    EXPECT_EQ(errors[1].field, "spec.endpoints[2]");
    EXPECT_EQ(errors[2].field, "spec.tlsConfig.certificateAuthority.certificate.content");
    EXPECT_EQ(errors[3].field, "spec.tlsConfig.clientCertificate.privateKey.content");
    EXPECT_TRUE(validate_data_store(object, &object).empty());
}

TEST_F(ValidateDataStore, LeavesSecretsToTheController) {
    Value object = datastore();
    Value reference = yaml("{secretReference: {name: a, namespace: b, keyPath: c}}");
    object.at("spec").at("tlsConfig").at("clientCertificate").set("privateKey", reference);
    EXPECT_TRUE(validate_data_store(object, nullptr).empty());
}

TEST(ValidateGenerator, RefusesNamesOfOurSecretsAndBrokenSelectors) {
    auto check = [](const std::string& text) {
        return validate_kubeconfig_generator(yaml(text), nullptr);
    };
    EXPECT_TRUE(check("{metadata: {name: viewers}, spec: {user: {stringValue: a}}}").empty());
    expect({"name", "", "metadata.name", "choose another name"},
           check("{metadata: {name: ca}, spec: {user: {stringValue: a}}}"));
    expect({"selector", "", "spec.namespaceSelector", "correct or remove it"},
           check("{metadata: {name: a}, spec: {namespaceSelector: {matchExpressions: [{key: a, "
                 "operator: Near}]}}}"));
}

}  // namespace
}  // namespace basalt::controlplane
