#include "tests/sim/instance.h"

#include <fmt/format.h>

#include "net/url.h"
#include "tests/sim/world.h"

namespace basalt::sim {

using namespace std::chrono_literals;

namespace {

constexpr const char* kLease = "basalt-controller";
/// Before each step of a process that wakes: what it left is not in memory.
constexpr Duration kWakingPause = 100ms;

}  // namespace

kube::ClientOptions Instance::client_options() {
    kube::ClientOptions options;
    options.user_agent = "basalt-controller";
    options.qps = 200;
    options.burst = 400;
    return options;
}

controller::ManagerOptions Instance::manager_options(const std::string& identity) const {
    controller::LeaderElector::Options leader;
    leader.ns = "basalt-system";
    leader.name = kLease;
    leader.identity = identity;
    controller::ManagerOptions options;
    options.leader = leader;
    return options;
}

Instance::Instance(World& world, std::string name, uint64_t seed)
    : world_(world),
      loop_(world.loop()),
      name_(std::move(name)),
      identity_(name_),
      keys_(seed),
      connection_(std::make_shared<Connection>(world.loop(), loop_, world.chaos(), name_, link_,
                                               [&world]() -> Result<std::shared_ptr<ApiServer>> {
                                                   // The world outlives its processes.
                                                   return std::shared_ptr<ApiServer>(
                                                       std::shared_ptr<void>(), &world.api());
                                               })),
      client_(loop_, connection_, client_options()),
      lease_client_(loop_, connection_, client_options()),
      manager_(client_, lease_client_, manager_options(identity_)),
      events_(client_,
              [this] {
                  controller::EventRecorder::Options options;
                  options.controller = "basalt.dev/control-plane";
                  options.instance = name_;
                  return options;
              }()),
      control_planes_(manager_, registry_, keys_, events_, tenant_connector(),
                      [] {
                          controlplane::ControlPlaneOptions options;
                          options.image = "ghcr.io/basalt/basalt:sim";
                          return options;
                      }()),
      datastores_(manager_, registry_, events_, etcd_connector(), controlplane::DataStoreOptions(),
                  [this](const std::string& store) { control_planes_.datastore_changed(store); }),
      generators_(manager_, keys_, events_),
      group_(loop_) {
    client_.set_write_guard([this] { return manager_.check_leading(); });
    connection_->crash_point = [this](bool after_effect) {
        if (writes_left_ == 0) return false;
        if (!after_effect && (writes_left_ > 1 || crash_after_effect_)) return false;
        if (after_effect && --writes_left_ > 0) return false;
        ended_ = true;
        return true;
    };
    manager_.add_runnable("events", [this] { return events_.run(); }, true);
    group_.spawn(run());
}

Instance::~Instance() = default;

async::Task<void> Instance::run() {
    Result<void> result = co_await manager_.run();
    (void)result;
    co_await datastores_.stop();
    ended_ = true;
}

void Instance::cut_off(Duration duration) { link_->blocked_until = world_.loop().now() + duration; }

void Instance::freeze(Duration duration, Duration waking) {
    loop_.freeze();
    recovery_timer_ = world_.loop().call_at(world_.loop().now() + duration, [this, waking] {
        if (waking > Duration(0)) {
            slow_down(waking, kWakingPause);
        } else {
            recover();
        }
    });
}

void Instance::slow_down(Duration duration, Duration pause_max) {
    Chaos& chaos = world_.chaos();
    loop_.slow_down([&chaos, pause_max] { return chaos.between(0s, pause_max); });
    recovery_timer_ = world_.loop().call_at(world_.loop().now() + duration, [this] { recover(); });
}

void Instance::recover() {
    world_.loop().cancel_timer(recovery_timer_);
    loop_.recover();
}

bool Instance::is_disturbed() const {
    return loop_.frozen() || loop_.slow() || link_->blocked_until > world_.loop().now();
}

void Instance::mend() {
    recover();
    loop_.set_clock(Duration(0));
    link_->blocked_until = TimePoint();
}

async::Task<void> Instance::stop() {
    co_await control_planes_.stop();
    co_await datastores_.stop();
}

void Instance::crash_at_write(uint64_t count, bool after_effect) {
    writes_left_ = count;
    crash_after_effect_ = after_effect;
}

void Instance::kill() {
    connection_->kill();
    mend();
    for (const auto& weak : tenant_connections_) {
        if (auto connection = weak.lock()) connection->kill();
    }
    group_.cancel();
    async::SimLoop& loop = world_.loop();
    auto run_empty = [&](async::TaskGroup& group) {
        const bool empty = loop.run_until([&] { return group.size() == 0; }, 10min);
        if (!empty) world_.faults.push_back(fmt::format("{} does not end after its death", name_));
    };
    run_empty(group_);
    async::TaskGroup stopping(loop_);
    stopping.spawn(stop());
    run_empty(stopping);
}

controlplane::TenantConnector Instance::tenant_connector() {
    return
        [this](
            const std::string& server, const std::string& server_name,
            const controlplane::SecretData& admin) -> Result<std::shared_ptr<net::HttpTransport>> {
            World* world = &world_;
            auto connection = std::make_shared<Connection>(
                world->loop(), loop_, world->chaos(), name_, link_,
                [world, server, server_name, admin] {
                    return world->dial_tenant(server, server_name, admin);
                });
            tenant_connections_.push_back(connection);
            connection->crash_point = connection_->crash_point;
            if (connection_->killed()) connection->kill();
            return std::shared_ptr<net::HttpTransport>(connection);
        };
}

controlplane::EtcdConnector Instance::etcd_connector() {
    return [this](const controlplane::DataStoreMaterial& material)
               -> Result<std::shared_ptr<etcd::Client>> {
        const std::string host =
            material.endpoints.at(0).substr(0, material.endpoints.at(0).find('.'));
        Datastore& store = world_.datastore(host);
        BASALT_ASSIGN(pki::KeyPair pair, pki::parse_key_pair(material.client_certificate_pem,
                                                             material.client_key_pem));
        if (!pair.certificate.is_signed_by(store.ca.certificate()))
            return unavailable("etcd: bad certificate");
        return std::shared_ptr<etcd::Client>(
            store.model.connect(pair.certificate.common_name(), name_));
    };
}

}  // namespace basalt::sim
