// The transport behind an Access: follows credentials as they change.
#include <fmt/format.h>

#include "async/subprocess.h"
#include "async/wait.h"
#include "base/log.h"
#include "base/strings.h"
#include "data/base64.h"
#include "data/json.h"
#include "kube/config.h"
#include "net/http_client.h"

namespace basalt::kube {
namespace {

using data::Value;

/// How often files are looked at; kubelet refreshes projected tokens long before they expire.
constexpr Duration kRecheckInterval = std::chrono::seconds(5);
/// A plugin's credential is renewed this long before its end.
constexpr Duration kExpiryMargin = std::chrono::seconds(30);
constexpr Duration kExecTimeout = std::chrono::minutes(1);
/// The answer of a proxy to CONNECT.
constexpr size_t kMaxProxyAnswer = 16 * 1024;

struct ExecCredential {
    ExecCredential() = default;
    Secret token;
    Secret certificate_pem;
    Secret key_pem;
    std::optional<WallTime> expires_at;
};

class AccessTransport final : public net::HttpTransport {
 public:
    AccessTransport(async::Loop& loop, Access access, Connector connector)
        : loop_(loop),
          access_(std::move(access)),
          connector_(std::move(connector)),
          exec_lock_(1) {}

    /// Reads everything once; errors in the configuration show at once.
    Result<void> init() { return refresh_files(); }

    async::Task<Result<net::HttpResponse>> send(net::HttpRequest request) override;

 private:
    Result<void> refresh_files();
    Result<void> reconnect();
    Result<net::HttpRequest> with_credentials(net::HttpRequest request) const;
    bool exec_is_due() const;
    async::Task<Result<void>> refresh_exec(uint64_t seen_generation);
    async::Task<Result<void>> run_exec();
    async::Task<Result<net::HttpResponse>> send_once(net::HttpRequest request);

    async::Loop& loop_;
    Access access_;
    Connector connector_;
    std::shared_ptr<net::HttpTransport> inner_;
    TlsMaterial material_;
    Secret token_;
    TimePoint checked_at_{};
    std::optional<ExecCredential> exec_;
    uint64_t exec_generation_ = 0;
    async::Semaphore exec_lock_;
};

Result<void> AccessTransport::reconnect() {
    TlsMaterial material = material_;
    if (exec_ && !exec_->certificate_pem.empty()) {
        material.certificate_pem = exec_->certificate_pem;
        material.key_pem = exec_->key_pem;
    }
    BASALT_ASSIGN(inner_, connector_(access_, material));
    return {};
}

Result<void> AccessTransport::refresh_files() {
    checked_at_ = loop_.now();
    TlsMaterial fresh;
    BASALT_ASSIGN(fresh.ca_pem, access_.ca.read().context("certificate authority"));
    BASALT_ASSIGN(fresh.certificate_pem,
                  access_.client_certificate.read().context("client certificate"));
    BASALT_ASSIGN(fresh.key_pem, access_.client_key.read().context("client key"));
    BASALT_ASSIGN(token_, access_.token.read().context("token"));
    const bool same = inner_ && fresh.ca_pem == material_.ca_pem &&
                      fresh.certificate_pem == material_.certificate_pem &&
                      fresh.key_pem == material_.key_pem;
    if (same) return {};
    // Requests in progress keep the connections they have.
    std::swap(material_, fresh);
    Result<void> connected = reconnect();
    if (!connected.ok()) std::swap(material_, fresh);
    return connected;
}

/// A key of the user's extra as part of a header's name: what a name cannot hold is
/// percent-encoded, and the server decodes it
/// (https://kubernetes.io/docs/reference/access-authn-authz/authentication/ "User impersonation").
std::string extra_header(std::string_view key) {
    constexpr std::string_view kAllowed = "!#$&'*+-.^_`|~";
    std::string name = "impersonate-extra-";
    for (const char c : key) {
        const bool alphanumeric =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (alphanumeric || kAllowed.find(c) != std::string_view::npos) {
            name += c;
        } else {
            name += fmt::format("%{:02x}", static_cast<unsigned char>(c));
        }
    }
    return to_lower(name);
}

/// A request that says itself whom it is for keeps that.
void impersonate(const Access& access, net::Headers& headers) {
    if (access.impersonate_user.empty() || headers.contains("impersonate-user")) return;
    headers.set("impersonate-user", access.impersonate_user);
    if (!access.impersonate_uid.empty()) headers.set("impersonate-uid", access.impersonate_uid);
    for (const std::string& group : access.impersonate_groups)
        headers.add("impersonate-group", group);
    for (const auto& [key, values] : access.impersonate_extra) {
        for (const std::string& value : values) headers.add(extra_header(key), value);
    }
}

Result<net::HttpRequest> AccessTransport::with_credentials(net::HttpRequest request) const {
    std::string_view token = trim(token_.reveal());
    if (exec_ && !exec_->token.empty()) token = trim(exec_->token.reveal());
    if (token.find_first_of("\r\n") != std::string_view::npos)
        return invalid_argument("token: more than one line");
    if (!token.empty()) {
        request.headers.set("authorization", fmt::format("Bearer {}", token));
    } else if (!access_.username.empty()) {
        const std::string pair = fmt::format("{}:{}", access_.username, access_.password.reveal());
        request.headers.set("authorization", "Basic " + data::base64_encode(pair));
    }
    impersonate(access_, request.headers);
    return request;
}

bool AccessTransport::exec_is_due() const {
    if (!access_.exec) return false;
    if (!exec_) return true;
    return exec_->expires_at &&
           loop_.wall_now() + wall_duration(kExpiryMargin) >= *exec_->expires_at;
}

Value exec_info(const Access& access) {
    Value spec = Value::object({{"interactive", false}});
    if (access.exec->provide_cluster_info) {
        Value cluster = Value::object({{"server", access.server}});
        cluster.set_unless_empty("tls-server-name", access.tls_server_name);
        if (access.insecure_skip_verify) cluster.set("insecure-skip-tls-verify", true);
        Result<Secret> ca = access.ca.read();
        if (ca.ok() && !ca->empty()) {
            cluster.set("certificate-authority-data", data::base64_encode(ca->reveal()));
        }
        cluster.set_unless_empty("proxy-url", access.proxy_url);
        if (!access.exec_cluster_config.is_null())
            cluster.set("config", access.exec_cluster_config);
        spec.set("cluster", std::move(cluster));
    }
    Value info =
        Value::object({{"kind", "ExecCredential"}, {"apiVersion", access.exec->api_version}});
    info.set("spec", std::move(spec));
    return info;
}

Result<ExecCredential> parse_exec_credential(std::string_view text,
                                             const std::string& api_version) {
    BASALT_ASSIGN(const Value document, data::parse_json(text));
    if (document["kind"].as_string() != "ExecCredential" ||
        document["apiVersion"].as_string() != api_version) {
        return invalid_argument("the answer is no ExecCredential of version " + api_version);
    }
    const Value& status = document["status"];
    ExecCredential credential;
    credential.token = Secret(status["token"].as_string());
    credential.certificate_pem = Secret(status["clientCertificateData"].as_string());
    credential.key_pem = Secret(status["clientKeyData"].as_string());
    if (credential.token.empty() &&
        (credential.certificate_pem.empty() || credential.key_pem.empty())) {
        return invalid_argument("the answer holds neither a token nor a certificate with its key");
    }
    if (const std::string_view expiry = status["expirationTimestamp"].as_string();
        !expiry.empty()) {
        BASALT_ASSIGN(credential.expires_at, parse_rfc3339(expiry));
    }
    return credential;
}

async::Task<Result<void>> AccessTransport::run_exec() {
    async::SubprocessOptions options;
    options.argv.push_back(access_.exec->command);
    options.argv.insert(options.argv.end(), access_.exec->args.begin(), access_.exec->args.end());
    options.env = access_.exec->env;
    options.env.emplace_back("KUBERNETES_EXEC_INFO", data::to_json(exec_info(access_)));
    options.timeout = kExecTimeout;
    Result<async::SubprocessResult> ran = co_await async::run_subprocess(loop_, options);
    if (!ran.ok()) {
        Error error = std::move(ran).error();
        if (error.code() == Code::kNotFound && !access_.exec->install_hint.empty()) {
            error.add_context(access_.exec->install_hint);
        }
        co_return std::move(error).context("credential plugin");
    }
    if (ran->exit_code != 0) {
        const std::string_view words = trim(ran->error_output);
        co_return Error(Code::kUnauthenticated,
                        fmt::format("credential plugin {} ended with {}: {}", access_.exec->command,
                                    ran->exit_code, words.substr(0, 500)));
    }
    Result<ExecCredential> credential =
        parse_exec_credential(ran->output, access_.exec->api_version);
    secure_wipe(ran->output.data(), ran->output.size());
    if (!credential.ok()) co_return std::move(credential).error().context("credential plugin");
    const bool new_identity = !credential->certificate_pem.empty() &&
                              (!exec_ || !(exec_->certificate_pem == credential->certificate_pem));
    exec_ = std::move(*credential);
    ++exec_generation_;
    if (new_identity) {
        Result<void> connected = reconnect();
        if (!connected.ok()) co_return std::move(connected);
    }
    co_return Result<void>();
}

/// One run of the plugin serves all requests that wait for it.
async::Task<Result<void>> AccessTransport::refresh_exec(uint64_t seen_generation) {
    Result<void> locked = co_await exec_lock_.acquire();
    if (!locked.ok()) co_return std::move(locked);
    Result<void> ran;
    if (exec_generation_ == seen_generation) {
        ran = co_await run_exec();
    }
    exec_lock_.release();
    co_return std::move(ran);
}

async::Task<Result<net::HttpResponse>> AccessTransport::send_once(net::HttpRequest request) {
    Result<net::HttpRequest> authorized = with_credentials(std::move(request));
    if (!authorized.ok()) co_return std::move(authorized).error();
    const std::shared_ptr<net::HttpTransport> inner = inner_;
    Result<net::HttpResponse> response = co_await inner->send(std::move(*authorized));
    co_return std::move(response);
}

async::Task<Result<net::HttpResponse>> AccessTransport::send(net::HttpRequest request) {
    if (loop_.now() - checked_at_ >= kRecheckInterval) {
        Result<void> refreshed = refresh_files();
        // Half-written files are mended soon; what was read before may still be good.
        if (!refreshed.ok())
            log_warn("credentials not read", {{"error", refreshed.error().to_string()}});
    }
    if (exec_is_due()) {
        Result<void> ran = co_await refresh_exec(exec_generation_);
        if (!ran.ok()) co_return std::move(ran).error();
    }
    const uint64_t generation = exec_generation_;
    const Secret token = token_;
    net::HttpRequest again = request;
    Result<net::HttpResponse> response = co_await send_once(std::move(request));
    if (!response.ok() || response->status != 401) co_return std::move(response);
    // Refused: perhaps the credential was replaced in between.
    if (access_.exec) {
        Result<void> ran = co_await refresh_exec(generation);
        if (!ran.ok()) co_return std::move(response);
    } else {
        Result<void> refreshed = refresh_files();
        if (!refreshed.ok() || token_ == token) co_return std::move(response);
    }
    response = co_await send_once(std::move(again));
    co_return std::move(response);
}

/// A stream to `target` through an HTTP proxy.
async::Task<Result<std::unique_ptr<net::Stream>>> dial_through_proxy(async::Loop& loop,
                                                                     net::Endpoint proxy,
                                                                     std::string target) {
    Result<std::unique_ptr<net::Stream>> stream = co_await net::connect(loop, proxy);
    if (!stream.ok()) co_return std::move(stream);
    std::string head = fmt::format("CONNECT {} HTTP/1.1\r\nHost: {}\r\n\r\n", target, target);
    Result<void> written = co_await (*stream)->write(std::move(head));
    if (!written.ok()) co_return std::move(written).error();
    std::string answer;
    // Byte by byte, so that nothing behind the header is taken; it is short.
    while (!answer.ends_with("\r\n\r\n")) {
        Result<std::string> bytes = co_await (*stream)->read(1);
        if (!bytes.ok()) co_return std::move(bytes).error();
        if (bytes->empty() || answer.size() > kMaxProxyAnswer)
            co_return unavailable("the proxy broke off");
        answer += *bytes;
    }
    const std::string_view line = std::string_view(answer).substr(0, answer.find("\r\n"));
    constexpr size_t kVersionSize = std::string_view("HTTP/1.1").size();
    if (!line.starts_with("HTTP/1.") || line.size() < kVersionSize ||
        !line.substr(kVersionSize).starts_with(" 200")) {
        co_return unavailable(fmt::format("the proxy refuses: {}", line));
    }
    co_return std::move(stream);
}

Result<std::shared_ptr<net::HttpTransport>> connect_access(async::Loop& loop, const Access& access,
                                                           const TlsMaterial& material) {
    BASALT_ASSIGN(net::Url url, net::parse_url(access.server).context("server"));
    net::HttpClientOptions options;
    if (url.scheme == "https") {
        net::TlsConfig tls;
        tls.ca_pem = material.ca_pem.reveal();
        tls.use_system_roots = material.ca_pem.empty() && !access.insecure_skip_verify;
        tls.cert_pem = material.certificate_pem.reveal();
        tls.key_pem = material.key_pem;
        tls.alpn = {"h2", "http/1.1"};
        tls.server_name = access.tls_server_name;
        tls.insecure_skip_verify = access.insecure_skip_verify;
        BASALT_ASSIGN(options.tls, net::make_tls_client(std::move(tls)).context(access.server));
    }
    if (!access.proxy_url.empty()) {
        BASALT_ASSIGN(const net::Url proxy, net::parse_url(access.proxy_url).context("proxy-url"));
        if (proxy.scheme != "http") {
            return invalid_argument(fmt::format(
                "proxy-url: only http:// proxies are supported, not {}://", proxy.scheme));
        }
        const bool v6 = url.host.find(':') != std::string::npos;
        const std::string target =
            fmt::format(fmt::runtime(v6 ? "[{}]:{}" : "{}:{}"), url.host, url.port);
        const net::Endpoint endpoint = net::Endpoint::tcp(proxy.host, proxy.port);
        options.dialer = [&loop, endpoint, target] {
            return dial_through_proxy(loop, endpoint, target);
        };
    }
    return std::shared_ptr<net::HttpTransport>(
        net::make_http_client(loop, std::move(url), std::move(options)));
}

}  // namespace

Result<std::shared_ptr<net::HttpTransport>> make_transport(async::Loop& loop, const Access& access,
                                                           Connector connector) {
    auto transport = std::make_shared<AccessTransport>(loop, access, std::move(connector));
    BASALT_TRY(transport->init());
    return std::shared_ptr<net::HttpTransport>(std::move(transport));
}

Result<std::shared_ptr<net::HttpTransport>> make_transport(async::Loop& loop,
                                                           const Access& access) {
    return make_transport(loop, access, [&loop](const Access& each, const TlsMaterial& material) {
        return connect_access(loop, each, material);
    });
}

}  // namespace basalt::kube
