#include "tests/integration/control_plane_world.h"

#include <filesystem>
#include <fstream>
#include <sstream>

#include <fmt/format.h>

#include "base/assert.h"
#include "controller/events.h"
#include "controller/manager.h"
#include "controlplane/names.h"
#include "data/base64.h"
#include "data/json.h"
#include "data/patch.h"
#include "data/yaml.h"
#include "etcd/tenancy.h"

namespace basalt::integration {

using namespace std::chrono_literals;
using namespace controlplane;
namespace fs = std::filesystem;
namespace resources = kube::resources;

namespace {

Value yaml(const std::string& text) {
    Result<Value> parsed = data::parse_yaml(text);
    EXPECT_TRUE(parsed.ok()) << text;
    return parsed.ok() ? *parsed : Value();
}

std::string read_file(const fs::path& path) {
    std::ifstream in(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
}

Value inline_content(const std::string& pem) {
    return Value::object({{"content", data::base64_encode(pem)}});
}

std::string replace_all(std::string text, const std::string& from, const std::string& to) {
    for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
        text.replace(at, from.size(), to);
    return text;
}

const Value& container_of(const Value& deployment, std::string_view name) {
    static const Value kNone;
    for (const Value& item : deployment["spec"]["template"]["spec"]["containers"].items()) {
        if (item["name"].as_string() == name) return item;
    }
    return kNone;
}

DataStoreOptions datastore_options(const std::string& main) {
    DataStoreOptions options;
    options.defaults.datastore = main;
    options.healthy_interval = 2s;
    options.relief_backoff_min = 1s;
    return options;
}

ControlPlaneOptions control_plane_options(const std::string& main) {
    ControlPlaneOptions options;
    options.defaults.datastore = main;
    options.image = "basalt:test";
    return options;
}

controller::EventRecorder::Options event_options() {
    controller::EventRecorder::Options options;
    options.controller = "basalt.dev/test";
    options.instance = "test-1";
    return options;
}

}  // namespace

struct ControlPlaneTest::Controllers {
    Controllers(kube::Client& for_work, DataStoreRegistry& registry, TenantConnector connector)
        : loop(for_work.loop()),
          manager(for_work, for_work),
          events(for_work, event_options()),
          datastores(manager, registry, events, etcd_connector(loop), datastore_options("none"),
                     [this](const std::string& name) { planes.datastore_changed(name); }),
          planes(manager, registry, keys, events, std::move(connector),
                 control_plane_options("none")),
          group(loop) {
        events.start(group);
        group.spawn("manager", manager.run());
    }
    async::Task<void> end() {
        co_await planes.stop();
        co_await datastores.stop();
    }

    async::Loop& loop;
    controller::Manager manager;
    pki::SystemKeySource keys;
    controller::EventRecorder events;
    DataStoreController datastores;
    ControlPlaneController planes;
    async::TaskGroup group;
};

ControlPlaneTest::ControlPlaneTest() = default;
ControlPlaneTest::~ControlPlaneTest() = default;

void ControlPlaneTest::SetUp() {
    KubeTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    if (etcd::etcd_programs().empty()) GTEST_SKIP() << "no etcd";
    run_id_ = fmt::format("{:06x}", loop->random() & 0xffffff);
    ns_ = make_namespace();
    install_kinds();
}

void ControlPlaneTest::TearDown() {
    if (!loop) return;
    stop_controllers();
    // The finalizers are ours, and nobody is there to take them away.
    const Value none = yaml("{metadata: {finalizers: null}}");
    for (const kube::Resource* resource : {&tenant_control_planes(), &data_stores()}) {
        auto list = run(client->list(*resource));
        if (!list.ok()) continue;
        for (const Value& item : list->items) {
            (void)run(client->merge_patch(*resource, kube::key_of(item), none));
            (void)run(client->remove(*resource, kube::key_of(item)));
        }
    }
    tenants_.clear();
    pods_.clear();
    roots_.clear();
    stores_.clear();
    KubeTest::TearDown();
}

void ControlPlaneTest::install_kinds() {
    const fs::path directory = fs::path(BASALT_SOURCE_DIR) / "deploy" / "crds";
    for (const auto& entry : fs::directory_iterator(directory)) {
        Value crd = yaml(read_file(entry.path()));
        Result<Value> applied =
            run(client->apply(resources::custom_resource_definitions(), std::move(crd)));
        ASSERT_TRUE(applied.ok()) << applied.error().to_string();
    }
    for (const kube::Resource* resource : {&tenant_control_planes(), &data_stores()}) {
        ASSERT_TRUE(wait_until([&] { return run(client->list(*resource)).ok(); }, 30s));
    }
}

std::string ControlPlaneTest::add_datastore(const std::string& name,
                                            std::vector<std::string> flags) {
    const std::string unique = name + "-" + run_id_;
    auto process =
        std::make_unique<etcd::EtcdProcess>(etcd::etcd_programs().front(), std::move(flags));
    const net::TlsConfig tls = process->tls_config("root");
    roots_[unique] = process->client(*loop, "root");
    Result<bool> on = run(etcd::ensure_auth(*roots_[unique]));
    EXPECT_TRUE(on.ok()) << on.error().to_string();
    Value object = kube::make_object(data_stores(), ObjectKey(unique));
    Value& spec = object.at("spec");
    spec.set("driver", "etcd").set("endpoints", Value::array({process->endpoint()}));
    Value& authority = spec.at("tlsConfig").at("certificateAuthority");
    authority.set("certificate", inline_content(process->read("ca.pem")));
    authority.set("privateKey", inline_content(process->read("ca.key")));
    Value& user = spec.at("tlsConfig").at("clientCertificate");
    user.set("certificate", inline_content(tls.cert_pem));
    user.set("privateKey", inline_content(std::string(tls.key_pem.reveal())));
    Result<Value> created = run(client->create(data_stores(), std::move(object)));
    EXPECT_TRUE(created.ok()) << created.error().to_string();
    stores_[unique] = std::move(process);
    return unique;
}

int64_t ControlPlaneTest::count_keys(const std::string& datastore, const std::string& schema,
                                     const std::string& what) {
    const std::string prefix = fmt::format("/{}/{}", schema, what);
    etcd::KeyRange range{prefix, etcd::prefix_end(prefix)};
    Result<etcd::RangeResult> found = run(root_of(datastore).range(range, 1, true));
    EXPECT_TRUE(found.ok()) << found.error().to_string();
    return found.ok() ? found->count : -1;
}

void ControlPlaneTest::start_controllers() {
    Result<std::shared_ptr<net::HttpTransport>> transport =
        kube::make_transport(*loop, server->access());
    ASSERT_TRUE(transport.ok());
    kube::Client::Options options;
    options.qps = 0;
    options.field_manager = std::string(names::kFieldManager);
    work_ = std::make_unique<kube::Client>(*loop, *transport, options);
    controllers_ = std::make_unique<Controllers>(
        *work_, registry_,
        [this](const std::string& to, const std::string& name, const SecretData& admin) {
            return connect(to, name, admin);
        });
}

void ControlPlaneTest::stop_controllers() {
    if (!controllers_) return;
    controllers_->group.cancel();
    EXPECT_TRUE(wait_until([&] { return controllers_->group.size() == 0; }, 30s));
    async::TaskGroup last(*loop);
    last.spawn(controllers_->end());
    EXPECT_TRUE(wait_until([&] { return last.size() == 0; }, 30s));
    controllers_.reset();
    work_.reset();
    registry_ = DataStoreRegistry();
}

void ControlPlaneTest::create(const std::string& name, const std::string& datastore,
                              const std::string& patch) {
    Value object = yaml(fmt::format(R"(
apiVersion: kamaji.clastix.io/v1alpha1
kind: TenantControlPlane
metadata: {{name: {}, namespace: {}}}
spec:
  dataStore: {}
  controlPlane:
    deployment: {{replicas: 1}}
    service: {{serviceType: ClusterIP}}
  kubernetes: {{version: v{}}}
  networkProfile: {{port: {}}}
)",
                                    name, ns_, datastore, server->version(), free_port()));
    object = data::apply_merge_patch(std::move(object), yaml(patch));
    Result<Value> created = run(client->create(tenant_control_planes(), std::move(object)));
    ASSERT_TRUE(created.ok()) << created.error().to_string();
    pods_[name].directory = fmt::format("{}/{}-{}", server->directory(), ns_, name);
}

Value ControlPlaneTest::control_plane(const std::string& name) {
    Result<Value> object = run(client->get(tenant_control_planes(), ObjectKey(ns_, name)));
    return object.ok() ? *std::move(object) : Value();
}

Value ControlPlaneTest::condition(const std::string& name, std::string_view type) {
    const Value object = control_plane(name);
    return controller::find_condition(object["status"], type);
}

void ControlPlaneTest::patch(const std::string& name, const std::string& text) {
    Result<Value> patched =
        run(client->merge_patch(tenant_control_planes(), ObjectKey(ns_, name), yaml(text)));
    EXPECT_TRUE(patched.ok()) << patched.error().to_string();
}

bool ControlPlaneTest::wait_condition(const std::string& name, std::string_view type,
                                      std::string_view status, std::string_view reason,
                                      Duration limit) {
    Value last;
    const auto holds = [&] {
        last = condition(name, type);
        return last["status"].as_string() == status &&
               (reason.empty() || last["reason"].as_string() == reason);
    };
    if (wait_with_pods(holds, limit)) return true;
    ADD_FAILURE() << name << ": " << data::to_json(control_plane(name)["status"]["conditions"]);
    return false;
}

bool ControlPlaneTest::wait_ready(const std::string& name) {
    const auto holds = [&] {
        const Value object = control_plane(name);
        const Value& status = object["status"];
        return status["observedGeneration"].as_int() == kube::generation_of(object) &&
               controller::is_condition_true(status, kReady);
    };
    if (wait_with_pods(holds, 2min)) return true;
    ADD_FAILURE() << name << ": " << data::to_json(control_plane(name)["status"]["conditions"])
                  << read_file(pods_[name].directory + "/log").substr(0, 4000);
    return false;
}

bool ControlPlaneTest::wait_with_pods(const std::function<bool()>& done, Duration limit) {
    return wait_until(
        [&] {
            if (loop->now() < next_look_) return false;
            next_look_ = loop->now() + 100ms;
            follow_deployments();
            return done();
        },
        limit);
}

void ControlPlaneTest::follow_deployments() {
    for (auto& [name, pod] : pods_) {
        Result<Value> deployment = run(client->get(resources::deployments(), ObjectKey(ns_, name)));
        if (!deployment.ok() || kube::is_deleting(*deployment)) {
            pod.process.reset();
            pod.template_text.clear();
            if (deployment.ok()) {  // Foreground deletion: there are no Pods left.
                (void)run(client->merge_patch(resources::deployments(), ObjectKey(ns_, name),
                                              yaml("{metadata: {finalizers: null}}")));
            }
            continue;
        }
        std::string wanted = data::to_json((*deployment)["spec"]["template"]);
        if (wanted != pod.template_text) {
            start_pod(name, pod, *deployment);
            pod.template_text = std::move(wanted);
            pod.ready_generation = 0;
        }
        const int64_t generation = kube::generation_of(*deployment);
        if (pod.ready_generation != generation && can_connect(static_cast<uint16_t>(pod.port)) &&
            run(tenant(name).request_text("GET", "/readyz")).ok()) {
            Value status = yaml(
                fmt::format("{{status: {{observedGeneration: {}, replicas: 1, updatedReplicas: 1, "
                            "readyReplicas: 1, availableReplicas: 1}}}}",
                            generation));
            kube::WriteOptions options;
            options.subresource = "status";
            Result<Value> patched = run(client->merge_patch(resources::deployments(),
                                                            ObjectKey(ns_, name), status, options));
            EXPECT_TRUE(patched.ok()) << patched.error().to_string();
            pod.ready_generation = generation;
        }
        if (pod.ready_generation == generation &&
            !controller::is_condition_true(control_plane(name)["status"], kReady)) {
            sign_tokens(name);
        }
    }
}

// The projected volumes of kube-apiserver's container.
void ControlPlaneTest::write_files(const std::string& directory, const Value& deployment) {
    const Value& spec = deployment["spec"]["template"]["spec"];
    for (const Value& item : container_of(deployment, "kube-apiserver")["volumeMounts"].items()) {
        for (const Value& volume : spec["volumes"].items()) {
            if (!(volume["name"] == item["name"])) continue;
            const std::string path = directory + item["mountPath"].str();
            fs::create_directories(path);
            for (const Value& source : volume["projected"]["sources"].items()) {
                const Value content = secret(source["secret"]["name"].str());
                for (const Value& key : source["secret"]["items"].items()) {
                    auto bytes =
                        data::base64_decode(content["data"][key["key"].as_string()].as_string());
                    std::ofstream(path + "/" + key["path"].str(), std::ios::binary)
                        << (bytes.ok() ? *bytes : "");
                }
            }
        }
    }
}

void ControlPlaneTest::start_pod(const std::string& name, Pod& pod, const Value& deployment) {
    pod.process.reset();
    write_files(pod.directory, deployment);
    const char* cache = std::getenv("BASALT_BIN_CACHE");
    const std::string image = container_of(deployment, "kube-apiserver")["image"].str();
    std::vector<std::string> argv = {fmt::format("{}/kubernetes-{}/kube-apiserver",
                                                 cache != nullptr ? cache : "/var/cache/basalt/bin",
                                                 image.substr(image.rfind(':') + 1))};
    for (const Value& argument : container_of(deployment, "kube-apiserver")["args"].items()) {
        // Its other end is a container that does not run here.
        if (argument.as_string().rfind("--egress-selector-config-file=", 0) == 0) continue;
        argv.push_back(
            replace_all(argument.str(), "/etc/kubernetes/", pod.directory + "/etc/kubernetes/"));
    }
    argv.push_back("--bind-address=127.0.0.1");
    argv.push_back("--endpoint-reconciler-type=none");
    pod.port = control_plane(name)["spec"]["networkProfile"]["port"].as_int();
    pod.process = std::make_unique<Process>(std::move(argv), pod.directory + "/log");
    ++pod.starts_count;
}

void ControlPlaneTest::restart_pod(const std::string& name) {
    pods_.at(name).process.reset();
    pods_.at(name).template_text.clear();
}

Value ControlPlaneTest::secret(const std::string& name) {
    Result<Value> found = run(client->get(resources::secrets(), ObjectKey(ns_, name)));
    return found.ok() ? *std::move(found) : Value();
}

Result<std::shared_ptr<net::HttpTransport>> ControlPlaneTest::connect(
    const std::string& to, const std::string& server_name, const SecretData& admin) {
    const std::string here = "https://127.0.0.1" + to.substr(to.rfind(':'));
    return tenant_connector(*loop)(here, server_name, admin);
}

kube::Client& ControlPlaneTest::tenant(const std::string& name) {
    std::unique_ptr<kube::Client>& made = tenants_[name];
    if (made) return *made;
    const Value stored = secret(names::admin_kubeconfig(name));
    SecretData admin;
    for (const char* key : {"super-admin.svc", "admin.svc"}) {
        auto bytes = data::base64_decode(stored["data"][key].as_string());
        // As the tenant has it: in the group of administrators, not in system:masters.
        admin["super-admin.svc"] = bytes.ok() ? *bytes : "";
    }
    auto transport = connect(fmt::format("https://x:{}", pods_.at(name).port),
                             fmt::format("{}.{}.svc", name, ns_), admin);
    BASALT_ASSERT(transport.ok());
    kube::Client::Options options;
    options.qps = 0;
    options.retries_count_max = 0;
    made = std::make_unique<kube::Client>(*loop, *transport, options);
    return *made;
}

// What the controller manager does as soon as it leads: it signs for the tokens that there are.
void ControlPlaneTest::sign_tokens(const std::string& name) {
    const Value stored = secret(names::admin_kubeconfig(name));
    auto bytes = data::base64_decode(stored["data"]["super-admin.svc"].as_string());
    SecretData admin = {{"super-admin.svc", bytes.ok() ? *bytes : ""}};
    auto transport = connect(fmt::format("https://x:{}", pods_.at(name).port),
                             fmt::format("{}.{}.svc", name, ns_), admin);
    ASSERT_TRUE(transport.ok());
    kube::Client master(*loop, *transport);
    auto tokens = run(master.list(resources::secrets(), "kube-system"));
    if (!tokens.ok()) return;
    for (const Value& token : tokens->items) {
        if (token["type"].as_string() != "bootstrap.kubernetes.io/token") continue;
        auto id = data::base64_decode(token["data"]["token-id"].as_string());
        Value signature =
            yaml(fmt::format("{{data: {{jws-kubeconfig-{}: signed}}}}", id.ok() ? *id : "unknown"));
        (void)run(master.merge_patch(resources::config_maps(),
                                     ObjectKey("kube-public", "cluster-info"), signature));
    }
}

}  // namespace basalt::integration
