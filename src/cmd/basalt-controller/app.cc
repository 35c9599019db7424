#include "cmd/basalt-controller/app.h"

#include <csignal>
#include <unistd.h>

#include <fmt/format.h>

#include "async/real_loop.h"
#include "controller/events.h"
#include "controller/http_endpoint.h"
#include "controller/manager.h"
#include "controlplane/control_plane_controller.h"
#include "controlplane/datastore_controller.h"
#include "kube/config.h"
#include "net/http_client.h"
#include "pki/kubeconfig.h"

namespace basalt::cmd {
namespace {

using namespace controlplane;  // NOLINT: this file is the wiring of that module

constexpr std::string_view kLeaseName = "basalt-controller";

std::string host_name() {
    char name[256] = {};
    if (gethostname(name, sizeof name - 1) != 0) return "unknown";
    return name;
}

Result<void> configure_logging(const ControllerFlags& flags) {
    LogOptions options;
    BASALT_ASSIGN(options.level, parse_log_level(flags.log_level));
    BASALT_ASSIGN(options.format, parse_log_format(flags.log_format));
    configure_log(std::move(options));
    return {};
}

// To a tenant's API server, as its super-admin: that right no RBAC rule of the tenant can take away.
TenantConnector tenant_connector(async::Loop& loop) {
    return [&loop](const std::string& server, const std::string& server_name,
                   const SecretData& admin) -> Result<std::shared_ptr<net::HttpTransport>> {
        auto file = admin.find("super-admin.svc");
        if (file == admin.end()) return failed_precondition("the admin kubeconfig lacks super-admin.svc");
        BASALT_ASSIGN(pki::Kubeconfig kubeconfig, pki::parse_kubeconfig(file->second));
        net::TlsConfig config;
        config.ca_pem = kubeconfig.ca_pem;
        config.cert_pem = kubeconfig.client_certificate_pem;
        config.key_pem = kubeconfig.client_key_pem;
        config.server_name = server_name;
        config.alpn = {"h2", "http/1.1"};
        net::HttpClientOptions options;
        BASALT_ASSIGN(options.tls, net::make_tls_client(std::move(config)));
        BASALT_ASSIGN(net::Url url, net::parse_url(server));
        return std::shared_ptr<net::HttpTransport>(net::make_http_client(loop, url, std::move(options)));
    };
}

kube::ClientOptions client_options() {
    kube::ClientOptions options;
    options.user_agent = "basalt-controller";
    options.qps = 200;
    options.burst = 400;
    return options;
}

controller::ManagerOptions manager_options(const ControllerFlags& flags, async::Loop& loop) {
    controller::ManagerOptions options;
    if (!flags.leader_elect) return options;
    controller::LeaderElector::Options leader;
    leader.ns = flags.namespace_name;
    leader.name = kLeaseName;
    leader.identity = fmt::format("{}_{:x}", flags.identity.empty() ? host_name() : flags.identity, loop.random());
    options.leader = leader;
    return options;
}

controller::EventRecorder::Options event_options(const ControllerFlags& flags) {
    controller::EventRecorder::Options options;
    options.controller = "basalt.dev/control-plane";
    options.instance = flags.identity.empty() ? host_name() : flags.identity;
    return options;
}

// All parts of the process, in order of construction.
class App {
 public:
    App(async::RealLoop& loop, std::shared_ptr<net::HttpTransport> transport, const ControllerFlags& flags)
        : client_(loop, transport, client_options()),
          lease_client_(loop, transport, client_options()),
          manager_(client_, lease_client_, manager_options(flags, loop)),
          events_(client_, event_options(flags)),
          control_planes_(manager_, datastores_, keys_, events_, tenant_connector(loop), options_of(flags)),
          datastore_controller_(manager_, datastores_, events_, etcd_connector(loop), datastore_options(flags),
                                [this](const std::string& name) { control_planes_.datastore_changed(name); }),
          group_(loop) {
        client_.set_write_guard([this] { return manager_.check_leading(); });
        auto router = std::make_shared<controller::Router>();
        controller::add_health_routes(*router, manager_.health());
        controller::HttpEndpoint::Options endpoint_options;
        health_ = std::make_unique<controller::HttpEndpoint>(
            loop, net::Endpoint::tcp(flags.health_address, static_cast<uint16_t>(flags.health_port)), router,
            endpoint_options);
        manager_.add_runnable("health", [this] { return health_->run(); }, false);
    }

    async::Task<void> run(async::RealLoop* loop, Result<void>* outcome) {
        events_.start(group_);
        Result<void> result = co_await manager_.run();
        *outcome = std::move(result);
        co_await control_planes_.stop();
        co_await datastore_controller_.stop();
        group_.cancel();
        co_await group_.join();
        loop->stop();
    }

 private:
    static ControlPlaneOptions options_of(const ControllerFlags& flags) {
        ControlPlaneOptions options;
        options.defaults.datastore = flags.datastore;
        options.image = flags.image;
        options.workers_count = flags.workers_count;
        return options;
    }
    static DataStoreOptions datastore_options(const ControllerFlags& flags) {
        DataStoreOptions options;
        options.defaults.datastore = flags.datastore;
        return options;
    }

    kube::Client client_;
    kube::Client lease_client_;
    controller::Manager manager_;
    controller::EventRecorder events_;
    pki::SystemKeySource keys_;
    DataStoreRegistry datastores_;
    ControlPlaneController control_planes_;
    DataStoreController datastore_controller_;
    std::unique_ptr<controller::HttpEndpoint> health_;
    async::TaskGroup group_;
};

}  // namespace

Result<void> run_controller(const ControllerFlags& flags) {
    BASALT_TRY(configure_logging(flags));
    async::RealLoop loop(1);
    kube::AccessQuery query;
    query.kubeconfig = flags.kubeconfig;
    BASALT_ASSIGN(kube::Access access, kube::find_access(query, kube::process_environment()));
    BASALT_ASSIGN(std::shared_ptr<net::HttpTransport> transport, kube::make_transport(loop, access));

    App app(loop, std::move(transport), flags);
    async::TaskGroup main(loop);
    Result<void> outcome;
    main.spawn(app.run(&loop, &outcome));
    for (int signal : {SIGTERM, SIGINT}) {
        loop.on_signal(signal, [&main] { main.cancel(); });
    }
    loop.run();
    return outcome;
}

}  // namespace basalt::cmd
