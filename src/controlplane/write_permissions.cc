#include "controlplane/write_permissions.h"

#include <algorithm>

#include <fmt/format.h>

#include "controlplane/names.h"
#include "controlplane/template.h"
#include "data/json.h"
#include "etcd/tenancy.h"
#include "kube/object.h"
#include "pki/digest.h"

namespace basalt::controlplane {

using data::Value;

namespace {

// What is not matched here goes on in every mode. ${ns}, ${sub} and ${name} are fields of the
// request, which CEL does not find where they are empty. The status is what the controller manager
// would write after its type check: under the seal it could not, and would try again and again.
constexpr std::string_view kPolicy = R"YAML(
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: kamaji-write-permissions}
spec:
  failurePolicy: Fail
  matchConstraints:
    matchPolicy: Equivalent
    resourceRules: ${rules}
  matchConditions:
  - name: system-namespaces
    expression: >-
      ${ns} != 'kube-system' &&
      !(${ns} == 'kube-node-lease' && request.operation == 'UPDATE')
  - name: status
    expression: >-
      !(${sub} in ['status', 'binding', 'token', 'approval', 'finalize'])
  - name: renewals
    expression: >-
      !(request.operation == 'UPDATE' && (
      (request.resource.group == 'coordination.k8s.io' && request.resource.resource == 'leases') ||
      (request.resource.group == '' && request.resource.resource == 'nodes' && ${sub} == '')))
  - name: short-lived
    expression: >-
      !((request.resource.group in ['', 'events.k8s.io'] && request.resource.resource == 'events') ||
      (request.resource.group == '' && request.resource.resource == 'endpoints') ||
      (request.resource.group == 'discovery.k8s.io' && request.resource.resource == 'endpointslices') ||
      (request.resource.group == 'certificates.k8s.io' &&
      request.resource.resource == 'certificatesigningrequests') ||
      (request.resource.group == 'storage.k8s.io' && request.resource.resource == 'csinodes') ||
      request.resource.group in ['authentication.k8s.io', 'authorization.k8s.io'])
  - name: api-server
    expression: >-
      !(request.resource.group == 'flowcontrol.apiserver.k8s.io' ||
      (request.resource.group == 'networking.k8s.io' &&
      request.resource.resource in ['servicecidrs', 'ipaddresses']) ||
      (request.resource.group == 'scheduling.k8s.io' && ${name}.startsWith('system-')) ||
      (${ns} == 'default' && request.resource.group == '' &&
      request.resource.resource == 'services' && ${name} == 'kubernetes') ||
      (${ns} == 'kube-public' && request.resource.group == '' &&
      request.resource.resource == 'configmaps' && ${name} == 'cluster-info') ||
      (request.resource.group == '' && request.resource.resource == 'configmaps' &&
      ${name} == 'kube-root-ca.crt') ||
      (request.operation == 'CREATE' && request.resource.group == '' &&
      request.resource.resource == 'serviceaccounts' && ${name} == 'default') ||
      (request.operation == 'CREATE' && request.resource.group == '' &&
      request.resource.resource == 'namespaces' &&
      ${name} in ['default', 'kube-system', 'kube-public', 'kube-node-lease']))
  - name: maintained
    expression: >-
      !(request.resource.group in ['rbac.authorization.k8s.io', 'apiregistration.k8s.io'] &&
      [object, oldObject].all(o, o == null || (has(o.metadata.labels) && (
      'kamaji.clastix.io/project' in o.metadata.labels || (request.operation != 'DELETE' && (
      'kubernetes.io/bootstrapping' in o.metadata.labels ||
      'kube-aggregator.kubernetes.io/automanaged' in o.metadata.labels))))))
  - name: evictions
    expression: ${evictions}
  validations:
  - expression: 'false'
    reason: Forbidden
    messageExpression: >-
      "the provider of this cluster does not allow " + (${sub} == 'eviction' ||
      request.operation == 'DELETE' ? "deletions" : request.operation == 'CREATE' ? "new objects" :
      "changes") + " at present (write permissions)"
status: {observedGeneration: 1}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: kamaji-write-permissions}
spec:
  policyName: kamaji-write-permissions
  validationActions: [Deny]
)YAML";

Value rule(const char* resources, Value operations) {
    return Value::object({{"apiGroups", Value::array({"*"})},
                          {"apiVersions", Value::array({"*"})},
                          {"resources", Value::array({resources})},
                          {"scope", "*"},
                          {"operations", std::move(operations)}});
}

std::string or_empty(const char* field) {
    return fmt::format("(has(request.{0}) ? request.{0} : '')", field);
}

// A name-based identifier: the same for the same object of the same control plane.
std::string uid_for(const Value& control_plane, const Value& object) {
    const std::string hex =
        pki::md5_hex(fmt::format("{}/{}", kube::uid_of(control_plane), object["kind"].as_string()));
    return fmt::format("{}-{}-3{}-8{}-{}", hex.substr(0, 8), hex.substr(8, 4), hex.substr(13, 3),
                       hex.substr(17, 3), hex.substr(20));
}

}  // namespace

std::vector<Value> build_write_permissions(const Settings& settings, const Value& control_plane) {
    const WritePermissions& blocked = settings.write_permissions;
    Value operations = Value::array();
    if (blocked.block_creation) operations.push_back("CREATE");
    if (blocked.block_update) operations.push_back("UPDATE");
    if (blocked.block_deletion) operations.push_back("DELETE");
    Value rules = Value::array({rule("*/*", std::move(operations))});
    // An eviction is created, and deletes.
    if (blocked.block_deletion) rules.push_back(rule("pods/eviction", Value::array({"CREATE"})));
    const char* evictions = blocked.block_deletion
                                ? "true"
                                : "!(has(request.subResource) && request.subResource == "
                                  "'eviction')";
    std::vector<Value> objects = instantiate(kPolicy, {{"rules", std::move(rules)},
                                                       {"evictions", evictions},
                                                       {"ns", or_empty("namespace")},
                                                       {"sub", or_empty("subResource")},
                                                       {"name", or_empty("name")}});
    for (Value& object : objects) {
        Value& meta = object.at("metadata");
        meta.set("uid", uid_for(control_plane, object));
        meta.set("creationTimestamp", control_plane["metadata"]["creationTimestamp"]);
        meta.set("generation", 1);
        meta.set("labels", Value::object({{names::kProjectLabel, names::kProject}}));
    }
    return objects;
}

std::vector<StoredLimit> stored_limits(const Settings& settings, const Value& control_plane) {
    std::vector<StoredLimit> stored;
    for (const Value& object : build_write_permissions(settings, control_plane)) {
        const bool policy = object["kind"].as_string() == "ValidatingAdmissionPolicy";
        const char* plural =
            policy ? "validatingadmissionpolicies" : "validatingadmissionpolicybindings";
        stored.push_back({fmt::format("admissionregistration.k8s.io/{}", plural),
                          fmt::format("/{}/{}/{}", settings.schema, plural, kLimitsName),
                          data::to_json(object)});
    }
    return stored;
}

std::vector<StoredLimit> kamaji_limits(const Settings& settings) {
    std::vector<StoredLimit> stored;
    for (const char* name : {"kamaji-freeze", "kamaji-write-permissions"}) {
        stored.push_back(
            {"admissionregistration.k8s.io/validatingwebhookconfigurations",
             fmt::format("/{}/validatingwebhookconfigurations/{}", settings.schema, name),
             {}});
    }
    return stored;
}

std::vector<etcd::KeyRange> sealed_ranges(const Settings& settings) {
    static constexpr std::string_view kKinds[] = {
        "mutatingadmissionpolicies",         "mutatingadmissionpolicybindings",
        "mutatingwebhookconfigurations",     "validatingadmissionpolicies",
        "validatingadmissionpolicybindings", "validatingwebhookconfigurations"};
    const WritePermissions& blocked = settings.write_permissions;
    if (!blocked.any()) return {};
    const bool all = blocked.block_creation && blocked.block_update && blocked.block_deletion;
    std::vector<etcd::KeyRange> ranges;
    for (std::string_view kind : kKinds) {
        std::string prefix = fmt::format("/{}/{}/", settings.schema, kind);
        if (all) {
            ranges.push_back(etcd::KeyRange{prefix, etcd::prefix_end(prefix)});
        } else if (kind.starts_with("validatingadmission")) {
            prefix += kLimitsName;
            ranges.push_back(etcd::KeyRange{prefix, prefix + std::string(1, '\0')});
        }
    }
    std::sort(ranges.begin(), ranges.end(),
              [](const auto& a, const auto& b) { return a.begin < b.begin; });
    return ranges;
}

std::string describe_limits(const WritePermissions& permissions) {
    if (!permissions.any()) return "";
    std::vector<std::string> parts;
    if (permissions.block_creation) parts.emplace_back("creation");
    if (permissions.block_update) parts.emplace_back("update");
    if (permissions.block_deletion) parts.emplace_back("deletion");
    return fmt::format("Refused in the tenant's cluster: {}", fmt::join(parts, ", "));
}

std::string find_hindrance(const std::vector<std::string>& api_server_args) {
    for (const std::string& argument : api_server_args) {
        const std::string flag = argument.substr(0, argument.find('='));
        const auto names = [&](std::string_view what) {
            return argument.find(what) != std::string::npos;
        };
        // What is in etcd is then read by its keys only, and ours is written without them.
        if (flag == "--encryption-provider-config") return flag;
        if (flag == "--disable-admission-plugins" && names("ValidatingAdmissionPolicy"))
            return flag;
        if (flag == "--runtime-config" && names("admissionregistration")) return flag;
    }
    return "";
}

}  // namespace basalt::controlplane
