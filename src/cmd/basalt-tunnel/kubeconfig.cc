#include "cmd/basalt-tunnel/kubeconfig.h"

#include "data/base64.h"
#include "data/yaml.h"

namespace basalt::cmd {

namespace {

/// The item of `list` with that name, below `member`; null when there is none.
const data::Value& named(const data::Value& list, std::string_view name, std::string_view member) {
    static const data::Value kNone;
    for (const data::Value& item : list.items()) {
        if (item["name"].as_string() == name) return item[member];
    }
    return kNone;
}

std::string absolute(const std::string& folder, std::string_view path) {
    if (path.empty() || path.front() == '/') return std::string(path);
    return folder + "/" + std::string(path);
}

Result<std::string> inline_data(const data::Value& object, std::string_view member) {
    std::string_view text = object[member].as_string();
    if (text.empty()) return std::string();
    return data::base64_decode(text).context(member);
}

}  // namespace

Result<Kubeconfig> parse_kubeconfig(std::string_view text, const std::string& folder) {
    BASALT_ASSIGN(data::Value document, data::parse_yaml(text));
    const data::Value& context =
        named(document["contexts"], document["current-context"].as_string(), "context");
    if (context.is_null()) return invalid_argument("kubeconfig: the current context is missing");
    const data::Value& cluster =
        named(document["clusters"], context["cluster"].as_string(), "cluster");
    if (cluster.is_null()) return invalid_argument("kubeconfig: the context's cluster is missing");
    const data::Value& user = named(document["users"], context["user"].as_string(), "user");
    if (user.contains("exec") || user.contains("auth-provider")) {
        return invalid_argument(
            "kubeconfig: only client certificates and tokens are supported here");
    }
    Kubeconfig config;
    BASALT_ASSIGN(config.server, net::parse_url(cluster["server"].as_string()));
    BASALT_ASSIGN(config.tls.ca_pem, inline_data(cluster, "certificate-authority-data"));
    if (config.tls.ca_pem.empty())
        config.paths.ca = absolute(folder, cluster["certificate-authority"].as_string());
    config.tls.server_name = cluster["tls-server-name"].str();
    config.tls.insecure_skip_verify = cluster["insecure-skip-tls-verify"].as_bool();
    BASALT_ASSIGN(config.tls.cert_pem, inline_data(user, "client-certificate-data"));
    if (config.tls.cert_pem.empty())
        config.paths.cert = absolute(folder, user["client-certificate"].as_string());
    BASALT_ASSIGN(std::string key, inline_data(user, "client-key-data"));
    config.tls.key_pem = Secret(std::move(key));
    if (config.tls.key_pem.empty())
        config.paths.key = absolute(folder, user["client-key"].as_string());
    config.token = Secret(user["token"].as_string());
    config.token_path = absolute(folder, user["tokenFile"].as_string());
    if (config.tls.ca_pem.empty() && config.paths.ca.empty() && !config.tls.insecure_skip_verify &&
        config.server.scheme == "https") {
        return invalid_argument("kubeconfig: the cluster has no certificate authority");
    }
    return config;
}

Result<Kubeconfig> load_kubeconfig(const std::string& path) {
    BASALT_ASSIGN(std::string text, read_file(path));
    size_t slash = path.rfind('/');
    auto config = parse_kubeconfig(text, slash == std::string::npos ? "." : path.substr(0, slash));
    secure_wipe(text.data(), text.size());
    return std::move(config).context(path);
}

}  // namespace basalt::cmd
