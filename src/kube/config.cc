#include "kube/config.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>

#include <fmt/format.h>

#include "base/strings.h"
#include "data/base64.h"
#include "data/yaml.h"

namespace basalt::kube {

using data::Value;

namespace {

Result<std::string> read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) return errno_error(errno, path);
    std::string text;
    char buffer[16 * 1024];
    while (file.read(buffer, sizeof buffer), file.gcount() > 0) {
        text.append(buffer, static_cast<size_t>(file.gcount()));
        if (text.size() > Kubeconfig::kMaxFileSize)
            return resource_exhausted(path + ": file is too large");
    }
    if (file.bad()) return unavailable(path + ": cannot be read");
    return text;
}

std::string directory_of(const std::string& path) {
    const size_t slash = path.rfind('/');
    return slash == std::string::npos ? "" : path.substr(0, std::max<size_t>(slash, 1));
}

std::string absolute(const std::string& path, const std::string& directory) {
    if (path.empty() || path.starts_with("/") || directory.empty()) return path;
    return directory + "/" + path;
}

/// `<name>-data` in base64, else the file `<name>`.
Result<Material> material_of(const Value& entry, const std::string& name,
                             const std::string& directory) {
    Material material;
    const std::string_view inline_text = entry[name + "-data"].as_string();
    if (!inline_text.empty()) {
        BASALT_ASSIGN(std::string decoded,
                      data::base64_decode_lines(inline_text).context(name + "-data"));
        material.inline_data = Secret(std::move(decoded));
        return material;
    }
    material.file = absolute(entry[name].str(), directory);
    return material;
}

ExecPlugin exec_plugin_of(const Value& exec, const std::string& directory) {
    ExecPlugin plugin;
    plugin.api_version = exec["apiVersion"].str();
    plugin.command = exec["command"].str();
    plugin.args = exec["args"].as_string_list();
    for (const Value& variable : exec["env"].items()) {
        plugin.env.emplace_back(variable["name"].str(), variable["value"].str());
    }
    plugin.provide_cluster_info = exec["provideClusterInfo"].as_bool();
    plugin.install_hint = exec["installHint"].str();
    plugin.directory = directory;
    // A path that is not absolute is relative to the kubeconfig; a bare name is looked up in PATH.
    if (plugin.command.find('/') != std::string::npos)
        plugin.command = absolute(plugin.command, directory);
    return plugin;
}

Result<void> resolve_user(const Value& user, const std::string& directory, Access& access) {
    BASALT_ASSIGN(access.client_certificate, material_of(user, "client-certificate", directory));
    BASALT_ASSIGN(access.client_key, material_of(user, "client-key", directory));
    access.token.file = absolute(user["tokenFile"].str(), directory);
    if (access.token.file.empty()) access.token.inline_data = Secret(user["token"].as_string());
    access.username = user["username"].str();
    access.password = Secret(user["password"].as_string());
    access.impersonate_user = user["as"].str();
    access.impersonate_uid = user["as-uid"].str();
    access.impersonate_groups = user["as-groups"].as_string_list();
    for (const data::Member& extra : user["as-user-extra"].members())
        access.impersonate_extra[std::string(extra.key())] = extra.value.as_string_list();
    if (user["exec"].is_object()) {
        access.exec = exec_plugin_of(user["exec"], directory);
        if (access.exec->api_version != "client.authentication.k8s.io/v1" &&
            access.exec->api_version != "client.authentication.k8s.io/v1beta1") {
            return invalid_argument(
                fmt::format("exec plugin: unknown apiVersion \"{}\"", access.exec->api_version));
        }
        if (access.exec->command.empty()) return invalid_argument("exec plugin: no command");
    }
    return {};
}

}  // namespace

Environment process_environment() {
    return [](const std::string& name) -> std::optional<std::string> {
        const char* value = std::getenv(name.c_str());
        if (value == nullptr) return std::nullopt;
        return std::string(value);
    };
}

Result<Secret> Material::read() const {
    if (file.empty()) return inline_data;
    BASALT_ASSIGN(std::string text, read_file(file));
    return Secret(std::move(text));
}

Result<Kubeconfig> Kubeconfig::parse(std::string_view text, const std::string& directory) {
    data::ParseOptions options;
    options.max_size = kMaxFileSize;
    BASALT_ASSIGN(const Value document, data::parse_yaml(text, options));
    if (!document.is_object() && !document.is_null())
        return invalid_argument("kubeconfig: not an object");
    Kubeconfig config;
    config.current_context_ = document["current-context"].str();
    const auto take = [&](const char* list, const char* item, std::map<std::string, Entry>& into) {
        for (const Value& entry : document[list].items()) {
            into.emplace(entry["name"].str(), Entry{entry[item], directory});
        }
    };
    take("clusters", "cluster", config.clusters_);
    take("users", "user", config.users_);
    take("contexts", "context", config.contexts_);
    return config;
}

Result<Kubeconfig> Kubeconfig::load(const std::vector<std::string>& paths) {
    Kubeconfig merged;
    bool found = false;
    for (const std::string& path : paths) {
        if (path.empty()) continue;
        Result<std::string> text = read_file(path);
        if (!text.ok()) {
            if (text.error().code() == Code::kNotFound) continue;
            return std::move(text).error().context("kubeconfig");
        }
        BASALT_ASSIGN(const Kubeconfig config, parse(*text, directory_of(path)).context(path));
        merged.merge(config);
        found = true;
    }
    if (!found) {
        return not_found(fmt::format(
            "no kubeconfig at {}; name one with --kubeconfig or KUBECONFIG", join(paths, ", ")));
    }
    return merged;
}

void Kubeconfig::merge(const Kubeconfig& other) {
    clusters_.insert(other.clusters_.begin(), other.clusters_.end());
    users_.insert(other.users_.begin(), other.users_.end());
    contexts_.insert(other.contexts_.begin(), other.contexts_.end());
    if (current_context_.empty()) current_context_ = other.current_context_;
}

std::vector<std::string> Kubeconfig::contexts() const {
    std::vector<std::string> names;
    for (const auto& [name, entry] : contexts_) names.push_back(name);
    return names;
}

Result<Access> Kubeconfig::resolve(const std::string& context) const {
    const std::string& name = context.empty() ? current_context_ : context;
    if (name.empty()) return not_found("kubeconfig: there is no current context");
    const auto found = contexts_.find(name);
    if (found == contexts_.end())
        return not_found(fmt::format("kubeconfig: no context \"{}\"", name));
    const Value& chosen = found->second.value;
    Access access;
    if (const std::string ns = chosen["namespace"].str(); !ns.empty())
        access.default_namespace = ns;

    access.cluster_name = chosen["cluster"].str();
    const auto cluster = clusters_.find(access.cluster_name);
    if (cluster == clusters_.end()) {
        return not_found(fmt::format("kubeconfig: no cluster \"{}\" for context \"{}\"",
                                     access.cluster_name, name));
    }
    const Value& server = cluster->second.value;
    access.server = server["server"].str();
    if (access.server.empty()) {
        return invalid_argument(
            fmt::format("kubeconfig: cluster \"{}\" has no server", access.cluster_name));
    }
    access.tls_server_name = server["tls-server-name"].str();
    access.proxy_url = server["proxy-url"].str();
    access.insecure_skip_verify = server["insecure-skip-tls-verify"].as_bool();
    BASALT_ASSIGN(access.ca,
                  material_of(server, "certificate-authority", cluster->second.directory));
    for (const Value& extension : server["extensions"].items()) {
        if (extension["name"].as_string() == "client.authentication.k8s.io/exec") {
            access.exec_cluster_config = extension["extension"];
        }
    }
    const std::string user_name = chosen["user"].str();
    if (user_name.empty()) return access;
    const auto user = users_.find(user_name);
    if (user == users_.end()) {
        return not_found(
            fmt::format("kubeconfig: no user \"{}\" for context \"{}\"", user_name, name));
    }
    Result<void> resolved = resolve_user(user->second.value, user->second.directory, access);
    if (!resolved.ok()) {
        return std::move(resolved).error().context(
            fmt::format("kubeconfig: user \"{}\"", user_name));
    }
    return access;
}

Result<Access> in_cluster_access(const Environment& environment, const std::string& directory) {
    const std::optional<std::string> host = environment("KUBERNETES_SERVICE_HOST");
    const std::optional<std::string> port = environment("KUBERNETES_SERVICE_PORT");
    if (!host || !port) return failed_precondition("this process does not run in a cluster");
    Access access;
    const bool v6 = host->find(':') != std::string::npos;
    access.server = v6 ? fmt::format("https://[{}]:{}", *host, *port)
                       : fmt::format("https://{}:{}", *host, *port);
    access.ca.file = directory + "/ca.crt";
    access.token.file = directory + "/token";
    access.cluster_name = "in-cluster";
    BASALT_ASSIGN(const Secret token, access.token.read().context("service account"));
    if (Result<std::string> ns = read_file(directory + "/namespace");
        ns.ok() && !trim(*ns).empty()) {
        access.default_namespace = trim(*ns);
    }
    return access;
}

Result<Access> find_access(const AccessQuery& query, const Environment& environment) {
    std::vector<std::string> paths;
    if (!query.kubeconfig.empty()) {
        paths.push_back(query.kubeconfig);
    } else if (const std::optional<std::string> list = environment("KUBECONFIG");
               list && !list->empty()) {
        for (std::string_view path : split(*list, ':')) paths.emplace_back(path);
    } else {
        Result<Access> in_cluster = in_cluster_access(environment);
        if (in_cluster.ok() && query.context.empty()) return in_cluster;
        paths.push_back(environment("HOME").value_or("") + "/.kube/config");
    }
    BASALT_ASSIGN(const Kubeconfig config, Kubeconfig::load(paths));
    return config.resolve(query.context);
}

}  // namespace basalt::kube
