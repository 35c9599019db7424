#include "cmd/basalt-controller/app.h"

#include <unistd.h>
#include <csignal>

#include <fmt/format.h>

#include "base/ip.h"
#include "base/strings.h"
#include "controller/http_endpoint.h"
#include "controller/manager.h"
#include "controller/webhook_certificate.h"
#include "controlplane/control_plane_controller.h"
#include "controlplane/datastore_controller.h"
#include "controlplane/kubeconfig_generator.h"
#include "controlplane/metrics.h"
#include "controlplane/names.h"
#include "controlplane/tenant_connector.h"
#include "controlplane/webhooks.h"
#include "kube/config.h"

namespace basalt::cmd {

namespace {

constexpr const char* kLeaseName = "basalt-controller";
constexpr const char* kCertificateSecret = "basalt-controller-webhook";
// On the webhook configurations that get our certificate's authority.
constexpr const char* kWebhookSelector = "basalt.dev/webhook=basalt-controller";
constexpr Duration kGoodbye = std::chrono::milliseconds(50);
// A pass may make a few dozen requests; bursts of many control planes are the server's to order.
constexpr double kRequestsPerSecond = 400;
constexpr double kRequestsBurst = 800;

/// Probes and scrapers send no bodies and are few.
net::HttpServerOptions small_server() {
    net::HttpServerOptions options;
    options.max_connections = 64;
    options.max_body_size = 1024;
    return options;
}

/// API servers keep a connection for each call at a time and close those that they do not need.
net::HttpServerOptions webhook_server() {
    net::HttpServerOptions options;
    options.max_connections = 128;
    options.max_buffered_size = 64 * 1024 * 1024;
    return options;
}

std::string host_name() {
    char name[256] = {};
    if (::gethostname(name, sizeof name - 1) != 0) return "unknown";
    return name;
}

/// ":8443" and "8443" listen on all addresses; "0" and "" on none.
Result<std::optional<net::Endpoint>> bind_address(const std::string& text) {
    if (text.empty() || text == "0") return std::optional<net::Endpoint>();
    std::string full = text;
    if (full.find(':') == std::string::npos) full = ":" + full;
    if (full.front() == ':') full = "[::]" + full;
    BASALT_ASSIGN(net::Endpoint endpoint, net::parse_endpoint(full).context("listen on " + text));
    return std::optional<net::Endpoint>(std::move(endpoint));
}

kube::ClientOptions client_options(double qps, double burst, kube::RequestObserver observer) {
    kube::ClientOptions options;
    options.user_agent = "basalt-controller/" BASALT_VERSION;
    options.field_manager = std::string(controlplane::names::kFieldManager);
    options.qps = qps;
    options.burst = burst;
    options.observer = std::move(observer);
    return options;
}

std::string instance_name(const ControllerOptions& options) {
    return options.identity.empty() ? host_name() : options.identity;
}

controller::ManagerOptions manager_options(const ControllerOptions& options,
                                           const std::string& identity) {
    controller::ManagerOptions result;
    if (!options.leader_elect) return result;
    result.leader.emplace();
    result.leader->ns = options.namespace_name;
    result.leader->name = kLeaseName;
    result.leader->identity = identity;
    return result;
}

controller::EventRecorder::Options event_options(const ControllerOptions& from) {
    controller::EventRecorder::Options options;
    options.controller = "basalt.dev/control-plane";
    options.instance = instance_name(from);
    return options;
}

controlplane::DataStoreOptions datastore_options(const ControllerOptions& options) {
    controlplane::DataStoreOptions result;
    result.defaults.datastore = options.datastore;
    return result;
}

controlplane::ControlPlaneOptions control_plane_options(const ControllerOptions& options) {
    controlplane::ControlPlaneOptions result;
    result.defaults.datastore = options.datastore;
    result.image = options.image;
    result.protected_ranges = options.protected_ranges;
    result.dns_addresses = options.dns_addresses;
    result.workers_count = options.workers_count;
    return result;
}

controlplane::BuildInfo build_info() {
    controlplane::BuildInfo build;
    build.version = BASALT_VERSION;
    return build;
}

struct Transports {
    std::shared_ptr<net::HttpTransport> work, lease;
};

// Everything in the order in which it depends on each other.
class App {
 public:
    App(async::Loop& loop, const ControllerOptions& options, const Transports& transports)
        : loop_(loop),
          options_(options),
          client_(loop, transports.work,
                  client_options(kRequestsPerSecond, kRequestsBurst, observer())),
          // Leases and answers to webhooks do not wait behind the work; nor are they its leader's
          // privilege.
          lease_client_(loop, transports.lease, client_options(20, 40, observer())),
          open_client_(loop, transports.work,
                       client_options(kRequestsPerSecond, kRequestsBurst, observer())),
          // Whoever reaches the metrics' port can make it ask about any token.
          review_client_(loop, transports.work, client_options(10, 20, observer())),
          manager_(
              client_, lease_client_,
              manager_options(options, controller::make_identity(loop, instance_name(options)))),
          events_(client_, event_options(options)),
          data_stores_(
              manager_, registry_, events_, controlplane::etcd_connector(loop),
              datastore_options(options),
              [this](const std::string& name) { control_planes_.datastore_changed(name); }),
          control_planes_(manager_, registry_, keys_, events_, controlplane::tenant_connector(loop),
                          control_plane_options(options)),
          generators_(manager_, keys_, events_),
          metrics_(manager_, build_info()),
          webhooks_(manager_, open_client_, control_plane_options(options).defaults),
          authorizer_(review_client_) {
        observe_ = manager_.metrics().request_observer();
        client_.set_write_guard([this] { return manager_.check_leading(); });
        controller::add_process_metrics(manager_.metrics(), loop.wall_now());
        manager_.add_runnable("events", [this] { return events_.run(); }, true);
    }

    /// Adds the servers; before run().
    Result<void> listen() {
        BASALT_ASSIGN(std::optional<net::Endpoint> health, bind_address(options_.health_address));
        if (health) {
            controller::add_health_routes(*health_router_, manager_.health());
            add_endpoint("health", *health, health_router_, false, small_server(),
                         health_endpoint_);
        }
        BASALT_ASSIGN(std::optional<net::Endpoint> metrics, bind_address(options_.metrics_address));
        if (metrics) {
            controller::add_metrics_route(*metrics_router_, manager_.metrics(),
                                          options_.metrics_secure ? &authorizer_ : nullptr);
            add_endpoint("metrics", *metrics, metrics_router_, options_.metrics_secure,
                         small_server(), metrics_endpoint_);
        }
        if (options_.webhook_port != 0) {
            webhooks_.add_routes(*webhook_router_);
            controller::measure_webhooks(*webhook_router_, loop_, manager_.metrics());
            net::Endpoint address =
                net::Endpoint::tcp("::", static_cast<uint16_t>(options_.webhook_port));
            add_endpoint("webhooks", address, webhook_router_, true, webhook_server(),
                         webhook_endpoint_);
            manager_.health().add_ready_check("webhooks", [this]() -> Result<void> {
                if (webhook_endpoint_->endpoint()) return {};
                return unavailable("not listening yet");
            });
        }
        if (options_.webhook_port != 0 || (metrics && options_.metrics_secure)) add_certificate();
        return {};
    }

    async::Task<Result<void>> run() {
        Result<void> ran = co_await manager_.run();
        co_await data_stores_.stop();
        co_return std::move(ran);
    }

 private:
    /// For clients that are made before the metrics.
    kube::RequestObserver observer() {
        return [this](std::string_view method, std::string_view host, int status, Duration took) {
            if (observe_) observe_(method, host, status, took);
        };
    }

    void add_endpoint(const char* name, const net::Endpoint& address,
                      std::shared_ptr<controller::Router> router, bool tls,
                      net::HttpServerOptions server,
                      std::unique_ptr<controller::HttpEndpoint>& endpoint) {
        controller::HttpEndpoint::Options options;
        options.tls = tls;
        options.server = std::move(server);
        endpoint =
            std::make_unique<controller::HttpEndpoint>(loop_, address, std::move(router), options);
        controller::HttpEndpoint* raw = endpoint.get();
        manager_.add_runnable(name, [raw] { return raw->run(); }, false);
    }

    void add_certificate() {
        controller::WebhookCertificate::Options options;
        options.ns = options_.namespace_name;
        options.secret_name = kCertificateSecret;
        const std::string service =
            fmt::format("{}.{}", options_.service_name, options_.namespace_name);
        options.dns_names = {options_.service_name, service, service + ".svc",
                             service + ".svc.cluster.local"};
        options.selector = kWebhookSelector;
        certificate_ = std::make_unique<controller::WebhookCertificate>(
            open_client_, manager_.caches(), keys_, options,
            [this](std::shared_ptr<const net::TlsContext> tls) {
                use_certificate(std::move(tls));
            });
        manager_.add_runnable("webhook certificate", [this] { return certificate_->run(); }, false);
    }

    void use_certificate(std::shared_ptr<const net::TlsContext> tls) {
        if (webhook_endpoint_) webhook_endpoint_->set_tls(tls);
        if (metrics_endpoint_ && options_.metrics_secure)
            metrics_endpoint_->set_tls(std::move(tls));
    }

    async::Loop& loop_;
    ControllerOptions options_;
    kube::RequestObserver observe_;
    kube::Client client_, lease_client_, open_client_, review_client_;
    controller::Manager manager_;
    pki::SystemKeySource keys_;
    controller::EventRecorder events_;
    controlplane::DataStoreRegistry registry_;
    controlplane::DataStoreController data_stores_;
    controlplane::ControlPlaneController control_planes_;
    controlplane::KubeconfigGeneratorController generators_;
    controlplane::ControlPlaneMetrics metrics_;
    controlplane::Webhooks webhooks_;
    controller::RequestAuthorizer authorizer_;
    std::shared_ptr<controller::Router> health_router_ = std::make_shared<controller::Router>();
    std::shared_ptr<controller::Router> metrics_router_ = std::make_shared<controller::Router>();
    std::shared_ptr<controller::Router> webhook_router_ = std::make_shared<controller::Router>();
    std::unique_ptr<controller::HttpEndpoint> health_endpoint_, metrics_endpoint_,
        webhook_endpoint_;
    std::unique_ptr<controller::WebhookCertificate> certificate_;
};

async::Task<void> run_to_end(async::RealLoop& loop, App* app,
                             std::optional<Result<void>>* outcome) {
    Result<void> ran = co_await app->run();
    outcome->emplace(std::move(ran));
    loop.stop();
}

Result<void> configure(const ControllerOptions& options) {
    LogOptions log;
    BASALT_ASSIGN(log.level, parse_log_level(options.log_level).context("--log-level"));
    BASALT_ASSIGN(log.format, parse_log_format(options.log_format).context("--log-format"));
    configure_log(log);
    BASALT_TRY(controlplane::check_ranges(options.protected_ranges).context("--protected-ranges"));
    for (const std::string& address : options.dns_addresses) {
        if (is_ip_address(address)) continue;
        return invalid_argument(fmt::format("--dns-addresses: \"{}\" is no address", address));
    }
    if (options.protected_ranges.empty()) {
        log_info("no --protected-ranges: control planes without a tunnel do not reach their nodes");
    }
    for (const std::string& name : options.ignored)
        log_warn("this flag has no effect", {{"flag", name}});
    return {};
}

}  // namespace

Result<void> run_controller(const ControllerOptions& options) {
    BASALT_TRY(configure(options));
    async::RealLoop loop;
    kube::AccessQuery query;
    query.kubeconfig = options.kubeconfig;
    BASALT_ASSIGN(kube::Access access, kube::find_access(query, kube::process_environment()));
    Transports transports;
    BASALT_ASSIGN(transports.work, kube::make_transport(loop, access));
    BASALT_ASSIGN(transports.lease, kube::make_transport(loop, access));

    auto app = std::make_unique<App>(loop, options, transports);
    BASALT_TRY(app->listen());
    async::TaskGroup group(loop);
    std::optional<Result<void>> outcome;
    int signals_count = 0;
    auto on_signal = [&] {
        if (++signals_count == 1) {
            log_info("ending");
            group.cancel();
        } else {
            std::_Exit(1);  // Whoever asks twice does not want to wait.
        }
    };
    loop.on_signal(SIGTERM, on_signal);
    loop.on_signal(SIGINT, on_signal);
    ::signal(SIGPIPE, SIG_IGN);
    log_info(
        "starting",
        {{"version", BASALT_VERSION}, {"server", access.server}, {"datastore", options.datastore}});
    group.spawn(run_to_end(loop, app.get(), &outcome));
    loop.run();
    // Connections close; their last callbacks want a loop.
    app.reset();
    transports = {};
    loop.call_at(loop.now() + kGoodbye, [&loop] { loop.stop(); });
    loop.run();
    return outcome ? std::move(*outcome) : Result<void>();
}

}  // namespace basalt::cmd
