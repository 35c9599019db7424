#include "tests/sim/admission.h"

#include <algorithm>
#include <set>

#include "controlplane/names.h"

namespace basalt::sim {

namespace {

using data::Value;

using Names = std::set<std::string>;

bool is_refused_operation(const Value& policy, const std::string& operation) {
    const Value& rule = policy["spec"]["matchConstraints"]["resourceRules"][0];
    const auto& operations = rule["operations"].items();
    return std::any_of(operations.begin(), operations.end(),
                       [&](const Value& one) { return one.as_string() == operation; });
}

bool is_system(const Admission& request) {
    static const Names kSubresources = {"status", "binding", "token", "approval", "finalize"};
    // A Namespace that there is lies in itself.
    const bool is_namespace =
        request.resource->plural == "namespaces" && request.operation != "CREATE";
    const std::string& ns = is_namespace ? request.key.name : request.key.ns;
    return ns == "kube-system" || kSubresources.contains(request.subresource) ||
           (ns == "kube-node-lease" && request.operation == "UPDATE");
}

bool is_renewal(const Admission& request) {
    const kube::Resource& resource = *request.resource;
    return request.operation == "UPDATE" &&
           ((resource.group == "coordination.k8s.io" && resource.plural == "leases") ||
            (resource.group.empty() && resource.plural == "nodes" && request.subresource.empty()));
}

bool is_short_lived(const kube::Resource& resource) {
    static const Names kKinds = {"/events",
                                 "events.k8s.io/events",
                                 "/endpoints",
                                 "discovery.k8s.io/endpointslices",
                                 "storage.k8s.io/csinodes",
                                 "certificates.k8s.io/certificatesigningrequests"};
    return kKinds.contains(resource.group + "/" + resource.plural) ||
           resource.group == "authentication.k8s.io" || resource.group == "authorization.k8s.io";
}

bool is_of_api_server(const Admission& request) {
    static const Names kNamespaces = {"default", "kube-system", "kube-public", "kube-node-lease"};
    const std::string& name = request.key.name;
    const std::string& ns = request.key.ns;
    const std::string& group = request.resource->group;
    const std::string& plural = request.resource->plural;
    const bool created = request.operation == "CREATE";
    if (group == "flowcontrol.apiserver.k8s.io") return true;
    if (group == "networking.k8s.io") return plural == "servicecidrs" || plural == "ipaddresses";
    if (group == "scheduling.k8s.io") return name.starts_with("system-");
    if (!group.empty()) return false;
    if (plural == "services") return ns == "default" && name == "kubernetes";
    if (plural == "configmaps")
        return name == "kube-root-ca.crt" || (ns == "kube-public" && name == "cluster-info");
    if (plural == "serviceaccounts") return created && name == "default";
    return plural == "namespaces" && created && kNamespaces.contains(name);
}

/// Ours, and what an API server keeps up.
bool is_maintained(const Admission& request) {
    const std::string& group = request.resource->group;
    if (group != "rbac.authorization.k8s.io" && group != "apiregistration.k8s.io") return false;
    const auto is_good = [&](const Value* object) {
        if (object == nullptr) return true;
        const Value& labels = (*object)["metadata"]["labels"];
        return labels.contains(controlplane::names::kProjectLabel) ||
               (request.operation != "DELETE" &&
                (labels.contains("kubernetes.io/bootstrapping") ||
                 labels.contains("kube-aggregator.kubernetes.io/automanaged")));
    };
    return is_good(request.object) && is_good(request.before);
}

}  // namespace

std::string refusal(const Value& policy, const Admission& request) {
    if (!is_refused_operation(policy, request.operation)) return "";
    if (is_system(request) || is_renewal(request) || is_short_lived(*request.resource) ||
        is_of_api_server(request) || is_maintained(request))
        return "";
    return "the provider of this cluster does not allow it at present (write permissions)";
}

}  // namespace basalt::sim
