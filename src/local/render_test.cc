// What nodes and clusters are configured with, rendered from the manifests in deploy/local and
// compared with golden files. BASALT_UPDATE_GOLDEN=1 rewrites them.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "data/yaml.h"
#include "linux/file.h"
#include "linux/linux_test_support.h"
#include "local/addons.h"
#include "local/datastore.h"
#include "local/images.h"
#include "local/kubeadm.h"
#include "local/network.h"
#include "local/node_services.h"
#include "local/node_spec.h"
#include "local/registry.h"
#include "local/template.h"

namespace basalt::local {
namespace {

void expect_golden(const std::string& name, const std::string& text) {
    const std::string path = std::string(BASALT_SOURCE_DIR) + "/src/local/testdata/" + name;
    if (std::getenv("BASALT_UPDATE_GOLDEN") != nullptr) {
        ASSERT_TRUE(linux::write_file_atomically(path, text).ok());
    }
    Result<std::string> golden = linux::read_file(path);
    ASSERT_TRUE(golden.ok()) << golden.error().to_string();
    EXPECT_EQ(text, *golden) << name;
}

struct Fixture {
    linux::TemporaryDirectory directory;
    Paths paths{directory.path() + "/state", directory.path() + "/cache", BASALT_SOURCE_DIR,
                "/usr/bin/basalt"};
    ClusterState state{"test", {3}, 2, "v1.36.3"};
    NodeSpec spec = make_node_spec(paths, state, 2, "registry.k8s.io/pause:3.10");
};

TEST(Template, FillsVariables) {
    EXPECT_EQ(*render_template("a ${X}${Y} $(Z) $$ $", {{"X", "1"}, {"Y", "2"}}), "a 12 $(Z) $ $");
    Result<std::string> missing = render_template("one\ntwo ${NONE}\n", {});
    ASSERT_FALSE(missing.ok());
    EXPECT_NE(missing.error().message().find("line 2: no value for ${NONE}"), std::string::npos);
}

TEST(NodeFiles, AreWrittenIntoTheNodesLayerOnly) {
    Fixture fixture;
    ASSERT_TRUE(write_node_files(fixture.spec).ok());
    std::string all;
    for (const char* file :
         {"containerd/config.toml", "containerd/certs.d/registry.k8s.io/hosts.toml",
          "cni/net.d/10-basalt.conflist", "basalt/network.nft", "resolv.conf", "hostname"}) {
        Result<std::string> text = linux::read_file(fixture.spec.etc() + "/" + file);
        ASSERT_TRUE(text.ok()) << text.error().to_string();
        all += "=== " + std::string(file) + "\n" + *text;
    }
    expect_golden("node_files.txt", all);
}

TEST(NodeNetwork, Routes) {
    Fixture fixture;
    expect_golden("node_routes.txt", render_node_routes(fixture.spec));
}

TEST(Kubeadm, Configuration) {
    Fixture fixture;
    const std::vector<Image> images = {
        {"etcd", "registry.k8s.io/etcd:3.6.16-0", "/e.tar"},
        {"coredns", "registry.k8s.io/coredns/coredns:v1.14.2", "/c.tar"}};
    Result<Variables> variables =
        init_variables(Node(fixture.paths, fixture.spec), fixture.state, images);
    ASSERT_TRUE(variables.ok()) << variables.error().to_string();
    Result<std::string> text = render_template_file(
        std::string(BASALT_SOURCE_DIR) + "/deploy/local/kubeadm-init.yaml", *variables);
    ASSERT_TRUE(text.ok()) << text.error().to_string();
    expect_golden("kubeadm_init.yaml", *text);
}

TEST(Kubeadm, FlagsFile) {
    EXPECT_EQ(parse_kubeadm_flags("KUBELET_KUBEADM_ARGS=\"--node-ip=10.0.0.1  --v=2\"\n"),
              (std::vector<std::string>{"--node-ip=10.0.0.1", "--v=2"}));
    EXPECT_TRUE(parse_kubeadm_flags("").empty());
    EXPECT_TRUE(parse_kubeadm_flags("OTHER=\"--x\"").empty());
}

TEST(Kubeadm, JoinCommand) {
    Result<JoinCredentials> credentials = parse_join_command(
        "kubeadm join 10.0.0.1:6443 --token abcdef.0123456789abcdef --discovery-token-ca-cert-hash "
        "sha256:12ab \n");
    ASSERT_TRUE(credentials.ok());
    EXPECT_EQ(credentials->token, "abcdef.0123456789abcdef");
    EXPECT_EQ(credentials->ca_hash, "sha256:12ab");
    EXPECT_FALSE(parse_join_command("error").ok());
}

TEST(DataStore, Members) {
    EXPECT_EQ(datastore_members(1), 1);
    EXPECT_EQ(datastore_members(2), 1);
    EXPECT_EQ(datastore_members(3), 3);
    EXPECT_EQ(datastore_members(9), 3);
    EXPECT_EQ(render_initial_cluster(1),
              "etcd-0=https://etcd-0.etcd.basalt-system.svc.cluster.local:2380");
}

TEST(DataStore, Object) {
    Fixture fixture;
    Result<std::string> object = datastore_object(fixture.paths, 3);
    ASSERT_TRUE(object.ok()) << object.error().to_string();
    expect_golden("datastore.yaml", *object);
}

// Whatever runs in the management cluster has no capability that its manifest does not name.
TEST(Manifests, ConfineEveryContainer) {
    int containers_count = 0;
    const std::filesystem::path root = std::string(BASALT_SOURCE_DIR) + "/deploy";
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
        const std::string path = entry.path().string();
        const bool is_kind = path.find("/crds/") != std::string::npos;  // No objects.
        if (entry.path().extension() != ".yaml" || is_kind) continue;
        Result<std::string> text = linux::read_file(path);
        ASSERT_TRUE(text.ok()) << path;
        // Variables are no YAML everywhere.
        std::string plain = *text;
        for (size_t at = 0; (at = plain.find("${", at)) != std::string::npos;)
            plain.replace(at, plain.find('}', at) + 1 - at, "x");
        Result<std::vector<data::Value>> documents = data::parse_yaml_documents(plain);
        ASSERT_TRUE(documents.ok()) << path << ": " << documents.error().to_string();
        for (const data::Value& document : *documents) {
            const data::Value& pod = document["spec"]["template"]["spec"];
            for (const char* kind : {"containers", "initContainers"}) {
                for (const data::Value& container : pod[kind].items()) {
                    ++containers_count;
                    const std::string name = path + ": " + container["name"].str();
                    const data::Value& own = container["securityContext"];
                    const data::Value& seccomp = own["seccompProfile"].is_null()
                                                     ? pod["securityContext"]["seccompProfile"]
                                                     : own["seccompProfile"];
                    EXPECT_EQ(own["capabilities"]["drop"].as_string_list(),
                              std::vector<std::string>{"ALL"})
                        << name;
                    EXPECT_EQ(seccomp["type"].as_string(), "RuntimeDefault") << name;
                    EXPECT_FALSE(own["allowPrivilegeEscalation"].as_bool(true)) << name;
                    EXPECT_TRUE(own["readOnlyRootFilesystem"].as_bool()) << name;
                }
            }
        }
    }
    EXPECT_GE(containers_count, 5);
}

TEST(DataStore, CertificatesAreMadeOnce) {
    Fixture fixture;
    const Image etcd{"etcd", "registry.k8s.io/etcd:3.6.16-0", "/e.tar"};
    Result<std::string> first = datastore_manifests(fixture.paths, fixture.state, etcd, 1);
    ASSERT_TRUE(first.ok()) << first.error().to_string();
    EXPECT_EQ(*datastore_manifests(fixture.paths, fixture.state, etcd, 1), *first);
    EXPECT_NE(first->find("--initial-cluster=etcd-0=https"), std::string::npos);
    EXPECT_NE(first->find("name: etcd-root-client"), std::string::npos);
}

TEST(Addons, HaveOneNamespaceAndTheKindsBeforeTheirObjects) {
    Fixture fixture;
    const std::vector<Image> images = {
        {"etcd", "registry.k8s.io/etcd:3.6.16-0", "/e.tar"},
        {"metallb-controller", "quay.io/metallb/controller:v0.16.1", "/c.tar"},
        {"metallb-speaker", "quay.io/metallb/speaker:v0.16.1", "/s.tar"}};
    Result<Addons> addons = render_addons(fixture.paths, fixture.state, {}, images, 1);
    ASSERT_TRUE(addons.ok()) << addons.error().to_string();
    const std::string& workloads = addons->workloads;
    const std::string name_space = "kind: Namespace\nmetadata:\n  name: basalt-system\n";
    const size_t first = workloads.find(name_space);
    ASSERT_NE(first, std::string::npos);
    EXPECT_EQ(workloads.find(name_space, first + 1), std::string::npos)
        << "the last of two would win";
    EXPECT_EQ(workloads.find("enforce: restricted"), std::string::npos);
    EXPECT_NE(workloads.find("name: basalt-controller"), std::string::npos);
    EXPECT_EQ(workloads.find("kind: DataStore\nmetadata"), std::string::npos);
    EXPECT_NE(addons->objects.find("kind: DataStore"), std::string::npos);
}

TEST(Registry, Configuration) {
    expect_golden("registry.yml", render_registry_config("10.203.0.1:5000", "/cache/registry"));
}

TEST(Images, List) {
    Result<std::vector<Image>> images =
        parse_image_list("# names\npause-3.10\tregistry.k8s.io/pause:3.10\t/c/p.tar\n\n");
    ASSERT_TRUE(images.ok());
    ASSERT_EQ(images->size(), 1U);
    EXPECT_EQ((*images)[0].archive, "/c/p.tar");
    EXPECT_FALSE(parse_image_list("only two\n").ok());
    EXPECT_TRUE(find_image(*images, "pause").ok());
    EXPECT_TRUE(find_image(*images, "pause", "3.10").ok());
    EXPECT_EQ(find_image(*images, "pause", "3.9").error().code(), Code::kNotFound);
    EXPECT_FALSE(find_image(*images, "ause").ok());
}

TEST(Images, References) {
    const ImageName name = split_reference("localhost:5000/coredns/coredns:v1");
    EXPECT_EQ(name.repository, "localhost:5000/coredns");
    EXPECT_EQ(name.name, "coredns");
    EXPECT_EQ(name.tag, "v1");
    EXPECT_EQ(split_reference("localhost:5000/x").tag, "");
}

}  // namespace
}  // namespace basalt::local
