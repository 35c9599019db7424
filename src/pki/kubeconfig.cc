#include "pki/kubeconfig.h"

#include <fmt/format.h>

#include "data/base64.h"
#include "data/yaml.h"

namespace basalt::pki {
namespace {

using data::Value;

std::string context_name(const Kubeconfig& config) { return config.user + "@" + config.cluster; }

Value named(std::string_view name, std::string_view key, Value content) {
    return Value::object({{"name", name}, {key, std::move(content)}});
}

/// The entry of `list` with that name, its `key`; null when missing.
const Value& find_named(const Value& list, std::string_view name, std::string_view key) {
    static const Value kNull;
    for (const Value& item : list.items()) {
        if (item["name"].as_string() == name) return item[key];
    }
    return kNull;
}

Result<std::string> inline_data(const Value& parent, std::string_view field) {
    if (parent.contains(field)) {
        return invalid_argument(
            fmt::format("{}: a file cannot be read here; use {}-data", field, field));
    }
    const std::string key = std::string(field) + "-data";
    Result<std::string> decoded = data::base64_decode_lines(parent[key].as_string());
    if (!decoded.ok()) return invalid_argument(key + ": is not base64");
    return decoded;
}

}  // namespace

Value to_value(const Kubeconfig& config) {
    Value cluster = Value::object();
    if (!config.ca_pem.empty())
        cluster.set("certificate-authority-data", data::base64_encode(config.ca_pem));
    cluster.set("server", config.server);
    cluster.set_unless_empty("tls-server-name", config.tls_server_name);

    Value user = Value::object();
    if (!config.client_certificate_pem.empty()) {
        user.set("client-certificate-data", data::base64_encode(config.client_certificate_pem));
        user.set("client-key-data", data::base64_encode(config.client_key_pem.reveal()));
    }
    if (!config.token.empty()) user.set("token", config.token.reveal());
    user.set_unless_empty("tokenFile", config.token_file);

    Value context = Value::object({{"cluster", config.cluster}, {"user", config.user}});
    context.set_unless_empty("namespace", config.namespace_);

    return Value::object({
        {"apiVersion", "v1"},
        {"kind", "Config"},
        {"clusters", Value::array({named(config.cluster, "cluster", std::move(cluster))})},
        {"contexts", Value::array({named(context_name(config), "context", std::move(context))})},
        {"current-context", context_name(config)},
        {"users", Value::array({named(config.user, "user", std::move(user))})},
    });
}

Secret to_yaml(const Kubeconfig& config) { return Secret(data::to_yaml(to_value(config))); }

Result<Kubeconfig> parse_kubeconfig(std::string_view yaml) {
    BASALT_ASSIGN(Value root, data::parse_yaml(yaml).context("kubeconfig"));
    if (!root.is_object()) return invalid_argument("kubeconfig: is not a mapping");
    const std::string_view current = root["current-context"].as_string();
    const Value& context = find_named(root["contexts"], current, "context");
    if (!context.is_object()) {
        return invalid_argument(
            fmt::format("kubeconfig: current-context \"{}\" is not among the contexts", current));
    }
    Kubeconfig config;
    config.cluster = context["cluster"].str();
    config.user = context["user"].str();
    config.namespace_ = context["namespace"].str();
    const Value& cluster = find_named(root["clusters"], config.cluster, "cluster");
    const Value& user = find_named(root["users"], config.user, "user");
    if (!cluster.is_object()) {
        return invalid_argument(
            fmt::format("kubeconfig: there is no cluster \"{}\"", config.cluster));
    }
    if (!user.is_object())
        return invalid_argument(fmt::format("kubeconfig: there is no user \"{}\"", config.user));
    config.server = cluster["server"].str();
    if (config.server.empty()) return invalid_argument("kubeconfig: cluster.server is empty");
    config.tls_server_name = cluster["tls-server-name"].str();
    BASALT_ASSIGN(config.ca_pem,
                  inline_data(cluster, "certificate-authority").context("kubeconfig: cluster"));
    BASALT_ASSIGN(config.client_certificate_pem,
                  inline_data(user, "client-certificate").context("kubeconfig: user"));
    BASALT_ASSIGN(std::string key, inline_data(user, "client-key").context("kubeconfig: user"));
    config.client_key_pem = Secret(std::move(key));
    config.token = Secret(user["token"].as_string());
    config.token_file = user["tokenFile"].str();
    return config;
}

}  // namespace basalt::pki
