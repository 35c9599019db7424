#include "tests/sim/keys.h"

#include <fmt/format.h>

#include "controlplane/kubeconfig_generator.h"
#include "controlplane/names.h"
#include "data/base64.h"
#include "data/hash.h"
#include "pki/kubeconfig.h"

namespace basalt::sim {

using namespace std::chrono_literals;
namespace names = controlplane::names;

namespace {

/// A pass that could not know that its predecessor had succeeded comes within this.
constexpr Duration kRepeated = 2min;

/// The private keys in a Secret, as hashes: entry -> key.
std::map<std::string, uint64_t> keys_in(const Value& secret) {
    std::map<std::string, uint64_t> keys;
    for (const data::Member& member : secret["data"].members()) {
        std::string text = data::base64_decode(member.value.as_string()).value_or("");
        if (text.find("client-key-data") != std::string::npos) {
            Result<pki::Kubeconfig> config = pki::parse_kubeconfig(text);
            text = config.ok() ? std::string(config->client_key_pem.reveal()) : "";
        }
        if (text.starts_with("-----BEGIN") && text.find("PRIVATE KEY") != std::string::npos)
            keys[std::string(member.key())] = data::fnv1a(text);
    }
    return keys;
}

/// Of the control plane that an object belongs to; all empty when it is nobody's.
kube::OwnerReference owner_of(const Value& object) {
    return kube::controller_of(object).value_or(kube::OwnerReference());
}

bool is_lasting(const std::string& secret, const std::string& plane) {
    return secret == names::ca(plane) || secret == names::front_proxy_ca(plane) ||
           secret == names::service_account(plane);
}

bool differ(const Value& a, const Value& b, const std::vector<const char*>& fields) {
    for (const char* field : fields) {
        if (!(a[field] == b[field])) return true;
    }
    return false;
}

}  // namespace

void KeyWatch::note_secret_reasons(const Write& write) {
    const Value& before = write.before == nullptr ? Value() : *write.before;
    const Value& after = write.after == nullptr ? Value() : *write.after;
    const Value* asked = after["metadata"]["annotations"].find(names::kRotateAnnotation);
    const bool rotates = asked != nullptr && asked->as_string().empty();
    if (before["data"] == after["data"] && !rotates) return;
    because("secret " + write.key.to_string());
    const std::string plane = owner_of(before.is_null() ? after : before).name;
    if (is_lasting(write.key.name, plane)) because("authority " + write.key.ns + "/" + plane);
}

/// What people and the world do, that may be a reason.
void KeyWatch::note_reasons(const Write& write) {
    const std::string& kind = write.kind->resource.kind;
    const std::string key = write.key.to_string();
    if (kind == "Secret") note_secret_reasons(write);
    if (kind == "Service") because("names " + key);
    if (kind == "KubeconfigGenerator") because("generator " + write.key.name);
    if (kind != "TenantControlPlane" || write.before == nullptr || write.after == nullptr) return;
    const Value& before = (*write.before)["spec"];
    const Value& after = (*write.after)["spec"];
    if (differ(before, after, {"networkProfile"}) ||
        differ(before["controlPlane"], after["controlPlane"], {"service"}))
        because("names " + key);
    if (differ(before, after, {"dataStore", "dataStoreOverrides", "dataStoreSchema"}))
        because("stores " + key);
    if (differ(before["addons"], after["addons"], {"konnectivity"})) because("tunnel " + key);
}

bool KeyWatch::is_explained(const Write& write, const Known& known) const {
    auto since = [&](const std::string& what) {
        auto found = reasons_.find(what);
        return found != reasons_.end() && found->second >= known.since;
    };
    const std::string& secret = write.key.name;
    const std::string plane = owner_of(*write.after).name;
    const std::string of = write.key.ns + "/" + plane;
    if (since("secret " + write.key.to_string())) return true;
    if (is_lasting(secret, plane)) return false;
    if (since("authority " + of) || loop_.now() - known.since < kRepeated) return true;
    if (secret == names::api_server(plane)) return since("names " + of);
    if (secret == names::datastore_certificate(plane)) return since("stores " + of);
    if (secret == names::tunnel_certificate(plane) || secret == names::tunnel_kubeconfig(plane))
        return since("tunnel " + of);
    const std::string generator(kube::label_of(*write.after, controlplane::kManagedByLabel));
    return !generator.empty() && since("generator " + generator);
}

std::vector<std::string> KeyWatch::note(const Write& write, bool by_controller) {
    std::vector<std::string> wrong;
    const std::string& kind = write.kind->resource.kind;
    // A Service's address follows from what a controller writes, too.
    if (!by_controller || kind == "Service") note_reasons(write);
    if (!by_controller || kind != "Secret" || write.after == nullptr) return wrong;
    const kube::OwnerReference owner = owner_of(*write.after);
    for (const auto& [entry, key] : keys_in(*write.after)) {
        const std::string id = owner.uid + " " + write.key.to_string() + " " + entry;
        auto [known, is_new] = known_.emplace(id, Known{key, loop_.now()});
        if (is_new || known->second.key == key) continue;
        if (!is_explained(write, known->second)) {
            wrong.push_back(fmt::format("{} replaced the private key {} of Secret {} without need",
                                        write.who, entry, write.key.to_string()));
        }
        known->second = {key, loop_.now()};
        if (is_lasting(write.key.name, owner.name))
            because("authority " + write.key.ns + "/" + owner.name);
    }
    return wrong;
}

}  // namespace basalt::sim
