// A control plane that Kamaji made is taken over: what has to stay stays, the rest becomes ours in
// one rollout.
#include <cstdlib>
#include <fstream>

#include <fmt/format.h>

#include "controlplane/names.h"
#include "data/base64.h"
#include "data/json.h"
#include "data/yaml.h"
#include "tests/integration/control_plane_world.h"

namespace basalt::integration {
namespace {

using namespace std::chrono_literals;
using namespace controlplane;
namespace resources = kube::resources;

Value yaml(const std::string& text) { return data::parse_yaml(text).value(); }

class AdoptionTest : public ControlPlaneTest {
 protected:
    // Of its own: the server keeps its ca.crt in its directory, too.
    std::string directory() const { return server->directory() + "/adoption"; }
    std::string file(const std::string& name) const { return directory() + "/" + name; }
    std::string read(const std::string& name) const {
        std::ifstream in(file(name), std::ios::binary);
        return std::string(std::istreambuf_iterator<char>(in), {});
    }
    /// openssl, as an independent maker of what kubeadm would have made: RSA keys of 2048 bits.
    void openssl(const std::string& arguments) {
        const std::string line = "mkdir -p " + directory() + " && cd " + directory() +
                                 " && openssl " + arguments + " >>openssl.log 2>&1";
        ASSERT_EQ(std::system(line.c_str()), 0) << arguments << "\n" << read("openssl.log");
    }
    void make_authority(const std::string& name, const std::string& common_name) {
        openssl("req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=" + common_name +
                " -keyout " + name + ".key -out " + name + ".crt");
    }
    void make_leaf(const std::string& name, const std::string& subject, const std::string& ca_crt,
                   const std::string& ca_key, const std::string& extensions) {
        std::ofstream(file(name + ".cnf")) << extensions;
        openssl("req -new -newkey rsa:2048 -nodes -subj " + subject + " -keyout " + name +
                ".key -out " + name + ".csr");
        openssl("x509 -req -in " + name + ".csr -CA " + ca_crt + " -CAkey " + ca_key +
                " -CAcreateserial -days 3650 -extfile " + name + ".cnf -out " + name + ".crt");
    }

    /// Written by `manager`, as an update: no server-side apply.
    void put(Value object, const kube::Resource& resource, const std::string& manager) {
        Value& meta = object.at("metadata");
        meta.set("namespace", ns_);
        meta.at("labels").set(names::kProjectLabel, names::kProject);
        meta.at("labels").set(names::kNameLabel, "a");
        meta.set("ownerReferences",
                 Value::array({Value::object({{"apiVersion", "kamaji.clastix.io/v1alpha1"},
                                              {"kind", "TenantControlPlane"},
                                              {"name", "a"},
                                              {"uid", control_plane("a")["metadata"]["uid"]},
                                              {"controller", true},
                                              {"blockOwnerDeletion", true}})}));
        kube::WriteOptions options;
        options.field_manager = manager;
        Result<Value> created = run(client->create(resource, std::move(object), options));
        ASSERT_TRUE(created.ok()) << created.error().to_string();
    }
    void put_secret(const std::string& name, const SecretData& content) {
        Value object = kube::make_object(resources::secrets(), ObjectKey(ns_, name));
        for (const auto& [key, bytes] : content)
            object.at("data").set(key, data::base64_encode(bytes));
        put(std::move(object), resources::secrets(), "kamaji");
    }
    void put_secrets(const std::string& store) {
        make_authority("ca", "kubernetes");
        make_authority("front-proxy-ca", "front-proxy-ca");
        openssl("genrsa -traditional -out sa.key 2048");
        openssl("rsa -in sa.key -pubout -out sa.pub");
        std::ofstream(file("etcd-ca.crt")) << etcd_of(store).read("ca.pem");
        std::ofstream(file("etcd-ca.key")) << etcd_of(store).read("ca.key");
        make_leaf("store", "/O=system:masters/CN=" + schema(), "etcd-ca.crt", "etcd-ca.key",
                  "extendedKeyUsage=clientAuth");
        make_leaf("apiserver", "/CN=kube-apiserver", "ca.crt", "ca.key",
                  "extendedKeyUsage=serverAuth\nsubjectAltName=IP:127.0.0.1,DNS:localhost,DNS:a");
        put_secret("a-ca", {{"ca.crt", read("ca.crt")},
                            {"ca.key", read("ca.key")},
                            {"tls.crt", read("ca.crt")},
                            {"tls.key", read("ca.key")}});
        put_secret("a-front-proxy-ca-certificate",
                   {{"front-proxy-ca.crt", read("front-proxy-ca.crt")},
                    {"front-proxy-ca.key", read("front-proxy-ca.key")}});
        put_secret("a-sa-certificate", {{"sa.key", read("sa.key")}, {"sa.pub", read("sa.pub")}});
        put_secret("a-api-server-certificate", {{"apiserver.crt", read("apiserver.crt")},
                                                {"apiserver.key", read("apiserver.key")}});
        put_secret("a-datastore-certificate", {{"ca.crt", etcd_of(store).read("ca.pem")},
                                               {"server.crt", read("store.crt")},
                                               {"server.key", read("store.key")}});
        put_secret("a-datastore-config",
                   {{"DB_CONNECTION_STRING", "https://" + etcd_of(store).endpoint()},
                    {"DB_SCHEMA", schema()},
                    {"DB_USER", schema()},
                    {"DB_PASSWORD", "unused"}});
    }
    /// Kamaji's former naming: namespace and name.
    std::string schema() const { return ns_ + "_a"; }

    void put_workload() {
        put(yaml("{apiVersion: v1, kind: ConfigMap, metadata: {name: a-kubeadmconfig}, data: "
                 "{ClusterConfiguration: old, ForeignConfiguration: gone}}"),
            resources::config_maps(), "kamaji");
        put(yaml("{apiVersion: v1, kind: Service, metadata: {name: a, annotations: "
                 "{example.com/mine: kept}}, spec: {type: ClusterIP, selector: "
                 "{kamaji.clastix.io/name: a}, ports: [{name: kube-apiserver, port: 6443, "
                 "targetPort: 6443}, {name: konnectivity-server, port: 8132}]}}"),
            resources::services(), "manager");
        put(yaml(R"(
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  replicas: 1
  selector: {matchLabels: {kamaji.clastix.io/name: a, tier: legacy}}
  template:
    metadata:
      labels: {kamaji.clastix.io/name: a, tier: legacy, component.kamaji.clastix.io/ca: '0'}
      annotations: {storage.kamaji.clastix.io/config: '0'}
    spec:
      containers:
      - name: kube-apiserver
        image: registry.k8s.io/kube-apiserver:v1.35.4
        imagePullPolicy: Always
        command: [kube-apiserver]
        args: [--allow-privileged=true]
        env: [{name: FOREIGN, value: gone}]
        volumeMounts: [{name: etc-kubernetes-pki, mountPath: /etc/kubernetes/pki}]
      volumes: [{name: etc-kubernetes-pki, emptyDir: {}}]
)"),
            resources::deployments(), "manager");
    }
    static bool has_manager(const Value& object, std::string_view name) {
        for (const Value& entry : object["metadata"]["managedFields"].items()) {
            if (entry["manager"].as_string() == name && entry["subresource"].empty()) return true;
        }
        return false;
    }
    static SecretData content(const Value& secret) {
        SecretData data;
        for (const data::Member& member : secret["data"].members())
            data[std::string(member.key())] = member.value.str();
        return data;
    }
};

// As Kamaji leaves it in a tenant whose writes it limits, but for names.
constexpr const char* kWriteLimits = R"json({
"kind": "ValidatingWebhookConfiguration", "apiVersion": "admissionregistration.k8s.io/v1",
"metadata": {"name": "kamaji-write-permissions", "uid": "5b1f7a30-0000-4000-8000-000000000002",
 "creationTimestamp": "2025-01-01T00:00:00Z"},
"webhooks": [{
 "name": "catchall.write-permissions.kamaji.clastix.io",
 "clientConfig": {"url": "https://kamaji-webhook-service.kamaji-system.svc:443/write-permission"},
 "rules": [{"operations": ["CREATE", "UPDATE", "DELETE"], "apiGroups": ["*"],
  "apiVersions": ["*"], "resources": ["*"], "scope": "*"}],
 "failurePolicy": "Fail", "matchPolicy": "Equivalent", "objectSelector": {},
 "namespaceSelector": {"matchExpressions": [{"key": "kubernetes.io/metadata.name",
  "operator": "NotIn", "values": ["kube-system", "kube-node-lease"]}]},
 "sideEffects": "NoneOnDryRun", "timeoutSeconds": 10, "admissionReviewVersions": ["v1"]}]})json";

TEST_P(AdoptionTest, KeysDataAndSelectorsStayAndOneRolloutFollows) {
    const std::string store = add_datastore("main");
    etcd::Tenant tenant_there{schema(), schema(), *etcd::tenant_range(schema())};
    ASSERT_TRUE(run(etcd::ensure_tenant(root_of(store), tenant_there)).ok());
    ASSERT_TRUE(run(root_of(store).put(
                        "/" + schema() + "/configmaps/default/before",
                        R"({"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"before",)"
                        R"("namespace":"default","uid":"5b1f7a30-0000-4000-8000-000000000001",)"
                        R"("creationTimestamp":"2025-01-01T00:00:00Z"},"data":{"kept":"yes"}})"))
                    .ok());
    ASSERT_TRUE(
        run(root_of(store).put(
                "/" + schema() + "/validatingwebhookconfigurations/kamaji-write-permissions",
                kWriteLimits))
            .ok());
    create("a", store,
           "{metadata: {finalizers: [finalizer.kamaji.clastix.io, "
           "finalizer.kamaji.clastix.io/soot]}}");
    kube::WriteOptions status;
    status.subresource = "status";
    status.field_manager = "manager";
    Value recorded =
        yaml(fmt::format("{{status: {{storage: {{driver: etcd, dataStoreName: {}, setup: {{schema: "
                         "{}, user: {}}}}}, "
                         "kubernetesResources: {{version: {{version: v{}, status: Ready}}}}}}}}",
                         store, schema(), schema(), server->version()));
    ASSERT_TRUE(
        run(client->merge_patch(tenant_control_planes(), ObjectKey(ns_, "a"), recorded, status))
            .ok());
    ASSERT_NO_FATAL_FAILURE(put_secrets(store));
    ASSERT_NO_FATAL_FAILURE(put_workload());
    const std::vector<std::string> kept = {"a-ca", "a-front-proxy-ca-certificate",
                                           "a-sa-certificate", "a-datastore-certificate"};
    std::map<std::string, SecretData> before;
    for (const std::string& name : kept) before[name] = content(secret(name));
    const Value old_service = run(client->get(resources::services(), ObjectKey(ns_, "a"))).value();

    start_controllers();
    ASSERT_TRUE(wait_ready("a"));
    for (const std::string& name : kept) EXPECT_EQ(content(secret(name)), before[name]) << name;
    const Value deployment =
        run(client->get(resources::deployments(), ObjectKey(ns_, "a"))).value();
    EXPECT_EQ(kube::generation_of(deployment), 2) << "one rollout";
    const Value& labels = deployment["spec"]["selector"]["matchLabels"];
    EXPECT_EQ(labels["tier"].as_string(), "legacy");
    EXPECT_EQ(deployment["spec"]["template"]["metadata"]["labels"]["tier"].as_string(), "legacy");
    const std::string text = data::to_json(deployment["spec"]);
    // The whole pair: "Always" alone is the default restartPolicy, too.
    for (const char* foreign :
         {"\"FOREIGN", "\"etc-kubernetes-pki", "\"imagePullPolicy\":\"Always\""})
        EXPECT_EQ(text.find(foreign), std::string::npos) << foreign;
    EXPECT_NE(text.find("\"imagePullPolicy\":\""), std::string::npos) << "the text has such pairs";
    const Value service = run(client->get(resources::services(), ObjectKey(ns_, "a"))).value();
    EXPECT_EQ(service["spec"]["clusterIP"], old_service["spec"]["clusterIP"]);
    EXPECT_EQ(service["spec"]["ports"].size(), 1u) << "no tunnel in this spec";
    const Value config =
        run(client->get(resources::config_maps(), ObjectKey(ns_, "a-kubeadmconfig"))).value();
    EXPECT_FALSE(config["data"].contains("ForeignConfiguration"));
    std::vector<Value> all = {deployment, service, config};
    for (const std::string& name : kept) all.push_back(secret(name));
    for (const Value& object : all) {
        EXPECT_FALSE(has_manager(object, "kamaji")) << kube::name_of(object);
        EXPECT_FALSE(has_manager(object, "manager")) << kube::name_of(object);
        EXPECT_TRUE(has_manager(object, names::kFieldManager)) << kube::name_of(object);
    }

    EXPECT_EQ(control_plane("a")["status"]["storage"]["setup"]["schema"].as_string(), schema());
    Result<Value> there =
        run(tenant("a").get(resources::config_maps(), ObjectKey("default", "before")));
    ASSERT_TRUE(there.ok()) << there.error().to_string();
    EXPECT_EQ((*there)["data"]["kept"].as_string(), "yes");
    there = run(tenant("a").create(
        resources::config_maps(),
        yaml("{apiVersion: v1, kind: ConfigMap, metadata: {name: after, namespace: default}}")));
    EXPECT_TRUE(there.ok()) << "nobody refuses writes any more: " << there.error().to_string();
    EXPECT_EQ(run(root_of(store).user_list())->size(), 2u) << "root and the former user";

    // Another process of ours finds everything as it should be.
    stop_controllers();
    std::map<std::string, std::string> versions;
    for (const std::string& name : kept)
        versions[name] = secret(name)["metadata"]["resourceVersion"].str();
    start_controllers();
    ASSERT_TRUE(wait_ready("a"));
    patch("a", "{metadata: {annotations: {touched: 'yes'}}}");
    ASSERT_TRUE(wait_ready("a"));
    for (const std::string& name : kept)
        EXPECT_EQ(secret(name)["metadata"]["resourceVersion"].str(), versions[name]) << name;
    const Value later = run(client->get(resources::deployments(), ObjectKey(ns_, "a"))).value();
    EXPECT_EQ(kube::generation_of(later), 2);

    ASSERT_TRUE(run(client->remove(tenant_control_planes(), ObjectKey(ns_, "a"))).ok());
    ASSERT_TRUE(wait_with_pods([&] { return control_plane("a").is_null(); }, 1min));
    EXPECT_EQ(count_keys(store, schema()), 0);
    EXPECT_EQ(run(root_of(store).user_list())->size(), 1u);
}

INSTANTIATE_TEST_SUITE_P(Kube, AdoptionTest, testing::Values("1.36.3"), version_name);

}  // namespace
}  // namespace basalt::integration
