// API objects as data::Value: names, references, labels, selectors.
//
// Objects stay documents: what we do not know survives a round trip. These helpers only read and
// write the parts of metadata that every kind shares (metav1.ObjectMeta). Reading never fails: what
// is missing reads as empty.
//
// The types that coroutines take by value have declared constructors on purpose: gcc 12 copies
// temporaries of aggregate types bit by bit inside a co_await expression and frees their strings
// twice.
//
// Pure functions, any thread.
#pragma once

#include <compare>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "data/value.h"

namespace basalt::kube {

using data::SharedValue;
using data::Value;

/// Namespace and name; the namespace is empty for cluster-scoped objects.
struct ObjectKey {
    ObjectKey() = default;
    ObjectKey(std::string namespace_name, std::string object_name)
        : ns(std::move(namespace_name)), name(std::move(object_name)) {}
    /// A cluster-scoped object.
    explicit ObjectKey(std::string object_name) : name(std::move(object_name)) {}

    /// "namespace/name", or "name".
    std::string to_string() const;
    friend bool operator==(const ObjectKey&, const ObjectKey&) = default;
    friend auto operator<=>(const ObjectKey&, const ObjectKey&) = default;

    std::string ns;
    std::string name;
};

struct Gvk {
    Gvk() = default;
    Gvk(std::string group_name, std::string version_name, std::string kind_name)
        : group(std::move(group_name)),
          version(std::move(version_name)),
          kind(std::move(kind_name)) {}

    /// "v1" or "apps/v1".
    std::string api_version() const;
    /// "Deployment.v1.apps", for messages.
    std::string to_string() const;
    friend bool operator==(const Gvk&, const Gvk&) = default;
    friend auto operator<=>(const Gvk&, const Gvk&) = default;

    std::string group;
    std::string version;
    std::string kind;
};

/// An API resource: where requests for a kind go.
struct Resource {
    Resource() = default;
    /// `api_version` is "v1" or "apps/v1".
    Resource(std::string_view api_version, std::string plural_name, std::string kind_name,
             bool is_namespaced = true);

    std::string api_version() const;
    Gvk gvk() const { return Gvk(group, version, kind); }
    /// "deployments.v1.apps", for keys and messages.
    std::string to_string() const;
    friend bool operator==(const Resource&, const Resource&) = default;
    friend auto operator<=>(const Resource&, const Resource&) = default;

    std::string group;  ///< Empty for the core group.
    std::string version;
    std::string plural;
    std::string kind;
    bool namespaced = true;
};

/// Built-in resources that this product uses; the rest comes from discovery (client.h).
namespace resources {
const Resource& pods();
const Resource& services();
const Resource& secrets();
const Resource& config_maps();
const Resource& namespaces();
const Resource& nodes();
const Resource& service_accounts();
const Resource& endpoints();
const Resource& persistent_volumes();
const Resource& persistent_volume_claims();
const Resource& deployments();
const Resource& replica_sets();
const Resource& stateful_sets();
const Resource& daemon_sets();
const Resource& jobs();
const Resource& leases();
const Resource& events();  ///< events.k8s.io/v1
const Resource& endpoint_slices();
const Resource& pod_disruption_budgets();
const Resource& network_policies();
const Resource& ingresses();
const Resource& roles();
const Resource& role_bindings();
const Resource& cluster_roles();
const Resource& cluster_role_bindings();
const Resource& storage_classes();
const Resource& priority_classes();
const Resource& api_services();
const Resource& custom_resource_definitions();
const Resource& validating_webhook_configurations();
const Resource& mutating_webhook_configurations();
const Resource& validating_admission_policies();
const Resource& validating_admission_policy_bindings();
const Resource& token_reviews();
const Resource& subject_access_reviews();
const Resource& certificate_signing_requests();
}  // namespace resources

/// "apps/v1" to ("apps", "v1"), "v1" to ("", "v1").
std::pair<std::string, std::string> split_api_version(std::string_view api_version);

/// {"apiVersion": …, "kind": …, "metadata": {"name": …, "namespace": …}}
Value make_object(const Resource& resource, const ObjectKey& key);

// Views are valid as long as `object` is.
Gvk gvk_of(const Value& object);
ObjectKey key_of(const Value& object);
inline std::string_view name_of(const Value& object) {
    return object["metadata"]["name"].as_string();
}
inline std::string_view namespace_of(const Value& object) {
    return object["metadata"]["namespace"].as_string();
}
inline std::string_view uid_of(const Value& object) {
    return object["metadata"]["uid"].as_string();
}
inline std::string_view resource_version_of(const Value& object) {
    return object["metadata"]["resourceVersion"].as_string();
}
inline int64_t generation_of(const Value& object) {
    return object["metadata"]["generation"].as_int();
}
/// True once deletion was asked for and only finalizers hold the object.
inline bool is_deleting(const Value& object) {
    return !object["metadata"]["deletionTimestamp"].is_null();
}
/// Kind and key for people: "Deployment default/web".
std::string describe(const Value& object);

std::string_view label_of(const Value& object, std::string_view name);
std::string_view annotation_of(const Value& object, std::string_view name);
void set_label(Value& object, std::string_view name, std::string_view value);
void set_annotation(Value& object, std::string_view name, std::string_view value);

bool has_finalizer(const Value& object, std::string_view name);
/// True when the object changed.
bool insert_finalizer(Value& object, std::string_view name);
bool erase_finalizer(Value& object, std::string_view name);

struct OwnerReference {
    std::string api_version;
    std::string kind;
    std::string name;
    std::string uid;
    bool controller = false;
};
std::vector<OwnerReference> owner_references(const Value& object);
/// The one with controller: true.
std::optional<OwnerReference> controller_of(const Value& object);
bool is_owned_by(const Value& object, std::string_view owner_uid);
/// An entry for metadata.ownerReferences that names `owner` as controller.
Value controller_reference(const Value& owner);
/// Adds or updates the reference to `owner`. FailedPrecondition when another controller owns
/// `object`.
Result<void> set_controller_reference(Value& object, const Value& owner);

/// A label selector, of the string form ("a=b,c!=d,e in (x,y),!f,g") or of metav1.LabelSelector.
class LabelSelector {
 public:
    enum class Operator { kIn, kNotIn, kExists, kDoesNotExist };
    struct Requirement {
        std::string key;
        Operator op = Operator::kExists;
        std::vector<std::string> values;
    };

    /// Matches everything.
    LabelSelector() = default;
    explicit LabelSelector(std::vector<Requirement> requirements)
        : requirements_(std::move(requirements)) {}
    static Result<LabelSelector> parse(std::string_view text);
    /// From metav1.LabelSelector (matchLabels, matchExpressions). A null value selects nothing, {}
    /// everything, as in the API.
    static Result<LabelSelector> from_value(const Value& selector);
    static LabelSelector equals(std::string key, std::string value);

    bool matches_labels(const Value& labels) const;
    bool matches(const Value& object) const { return matches_labels(object["metadata"]["labels"]); }
    bool empty() const { return requirements_.empty() && !nothing_; }
    /// For the labelSelector parameter of a request.
    std::string to_string() const;
    const std::vector<Requirement>& requirements() const { return requirements_; }

 private:
    std::vector<Requirement> requirements_;
    bool nothing_ = false;
};

}  // namespace basalt::kube

template <>
struct std::hash<basalt::kube::ObjectKey> {
    size_t operator()(const basalt::kube::ObjectKey& key) const noexcept {
        const size_t a = std::hash<std::string>()(key.ns);
        const size_t b = std::hash<std::string>()(key.name);
        return a ^ (b + 0x9e3779b97f4a7c15ULL + (a << 6) + (a >> 2));
    }
};
