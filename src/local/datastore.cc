#include "local/datastore.h"

#include <thread>

#include <fmt/format.h>

#include "base/strings.h"
#include "linux/file.h"
#include "linux/process.h"
#include "local/certificates.h"
#include "local/template.h"

namespace basalt::local {
namespace {

constexpr const char* kDomain = "etcd.basalt-system.svc.cluster.local";
constexpr int kMembersMax = 3;
constexpr const char* kQuotaBytes =
    "2147483648";  // etcd's own default, said aloud: 30 tenants use a tenth of it
constexpr auto kReadyLimit = std::chrono::minutes(5);

std::string pki_directory(const Paths& paths, const ClusterState& state) {
    return paths.cluster(state.name) + "/pki/etcd";
}

Result<void> make_certificates(const std::string& directory) {
    pki::SystemKeySource keys;
    const auto now = std::chrono::time_point_cast<WallTime::duration>(WallTime::clock::now());
    BASALT_ASSIGN(pki::CertificateAuthority authority,
                  ensure_authority(directory, "basalt-datastore-default", keys, now));
    // As long as the authority: a cluster on one machine may live long without a run of `up`.
    pki::CertificateSpec root;
    root.common_name = "root";
    root.client = true;
    root.lifetime = pki::kCaLifetime;
    pki::CertificateSpec server = root;
    server.common_name = "etcd";
    server.server = true;
    server.ip_addresses = {"127.0.0.1"};
    server.dns_names = {"localhost",
                        "etcd",
                        "etcd.basalt-system",
                        "etcd.basalt-system.svc",
                        kDomain,
                        fmt::format("*.{}", kDomain),
                        "*.etcd.basalt-system.svc"};
    BASALT_TRY(ensure_certificate(directory, "server", server, authority, keys, now));
    return ensure_certificate(directory, "root", root, authority, keys, now);
}

Result<std::string> secrets(const std::string& directory) {
    auto read = [&](const char* name) {
        return linux::read_file(fmt::format("{}/{}", directory, name));
    };
    BASALT_ASSIGN(std::string ca_crt, read("ca.crt"));
    BASALT_ASSIGN(std::string ca_key, read("ca.key"));
    BASALT_ASSIGN(std::string server_crt, read("server.crt"));
    BASALT_ASSIGN(std::string server_key, read("server.key"));
    BASALT_ASSIGN(std::string root_crt, read("root.crt"));
    BASALT_ASSIGN(std::string root_key, read("root.key"));
    return render_secret("etcd-ca", {{"tls.crt", ca_crt}, {"tls.key", ca_key}}) +
           render_secret("etcd-server",
                         {{"ca.crt", ca_crt}, {"tls.crt", server_crt}, {"tls.key", server_key}}) +
           render_secret("etcd-root-client",
                         {{"ca.crt", ca_crt}, {"tls.crt", root_crt}, {"tls.key", root_key}});
}

/// etcd's JSON API, dialled from a node, since the host has no route to Pods.
class EtcdApi {
 public:
    EtcdApi(std::string pki, std::string address, pid_t node)
        : pki_(std::move(pki)), address_(std::move(address)), node_(node) {}

    Result<std::string> call(const std::string& method, const std::string& body) const {
        const std::string host = fmt::format("etcd-0.{}", kDomain);
        linux::Command command;
        command.argv = {"nsenter",
                        fmt::format("--net=/proc/{}/ns/net", node_),
                        "curl",
                        "--silent",
                        "--show-error",
                        "--max-time",
                        "10",
                        "--noproxy",
                        "*",
                        "--cacert",
                        pki_ + "/ca.crt",
                        "--cert",
                        pki_ + "/root.crt",
                        "--key",
                        pki_ + "/root.key",
                        "--resolve",
                        fmt::format("{}:2379:{}", host, address_),
                        "--data-binary",
                        "@-",
                        fmt::format("https://{}:2379/v3/auth/{}", host, method)};
        command.input = body;
        command.timeout = std::chrono::seconds(20);
        return linux::run_ok(command);
    }

    /// A second run finds some of it done: that is fine.
    Result<void> call_once(const std::string& method, const std::string& body) const {
        BASALT_ASSIGN(std::string answer, call(method, body));
        if (answer.find("\"error\"") == std::string::npos ||
            answer.find("already") != std::string::npos)
            return {};
        return unavailable(fmt::format("etcd auth/{}: {}", method, trim(answer)));
    }

 private:
    std::string pki_;
    std::string address_;
    pid_t node_;
};

Result<void> enable_once(const EtcdApi& api) {
    BASALT_ASSIGN(std::string status, api.call("status", "{}"));
    // With authentication on, the question itself is refused: the JSON API carries no user.
    if (status.find("\"enabled\":true") != std::string::npos ||
        status.find("user name is empty") != std::string::npos ||
        status.find("permission denied") != std::string::npos) {
        return {};
    }
    BASALT_TRY(api.call_once("user/add", R"({"name":"root","options":{"no_password":true}})"));
    BASALT_TRY(api.call_once("role/add", R"({"name":"root"})"));
    BASALT_TRY(api.call_once("user/grant", R"({"user":"root","role":"root"})"));
    return api.call_once("enable", "{}");
}

}  // namespace

int datastore_members(int nodes) { return nodes >= kMembersMax ? kMembersMax : 1; }

Result<int> current_members(const Kubectl& kubectl, int nodes) {
    BASALT_ASSIGN(std::string text,
                  kubectl.run({"get", "statefulset", "etcd", "-n", "basalt-system",
                               "--ignore-not-found", "-o", "jsonpath={.spec.replicas}"}));
    if (auto replicas = parse_number<int>(trim(text)); replicas && *replicas > 0) return *replicas;
    return datastore_members(nodes);
}

std::string render_initial_cluster(int members) {
    std::vector<std::string> parts;
    for (int member = 0; member < members; ++member) {
        parts.push_back(fmt::format("etcd-{0}=https://etcd-{0}.{1}:2380", member, kDomain));
    }
    return join(parts, ",");
}

std::string render_secret(const std::string& name,
                          const std::vector<std::pair<std::string, std::string>>& texts) {
    std::string manifest = fmt::format(
        "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: {}\n  namespace: "
        "basalt-system\ntype: Opaque\nstringData:\n",
        name);
    for (const auto& [key, text] : texts) {
        manifest += fmt::format("  {}: |\n", key);
        for (std::string_view line : split(trim(text), '\n'))
            manifest += fmt::format("    {}\n", line);
    }
    return manifest;
}

Result<std::string> datastore_manifests(const Paths& paths, const ClusterState& state,
                                        const Image& etcd, int members) {
    const std::string pki = pki_directory(paths, state);
    BASALT_TRY(make_certificates(pki));
    BASALT_ASSIGN(std::string manifests, secrets(pki));
    BASALT_ASSIGN(std::string workload,
                  render_template_file(paths.deploy() + "/local/datastore/etcd.yaml",
                                       {{"MEMBERS", std::to_string(members)},
                                        {"ETCD_IMAGE", etcd.reference},
                                        {"INITIAL_CLUSTER", render_initial_cluster(members)},
                                        {"CLUSTER", state.name},
                                        {"QUOTA_BYTES", kQuotaBytes}}));
    return manifests + "---\n" + workload;
}

Result<std::string> datastore_object(const Paths& paths, int members) {
    std::vector<std::string> endpoints;
    for (int member = 0; member < members; ++member)
        endpoints.push_back(fmt::format("\"etcd-{}.{}:2379\"", member, kDomain));
    return render_template_file(paths.deploy() + "/local/datastore/datastore.yaml",
                                {{"ENDPOINTS", join(endpoints, ", ")}});
}

Result<void> enable_authentication(const Paths& paths, const ClusterState& state,
                                   const Kubectl& kubectl, const Node& node) {
    const auto deadline = std::chrono::steady_clock::now() + kReadyLimit;
    for (;;) {
        BASALT_ASSIGN(std::string address,
                      kubectl.run({"get", "pod", "etcd-0", "-n", "basalt-system", "-o",
                                   "jsonpath={.status.podIP}"}));
        BASALT_ASSIGN(pid_t pid, node.first_process());
        Result<void> enabled = enable_once(EtcdApi(pki_directory(paths, state), address, pid));
        if (enabled.ok() || std::chrono::steady_clock::now() >= deadline)
            return std::move(enabled).context("enable etcd authentication");
        std::this_thread::sleep_for(std::chrono::milliseconds(500));
    }
}

}  // namespace basalt::local
