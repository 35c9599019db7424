// A control plane that Kamaji made is taken over: what has to stay stays, the rest becomes ours in
// one rollout.
#include <cstdlib>
#include <fstream>

#include <fmt/format.h>

#include "controlplane/names.h"
#include "data/base64.h"
#include "data/json.h"
#include "data/patch.h"
#include "data/yaml.h"
#include "pki/certificate.h"
#include "tests/integration/control_plane_world.h"

namespace basalt::integration {
namespace {

using namespace std::chrono_literals;
using namespace controlplane;
namespace resources = kube::resources;

Value yaml(const std::string& text) { return data::parse_yaml(text).value(); }

/// What kind of control plane Kamaji left behind.
struct Past {
    bool elliptic = false;  ///< Keys on P-256 instead of RSA ones of 2048 bits.
    bool tunnel = false;    ///< addons.konnectivity
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

class AdoptionTest : public ControlPlaneTest {
 protected:
    // Of its own: the server keeps its ca.crt in its directory, too.
    std::string directory() const { return server->directory() + "/adoption"; }
    std::string file(const std::string& name) const { return directory() + "/" + name; }
    std::string read(const std::string& name) const {
        std::ifstream in(file(name), std::ios::binary);
        return std::string(std::istreambuf_iterator<char>(in), {});
    }
    /// openssl, as an independent maker of what kubeadm would have made.
    void openssl(const std::string& arguments) {
        const std::string line = "mkdir -p " + directory() + " && cd " + directory() +
                                 " && openssl " + arguments + " >>openssl.log 2>&1";
        ASSERT_EQ(std::system(line.c_str()), 0) << arguments << "\n" << read("openssl.log");
    }
    /// As kubeadm writes them: PKCS#1 or SEC 1.
    void make_key(const std::string& name) {
        openssl(past_.elliptic ? "ecparam -name prime256v1 -genkey -noout -out " + name + ".key"
                               : "genrsa -traditional -out " + name + ".key 2048");
    }
    void make_authority(const std::string& name, const std::string& common_name) {
        make_key(name);
        openssl("req -x509 -new -key " + name + ".key -days 3650 -subj /CN=" + common_name +
                " -out " + name + ".crt");
    }
    void make_leaf(const std::string& name, const std::string& subject, const std::string& ca,
                   const std::string& extensions = "extendedKeyUsage=clientAuth") {
        make_key(name);
        std::ofstream(file(name + ".cnf")) << extensions;
        openssl("req -new -key " + name + ".key -subj " + subject + " -out " + name + ".csr");
        openssl("x509 -req -in " + name + ".csr -CA " + ca + ".crt -CAkey " + ca +
                ".key -CAcreateserial -days 365 -extfile " + name + ".cnf -out " + name + ".crt");
    }
    /// As client-go writes it, with the pair <stem>.
    std::string kubeconfig(const std::string& user, const std::string& to,
                           const std::string& stem) const {
        return fmt::format(
            "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {0}\n"
            "    server: {1}\n  name: a\ncontexts:\n- context:\n    cluster: a\n    user: {2}\n"
            "  name: {2}@a\ncurrent-context: {2}@a\nkind: Config\npreferences: {{}}\nusers:\n"
            "- name: {2}\n  user:\n    client-certificate-data: {3}\n    client-key-data: {4}\n",
            data::base64_encode(read("ca.crt")), to, user, data::base64_encode(read(stem + ".crt")),
            data::base64_encode(read(stem + ".key")));
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
    void put_secret(const std::string& name, const SecretData& content,
                    const std::string& more = "{}") {
        Value object = data::apply_merge_patch(
            kube::make_object(resources::secrets(), ObjectKey(ns_, name)), yaml(more));
        for (const auto& [key, bytes] : content)
            object.at("data").set(key, data::base64_encode(bytes));
        put(std::move(object), resources::secrets(), "kamaji");
    }
    void put_authorities() {
        make_authority("ca", "kubernetes");
        make_authority("front-proxy-ca", "front-proxy-ca");
        make_key("sa");
        openssl(past_.elliptic ? "ec -in sa.key -pubout -out sa.pub"
                               : "rsa -in sa.key -pubout -out sa.pub");
        put_secret("a-ca", {{"ca.crt", read("ca.crt")},
                            {"ca.key", read("ca.key")},
                            {"tls.crt", read("ca.crt")},
                            {"tls.key", read("ca.key")}});
        put_secret("a-front-proxy-ca-certificate",
                   {{"front-proxy-ca.crt", read("front-proxy-ca.crt")},
                    {"front-proxy-ca.key", read("front-proxy-ca.key")}});
        put_secret("a-sa-certificate", {{"sa.key", read("sa.key")}, {"sa.pub", read("sa.pub")}});
    }
    void put_leaves() {
        make_leaf("apiserver", "/CN=kube-apiserver", "ca",
                  "extendedKeyUsage=serverAuth\nsubjectAltName=IP:127.0.0.1,DNS:localhost,DNS:a");
        put_secret("a-api-server-certificate", {{"apiserver.crt", read("apiserver.crt")},
                                                {"apiserver.key", read("apiserver.key")}});
        make_leaf("kubelet", "/O=kubeadm:cluster-admins/CN=kube-apiserver-kubelet-client", "ca");
        put_secret("a-api-server-kubelet-client-certificate",
                   {{"apiserver-kubelet-client.crt", read("kubelet.crt")},
                    {"apiserver-kubelet-client.key", read("kubelet.key")}});
        make_leaf("front-proxy-client", "/CN=front-proxy-client", "front-proxy-ca");
        put_secret("a-front-proxy-client-certificate",
                   {{"front-proxy-client.crt", read("front-proxy-client.crt")},
                    {"front-proxy-client.key", read("front-proxy-client.key")}});
        if (!past_.tunnel) return;
        make_leaf("tunnel", "/O=system:masters/CN=system:konnectivity-server", "ca");
        put_secret("a-konnectivity-certificate",
                   {{"tls.crt", read("tunnel.crt")}, {"tls.key", read("tunnel.key")}},
                   "{type: kubernetes.io/tls}");
    }
    void put_kubeconfigs() {
        const int64_t port = control_plane("a")["spec"]["networkProfile"]["port"].as_int();
        const std::string here = fmt::format("https://127.0.0.1:{}", port);
        const std::string outside = fmt::format("https://{}:{}", cluster_ip(), port);
        const std::string inside = fmt::format("https://a.{}.svc:{}", ns_, port);
        make_leaf("admin", "/O=kubeadm:cluster-admins/CN=kubernetes-admin", "ca");
        make_leaf("super-admin", "/O=system:masters/CN=kubernetes-super-admin", "ca");
        put_secret(
            "a-admin-kubeconfig",
            {{"admin.conf", kubeconfig("kubernetes-admin", outside, "admin")},
             {"admin.svc", kubeconfig("kubernetes-admin", inside, "admin")},
             {"super-admin.conf", kubeconfig("kubernetes-super-admin", outside, "super-admin")},
             {"super-admin.svc", kubeconfig("kubernetes-super-admin", inside, "super-admin")}});
        for (const std::string name : {"controller-manager", "scheduler"}) {
            make_leaf(name, "/CN=system:kube-" + name, "ca");
            put_secret("a-" + name + "-kubeconfig",
                       {{name + ".conf", kubeconfig("system:kube-" + name, here, name)}});
        }
        if (!past_.tunnel) return;
        put_secret("a-konnectivity-kubeconfig",
                   {{"konnectivity-server.conf",
                     kubeconfig("system:konnectivity-server", here, "tunnel")}});
    }
    void put_storage(const std::string& store) {
        std::ofstream(file("etcd-ca.crt")) << etcd_of(store).read("ca.pem");
        std::ofstream(file("etcd-ca.key")) << etcd_of(store).read("ca.key");
        make_leaf("store", "/O=system:masters/CN=" + schema(), "etcd-ca");
        put_secret("a-datastore-certificate", {{"ca.crt", etcd_of(store).read("ca.pem")},
                                               {"server.crt", read("store.crt")},
                                               {"server.key", read("store.key")}});
        put_secret(
            "a-datastore-config",
            {{"DB_CONNECTION_STRING", "https://" + etcd_of(store).endpoint()},
             {"DB_SCHEMA", schema()},
             {"DB_USER", schema()},
             {"DB_PASSWORD", "unused"}},
            fmt::format("{{metadata: {{finalizers: [{}]}}}}", names::kDataStoreSecretFinalizer));
    }
    /// Kamaji's former naming: namespace and name.
    std::string schema() const { return ns_ + "_a"; }
    std::string cluster_ip() {
        return run(client->get(resources::services(), ObjectKey(ns_, "a")))
            .value()["spec"]["clusterIP"]
            .str();
    }

    void put_workload() {
        put(yaml("{apiVersion: v1, kind: ConfigMap, metadata: {name: a-kubeadmconfig}, data: "
                 "{ClusterConfiguration: old, ForeignConfiguration: gone}}"),
            resources::config_maps(), "kamaji");
        put(yaml("{apiVersion: v1, kind: Service, metadata: {name: a, annotations: "
                 "{example.com/mine: kept}}, spec: {type: ClusterIP, selector: "
                 "{kamaji.clastix.io/name: a}, ports: [{name: kube-apiserver, port: 6443, "
                 "targetPort: 6443}, {name: konnectivity-server, port: 8132}]}}"),
            resources::services(), "manager");
        Value deployment = yaml(R"(
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
)");
        if (past_.tunnel) {
            deployment.at("spec").at("template").at("spec").at("containers").push_back(yaml(R"(
name: konnectivity-server
image: registry.k8s.io/kas-network-proxy/proxy-server:v0.35.0
imagePullPolicy: Always
command: [/proxy-server]
args: [--mode=grpc, --server-port=0, --agent-port=8132]
env: [{name: FOREIGN, value: gone}]
)"));
            put(yaml("{apiVersion: v1, kind: ConfigMap, metadata: {name: "
                     "a-konnectivity-egress-selector-configuration}, data: "
                     "{egress-selector-configuration.yaml: old}}"),
                resources::config_maps(), "kamaji");
        }
        put(std::move(deployment), resources::deployments(), "manager");
    }

    /// Everything that Kamaji left, and what the API server stored.
    void leave(Past past) {
        past_ = past;
        store_ = add_datastore("main");
        etcd::Tenant tenant_there{schema(), schema(), *etcd::tenant_range(schema())};
        ASSERT_TRUE(run(etcd::ensure_tenant(root_of(store_), tenant_there)).ok());
        ASSERT_TRUE(
            run(root_of(store_).put(
                    "/" + schema() + "/configmaps/default/before",
                    R"({"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"before",)"
                    R"("namespace":"default","uid":"5b1f7a30-0000-4000-8000-000000000001",)"
                    R"("creationTimestamp":"2025-01-01T00:00:00Z"},"data":{"kept":"yes"}})"))
                .ok());
        ASSERT_TRUE(
            run(root_of(store_).put(
                    "/" + schema() + "/validatingwebhookconfigurations/kamaji-write-permissions",
                    kWriteLimits))
                .ok());
        create("a", store_,
               fmt::format("{{metadata: {{finalizers: [finalizer.kamaji.clastix.io, "
                           "finalizer.kamaji.clastix.io/soot]}}, spec: {{addons: {}}}}}",
                           past.tunnel ? "{konnectivity: {}}" : "{}"));
        kube::WriteOptions status;
        status.subresource = "status";
        status.field_manager = "manager";
        Value recorded = yaml(
            fmt::format("{{status: {{storage: {{driver: etcd, dataStoreName: {}, setup: {{schema: "
                        "{}, user: {}}}}}, "
                        "kubernetesResources: {{version: {{version: v{}, status: Ready}}}}}}}}",
                        store_, schema(), schema(), server->version()));
        ASSERT_TRUE(
            run(client->merge_patch(tenant_control_planes(), ObjectKey(ns_, "a"), recorded, status))
                .ok());
        ASSERT_NO_FATAL_FAILURE(put_workload());
        ASSERT_NO_FATAL_FAILURE(put_authorities());
        ASSERT_NO_FATAL_FAILURE(put_leaves());
        ASSERT_NO_FATAL_FAILURE(put_kubeconfigs());
        ASSERT_NO_FATAL_FAILURE(put_storage(store_));
        for (const std::string& name : secret_names()) before_[name] = content(secret(name));
    }

    /// All that names.h has, the reference's thirteen.
    std::vector<std::string> secret_names() const {
        std::vector<std::string> all = whole_;
        all.insert(all.end(), {"a-controller-manager-kubeconfig", "a-scheduler-kubeconfig",
                               "a-api-server-certificate"});
        if (past_.tunnel)
            all.insert(all.end(), {"a-konnectivity-certificate", "a-konnectivity-kubeconfig"});
        return all;
    }
    /// What is good is as it was, to the byte; the rest is of the same authority.
    void expect_key_material_stayed() {
        for (const std::string& name : whole_)
            EXPECT_EQ(content(secret(name)), before_[name]) << name;
        for (const std::string name : {"controller-manager", "scheduler"}) {
            const std::string holder = "a-" + name + "-kubeconfig";
            EXPECT_EQ(content(secret(holder))[name + ".conf"], before_[holder][name + ".conf"])
                << name;
        }
        const pki::Certificate ca = pki::Certificate::parse(read("ca.crt")).value();
        const auto expect_from = [&](const std::string& holder, const std::string& key) {
            auto bytes = data::base64_decode(secret(holder)["data"][key].as_string());
            auto leaf = pki::Certificate::parse(bytes.ok() ? *bytes : "");
            ASSERT_TRUE(leaf.ok()) << holder;
            EXPECT_TRUE(leaf->is_signed_by(ca)) << holder;
            EXPECT_EQ(leaf->organizations(), std::vector<std::string>{}) << holder;
        };
        // Kamaji's lacks names of ours.
        expect_from("a-api-server-certificate", "apiserver.crt");
        // Kamaji's is that of an administrator.
        if (past_.tunnel) expect_from("a-konnectivity-certificate", "tls.crt");
    }
    /// Ours alone: what the former owner wrote and we do not want goes, now and later.
    void expect_ours(const Value& object) {
        EXPECT_FALSE(has_manager(object, "kamaji")) << kube::name_of(object);
        EXPECT_FALSE(has_manager(object, "manager")) << kube::name_of(object);
        EXPECT_TRUE(has_manager(object, names::kFieldManager)) << kube::name_of(object);
    }
    Value deployment() {
        return run(client->get(resources::deployments(), ObjectKey(ns_, "a"))).value();
    }
    void expect_one_rollout() {
        const Value live = deployment();
        EXPECT_EQ(kube::generation_of(live), 2) << "one rollout";
        const std::string text = data::to_json(live["spec"]);
        // The whole pair: "Always" alone is the default restartPolicy, too.
        for (const char* foreign :
             {"\"FOREIGN", "\"etc-kubernetes-pki", "\"imagePullPolicy\":\"Always\""})
            EXPECT_EQ(text.find(foreign), std::string::npos) << foreign;
        EXPECT_NE(text.find("\"imagePullPolicy\":\""), std::string::npos)
            << "the text has such pairs";
    }
    void expect_data_is_there() {
        EXPECT_EQ(control_plane("a")["status"]["storage"]["setup"]["schema"].as_string(), schema());
        Result<Value> there =
            run(tenant("a").get(resources::config_maps(), ObjectKey("default", "before")));
        ASSERT_TRUE(there.ok()) << there.error().to_string();
        EXPECT_EQ((*there)["data"]["kept"].as_string(), "yes");
        const char* after =
            "{apiVersion: v1, kind: ConfigMap, metadata: {name: after, namespace: default}}";
        there = run(tenant("a").create(resources::config_maps(), yaml(after)));
        EXPECT_TRUE(there.ok()) << "nobody refuses writes any more: " << there.error().to_string();
        EXPECT_EQ(run(root_of(store_).user_list())->size(), 2u) << "root and the former user";
    }
    /// Another process of ours finds everything as it should be.
    void expect_nothing_more_to_do() {
        stop_controllers();
        std::map<std::string, std::string> versions;
        for (const std::string& name : secret_names())
            versions[name] = secret(name)["metadata"]["resourceVersion"].str();
        start_controllers();
        ASSERT_TRUE(wait_ready("a"));
        patch("a", "{metadata: {annotations: {touched: 'yes'}}}");
        ASSERT_TRUE(wait_ready("a"));
        for (const std::string& name : secret_names())
            EXPECT_EQ(secret(name)["metadata"]["resourceVersion"].str(), versions[name]) << name;
        EXPECT_EQ(kube::generation_of(deployment()), 2);
    }
    void expect_deletion() {
        ASSERT_TRUE(run(client->remove(tenant_control_planes(), ObjectKey(ns_, "a"))).ok());
        ASSERT_TRUE(wait_with_pods([&] { return control_plane("a").is_null(); }, 1min));
        EXPECT_EQ(count_keys(store_, schema()), 0);
        EXPECT_EQ(run(root_of(store_).user_list())->size(), 1u);
        // Else the namespace could never be deleted.
        EXPECT_TRUE(secret("a-datastore-config")["metadata"]["finalizers"].empty());
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

    Past past_;
    std::string store_;
    std::map<std::string, SecretData> before_;
    /// Good as they are.
    const std::vector<std::string> whole_ = {"a-ca",
                                             "a-front-proxy-ca-certificate",
                                             "a-sa-certificate",
                                             "a-datastore-certificate",
                                             "a-datastore-config",
                                             "a-api-server-kubelet-client-certificate",
                                             "a-front-proxy-client-certificate",
                                             "a-admin-kubeconfig"};
};

TEST_P(AdoptionTest, KeysDataAndSelectorsStayAndOneRolloutFollows) {
    ASSERT_NO_FATAL_FAILURE(leave({}));
    const std::string address = cluster_ip();
    start_controllers();
    ASSERT_TRUE(wait_ready("a"));
    ASSERT_NO_FATAL_FAILURE(expect_key_material_stayed());
    expect_one_rollout();
    const Value live = deployment();
    const Value& labels = live["spec"]["selector"]["matchLabels"];
    EXPECT_EQ(labels["tier"].as_string(), "legacy");
    EXPECT_EQ(live["spec"]["template"]["metadata"]["labels"]["tier"].as_string(), "legacy");
    const Value service = run(client->get(resources::services(), ObjectKey(ns_, "a"))).value();
    EXPECT_EQ(service["spec"]["clusterIP"].as_string(), address);
    EXPECT_EQ(service["spec"]["ports"].size(), 1u) << "no tunnel in this spec";
    const Value config =
        run(client->get(resources::config_maps(), ObjectKey(ns_, "a-kubeadmconfig"))).value();
    EXPECT_FALSE(config["data"].contains("ForeignConfiguration"));
    std::vector<Value> all = {live, service, config};
    for (const std::string& name : secret_names()) all.push_back(secret(name));
    for (const Value& object : all) expect_ours(object);
    ASSERT_NO_FATAL_FAILURE(expect_data_is_there());
    ASSERT_NO_FATAL_FAILURE(expect_nothing_more_to_do());
    ASSERT_NO_FATAL_FAILURE(expect_deletion());
}

TEST_P(AdoptionTest, EllipticKeysAndATunnelStayToo) {
    ASSERT_NO_FATAL_FAILURE(leave({.elliptic = true, .tunnel = true}));
    start_controllers();
    ASSERT_TRUE(wait_ready("a"));
    ASSERT_NO_FATAL_FAILURE(expect_key_material_stayed());
    expect_one_rollout();
    size_t tunnels_count = 0;
    const Value live = deployment();
    for (const Value& item : live["spec"]["template"]["spec"]["containers"].items()) {
        if (item["name"].as_string() != "konnectivity-server") continue;
        ++tunnels_count;
        EXPECT_EQ(item["image"].as_string(), "basalt:test");
    }
    EXPECT_EQ(tunnels_count, 1u);
    const Value service = run(client->get(resources::services(), ObjectKey(ns_, "a"))).value();
    EXPECT_EQ(service["spec"]["ports"].size(), 2u);
    std::vector<Value> all = {
        run(client->get(resources::config_maps(),
                        ObjectKey(ns_, "a-konnectivity-egress-selector-configuration")))
            .value()};
    EXPECT_EQ(all[0]["data"]["egress-selector-configuration.yaml"].as_string().find("old"),
              std::string::npos);
    for (const std::string& name : secret_names()) all.push_back(secret(name));
    for (const Value& object : all) expect_ours(object);
    ASSERT_NO_FATAL_FAILURE(expect_data_is_there());
    ASSERT_NO_FATAL_FAILURE(expect_nothing_more_to_do());
}

INSTANTIATE_TEST_SUITE_P(Kube, AdoptionTest, testing::Values("1.36.3"), version_name);

}  // namespace
}  // namespace basalt::integration
