// The thinking of the KubeconfigGenerator controller, as pure functions: whom a kubeconfig is for,
// whether the one that is there can stay, and what the generator's status says.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "controlplane/certificates.h"
#include "data/value.h"
#include "pki/key.h"

namespace basalt::controlplane {

inline constexpr std::string_view kManagedByLabel = "kamaji.clastix.io/managed-by";
inline constexpr std::string_view kManagedForLabel = "kamaji.clastix.io/managed-for";
inline constexpr std::string_view kGeneratedKey = "value";

/// The text of a CompoundValue: fixed, or of a field of the control plane. A path's segments are
/// separated by dots; a member whose own name has dots (a label) is found, too. InvalidArgument
/// names what is wrong with it.
Result<std::string> compound_value(const data::Value& value, const data::Value& control_plane);

struct GeneratedUser {
    GeneratedUser() = default;
    std::string name;
    std::vector<std::string> groups;  ///< Sorted, without duplicates.
};
Result<GeneratedUser> generated_user(const data::Value& generator,
                                     const data::Value& control_plane);

struct KubeconfigInputs {
    const data::Value* generator = nullptr;
    const data::Value* control_plane = nullptr;
    GeneratedUser user;
    data::SharedValue ca_secret, admin_secret;  ///< Of the control plane; null when missing.
    data::SharedValue existing;                 ///< The generated Secret as it is, or null.
    WallTime now;
};

struct KubeconfigPlan {
    data::Value secret;  ///< The intent.
    std::string change;  ///< Why the certificate was made anew; "" when it was not.
    WallTime renew_at;
};
/// Errors say what is missing, in words for the status.
Result<KubeconfigPlan> plan_kubeconfig(const KubeconfigInputs& inputs, pki::KeySource& keys);

/// True when the Secret's labels say that `generator` made it for `control_plane`.
bool is_generated_by(const data::Value& secret, std::string_view generator,
                     std::string_view control_plane);

/// True when a Secret, named as a generator's for this control plane, is ours whatever its labels
/// say: the control plane controls it, and what it holds was applied by our field manager under the
/// key that only generators write. A Secret that lost its labels is mended, not given up.
bool is_surely_ours(const data::Value& secret, const data::Value& control_plane);

struct GeneratorStatusInputs {
    const data::Value* object = nullptr;
    int64_t selected_count = 0;
    std::vector<std::pair<std::string, std::string>> errors;  ///< "namespace/name", message.
    std::string invalid;  ///< What is wrong with the spec, or "".
    WallTime now;
};
data::Value build_generator_status(const GeneratorStatusInputs& inputs);

}  // namespace basalt::controlplane
