#include "kube/config.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "async/real_loop.h"
#include "async/sim_loop.h"
#include "async/task_group.h"
#include "kube/test_server.h"
#include "net/stream.h"

namespace basalt::kube {
namespace {

using namespace std::chrono_literals;

constexpr const char* kConfig = R"(
apiVersion: v1
kind: Config
current-context: one
clusters:
- name: c1
  cluster: {server: "https://one:6443", certificate-authority-data: "Q0E=", tls-server-name: name}
- name: c2
  cluster: {server: "https://two:6443", certificate-authority: ca.pem, insecure-skip-tls-verify: true}
users:
- name: u1
  user: {client-certificate-data: "Q0VSVA==", client-key-data: "S0VZ", as: other, as-groups: [g]}
- name: u2
  user: {tokenFile: token, token: inline}
- name: u3
  user: {token: secret-token}
contexts:
- name: one
  context: {cluster: c1, user: u1, namespace: ns}
- name: two
  context: {cluster: c2, user: u2}
- name: broken
  context: {cluster: nowhere, user: u2}
)";

class ConfigTest : public ::testing::Test {
 protected:
    ConfigTest() {
        char name[] = "/tmp/basalt-config-XXXXXX";
        directory = mkdtemp(name);
    }
    ~ConfigTest() override { std::filesystem::remove_all(directory); }
    std::string write(const std::string& name, const std::string& text) {
        const std::string path = directory + "/" + name;
        std::ofstream(path) << text;
        return path;
    }
    template <class T>
    T run(async::Task<T> task) {
        std::optional<T> slot;
        async::TaskGroup group(loop);
        group.spawn(testing::capture(std::move(task), &slot));
        loop.run_until([&] { return group.size() == 0; }, 1h);
        return std::move(*slot);
    }
    /// A transport whose connector counts and whose server answers with the status of `answer`.
    std::shared_ptr<net::HttpTransport> transport_for(const Access& access) {
        Result<std::shared_ptr<net::HttpTransport>> made =
            make_transport(loop, access, [this](const Access&, const TlsMaterial& material) {
                connections.push_back(std::string(material.certificate_pem.reveal()));
                auto scripted = std::make_shared<testing::ScriptedTransport>(
                    loop, [this](const net::HttpRequest& r) {
                        authorization.push_back(std::string(r.headers.get("authorization")));
                        last_headers = r.headers;
                        return testing::respond(answer ? answer() : 200, std::string("{}"));
                    });
                return Result<std::shared_ptr<net::HttpTransport>>(scripted);
            });
        EXPECT_TRUE(made.ok());
        return made.ok() ? *made : nullptr;
    }
    int get(net::HttpTransport& transport) {
        net::HttpRequest request;
        Result<net::HttpResponse> response = run(transport.send(request));
        return response.ok() ? response->status : -1;
    }

    async::SimLoop loop{5};
    std::string directory;
    std::vector<std::string> connections;
    std::vector<std::string> authorization;
    net::Headers last_headers;
    std::function<int()> answer;
};

TEST_F(ConfigTest, Resolves) {
    const Result<Kubeconfig> config = Kubeconfig::parse(kConfig, "/dir");
    ASSERT_TRUE(config.ok()) << config.error().to_string();
    const Result<Access> one = config->resolve();
    ASSERT_TRUE(one.ok());
    EXPECT_EQ(one->server, "https://one:6443");
    EXPECT_EQ(one->ca.inline_data.reveal(), "CA");
    EXPECT_EQ(one->client_key.inline_data.reveal(), "KEY");
    EXPECT_EQ(one->default_namespace, "ns");
    EXPECT_EQ(one->impersonate_groups, std::vector<std::string>{"g"});
    const Result<Access> two = config->resolve("two");
    ASSERT_TRUE(two.ok());
    EXPECT_EQ(two->ca.file, "/dir/ca.pem");
    EXPECT_EQ(two->token.file, "/dir/token");
    EXPECT_TRUE(two->insecure_skip_verify);
    EXPECT_EQ(config->resolve("broken").error().code(), Code::kNotFound);
    EXPECT_EQ(config->resolve("none").error().code(), Code::kNotFound);
    EXPECT_FALSE(Kubeconfig::parse("[1]").ok());
    EXPECT_FALSE(Kubeconfig::parse("a: [").ok());
}

TEST_F(ConfigTest, ImpersonatesAsTheUserSays) {
    const Result<Kubeconfig> config = Kubeconfig::parse(R"(
current-context: c
clusters: [{name: k, cluster: {server: "https://x", certificate-authority-data: "Q0\nE=\n"}}]
users:
- name: u
  user:
    token: t
    as: jane
    as-uid: "42"
    as-groups: [a, b]
    as-user-extra: {Scopes: [view, edit], "acme.com/project%": [p]}
contexts: [{name: c, context: {cluster: k, user: u}}]
)");
    ASSERT_TRUE(config.ok()) << config.error().to_string();
    const Result<Access> access = config->resolve();
    ASSERT_TRUE(access.ok()) << access.error().to_string();
    EXPECT_EQ(access->ca.inline_data.reveal(), "CA");
    const auto transport = transport_for(*access);
    EXPECT_EQ(get(*transport), 200);
    std::vector<std::pair<std::string, std::string>> sent;
    for (const auto& field : last_headers.fields()) {
        if (field.first.starts_with("impersonate-")) sent.push_back(field);
    }
    const std::vector<std::pair<std::string, std::string>> expected{
        {"impersonate-user", "jane"},
        {"impersonate-uid", "42"},
        {"impersonate-group", "a"},
        {"impersonate-group", "b"},
        {"impersonate-extra-scopes", "view"},
        {"impersonate-extra-scopes", "edit"},
        {"impersonate-extra-acme.com%2fproject%25", "p"}};
    EXPECT_EQ(sent, expected);
}

TEST_F(ConfigTest, MergesFilesFirstWins) {
    const std::string a =
        write("a", "current-context: x\ncontexts: [{name: x, context: {cluster: c, user: u}}]\n");
    const std::string b =
        write("b",
              "current-context: y\nclusters: [{name: c, cluster: {server: 'https://b'}}]\n"
              "users: [{name: u, user: {client-key: key.pem}}]\n");
    const Result<Kubeconfig> config = Kubeconfig::load({directory + "/missing", a, b});
    ASSERT_TRUE(config.ok());
    const Result<Access> access = config->resolve();
    ASSERT_TRUE(access.ok());
    EXPECT_EQ(access->server, "https://b");
    EXPECT_EQ(access->client_key.file, directory + "/key.pem");
    EXPECT_EQ(Kubeconfig::load({directory + "/missing"}).error().code(), Code::kNotFound);

    std::map<std::string, std::string> variables{{"KUBECONFIG", a + ":" + b}};
    const Environment environment = [&](const std::string& name) -> std::optional<std::string> {
        const auto found = variables.find(name);
        if (found == variables.end()) return std::nullopt;
        return found->second;
    };
    EXPECT_EQ(find_access({}, environment)->server, "https://b");
    variables = {{"HOME", directory}};
    EXPECT_EQ(find_access({}, environment).error().code(), Code::kNotFound);
}

TEST_F(ConfigTest, InCluster) {
    const Environment inside = [](const std::string& name) -> std::optional<std::string> {
        if (name == "KUBERNETES_SERVICE_HOST") return "fd00::1";
        if (name == "KUBERNETES_SERVICE_PORT") return "443";
        return std::nullopt;
    };
    EXPECT_FALSE(in_cluster_access(inside, directory).ok()) << "no token";
    write("token", "t");
    write("ca.crt", "CA");
    write("namespace", "team\n");
    const Result<Access> access = in_cluster_access(inside, directory);
    ASSERT_TRUE(access.ok());
    EXPECT_EQ(access->server, "https://[fd00::1]:443");
    EXPECT_EQ(access->default_namespace, "team");
    const Environment outside = [](const std::string&) { return std::optional<std::string>(); };
    EXPECT_EQ(in_cluster_access(outside, directory).error().code(), Code::kFailedPrecondition);
}

TEST_F(ConfigTest, RotatedFilesAreUsed) {
    Access access;
    access.server = "https://x";
    access.token.file = write("token", "one\n");
    access.client_certificate.file = write("cert", "C1");
    access.client_key.file = write("key", "K1");
    const auto transport = transport_for(access);
    EXPECT_EQ(get(*transport), 200);
    write("token", "two\n");
    write("cert", "C2");
    EXPECT_EQ(get(*transport), 200);
    loop.run_for(10s);
    EXPECT_EQ(get(*transport), 200);
    EXPECT_EQ(authorization, (std::vector<std::string>{"Bearer one", "Bearer one", "Bearer two"}));
    EXPECT_EQ(connections, (std::vector<std::string>{"C1", "C2"}));
    std::filesystem::remove(access.token.file);
    loop.run_for(10s);
    EXPECT_EQ(get(*transport), 200) << "a missing file leaves the last credential in use";
}

TEST_F(ConfigTest, RefusedTokenIsReadAgain) {
    Access access;
    access.server = "https://x";
    access.token.file = write("token", "one");
    const auto transport = transport_for(access);
    EXPECT_EQ(get(*transport), 200);
    write("token", "two");
    answer = [&] { return authorization.back() == "Bearer two" ? 200 : 401; };
    EXPECT_EQ(get(*transport), 200);
    EXPECT_EQ(authorization.size(), 3u);
}

TEST_F(ConfigTest, ExecPluginRunsWhenDue) {
    const std::string plugin = write("plugin", R"(#!/bin/sh
echo x >> "$COUNT_FILE"
n=$(wc -l < "$COUNT_FILE")
case "$KUBERNETES_EXEC_INFO" in *'"server":"https://x"'*) ;; *) echo "no cluster info" >&2; exit 1;; esac
echo '{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","status":{"token":"t'$n'",' \
     '"expirationTimestamp":"'"$EXPIRES"'"}}'
)");
    ::chmod(plugin.c_str(), 0700);
    Access access;
    access.server = "https://x";
    access.exec.emplace();
    access.exec->api_version = "client.authentication.k8s.io/v1";
    access.exec->command = plugin;
    access.exec->env = {{"COUNT_FILE", directory + "/count"}, {"EXPIRES", "2026-01-01T01:00:00Z"}};
    access.exec->provide_cluster_info = true;
    const auto transport = transport_for(access);
    EXPECT_EQ(get(*transport), 200);
    EXPECT_EQ(get(*transport), 200);
    EXPECT_EQ(authorization, (std::vector<std::string>{"Bearer t1", "Bearer t1"}));
    answer = [&] { return authorization.back() == "Bearer t1" ? 401 : 200; };
    EXPECT_EQ(get(*transport), 200);
    EXPECT_EQ(authorization.back(), "Bearer t2");
    loop.run_for(1h);  // The simulated calendar starts at 2026-01-01T00:00:00Z: expired now.
    EXPECT_EQ(get(*transport), 200);
    EXPECT_EQ(authorization.back(), "Bearer t3");
    access.exec->env.back().second = "9999-12-31T23:59:59Z";
    const auto everlasting = transport_for(access);
    EXPECT_EQ(get(*everlasting), 200);
    EXPECT_EQ(get(*everlasting), 200);
    EXPECT_EQ(authorization.back(), "Bearer t4");
    write("plugin", "#!/bin/sh\necho 'not logged in' >&2; exit 1\n");
    net::HttpRequest request;
    const Result<net::HttpResponse> failed = run(transport->send(request));
    ASSERT_FALSE(failed.ok());
    EXPECT_EQ(failed.error().code(), Code::kUnauthenticated);
    EXPECT_NE(failed.error().message().find("not logged in"), std::string::npos);
}

/// A proxy that answers every CONNECT with `answer`.
async::Task<void> answer_connect(net::Listener* listener, std::string answer) {
    Result<std::unique_ptr<net::Stream>> stream = co_await listener->accept();
    if (!stream.ok()) co_return;
    Result<std::string> request = co_await (*stream)->read(10'000);
    EXPECT_TRUE(request.ok() && request->starts_with("CONNECT x:80 HTTP/1.1\r\n"));
    Result<void> written = co_await (*stream)->write(std::move(answer));
    EXPECT_TRUE(written.ok());
    Result<std::string> end = co_await (*stream)->read(1);
    static_cast<void>(end);
}

async::Task<void> send_and_stop(async::RealLoop* loop, async::TaskGroup* group,
                                std::shared_ptr<net::HttpTransport> transport,
                                std::optional<Error>* failure) {
    net::HttpRequest request;
    Result<net::HttpResponse> response =
        co_await async::with_timeout(*loop, 30s, transport->send(std::move(request)));
    if (!response.ok()) *failure = response.error();
    group->cancel();
    loop->post([loop] { loop->stop(); });
}

TEST(ProxyTest, OddAnswersAreRefusals) {
    for (const char* answer : {"HTTP/1.\r\n\r\n", "HTTP/1.1\r\n\r\n", "HTTP/1.1 20\r\n\r\n",
                               "\r\n\r\n", "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"}) {
        async::RealLoop loop;
        async::TaskGroup group(loop);
        std::unique_ptr<net::Listener> listener =
            net::listen(loop, net::Endpoint::tcp("127.0.0.1", 0)).value();
        Access access;
        access.server = "http://x:80";
        access.proxy_url = "http://127.0.0.1:" + std::to_string(listener->endpoint().port);
        std::optional<Error> failure;
        group.spawn(answer_connect(listener.get(), answer));
        group.spawn(send_and_stop(&loop, &group, make_transport(loop, access).value(), &failure));
        while (group.size() > 0) loop.run();
        loop.keep_running(false);
        loop.run();
        ASSERT_TRUE(failure.has_value()) << answer;
        EXPECT_NE(failure->message().find("the proxy refuses: "), std::string::npos)
            << failure->to_string();
    }
}

}  // namespace
}  // namespace basalt::kube
