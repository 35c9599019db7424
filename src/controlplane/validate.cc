#include "controlplane/validate.h"

#include <algorithm>
#include <array>
#include <set>

#include <fmt/format.h>

#include "base/ip.h"
#include "base/strings.h"
#include "controlplane/names.h"
#include "controlplane/objects.h"
#include "controlplane/tenant_objects.h"
#include "data/base64.h"
#include "data/patch.h"
#include "kube/object.h"
#include "pki/certificate.h"
#include "pki/key.h"

namespace basalt::controlplane {

using data::Value;

namespace {

// pkg/kubeapiserver/options/plugins.go of Kubernetes 1.31 to 1.36. Plugins that are not listed here
// and are in the schema exist in all of these versions.
struct PluginVersions {
    std::string_view name;
    int first_minor;  ///< kNever: gone before the oldest version that can be run.
};
constexpr int kNever = 1000;
constexpr PluginVersions kPlugins[] = {
    {"DenyEscalatingExec", kNever},
    {"DenyExecOnPrivileged", kNever},
    {"PersistentVolumeLabel", kNever},
    {"PodSecurityPolicy", kNever},
    {"SecurityContextDeny", kNever},
    {"MutatingAdmissionPolicy", 32},
    {"PodTopologyLabels", 33},
    {"NodeDeclaredFeatureValidator", 35},
    {"JobValidation", 36},
    {"PodGroupProtection", 36},
    {"PodGroupWorkloadExists", 36},
    {"PodResizeValidator", 36},
};

// kube-apiserver's --service-cluster-ip-range before 1.34: "the mask must be >=".
constexpr int kServiceBitsMax = 20;
constexpr int kAnyServiceBitsMinor = 34;
// kube-controller-manager's --node-cidr-mask-size-ipv4 and -ipv6, and how many nodes' networks it
// can count.
constexpr int kNodeMaskV4 = 24;
constexpr int kNodeMaskV6 = 64;
constexpr int kNodeBitsMax = 16;

// Ports that the control plane's programs listen on inside the Pod, beside those that a spec names.
constexpr struct {
    int64_t port;
    const char* who;
    bool of_tunnel;
} kOwnPorts[] = {{8133, "the tunnel's administration", true},
                 {8134, "the health check of the tunnel, or of what stands in for it,", false},
                 {10257, "kube-controller-manager", false},
                 {10259, "kube-scheduler", false}};

constexpr struct {
    const char* field;
    const char* container;
} kComponentFields[] = {{"apiServer", "kube-apiserver"},
                        {"controllerManager", "kube-controller-manager"},
                        {"scheduler", "kube-scheduler"}};

constexpr std::string_view kDeployment = "spec.controlPlane.deployment";

std::string text_or(const Value& value, std::string_view fallback) {
    return value.empty() ? std::string(fallback) : value.str();
}

/// "spec.a.b: why" of our own errors, taken apart.
FieldError split_error(const Error& error, std::string_view fallback_field) {
    const std::string& text = error.message();
    size_t colon = text.find(": ");
    if (text.starts_with("spec.") && colon != std::string::npos && text.find(' ') > colon) {
        return FieldError(text.substr(0, colon), text.substr(colon + 2));
    }
    return FieldError(std::string(fallback_field), text);
}

class ControlPlaneValidator {
 public:
    ControlPlaneValidator(const Value& object, const Value* old, const ValidationContext& context)
        : object_(object), old_(old), context_(context), spec_(object["spec"]) {}

    std::vector<FieldError> run() {
        check_version();
        check_datastores();
        Result<Settings> settings = read_settings(object_, context_.defaults);
        if (!settings.ok()) {
            if (errors_.empty() && !was_unreadable(settings.error()))
                add_unreadable(settings.error());
            return std::move(errors_);
        }
        settings_ = *std::move(settings);
        check_admission_plugins();
        check_kubelet_patches();
        check_pod();
        check_network();
        return std::move(errors_);
    }

 private:
    static const Value& at(const Value& from, std::initializer_list<const char*> path) {
        const Value* value = &from;
        for (const char* segment : path) value = &(*value)[segment];
        return *value;
    }
    /// Created, or another value than before at spec.<path>.
    bool changed(std::initializer_list<const char*> path) const {
        return old_ == nullptr || !(at(spec_, path) == at((*old_)["spec"], path));
    }
    void add(std::string field, std::string message) {
        errors_.emplace_back(std::move(field), std::move(message));
    }

    /// What could not be read before is no reason to refuse other changes.
    bool was_unreadable(const Error& error) const {
        if (old_ == nullptr) return false;
        Result<Settings> before = read_settings(*old_, context_.defaults);
        return !before.ok() && before.error().message() == error.message();
    }
    void add_unreadable(const Error& error) {
        if (error.code() == Code::kOutOfRange) {
            return add(service_field(),
                       error.message() + ", which the cluster's DNS has: choose a larger network");
        }
        errors_.push_back(split_error(error, "spec"));
    }

    void check_version() {
        static constexpr const char* kField = "spec.kubernetes.version";
        if (!changed({"kubernetes", "version"})) return;
        Result<Version> wanted = Version::parse(at(spec_, {"kubernetes", "version"}).as_string());
        if (!wanted.ok()) return add(kField, wanted.error().message());
        if (Result<void> known = check_supported(*wanted); !known.ok()) {
            errors_.push_back(split_error(known.error(), kField));
            return;
        }
        if (old_ == nullptr) return;
        const Value& installed = object_["status"]["kubernetesResources"]["version"]["version"];
        if (installed.empty()) return;
        Result<Version> from = Version::parse(installed.as_string());
        if (!from.ok()) return;
        Result<void> allowed = check_upgrade(*from, *wanted);
        if (!allowed.ok()) errors_.push_back(split_error(allowed.error(), kField));
    }

    void check_datastores() {
        bool storage_changed = changed({"dataStore"}) || changed({"dataStoreOverrides"}) ||
                               changed({"dataStoreSchema"}) || changed({"dataStoreUsername"});
        if (!storage_changed) return;
        const std::string main = text_or(spec_["dataStore"], context_.defaults.datastore);
        auto found = context_.datastores.find(main);
        if (found == context_.datastores.end()) {
            add("spec.dataStore",
                spec_["dataStore"].empty()
                    ? fmt::format("there is no DataStore \"{}\", which is used where none is "
                                  "named: create it, or "
                                  "name another one",
                                  main)
                    : fmt::format("there is no DataStore \"{}\": create it, or name another one",
                                  main));
        }
        check_overrides(found == context_.datastores.end() ? nullptr : &found->second);
        check_fixed_overrides();
        check_claims();
    }

    void check_overrides(const KnownDataStore* main) {
        std::set<std::string> resources;
        size_t index = 0;
        for (const Value& item : spec_["dataStoreOverrides"].items()) {
            const std::string field = fmt::format("spec.dataStoreOverrides[{}]", index++);
            const std::string name = item["dataStore"].str();
            if (!resources.insert(item["resource"].str()).second) {
                add(field + ".resource", fmt::format("{} is named twice: remove one of them",
                                                     item["resource"].as_string()));
            }
            auto found = context_.datastores.find(name);
            if (found == context_.datastores.end()) {
                add(field + ".dataStore",
                    fmt::format("there is no DataStore \"{}\": create it, or name another one",
                                name));
                continue;
            }
            check_override(field, name, found->second);
        }
        if (index > 0 && main != nullptr && main->driver != "etcd") {
            add("spec.dataStoreOverrides",
                fmt::format("overrides need a DataStore with driver etcd, the one in "
                            "spec.dataStore has {}: remove the "
                            "overrides, or name another DataStore",
                            main->driver));
        }
    }

    /// Objects do not move: for what is not in the store that is named from now on, it would be as
    /// if they were gone. Events, which end by themselves, are worth no refusal.
    void check_fixed_overrides() {
        const Value& recorded = object_["status"]["storage"]["overrides"];
        if (old_ == nullptr || !recorded.is_array() || !changed({"dataStoreOverrides"})) return;
        std::map<std::string, std::string> kept;
        for (const Value& item : recorded.items())
            kept[item["resource"].str()] = item["dataStoreName"].str();
        size_t index = 0;
        for (const Value& item : spec_["dataStoreOverrides"].items()) {
            const std::string field = fmt::format("spec.dataStoreOverrides[{}]", index++);
            const std::string resource = item["resource"].str();
            auto found = kept.find(resource);
            const bool same = found != kept.end() && found->second == item["dataStore"].as_string();
            if (found != kept.end()) kept.erase(found);
            if (!same && resource != kMovableResource) {
                add(field, fmt::format("objects of {} are in another DataStore already and cannot "
                                       "be moved: only {} can be changed",
                                       resource, kMovableResource));
            }
        }
        for (const auto& [resource, store] : kept) {
            if (resource == kMovableResource) continue;
            add("spec.dataStoreOverrides",
                fmt::format("objects of {} are in DataStore {} and cannot be moved: put the "
                            "override back",
                            resource, store));
        }
    }

    void check_override(const std::string& field, const std::string& name,
                        const KnownDataStore& store) {
        if (store.driver != "etcd") {
            add(field + ".dataStore",
                fmt::format("overrides need driver etcd, DataStore \"{}\" has {}: name another "
                            "one",
                            name, store.driver));
        }
    }

    void check_claims() {
        for (const StorageClaim& claim : storage_claims(object_, context_.defaults)) {
            const StorageClaim* other = find_conflict(claim, context_.claims);
            if (other == nullptr) continue;
            bool same_schema = other->schema == claim.schema;
            add(same_schema ? "spec.dataStoreSchema" : "spec.dataStoreUsername",
                fmt::format("\"{}\" is in use in DataStore {} by another control plane: remove the "
                            "field, or choose "
                            "another value",
                            same_schema ? claim.schema : claim.user, claim.datastore));
        }
    }

    void check_admission_plugins() {
        bool minor_changed = changed({"kubernetes", "version"});
        if (!minor_changed && !changed({"kubernetes", "admissionControllers"})) return;
        const int minor = settings_.kubernetes.version.minor;
        size_t index = 0;
        for (const Value& plugin : at(spec_, {"kubernetes", "admissionControllers"}).items()) {
            const std::string field =
                fmt::format("spec.kubernetes.admissionControllers[{}]", index++);
            if (has_admission_plugin(plugin.as_string(), minor)) continue;
            add(field, fmt::format("Kubernetes 1.{} has no admission plugin {}: remove it", minor,
                                   plugin.as_string()));
        }
    }

    void check_kubelet_patches() {
        static constexpr const char* kField = "spec.kubernetes.kubelet.configurationJSONPatches";
        if (!changed({"kubernetes", "kubelet"})) return;
        const Value& patches = settings_.kubernetes.kubelet_patches;
        Settings bare = settings_;
        bare.kubernetes.kubelet_patches = Value();
        Result<Value> configuration = build_kubelet_configuration(bare);
        if (!configuration.ok()) return;
        Value document = *std::move(configuration);
        const Value version = document["apiVersion"];
        const Value kind = document["kind"];
        for (size_t i = 0; i < patches.size(); ++i) {
            Result<Value> patched = data::apply_json_patch(document, Value::array({patches[i]}));
            if (!patched.ok()) {
                return add(fmt::format("{}[{}]", kField, i),
                           fmt::format("cannot be carried out on the KubeletConfiguration, {}: "
                                       "correct or remove it",
                                       patched.error().message()));
            }
            document = *std::move(patched);
        }
        if (!(document["apiVersion"] == version) || !(document["kind"] == kind)) {
            add(kField,
                "apiVersion and kind of the KubeletConfiguration must stay: remove the patches of "
                "them");
        }
    }

    // ---- the Pod
    // --------------------------------------------------------------------------------------------

    /// What the Deployment holds without the user's additions.
    Value own_pod() const {
        Settings bare = settings_;
        bare.deployment.additional_containers = Value();
        bare.deployment.additional_init_containers = Value();
        bare.deployment.additional_volumes = Value();
        for (ComponentSettings& component : bare.deployment.components)
            component.extra_volume_mounts = Value();
        Endpoint endpoint{"192.0.2.1", "192.0.2.1", bare.network.port};  // Not looked at.
        Surroundings surroundings;
        return build_deployment(bare, endpoint, surroundings)["spec"]["template"]["spec"];
    }

    void check_pod() {
        if (!changed({"controlPlane", "deployment"}) && !changed({"addons", "konnectivity"}))
            return;
        const Value own = own_pod();
        std::set<std::string> volumes;
        for (const Value& volume : own["volumes"].items()) volumes.insert(volume["name"].str());
        const std::set<std::string> own_volumes = volumes;
        size_t index = 0;
        for (const Value& volume : settings_.deployment.additional_volumes.items()) {
            const std::string name = volume["name"].str();
            const std::string field =
                fmt::format("{}.additionalVolumes[{}].name", kDeployment, index++);
            if (volumes.insert(name).second) continue;
            add(field,
                own_volumes.contains(name)
                    ? fmt::format(
                          "\"{}\" is a volume of the control plane: give yours another name", name)
                    : fmt::format("\"{}\" is the name of another additional volume: choose another",
                                  name));
        }
        check_container_names(own);
        check_component_mounts(own, volumes);
        check_container_mounts("additionalInitContainers",
                               settings_.deployment.additional_init_containers, volumes);
        check_container_mounts("additionalContainers", settings_.deployment.additional_containers,
                               volumes);
    }

    void check_container_names(const Value& own) {
        std::map<std::string, std::string> taken;
        for (const Value& container : own["containers"].items())
            taken[container["name"].str()] = "";
        const std::pair<const char*, const Value*> lists[] = {
            {"additionalInitContainers", &settings_.deployment.additional_init_containers},
            {"additionalContainers", &settings_.deployment.additional_containers}};
        for (const auto& [list, containers] : lists) {
            size_t index = 0;
            for (const Value& container : containers->items()) {
                const std::string field = fmt::format("{}.{}[{}].name", kDeployment, list, index++);
                auto [found, added] = taken.try_emplace(container["name"].str(), field);
                if (added) continue;
                add(field,
                    found->second.empty()
                        ? fmt::format(
                              "\"{}\" is a container of the control plane: give yours another name",
                              found->first)
                        : fmt::format("\"{}\" is the name in {}, too: choose another", found->first,
                                      found->second));
            }
        }
    }

    static std::string normal_path(std::string_view path) {
        std::string normal;
        for (std::string_view part : split(path, '/')) {
            if (part.empty() || part == ".") continue;
            normal += "/";
            normal += part;
        }
        return normal.empty() ? "/" : normal;
    }

    void check_component_mounts(const Value& own, const std::set<std::string>& volumes) {
        for (size_t i = 0; i < kComponentsCount; ++i) {
            std::set<std::string> own_paths;
            for (const Value& container : own["containers"].items()) {
                if (container["name"].as_string() != kComponentFields[i].container) continue;
                for (const Value& item : container["volumeMounts"].items()) {
                    own_paths.insert(normal_path(item["mountPath"].as_string()));
                }
            }
            check_mounts(
                fmt::format("{}.additionalVolumeMounts.{}", kDeployment, kComponentFields[i].field),
                settings_.deployment.components[i].extra_volume_mounts, own_paths, volumes);
        }
    }

    void check_container_mounts(const char* list, const Value& containers,
                                const std::set<std::string>& volumes) {
        size_t index = 0;
        for (const Value& container : containers.items()) {
            check_mounts(fmt::format("{}.{}[{}].volumeMounts", kDeployment, list, index++),
                         container["volumeMounts"], {}, volumes);
        }
    }

    void check_mounts(const std::string& field, const Value& mounts,
                      const std::set<std::string>& own_paths,
                      const std::set<std::string>& volumes) {
        std::set<std::string> seen;
        size_t index = 0;
        for (const Value& item : mounts.items()) {
            const std::string at_field = fmt::format("{}[{}]", field, index++);
            const std::string path = normal_path(item["mountPath"].as_string());
            if (own_paths.contains(path)) {
                add(at_field + ".mountPath",
                    fmt::format("{} is a mount of the control plane: choose another path", path));
            } else if (!seen.insert(path).second) {
                add(at_field + ".mountPath",
                    fmt::format("{} is mounted twice: remove one of them", path));
            }
            if (!volumes.contains(item["name"].str())) {
                add(at_field + ".name",
                    fmt::format("there is no volume \"{}\": add it to {}.additionalVolumes",
                                item["name"].as_string(), kDeployment));
            }
        }
    }

    // ---- addresses
    // ------------------------------------------------------------------------------------------

    void check_network() {
        if (changed({"controlPlane", "service"}) || changed({"networkProfile"})) check_service();
        if (changed({"networkProfile"}) || changed({"addons", "konnectivity"})) check_own_ports();
        if (!changed({"networkProfile"}) && !changed({"kubernetes", "version"})) return;
        check_service_networks();
        check_pod_networks();
        check_dns_addresses();
        check_dns_stays();
    }

    void check_service() {
        if (settings_.service.type == "NodePort" && settings_.network.address.empty()) {
            add("spec.networkProfile.address",
                "a Service of type NodePort needs the address of a node, or of a balancer in front "
                "of the nodes: set it, "
                "or choose another spec.controlPlane.service.serviceType");
        }
    }

    void check_own_ports() {
        for (const auto& own : kOwnPorts) {
            if (own.of_tunnel && !settings_.tunnel) continue;
            if (settings_.network.port == own.port) {
                add("spec.networkProfile.port",
                    fmt::format("{} is where {} listens in the same Pod: choose another port",
                                own.port, own.who));
            }
            if (settings_.tunnel && settings_.tunnel->server_port == own.port) {
                add("spec.addons.konnectivity.server.port",
                    fmt::format("{} is where {} listens in the same Pod: choose another port",
                                own.port, own.who));
            }
        }
    }

    const char* service_field() const {
        return spec_["networkProfile"]["serviceCidrs"].empty() ? "spec.networkProfile.serviceCidr"
                                                               : "spec.networkProfile.serviceCidrs";
    }
    const char* pod_field() const {
        return spec_["networkProfile"]["podCidrs"].empty() ? "spec.networkProfile.podCidr"
                                                           : "spec.networkProfile.podCidrs";
    }

    void check_service_networks() {
        for (const std::string& cidr : settings_.network.service_cidrs) {
            Result<IpNetwork> network = IpNetwork::parse(cidr);
            if (!network.ok()) {
                add(service_field(), network.error().message());
                continue;
            }
            const int bits = network->is_v6() ? 128 : 32;
            const int minor = settings_.kubernetes.version.minor;
            if (minor < kAnyServiceBitsMinor && bits - network->prefix_length() > kServiceBitsMax) {
                add(service_field(),
                    fmt::format("{} is larger than an API server 1.{} takes: choose /{} or smaller",
                                cidr, minor, bits - kServiceBitsMax));
            } else if (!network->address_at(1).ok()) {
                add(service_field(),
                    fmt::format("{} has no room for Services: choose a larger network", cidr));
            }
        }
    }

    bool has_node_mask_argument() const {
        for (const std::string& argument :
             settings_.deployment[Component::kControllerManager].extra_args) {
            if (argument.starts_with("--node-cidr-mask-size")) return true;
            if (argument.starts_with("--allocate-node-cidrs")) return true;
        }
        return false;
    }

    void check_pod_networks() {
        if (has_node_mask_argument()) return;
        for (const std::string& cidr : settings_.network.pod_cidrs) {
            Result<IpNetwork> network = IpNetwork::parse(cidr);
            if (!network.ok()) {
                add(pod_field(), network.error().message());
                continue;
            }
            const int node_mask = network->is_v6() ? kNodeMaskV6 : kNodeMaskV4;
            const int length = network->prefix_length();
            if (length > node_mask || node_mask - length > kNodeBitsMax) {
                add(pod_field(),
                    fmt::format("each node gets a /{} of {}, which does not fit: choose a network "
                                "from /{} to /{}, or set "
                                "--node-cidr-mask-size-{} in {}.extraArgs.controllerManager",
                                node_mask, cidr, node_mask - kNodeBitsMax, node_mask,
                                network->is_v6() ? "ipv6" : "ipv4", kDeployment));
            }
        }
    }

    void check_dns_addresses() {
        size_t index = 0;
        for (const Value& address : spec_["networkProfile"]["dnsServiceIPs"].items()) {
            const std::string field = fmt::format("spec.networkProfile.dnsServiceIPs[{}]", index++);
            bool inside = false;
            for (const std::string& cidr : settings_.network.service_cidrs) {
                Result<IpNetwork> network = IpNetwork::parse(cidr);
                if (!network.ok()) continue;
                inside |= network->contains(address.as_string());
                Result<std::string> first = network->address_at(1);
                if (first.ok() && *first == address.as_string()) {
                    add(field,
                        fmt::format(
                            "{} is the address of the Service kubernetes: choose another one in {}",
                            address.as_string(), cidr));
                }
            }
            if (inside) continue;
            add(field,
                fmt::format("{} lies outside of the networks of Services: choose an address in {}",
                            address.as_string(), join(settings_.network.service_cidrs, " or ")));
        }
    }

    /// Kubernetes does not change a Service's address, and Pods of nodes that joined ask at the one
    /// that there is: a new Service would leave them without DNS.
    void check_dns_stays() {
        const Value& installed = object_["status"]["kubernetesResources"]["version"]["version"];
        if (old_ == nullptr || installed.empty() || !settings_.core_dns) return;
        Result<Settings> before = read_settings(*old_, context_.defaults);
        if (!before.ok() || !before->core_dns) return;
        const std::vector<std::string> was = cluster_dns_addresses(before->network);
        const std::vector<std::string> now = cluster_dns_addresses(settings_.network);
        const size_t both = std::min(was.size(), now.size());
        if (std::equal(was.begin(), was.begin() + static_cast<ptrdiff_t>(both), now.begin()))
            return;
        const bool named = !spec_["networkProfile"]["dnsServiceIPs"].empty();
        add(named ? "spec.networkProfile.dnsServiceIPs" : service_field(),
            fmt::format(
                "the cluster's DNS is at {}, where Pods of all nodes ask: keep {}, or remove "
                "spec.addons.coreDNS first, change it, and put that back for a cluster "
                "whose nodes join anew",
                join(was, " and "), named ? "these addresses" : "a network with this address"));
    }

    const Value& object_;
    const Value* old_;
    const ValidationContext& context_;
    const Value& spec_;
    Settings settings_;
    std::vector<FieldError> errors_;
};

// ---- DataStore
// ------------------------------------------------------------------------------------------------

std::string inline_content(const Value& reference) {
    Result<std::string> decoded = data::base64_decode(reference["content"].as_string());
    return decoded.ok() ? *std::move(decoded) : std::string();
}

void check_inline_certificate(const Value& reference, const std::string& field,
                              std::vector<FieldError>& errors) {
    const std::string pem = inline_content(reference);
    if (pem.empty()) return;
    Result<std::vector<pki::Certificate>> parsed = pki::Certificate::parse_bundle(pem);
    if (!parsed.ok())
        errors.emplace_back(field + ".content",
                            parsed.error().message() + ": put a PEM certificate there");
}

void check_inline_key(const Value& reference, const std::string& field,
                      std::vector<FieldError>& errors) {
    const Secret pem(inline_content(reference));
    if (pem.empty()) return;
    Result<pki::PrivateKey> parsed = pki::PrivateKey::parse(pem);
    if (!parsed.ok())
        errors.emplace_back(field + ".content",
                            parsed.error().message() + ": put a PEM private key there");
}

void check_inline_pair(const Value& certificate, const Value& key, const std::string& field,
                       std::vector<FieldError>& errors) {
    const std::string crt_pem = inline_content(certificate);
    const Secret key_pem(inline_content(key));
    if (crt_pem.empty() || key_pem.empty()) return;
    Result<pki::Certificate> parsed = pki::Certificate::parse(crt_pem);
    Result<pki::PrivateKey> parsed_key = pki::PrivateKey::parse(key_pem);
    if (!parsed.ok() || !parsed_key.ok() || parsed->matches(*parsed_key)) return;
    errors.emplace_back(field + ".privateKey.content",
                        "the key is not that of the certificate: put the right one there");
}

void check_endpoints(const Value& endpoints, std::vector<FieldError>& errors) {
    std::set<std::string> seen;
    size_t index = 0;
    for (const Value& item : endpoints.items()) {
        const std::string text = item.str();
        const std::string field = fmt::format("spec.endpoints[{}]", index++);
        const size_t colon = text.rfind(':');
        const std::string_view port_text =
            std::string_view(text).substr(colon == std::string::npos ? text.size() : colon + 1);
        const std::optional<uint32_t> port = parse_number<uint32_t>(port_text);
        if (!port || *port == 0 || *port > 65535) {
            errors.emplace_back(
                field, fmt::format("\"{}\" has no port from 1 to 65535: write host:port", text));
        } else if (!seen.insert(to_lower(text)).second) {
            errors.emplace_back(field,
                                fmt::format("\"{}\" is named twice: remove one of them", text));
        }
    }
}

void check_selector(const Value& selector, const char* field, std::vector<FieldError>& errors) {
    if (selector.is_null()) return;
    Result<kube::LabelSelector> parsed = kube::LabelSelector::from_value(selector);
    if (!parsed.ok())
        errors.emplace_back(field, parsed.error().message() + ": correct or remove it");
}

}  // namespace

std::string to_text(const std::vector<FieldError>& errors) {
    std::vector<std::string> parts;
    for (const FieldError& error : errors)
        parts.push_back(fmt::format("{}: {}", error.field, error.message));
    return join(parts, "; ");
}

bool has_admission_plugin(std::string_view plugin, int minor) {
    for (const PluginVersions& known : kPlugins) {
        if (known.name == plugin) return minor >= known.first_minor;
    }
    return true;
}

std::vector<StorageClaim> storage_claims(const Value& control_plane,
                                         const SettingsDefaults& defaults) {
    const Value& spec = control_plane["spec"];
    const Value& storage = control_plane["status"]["storage"];
    StorageClaim claim;
    claim.owner = kube::key_of(control_plane).to_string();
    claim.owner_uid = std::string(kube::uid_of(control_plane));
    claim.datastore =
        text_or(storage["dataStoreName"], text_or(spec["dataStore"], defaults.datastore));
    claim.schema =
        text_or(storage["setup"]["schema"], text_or(spec["dataStoreSchema"], claim.owner_uid));
    claim.user =
        text_or(storage["setup"]["user"], text_or(spec["dataStoreUsername"], claim.owner_uid));
    std::vector<StorageClaim> claims = {claim};
    std::set<std::string> stores = {claim.datastore};
    for (const Value& item : spec["dataStoreOverrides"].items()) {
        if (!stores.insert(item["dataStore"].str()).second) continue;
        claim.datastore = item["dataStore"].str();
        claims.push_back(claim);
    }
    for (const Value& item : storage["overrides"].items()) {
        if (!stores.insert(item["dataStoreName"].str()).second) continue;
        claim.datastore = item["dataStoreName"].str();
        claims.push_back(claim);
    }
    return claims;
}

const StorageClaim* find_conflict(const StorageClaim& claim,
                                  const std::vector<StorageClaim>& others) {
    for (const StorageClaim& other : others) {
        if (other.owner == claim.owner || other.datastore != claim.datastore) continue;
        if (other.schema == claim.schema || other.user == claim.user) return &other;
    }
    return nullptr;
}

std::vector<FieldError> validate_control_plane(const Value& object, const Value* old,
                                               const ValidationContext& context) {
    if (kube::is_deleting(object)) return {};
    return ControlPlaneValidator(object, old, context).run();
}

std::vector<FieldError> validate_data_store(const Value& object, const Value* old) {
    std::vector<FieldError> errors;
    if (kube::is_deleting(object) || (old != nullptr && (*old)["spec"] == object["spec"]))
        return errors;
    const Value& spec = object["spec"];
    check_endpoints(spec["endpoints"], errors);
    const Value& tls = spec["tlsConfig"];
    for (const char* part : {"certificateAuthority", "clientCertificate"}) {
        const std::string field = fmt::format("spec.tlsConfig.{}", part);
        check_inline_certificate(tls[part]["certificate"], field + ".certificate", errors);
        check_inline_key(tls[part]["privateKey"], field + ".privateKey", errors);
        check_inline_pair(tls[part]["certificate"], tls[part]["privateKey"], field, errors);
    }
    return errors;
}

std::vector<FieldError> validate_kubeconfig_generator(const Value& object, const Value* old) {
    std::vector<FieldError> errors;
    if (kube::is_deleting(object)) return errors;
    const std::string_view name = kube::name_of(object);
    // "<control plane>-<generator>" would be one of our own Secrets.
    const bool reserved =
        std::any_of(std::begin(names::kSecrets), std::end(names::kSecrets),
                    [name](const names::SecretName& own) { return own.suffix.substr(1) == name; });
    if (old == nullptr && reserved) {
        errors.emplace_back(
            "metadata.name",
            fmt::format(
                "\"{}\" would make the Secret <control plane>-{}, which the control plane has "
                "itself: choose another name",
                name, name));
    }
    if (old != nullptr && (*old)["spec"] == object["spec"]) return errors;
    check_selector(object["spec"]["namespaceSelector"], "spec.namespaceSelector", errors);
    check_selector(object["spec"]["tenantControlPlaneSelector"], "spec.tenantControlPlaneSelector",
                   errors);
    return errors;
}

}  // namespace basalt::controlplane
