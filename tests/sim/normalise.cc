#include "tests/sim/normalise.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/strings.h"
#include "controlplane/certificates.h"
#include "controlplane/control_plane_controller.h"
#include "controlplane/names.h"
#include "data/base64.h"
#include "data/hash.h"
#include "data/json.h"
#include "pki/kubeconfig.h"

namespace basalt::sim {

namespace {

namespace r = kube::resources;
using controlplane::SecretData;

/// Ends the name of a list that may be longer than it should be.
constexpr std::string_view kNames = " names";
constexpr std::string_view kCertificateBegin = "-----BEGIN CERTIFICATE-----";

SecretData content_of(const Value& secret) {
    SecretData content;
    for (const data::Member& member : secret["data"].members()) {
        content[std::string(member.key())] =
            data::base64_decode(member.value.as_string()).value_or("");
    }
    return content;
}

/// "/<schema>/events/…"
bool is_event(std::string_view key) {
    const std::vector<std::string_view> parts = split(key, '/');
    return parts.size() > 3 && parts[2] == "events";
}

class Normaliser {
 public:
    explicit Normaliser(World& world) : world_(world) { learn(); }

    Snapshot run() {
        for (const Kind* kind : world_.api().kinds()) take(world_.api(), "management", *kind);
        for (const SharedValue& object : world_.api().list(controlplane::tenant_control_planes())) {
            Tenant* tenant = world_.tenant_of(*object);
            if (tenant == nullptr) continue;
            const std::string where = "tenant " + kube::key_of(*object).to_string();
            for (const Kind* kind : tenant->api->kinds()) take(*tenant->api, where, *kind);
        }
        for (const auto& [name, store] : world_.datastores()) take_datastore(name, *store);
        return std::move(snapshot_);
    }

 private:
    void replace_with(const std::string& text, const std::string& by) {
        if (text.size() >= 8) replacements_.emplace_back(text, by);
    }

    void learn() {
        for (const SharedValue& object : world_.api().list(controlplane::tenant_control_planes())) {
            replace_with(std::string(kube::uid_of(*object)),
                         "<uid of " + kube::key_of(*object).to_string() + ">");
        }
        for (const SharedValue& secret : world_.api().list(r::secrets())) {
            const std::string name = kube::key_of(*secret).to_string();
            const SecretData content = content_of(*secret);
            replace_with(controlplane::checksum(content), "<checksum of " + name + ">");
            for (const auto& [key, bytes] : content) {
                if (!bytes.starts_with(kCertificateBegin)) continue;
                Result<pki::Certificate> certificate = pki::Certificate::parse(bytes);
                if (!certificate.ok()) continue;
                if (certificate->is_ca()) authorities_.emplace_back(name, *certificate);
                const std::string by = "<certificate " + name + " " + key + ">";
                replace_with(data::base64_encode(bytes), by);
                replace_with(std::string(trim(bytes)), by);
                replace_with(certificate->public_key_pin(), "<pin of " + name + ">");
            }
        }
    }

    std::string text(std::string_view value) const {
        std::string out(value);
        for (const auto& [from, to] : replacements_) {
            for (size_t at = out.find(from); at != std::string::npos;
                 at = out.find(from, at + to.size())) {
                out.replace(at, from.size(), to);
            }
        }
        return out;
    }

    Value clean(const Value& value) const {
        if (value.is_string()) return text(value.as_string());
        if (value.is_array()) {
            Value out = Value::array();
            for (const Value& item : value.items()) out.push_back(clean(item));
            return out;
        }
        if (!value.is_object()) return value;
        Value out = Value::object();
        for (const data::Member& member : value.members()) {
            const std::string_view key = member.key();
            if (key == "lastTransitionTime" || key == "lastUpdate" || key == "uid") continue;
            out.set(text(key), clean(member.value));
        }
        return out;
    }

    void take(ApiServer& api, const std::string& where, const Kind& kind) {
        const std::string& name = kind.resource.kind;
        for (const char* left_out : {"Pod", "ReplicaSet", "Event", "Lease", "Node"}) {
            if (name == left_out) return;
        }
        for (const SharedValue& object : api.list(kind.resource)) {
            Value shown = *object;
            const int64_t generation = kube::generation_of(shown);
            Value& metadata = shown.at("metadata");
            for (const char* dropped :
                 {"resourceVersion", "generation", "managedFields", "creationTimestamp"}) {
                metadata.erase(dropped);
            }
            if (Value* annotations = metadata.find("annotations")) {
                annotations->erase(controlplane::names::kRotateAnnotation);
                if (annotations->size() == 0) metadata.erase("annotations");
            }
            if (name == "Secret") describe_secret(shown);
            if (name == "Deployment" && where == "management") describe_deployment(api, shown);
            if (kind.custom) mark_generations(shown, generation);
            if (name == "TenantControlPlane") {
                // A hash over everything in the tenant, its CA among it.
                if (Value* phase = shown.at("status").find("kubeadmPhase"))
                    phase->at("bootstrapToken").erase("checksum");
                shown.at("status")
                    .at("kubernetesResources")
                    .at("deployment")
                    .erase("observedGeneration");
            }
            snapshot_[fmt::format("{}: {} {}", where, name, kube::key_of(*object).to_string())] =
                clean(shown);
        }
    }

    static void mark_generations(Value& object, int64_t generation) {
        auto mark = [&](Value& part) {
            const Value& seen = part["observedGeneration"];
            if (!seen.is_null())
                part.set("observedGeneration", seen.as_int() == generation ? "current" : "old");
        };
        Value* status = object.find("status");
        if (status == nullptr) return;
        mark(*status);
        if (Value* conditions = status->find("conditions")) {
            for (Value& condition : conditions->mutable_items()) mark(condition);
        }
    }

    void describe_deployment(ApiServer& api, Value& deployment) const {
        int64_t current = 0;
        int64_t other = 0;
        Value wanted = deployment["spec"]["template"]["spec"];
        for (const SharedValue& pod :
             api.list(r::pods(), std::string(kube::namespace_of(deployment)))) {
            const Value& labels = (*pod)["metadata"]["labels"];
            bool selected = true;
            for (const data::Member& label :
                 deployment["spec"]["selector"]["matchLabels"].members()) {
                selected &= labels[label.key()] == label.value;
            }
            if (!selected) continue;
            Value spec = (*pod)["spec"];
            spec.erase("nodeName");
            (spec == wanted && (*pod)["status"]["phase"].as_string() == "Running" ? current
                                                                                  : other) += 1;
        }
        deployment.set("status", Value::object({{"current", current}, {"other", other}}));
    }

    std::string issuer_of(const pki::Certificate& certificate) const {
        for (const auto& [name, authority] : authorities_) {
            if (certificate.is_signed_by(authority)) return name;
        }
        return "nobody known (" + certificate.issuer_common_name() + ")";
    }

    std::string describe_pem(const std::string& bytes) const {
        Result<std::vector<pki::Certificate>> all = pki::Certificate::parse_bundle(bytes);
        if (!all.ok()) return "broken: " + all.error().message();
        std::string out;
        for (const pki::Certificate& certificate : *all) {
            const bool good = certificate.not_after() - world_.loop().wall_now() > 59 * pki::kDay;
            out += describe_certificate(certificate) + ", issuer " + issuer_of(certificate) +
                   (good ? "" : ", ENDS SOON");
        }
        return out;
    }

    Value describe_bytes(const SecretData& content, const std::string& bytes) const {
        if (bytes.find(kCertificateBegin) == 0) return describe_pem(bytes);
        if (bytes.starts_with("-----BEGIN") && bytes.find("PRIVATE KEY") != std::string::npos) {
            Result<pki::PrivateKey> key = pki::PrivateKey::parse(bytes);
            if (!key.ok()) return "broken key";
            std::string fits;
            for (const auto& [name, other] : content) {
                Result<pki::Certificate> certificate = pki::Certificate::parse(other);
                if (certificate.ok() && certificate->matches(*key)) fits += " " + name;
                Result<std::string> pub = pki::parse_public_key(other);
                if (pub.ok() && *pub == key->public_der()) fits += " " + name;
            }
            return "private key for" + fits;
        }
        if (bytes.starts_with("-----BEGIN PUBLIC KEY")) return "public key";
        Result<pki::Kubeconfig> config = pki::parse_kubeconfig(bytes);
        if (!config.ok()) return bytes;
        Result<pki::Certificate> certificate =
            pki::Certificate::parse(config->client_certificate_pem);
        Result<pki::PrivateKey> key = pki::PrivateKey::parse(config->client_key_pem);
        const bool fits = certificate.ok() && key.ok() && certificate->matches(*key);
        return Value::object({{"cluster", config->cluster},
                              {"server", config->server},
                              {"user", config->user},
                              {"ca", describe_pem(config->ca_pem)},
                              {"certificate", describe_pem(config->client_certificate_pem)},
                              {"key", fits ? "fits" : "DOES NOT FIT"}});
    }

    void describe_secret(Value& secret) const {
        const SecretData content = content_of(secret);
        Value out = Value::object();
        for (const auto& [key, bytes] : content) {
            out.set(key, describe_bytes(content, bytes));
            Result<pki::Certificate> certificate = pki::Certificate::parse(bytes);
            if (!certificate.ok() || !certificate->allows_server()) continue;
            Value names = Value::array();
            for (const std::string& name : certificate->dns_names()) names.push_back(name);
            for (const std::string& address : certificate->ip_addresses()) names.push_back(address);
            out.set(key + std::string(kNames), std::move(names));
        }
        secret.set("data", std::move(out));
    }

    /// An object as an API server stores it, or another text.
    Value clean_stored(const std::string& value) const {
        Result<Value> object = data::parse_json(value);
        if (!object.ok()) return text(value);
        if (Value* metadata = object->find("metadata")) metadata->erase("creationTimestamp");
        return clean(*object);
    }

    void take_datastore(const std::string& name, Datastore& store) {
        const std::string where = "etcd " + name + ": ";
        for (const auto& [user, roles] : store.model.users) {
            if (world_.is_left_behind(name, user)) continue;
            Value list = Value::array();
            for (const std::string& role : roles) list.push_back(text(role));
            snapshot_[where + "user " + text(user)] = std::move(list);
        }
        for (const auto& [role, permissions] : store.model.roles) {
            if (world_.is_left_behind(name, role)) continue;
            Value list = Value::array();
            for (const etcd::Permission& permission : permissions) {
                list.push_back(fmt::format("{} [{}, {})", static_cast<int>(permission.access),
                                           text(permission.range.begin),
                                           text(permission.range.end)));
            }
            snapshot_[where + "role " + text(role)] = std::move(list);
        }
        for (const auto& [key, value] : store.model.data) {
            if (world_.is_left_behind(name, key) || is_event(key)) continue;
            snapshot_[where + "key " + text(key)] = clean_stored(value);
        }
    }

    World& world_;
    std::vector<std::pair<std::string, std::string>> replacements_;
    std::vector<std::pair<std::string, pki::Certificate>> authorities_;
    Snapshot snapshot_;
};

void compare_values(const std::string& path, const Value& actual, const Value& expected,
                    std::vector<std::string>& out) {
    if (actual == expected) return;
    if (actual.is_object() && expected.is_object()) {
        for (const data::Member& member : actual.members()) {
            compare_values(path + "." + std::string(member.key()), member.value,
                           expected[member.key()], out);
        }
        for (const data::Member& member : expected.members()) {
            if (!actual.contains(member.key())) {
                compare_values(path + "." + std::string(member.key()), Value(), member.value, out);
            }
        }
        return;
    }
    if (path.ends_with(kNames)) {
        const data::Array& all = actual.items();
        const auto is_there = [&](const Value& name) {
            return std::find(all.begin(), all.end(), name) != all.end();
        };
        if (std::all_of(expected.items().begin(), expected.items().end(), is_there)) return;
    } else if (actual.is_array() && expected.is_array() && actual.size() == expected.size()) {
        for (size_t i = 0; i < actual.size(); ++i) {
            compare_values(fmt::format("{}[{}]", path, i), actual[i], expected[i], out);
        }
        return;
    }
    auto shown = [](const Value& value) {
        std::string text = value.is_null() ? "nothing" : data::to_json(value);
        return text.size() > 600 ? text.substr(0, 600) + "…" : text;
    };
    out.push_back(fmt::format("{}\n      is        {}\n      should be {}", path, shown(actual),
                              shown(expected)));
}

}  // namespace

std::string describe_certificate(const pki::Certificate& certificate) {
    auto sorted = [](std::vector<std::string> list) {
        std::sort(list.begin(), list.end());
        return join(list, " ");
    };
    return fmt::format("certificate CN={} O={}{}{}{}", certificate.common_name(),
                       sorted(certificate.organizations()), certificate.is_ca() ? " CA" : "",
                       certificate.allows_server() ? " server" : "",
                       certificate.allows_client() ? " client" : "");
}

Snapshot take_snapshot(World& world) { return Normaliser(world).run(); }

std::vector<std::string> compare_snapshots(const Snapshot& actual, const Snapshot& expected) {
    std::vector<std::string> differences;
    for (const auto& [id, object] : actual) {
        auto other = expected.find(id);
        if (other == expected.end()) {
            differences.push_back(id + " should not be there");
        } else {
            compare_values(id, object, other->second, differences);
        }
    }
    for (const auto& [id, object] : expected) {
        if (!actual.contains(id)) differences.push_back(id + " is missing");
    }
    return differences;
}

}  // namespace basalt::sim
