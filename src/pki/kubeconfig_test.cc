#include "pki/kubeconfig.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "data/base64.h"
#include "data/yaml.h"

namespace basalt::pki {
namespace {

using testing::HasSubstr;

Kubeconfig sample() {
    Kubeconfig config;
    config.cluster = "tenant-00";
    config.server = "https://[fd00::1]:6443";
    config.ca_pem = "CA\nPEM";
    config.user = "kubernetes-admin";
    config.client_certificate_pem = "CERT";
    config.client_key_pem = Secret(std::string_view("KEY"));
    return config;
}

TEST(KubeconfigTest, NamesAreKubeadms) {
    data::Value value = to_value(sample());
    EXPECT_EQ(value["kind"].as_string(), "Config");
    EXPECT_EQ(value["current-context"].as_string(), "kubernetes-admin@tenant-00");
    EXPECT_EQ(value["contexts"][0]["name"].as_string(), "kubernetes-admin@tenant-00");
    EXPECT_EQ(value["contexts"][0]["context"]["user"].as_string(), "kubernetes-admin");
    EXPECT_EQ(value["clusters"][0]["cluster"]["certificate-authority-data"].as_string(),
              data::base64_encode("CA\nPEM"));
    EXPECT_FALSE(value["users"][0]["user"].contains("token"));
}

TEST(KubeconfigTest, GoesThroughYaml) {
    Kubeconfig config = sample();
    config.namespace_ = "apps";
    config.token = Secret(std::string_view("t0k"));
    config.token_file = "/var/run/token";
    config.tls_server_name = "api";
    Result<Kubeconfig> again = parse_kubeconfig(to_yaml(config).reveal());
    ASSERT_TRUE(again.ok()) << again.error().to_string();
    EXPECT_EQ(to_value(*again), to_value(config));
}

TEST(KubeconfigTest, ErrorsNameTheField) {
    auto error = [](std::string_view yaml) {
        Result<Kubeconfig> config = parse_kubeconfig(yaml);
        return config.ok() ? std::string("no error") : config.error().to_string();
    };
    EXPECT_THAT(error("[]"), HasSubstr("not a mapping"));
    EXPECT_THAT(error("current-context: a@b\n"), HasSubstr("current-context \"a@b\""));
    std::string base =
        "current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\n";
    EXPECT_THAT(error(base), HasSubstr("no cluster \"k\""));
    base +=
        "clusters: [{name: k, cluster: {server: 'https://x', certificate-authority-data: '!!'}}]\n";
    EXPECT_THAT(error(base), HasSubstr("no user \"u\""));
    EXPECT_THAT(error(base + "users: [{name: u, user: {}}]\n"),
                HasSubstr("cluster: certificate-authority-data: is not base64"));
    std::string files =
        "current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\n"
        "clusters: [{name: k, cluster: {server: 'https://x'}}]\n";
    EXPECT_THAT(error(files + "users: [{name: u, user: {client-key: /x}}]\n"),
                HasSubstr("client-key: a file"));
    EXPECT_EQ(error(files + "users: [{name: u, user: {token: abc}}]\n"), "no error");
}

TEST(KubeconfigTest, TakesWrappedData) {
    Result<Kubeconfig> config = parse_kubeconfig(
        "current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\n"
        "clusters:\n- name: k\n  cluster:\n    server: https://x\n"
        "    certificate-authority-data: |\n      Zm9v\n      YmFy\n"
        "users: [{name: u, user: {token: abc}}]\n");
    ASSERT_TRUE(config.ok()) << config.error().to_string();
    EXPECT_EQ(config->ca_pem, "foobar");
}

}  // namespace
}  // namespace basalt::pki
