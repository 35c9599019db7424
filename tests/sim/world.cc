#include "tests/sim/world.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/strings.h"
#include "controlplane/write_permissions.h"
#include "data/base64.h"
#include "data/hash.h"
#include "data/json.h"
#include "data/yaml.h"
#include "etcd/tenancy.h"
#include "net/url.h"
#include "pki/kubeconfig.h"
#include "tests/sim/instance.h"

namespace basalt::sim {

using namespace std::chrono_literals;
namespace r = kube::resources;

namespace {

constexpr size_t kRecentWritesMax = 40;
constexpr std::string_view kTokenType = "bootstrap.kubernetes.io/token";

std::vector<const Kind*> all_kinds(bool with_custom) {
    std::vector<const Kind*> kinds;
    for (const Kind& kind : built_in_kinds()) kinds.push_back(&kind);
    for (const Kind& kind : custom_kinds()) {
        if (with_custom) kinds.push_back(&kind);
    }
    return kinds;
}

Value secret_object(const std::string& ns, const std::string& name,
                    const std::map<std::string, std::string>& data) {
    Value secret = kube::make_object(r::secrets(), ObjectKey(ns, name));
    for (const auto& [key, bytes] : data) secret.at("data").set(key, data::base64_encode(bytes));
    return secret;
}

/// The name of the datastore that a URL of etcd leads to.
std::string store_of(const std::string& url) {
    const std::string_view rest = std::string_view(url).substr(std::string_view("https://").size());
    return std::string(rest.substr(0, rest.find('.')));
}

}  // namespace

std::string flag_of(const Value& pod, const std::string& container, const std::string& flag) {
    for (const Value& item : pod["spec"]["containers"].items()) {
        if (item["name"].as_string() != container) continue;
        for (const Value& arg : item["args"].items()) {
            if (arg.as_string().starts_with(flag + "=")) return arg.str().substr(flag.size() + 1);
        }
    }
    return "";
}

World::World(WorldOptions options)
    : options_(options),
      loop_(options.seed),
      chaos_(options.seed ^ 0x5eed),
      keys_(options.seed * 7919 + 1) {
    api_ = std::make_unique<ApiServer>(loop_, "management", all_kinds(true));
    cluster_ = std::make_unique<Cluster>(loop_, chaos_, *api_, *this);
    cluster_->calm = options.calm;
    api_->on_write = [this](const Write& write) {
        observe(write, "");
        cluster_->note(write);
    };
    for (const char* ns : {"default", "kube-system", "basalt-system"}) make_namespace(ns);
    Value node = kube::make_object(r::nodes(), ObjectKey("node-1"));
    node.set("status", Value::object({{"allocatable", Value::object({{"cpu", "2"}})}}));
    (void)api_->create(r::nodes(), node, "kubelet");
}

World::~World() {
    while (!instances_.empty()) crash_instance(0);
    for (auto& [id, tenant] : tenants_) tenant->api->end_watches();
    api_->end_watches();
    loop_.run_ready();
}

// ---- processes
// --------------------------------------------------------------------------------------------------

Instance& World::start_instance() {
    const int number = ++instances_made_;
    instances_.push_back(
        std::make_unique<Instance>(*this, fmt::format("controller-{}", number),
                                   options_.seed * 1000 + static_cast<uint64_t>(number)));
    return *instances_.back();
}

void World::crash_instance(size_t index) {
    std::unique_ptr<Instance> instance = std::move(instances_.at(index));
    instances_.erase(instances_.begin() + static_cast<std::ptrdiff_t>(index));
    instance->kill();
}

size_t World::bury_dead() {
    size_t buried = 0;
    for (size_t i = 0; i < instances_.size();) {
        if (instances_[i]->ended()) {
            crash_instance(i);
            ++buried;
        } else {
            ++i;
        }
    }
    return buried;
}

Instance* World::leader() {
    const std::string holder = lease_holder();
    for (const auto& instance : instances_) {
        if (instance->identity() == holder) return instance.get();
    }
    return nullptr;
}

// ---- surroundings
// -----------------------------------------------------------------------------------------------

void World::make_namespace(const std::string& name) {
    (void)api_->create(r::namespaces(), kube::make_object(r::namespaces(), ObjectKey(name)),
                       "user");
}

void World::make_datastore(const std::string& name) {
    // Older than any clock is late.
    const WallTime made_at = loop_.wall_now() - wall_duration(30 * pki::kDay);
    auto ca = pki::CertificateAuthority::create(keys_, "etcd-ca-" + name, made_at);
    pki::CertificateSpec spec;
    spec.common_name = "root";
    spec.client = true;
    spec.lifetime = pki::kCaLifetime;
    pki::KeyPair root = ca.issue(spec, keys_, made_at).value();
    auto store = std::make_unique<Datastore>(loop_, ca, root);
    store->model.users["root"] = {"root"};
    store->model.roles["root"] = {};
    store->model.auth_on = true;
    Datastore* raw = store.get();
    auto fault = [this, raw](bool after, std::string_view method) -> std::optional<Error> {
        (void)method;
        if (raw->down) return unavailable("connection refused").with_cause(14, "");
        if (!chaos_.chance(chaos_.rates.etcd_error / 2)) return std::nullopt;
        if (after) return unavailable("etcdserver: request timed out").with_cause(14, "");
        return chaos_.chance(0.5) ? unavailable("etcdserver: no leader").with_cause(14, "NoLeader")
                                  : deadline_exceeded("etcd did not answer");
    };
    store->model.fault.before = [fault](std::string_view method) { return fault(false, method); };
    store->model.fault.after = [fault](std::string_view method) { return fault(true, method); };
    store->model.latency = [this, raw](const std::string& who) { return way_to_etcd(*raw, who); };
    store->model.on_write = [this, name](const std::string& who, const std::string& method) {
        observe_etcd(name, who, method);
    };
    datastores_[name] = std::move(store);

    const std::string ca_secret = name + "-ca";
    const std::string root_secret = name + "-root";
    (void)api_->create(r::secrets(),
                       secret_object("basalt-system", ca_secret,
                                     {{"tls.crt", ca.certificate().to_pem()},
                                      {"tls.key", std::string(ca.key().to_pem().reveal())}}),
                       "user");
    (void)api_->create(r::secrets(),
                       secret_object("basalt-system", root_secret,
                                     {{"tls.crt", root.certificate_pem()},
                                      {"tls.key", std::string(root.key_pem().reveal())}}),
                       "user");
    auto part = [](const std::string& secret, const char* key) {
        return Value::object({{"secretReference", Value::object({{"name", secret},
                                                                 {"namespace", "basalt-system"},
                                                                 {"keyPath", key}})}});
    };
    const kube::Resource resource("kamaji.clastix.io/v1alpha1", "datastores", "DataStore", false);
    Value object = kube::make_object(resource, ObjectKey(name));
    object.set("spec", Value::object({{"driver", "etcd"},
                                      {"endpoints", Value::array({name + ".etcd:2379"})}}));
    Value& tls = object.at("spec").at("tlsConfig");
    tls.set("certificateAuthority", Value::object({{"certificate", part(ca_secret, "tls.crt")},
                                                   {"privateKey", part(ca_secret, "tls.key")}}));
    tls.set("clientCertificate", Value::object({{"certificate", part(root_secret, "tls.crt")},
                                                {"privateKey", part(root_secret, "tls.key")}}));
    (void)api_->create(resource, object, "user");
}

/// Where nothing is slow or cut off, etcd is as near as API servers are.
Duration World::way_to_etcd(const Datastore& store, const std::string& who) {
    if (options_.calm) return Duration(0);
    const bool slow = store.slow_until > loop_.now() || chaos_.chance(chaos_.rates.etcd_slow);
    Duration way = slow ? chaos_.between(100ms, 3s) : chaos_.between(0ms, 5ms);
    for (const auto& instance : instances_) {
        if (instance->name() == who)
            way = std::max(way, instance->link().blocked_until - loop_.now());
    }
    return way;
}

void World::set_datastore_down(const std::string& name, bool down) {
    datastore(name).down = down;
    cluster_->touch();
}

// ---- tenants
// ----------------------------------------------------------------------------------------------------

Tenant* World::tenant(const std::string& datastore_name, const std::string& schema) {
    auto found = tenants_.find(datastore_name + "/" + schema);
    return found == tenants_.end() ? nullptr : found->second.get();
}

Tenant* World::tenant_of(const Value& control_plane) {
    const Value& storage = control_plane["status"]["storage"];
    return tenant(storage["dataStoreName"].str(), storage["setup"]["schema"].str());
}

/// What the servers in the Pod would say about their files.
std::string World::check_files(const RunningPod& pod) const {
    auto file = [&](const std::string& path) {
        auto found = pod.files.find(path);
        return found == pod.files.end() ? std::string() : found->second;
    };
    Result<pki::Certificate> ca = pki::Certificate::parse(file("apiserver-pki/ca.crt"));
    if (!ca.ok()) return "unable to load client CA file";
    auto serving = pki::parse_key_pair(file("apiserver-pki/apiserver.crt"),
                                       Secret(file("apiserver-pki/apiserver.key")));
    if (!serving.ok())
        return "failed to load the serving certificate: " + serving.error().message();
    if (!serving->certificate.is_valid_at(loop_.wall_now()))
        return "the serving certificate has expired";
    auto key = pki::PrivateKey::parse(file("apiserver-pki/sa.key"));
    if (!key.ok()) return "failed to parse service-account-issuer-key-file";
    auto front = pki::parse_key_pair(file("apiserver-pki/front-proxy-client.crt"),
                                     Secret(file("apiserver-pki/front-proxy-client.key")));
    if (!front.ok()) return "failed to load the proxy client certificate";
    auto manager =
        pki::parse_kubeconfig(file("controller-manager-kubeconfig/controller-manager.conf"));
    if (!manager.ok()) return "invalid kubeconfig";
    auto client = pki::Certificate::parse(manager->client_certificate_pem);
    if (!client.ok() || !client->is_signed_by(*ca))
        return "the controller manager's certificate is not accepted";
    auto manager_ca = pki::Certificate::parse(manager->ca_pem);
    if (!manager_ca.ok() || !serving->certificate.is_signed_by(*manager_ca)) {
        return "the API server's certificate is not accepted by the controller "
               "manager";
    }
    return "";
}

/// What etcd's servers and the API server say of each other when it connects, and whether its user
/// may do what it needs: to read all of its keys, and to write `key`.
std::string World::log_in(const RunningPod& pod, const Datastore& store, const std::string& schema,
                          const std::string& key) const {
    if (store.down) return "etcd: connection refused";
    auto file = [&](const char* path) {
        auto found = pod.files.find(path);
        return found == pod.files.end() ? std::string() : found->second;
    };
    const pki::Certificate& authority = store.ca.certificate();
    auto trusted = pki::Certificate::parse_bundle(file("etcd-pki/ca.crt"));
    if (!trusted.ok() || std::find(trusted->begin(), trusted->end(), authority) == trusted->end())
        return "etcd: certificate signed by unknown authority";
    auto chain = pki::Certificate::parse_bundle(file("etcd-pki/server.crt"));
    auto pair =
        pki::parse_key_pair(file("etcd-pki/server.crt"), Secret(file("etcd-pki/server.key")));
    if (!pair.ok() || !chain.ok()) return "etcd client certificate is broken";
    // Go finds the way among several; OpenSSL takes the first that fits, so it is shown one.
    std::vector<pki::Certificate> between;
    for (const pki::Certificate& one : *chain) {
        if (one.is_ca() && one.is_signed_by(authority)) between.push_back(one);
    }
    const Result<void> accepted = pki::verify(pair->certificate, between, {authority},
                                              loop_.wall_now(), pki::Purpose::kClient);
    if (!accepted.ok()) return "etcd: bad certificate: " + accepted.error().message();
    auto user = store.model.users.find(pair->certificate.common_name());
    if (user == store.model.users.end()) return "etcdserver: authentication failed, no such user";
    const etcd::KeyRange range = etcd::tenant_range(schema).value();
    bool reads = false;
    bool writes = false;
    for (const std::string& role : user->second) {
        auto permissions = store.model.roles.find(role);
        if (permissions == store.model.roles.end()) continue;
        for (const etcd::Permission& permission : permissions->second) {
            const etcd::KeyRange& part = permission.range;
            reads |= part == range && permission.access != etcd::Access::kWrite;
            writes |=
                part.begin <= key && key < part.end && permission.access != etcd::Access::kRead;
        }
    }
    return reads && writes ? "" : "etcdserver: permission denied";
}

std::string World::enter_datastore(const RunningPod& pod, const std::string& name,
                                   const std::string& schema) {
    auto found = datastores_.find(name);
    if (found == datastores_.end()) return "etcd: no such host";
    Datastore& store = *found->second;
    const etcd::KeyRange range = etcd::tenant_range(schema).value();
    const std::string marker = range.begin + "namespaces/kube-system";
    if (std::string wrong = log_in(pod, store, schema, marker); !wrong.empty()) return wrong;
    if (!store.model.data.contains(marker)) {
        if (store.model.no_space) return "etcdserver: mvcc: database space exceeded";
        for (const char* key :
             {"namespaces/kube-system", "namespaces/default", "ranges/serviceips"}) {
            store.model.data[range.begin + key] = "{}";
        }
        forget_tenant(name + "/" + schema);
    }
    return "";
}

/// `override` is "group/resource#url;url".
std::string World::enter_override(const RunningPod& pod, const std::string& override,
                                  const std::string& schema) {
    const size_t hash = override.find('#');
    if (hash == std::string::npos) return "--etcd-servers-overrides: invalid";
    auto found = datastores_.find(store_of(override.substr(hash + 1)));
    if (found == datastores_.end()) return "etcd: no such host";
    etcd::ModelEtcd& model = found->second->model;
    const std::string key = fmt::format("/{}/{}/default/first", schema,
                                        override.substr(0, hash).substr(override.find('/') + 1));
    if (std::string wrong = log_in(pod, *found->second, schema, key); !wrong.empty()) return wrong;
    if (model.data.contains(key)) return "";
    if (model.no_space) return "etcdserver: mvcc: database space exceeded";
    model.data[key] = "{}";
    return "";
}

/// Its keys are gone: the next API server begins anew.
void World::forget_tenant(const std::string& id) {
    auto found = tenants_.find(id);
    if (found == tenants_.end()) return;
    found->second->api->break_watches("the API server shut down");
    tenants_.erase(found);
}

std::string World::probe(const RunningPod& pod) {
    const std::string servers = flag_of(*pod.pod, "kube-apiserver", "--etcd-servers");
    const std::string prefix = flag_of(*pod.pod, "kube-apiserver", "--etcd-prefix");
    if (servers.empty() || prefix.size() < 2) return "";  // No control plane of ours.
    std::string wrong = check_files(pod);
    if (!wrong.empty()) return wrong;
    wrong = enter_datastore(pod, store_of(servers), prefix.substr(1));
    if (!wrong.empty()) return wrong;
    const std::string overrides = flag_of(*pod.pod, "kube-apiserver", "--etcd-servers-overrides");
    for (std::string_view one : split(overrides, ',')) {
        if (one.empty()) continue;
        wrong = enter_override(pod, std::string(one), prefix.substr(1));
        if (!wrong.empty()) return wrong;
    }
    return "";
}

void World::serving(const RunningPod& pod) {
    const std::string servers = flag_of(*pod.pod, "kube-apiserver", "--etcd-servers");
    const std::string prefix = flag_of(*pod.pod, "kube-apiserver", "--etcd-prefix");
    if (servers.empty() || prefix.size() < 2) return;
    const std::string store = store_of(servers);
    std::unique_ptr<Tenant>& tenant = tenants_[store + "/" + prefix.substr(1)];
    if (tenant == nullptr) {
        tenant = std::make_unique<Tenant>();
        tenant->datastore = store;
        tenant->schema = prefix.substr(1);
        tenant->api = std::make_shared<ApiServer>(loop_, fmt::format("tenant-{}", ++tenants_made_),
                                                  all_kinds(false));
        fill_tenant(*tenant);
    }
    for (const Value& container : (*pod.pod)["spec"]["containers"].items()) {
        const std::string image = container["image"].str();
        if (container["name"].as_string() == "kube-apiserver")
            tenant->api->version = image.substr(image.rfind(':') + 1);
    }
    start_tenant(*tenant, pod);
}

void World::fill_tenant(Tenant& tenant) {
    ApiServer& api = *tenant.api;
    for (const char* name : {"default", "kube-system", "kube-public", "kube-node-lease"}) {
        (void)api.create(r::namespaces(), kube::make_object(r::namespaces(), ObjectKey(name)),
                         "kube-apiserver");
    }
    api.admit = [this, store = tenant.datastore, schema = tenant.schema](const Admission& request) {
        return refusal_of(store, schema, request);
    };
    api.on_write = [this, name = api.name(), id = tenant.id()](const Write& write) {
        observe(write, name);
        const std::string& kind = write.kind->resource.kind;
        if (kind == "Secret" || (kind == "ConfigMap" && write.key.name == "cluster-info"))
            sign_later(id, soon(50ms, 2s));
        if (kind == "Secret" && write.after != nullptr) clean_later(id);
    };
}

/// What the policy and its binding, which only we write, refuse once they are in the datastore.
std::string World::refusal_of(const std::string& store, const std::string& schema,
                              const Admission& request) const {
    const std::map<std::string, std::string>& data = datastores_.at(store)->model.data;
    auto find = [&](const char* plural) {
        return data.find(fmt::format("/{}/{}/{}", schema, plural, controlplane::kLimitsName));
    };
    const auto policy = find("validatingadmissionpolicies");
    if (policy == data.end() || find("validatingadmissionpolicybindings") == data.end()) return "";
    return refusal(data::parse_json(policy->second).value(), request);
}

// ---- the controller manager's bootstrap signer
// -----------------------------------------------------------------------------------------------

void World::sign_later(const std::string& id, Duration delay) {
    auto found = tenants_.find(id);
    if (found == tenants_.end() || found->second->signing) return;
    found->second->signing = true;
    loop_.call_at(loop_.now() + delay, [this, id] {
        auto tenant = tenants_.find(id);
        if (tenant == tenants_.end()) return;
        tenant->second->signing = false;
        if (!tenant->second->controller_manager_leads) return;
        sign_cluster_info(*tenant->second);
    });
}

/// As the token cleaner does, though later than it.
void World::clean_later(const std::string& id) {
    auto found = tenants_.find(id);
    if (found == tenants_.end() || found->second->cleaning) return;
    found->second->cleaning = true;
    loop_.call_at(loop_.now() + 20s, [this, id] {
        auto tenant = tenants_.find(id);
        if (tenant == tenants_.end()) return;
        tenant->second->cleaning = false;
        if (remove_expired_tokens(*tenant->second)) clean_later(id);
    });
}

/// True while tokens are left.
bool World::remove_expired_tokens(Tenant& tenant) {
    bool more = false;
    for (const SharedValue& secret : tenant.api->list(r::secrets(), "kube-system")) {
        const Value& end = (*secret)["data"]["expiration"];
        if ((*secret)["type"].as_string() != kTokenType || end.empty()) continue;
        Result<WallTime> at = parse_rfc3339(data::base64_decode(end.as_string()).value_or(""));
        if (tenant.controller_manager_leads && at.ok() && *at <= loop_.wall_now()) {
            (void)tenant.api->remove(r::secrets(), kube::key_of(*secret),
                                     "kube-controller-manager");
        } else {
            more = true;
        }
    }
    return more;
}

/// A signature of the kubeconfig for each token that asks for one; those of other tokens go.
void World::sign_cluster_info(Tenant& tenant) {
    constexpr std::string_view kPrefix = "jws-kubeconfig-";
    const ObjectKey key("kube-public", "cluster-info");
    SharedValue info = tenant.api->get(r::config_maps(), key);
    if (info == nullptr || (*info)["data"]["kubeconfig"].empty()) return;
    const Value& data = (*info)["data"];
    std::map<std::string, std::string> wanted;
    for (const SharedValue& secret : tenant.api->list(r::secrets(), "kube-system")) {
        if ((*secret)["type"].as_string() != kTokenType) continue;
        auto text = [&](const char* name) {
            return data::base64_decode((*secret)["data"][name].as_string()).value_or("");
        };
        const std::string id = text("token-id");
        if (id.empty() || text("token-secret").empty() ||
            text("usage-bootstrap-signing") != "true" ||
            kube::name_of(*secret) != "bootstrap-token-" + id)
            continue;
        if (const std::string end = text("expiration"); !end.empty()) {
            Result<WallTime> at = parse_rfc3339(end);
            if (!at.ok() || *at <= loop_.wall_now()) continue;
        }
        const uint64_t hash =
            data::fnv1a(data["kubeconfig"].str() + "." + id + "." + text("token-secret"));
        wanted[std::string(kPrefix) + id] = fmt::format("header..{:016x}", hash);
    }
    Value patch = Value::object();
    for (const data::Member& member : data.members()) {
        const std::string name(member.key());
        if (name.starts_with(kPrefix) && !wanted.contains(name)) patch.set(name, Value());
    }
    for (const auto& [name, signature] : wanted) {
        if (data[name].as_string() != signature) patch.set(name, signature);
    }
    if (patch.size() == 0) return;
    (void)tenant.api->patch(r::config_maps(), key, Value::object({{"data", std::move(patch)}}),
                            "kube-controller-manager");
}

void World::start_tenant(Tenant& tenant, const RunningPod& pod) {
    tenant.pods[std::string(kube::uid_of(*pod.pod))] = pod;
    if (tenant.controller_manager_leads) return;
    lead_later(tenant, std::max(soon(100ms, 3s), tenant.may_lead_from - loop_.now()));
}

void World::lead_later(Tenant& tenant, Duration delay) {
    loop_.call_at(loop_.now() + delay, [this, id = tenant.id()] {
        auto found = tenants_.find(id);
        if (found == tenants_.end() || found->second->pods.empty()) return;
        if (loop_.now() >= found->second->may_lead_from) lead(*found->second);
    });
}

void World::lead(Tenant& tenant) {
    tenant.controller_manager_leads = true;
    Value lease =
        kube::make_object(r::leases(), ObjectKey("kube-system", "kube-controller-manager"));
    lease.set("spec", Value::object({{"holderIdentity", "kube-controller-manager"}}));
    (void)tenant.api->create(r::leases(), lease, "kube-controller-manager");
    sign_later(tenant.id(), soon(50ms, 2s));
}

void World::stop_controller_manager(Tenant& tenant, Duration duration) {
    tenant.controller_manager_leads = false;
    tenant.may_lead_from = loop_.now() + duration;
    lead_later(tenant, duration);
}

void World::mend_controller_managers() {
    for (auto& [id, tenant] : tenants_) {
        tenant->may_lead_from = TimePoint();
        if (!tenant->controller_manager_leads) lead_later(*tenant, 1s);
    }
}

void World::stopped(const std::string& pod_uid) {
    for (auto& [id, tenant] : tenants_) {
        if (tenant->pods.erase(pod_uid) == 0) continue;
        tenant->api->break_watches("the API server shut down");
        if (tenant->pods.empty()) tenant->controller_manager_leads = false;
    }
}

Result<std::shared_ptr<ApiServer>> World::dial_tenant(
    const std::string& server, const std::string& server_name,
    const std::map<std::string, std::string>& admin) {
    BASALT_ASSIGN(net::Url url, net::parse_url(server));
    const Error refused = unavailable("connection refused").with_cause(0, "NotSent");
    auto serves = [&](const RunningPod& pod) {
        return flag_of(*pod.pod, "kube-apiserver", "--secure-port") == std::to_string(url.port);
    };
    for (auto& [id, tenant] : tenants_) {
        for (const auto& [uid, pod] : tenant->pods) {
            if (pod_address(uid) == url.host && serves(pod))
                return accept(*tenant, pod, server_name, admin);
        }
    }
    for (const SharedValue& service : api_->list(r::services())) {
        if ((*service)["spec"]["clusterIP"].as_string() != url.host) continue;
        bool has_port = false;
        for (const Value& port : (*service)["spec"]["ports"].items())
            has_port |= port["port"].as_int() == url.port;
        if (!has_port) return refused;
        const std::string ns(kube::namespace_of(*service));
        for (auto& [id, tenant] : tenants_) {
            for (const auto& [uid, pod] : tenant->pods) {
                if (kube::namespace_of(*pod.pod) != ns || !is_ready(*pod.pod)) continue;
                bool selected = (*service)["spec"]["selector"].size() > 0;
                for (const data::Member& label : (*service)["spec"]["selector"].members()) {
                    selected &= (*pod.pod)["metadata"]["labels"][label.key()] == label.value;
                }
                if (selected) return accept(*tenant, pod, server_name, admin);
            }
        }
    }
    return refused;
}

/// The Service leads to it.
bool World::is_ready(const Value& pod) const {
    SharedValue live = api_->get(r::pods(), kube::key_of(pod));
    if (live == nullptr) return false;
    for (const Value& condition : (*live)["status"]["conditions"].items()) {
        if (condition["type"].as_string() == "Ready")
            return condition["status"].as_string() == "True";
    }
    return false;
}

/// TLS, both ways.
Result<std::shared_ptr<ApiServer>> World::accept(const Tenant& tenant, const RunningPod& pod,
                                                 const std::string& server_name,
                                                 const std::map<std::string, std::string>& admin) {
    BASALT_ASSIGN(pki::Kubeconfig config, pki::parse_kubeconfig(admin.at("super-admin.svc")));
    BASALT_ASSIGN(pki::Certificate root, pki::Certificate::parse(config.ca_pem));
    BASALT_ASSIGN(pki::Certificate shown,
                  pki::Certificate::parse(pod.files.at("apiserver-pki/apiserver.crt")));
    if (!shown.is_signed_by(root) || !shown.is_valid_for(server_name)) {
        return unavailable("TLS: the server's certificate is not the expected one");
    }
    BASALT_ASSIGN(pki::Certificate ca,
                  pki::Certificate::parse(pod.files.at("apiserver-pki/ca.crt")));
    BASALT_ASSIGN(pki::Certificate client, pki::Certificate::parse(config.client_certificate_pem));
    if (!client.is_signed_by(ca))
        return Error(Code::kUnauthenticated, "Unauthorized").with_cause(401, "");
    return tenant.api;
}

// ---- what was seen
// ----------------------------------------------------------------------------------------------

std::string World::Activity::to_string() const {
    return fmt::format("{} writes, {} requests to write, {} events, {} etcd writes", writes,
                       requests, events, etcd_writes);
}

World::Activity World::activity() const {
    Activity activity{writes_, 0, event_writes_, 0};
    for (const auto& instance : instances_) activity.requests += instance->link().writes_count;
    for (const auto& [name, store] : datastores_)
        activity.etcd_writes += store->model.writes_count();
    return activity;
}

void World::observe(const Write& write, const std::string& where) {
    const std::string& kind = write.kind->resource.kind;
    std::string line =
        fmt::format("{} {} {} {}{} {}", format_rfc3339_micro(loop_.wall_now()), write.who,
                    write.method, where.empty() ? "" : where + ":", kind, write.key.to_string());
    trace_ = data::fnv1a(fmt::format("{:x} {}", trace_, line));
    if (kind == "Lease") return;
    const bool by_controller = write.who.starts_with("controller-");
    if (kind == "Event") {
        ++event_writes_;
        if (by_controller) check_leader(write.who, "an Event");
        return;
    }
    ++writes_;
    last_write_at_ = loop_.now();
    if (verbose) fmt::print(stderr, "{}\n", line);
    if (where.empty()) {
        for (std::string& wrong : key_watch_.note(write, by_controller))
            faults.push_back(std::move(wrong));
    }
    if (!by_controller) return;
    note_controller_write(std::move(line), write.who, kind + " " + write.key.to_string());
    if (where.empty()) check_left_data(write);
}

void World::observe_etcd(const std::string& store, const std::string& who,
                         const std::string& method) {
    std::string line = fmt::format("{} {} {} in etcd {}", format_rfc3339_micro(loop_.wall_now()),
                                   who, method, store);
    trace_ = data::fnv1a(fmt::format("{:x} {}", trace_, line));
    last_write_at_ = loop_.now();
    if (verbose) fmt::print(stderr, "{}\n", line);
    note_controller_write(std::move(line), who, method + " in etcd " + store);
}

void World::note_controller_write(std::string line, const std::string& who,
                                  const std::string& what) {
    ++controller_writes_;
    recent_writes_.push_back(std::move(line));
    if (recent_writes_.size() > kRecentWritesMax) recent_writes_.pop_front();
    check_leader(who, what);
}

std::string World::lease_holder() const {
    SharedValue lease = api_->get(r::leases(), ObjectKey("basalt-system", "basalt-controller"));
    return lease == nullptr ? "nobody" : (*lease)["spec"]["holderIdentity"].str();
}

/// A write of a process that does not hold the lease: two act at once.
void World::check_leader(const std::string& who, const std::string& what) {
    const std::string holder = lease_holder();
    if (holder == who) return;
    faults.push_back(fmt::format("{} {} wrote {} while \"{}\" holds the lease",
                                 format_rfc3339_micro(loop_.wall_now()), who, what, holder));
}

/// A control plane that goes takes its data along, unless that was impossible for long enough.
void World::check_left_data(const Write& write) {
    if (write.kind->resource.kind != "TenantControlPlane" || write.after != nullptr) return;
    const Value& storage = (*write.before)["status"]["storage"];
    const std::string schema = storage["setup"]["schema"].str();
    const std::string user = storage["setup"]["user"].str();
    if (schema.empty()) return;
    const std::string prefix = "/" + schema + "/";
    const Duration patience = controlplane::ControlPlaneOptions().deletion_patience;
    const Value& waiting =
        controller::find_condition((*write.before)["status"], controlplane::kDataRemoved);
    Result<WallTime> since = parse_rfc3339(waiting["lastTransitionTime"].as_string());
    for (const auto& [name, store] : datastores_) {
        const etcd::ModelEtcd& model = store->model;
        auto key = model.data.lower_bound(prefix);
        const bool has_keys = key != model.data.end() && key->first.starts_with(prefix);
        if (!has_keys && !model.users.contains(user) && !model.roles.contains(schema)) continue;
        if (!since.ok() || loop_.wall_now() - *since < patience) {
            faults.push_back(fmt::format("{} was let go with its data in {} before patience ended",
                                         write.key.to_string(), name));
        }
        left_behind_.emplace(name, user);
        left_behind_.emplace(name, schema);
    }
}

bool World::is_left_behind(const std::string& store, const std::string& name) const {
    std::string first = name;
    if (name.starts_with("/")) first = name.substr(1, name.find('/', 1) - 1);
    return left_behind_.contains({store, first});
}

}  // namespace basalt::sim
