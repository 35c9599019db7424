// How to reach a cluster: kubeconfig files, in-cluster credentials, exec plugins.
//
// A Kubeconfig is the document; an Access is what one context of it resolves to; make_transport()
// turns an Access into an HttpTransport that adds credentials to requests. Files named by an Access
// (CA, client certificate, key, token) are read again every few seconds and after a 401, so that
// rotated credentials are used without a restart; exec plugins run again when their credential
// expires or the server says 401.
//
// Formats: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/ and
// client-authentication.v1.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "async/loop.h"
#include "base/result.h"
#include "base/secret.h"
#include "data/value.h"
#include "net/http.h"

namespace basalt::kube {

/// Reads an environment variable; nullopt when unset.
using Environment = std::function<std::optional<std::string>(const std::string& name)>;
Environment process_environment();

/// PEM text or bytes, inline or in a file that may change.
struct Material {
    Secret inline_data;
    std::string file;
    bool empty() const { return inline_data.empty() && file.empty(); }
    /// The inline text, or what the file holds now.
    Result<Secret> read() const;
};

struct ExecPlugin {
    std::string api_version;
    std::string command;
    std::vector<std::string> args;
    std::vector<std::pair<std::string, std::string>> env;
    bool provide_cluster_info = false;
    std::string install_hint;
    std::string directory;  ///< Relative commands with a '/' start here.
};

/// One context, resolved.
struct Access {
    std::string server;  ///< https://host:port/prefix
    std::string tls_server_name;
    std::string proxy_url;
    bool insecure_skip_verify = false;
    Material ca;
    Material client_certificate;
    Material client_key;
    Material token;
    std::string username;
    Secret password;
    std::optional<ExecPlugin> exec;
    std::string impersonate_user;
    std::string impersonate_uid;
    std::vector<std::string> impersonate_groups;
    std::map<std::string, std::vector<std::string>, std::less<>> impersonate_extra;
    std::string default_namespace = "default";
    std::string cluster_name;
    data::Value exec_cluster_config;  ///< cluster extension client.authentication.k8s.io/exec
};

/// One or several kubeconfig files, merged.
class Kubeconfig {
 public:
    /// No file above this is read.
    static constexpr size_t kMaxFileSize = 4ULL << 20;

    /// Relative paths in it are relative to `directory`.
    static Result<Kubeconfig> parse(std::string_view text, const std::string& directory = {});
    /// The first file that has an entry wins, as in kubectl. Files that do not exist are skipped,
    /// but not all.
    static Result<Kubeconfig> load(const std::vector<std::string>& paths);

    std::vector<std::string> contexts() const;
    /// `context` "" is the current one. NotFound names what is missing.
    Result<Access> resolve(const std::string& context = {}) const;

    /// Adds what `other` has and this has not.
    void merge(const Kubeconfig& other);

 private:
    struct Entry {
        data::Value value;
        std::string directory;
    };
    std::map<std::string, Entry> clusters_;
    std::map<std::string, Entry> users_;
    std::map<std::string, Entry> contexts_;
    std::string current_context_;
};

/// The service account of the Pod this process runs in. FailedPrecondition outside of a cluster.
Result<Access> in_cluster_access(
    const Environment& environment,
    const std::string& directory = "/var/run/secrets/kubernetes.io/serviceaccount");

struct AccessQuery {
    std::string kubeconfig;  ///< --kubeconfig
    std::string context;     ///< --context
};
/// --kubeconfig, $KUBECONFIG (a list), in-cluster, ~/.kube/config: the first that is there.
Result<Access> find_access(const AccessQuery& query, const Environment& environment);

/// A transport with this access's TLS settings and credentials. Connects with the first request.
/// One loop.
Result<std::shared_ptr<net::HttpTransport>> make_transport(async::Loop& loop, const Access& access);

/// Makes the transport below the credentials; replaced in tests. `pem` texts are read afresh for
/// each call.
struct TlsMaterial {
    Secret ca_pem;
    Secret certificate_pem;
    Secret key_pem;
};
using Connector = std::function<Result<std::shared_ptr<net::HttpTransport>>(
    const Access& access, const TlsMaterial& material)>;
Result<std::shared_ptr<net::HttpTransport>> make_transport(async::Loop& loop, const Access& access,
                                                           Connector connector);

/// The default namespace of an in-cluster or kubeconfig access, for --namespace.
inline const std::string& default_namespace(const Access& access) {
    return access.default_namespace;
}

}  // namespace basalt::kube
