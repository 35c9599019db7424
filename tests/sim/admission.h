// A model of what a ValidatingAdmissionPolicy of ours refuses
// (src/controlplane/write_permissions.h).
//
// No CEL: which operations are refused is read from the policy's rules, what its expressions let
// through is told again here. agreement_test.cc compares both with a real API server. Evictions are
// left out, as the models know none. Pure.
#pragma once

#include <string>

#include "kube/object.h"

namespace basalt::sim {

/// One write, as admission sees it.
struct Admission {
    std::string operation;  ///< CREATE, UPDATE, DELETE
    const kube::Resource* resource = nullptr;
    kube::ObjectKey key;
    std::string subresource;
    const data::Value* object = nullptr;  ///< Null: it is deleted.
    const data::Value* before = nullptr;  ///< Null: it is created.
};

/// The words of `policy` against it; "" when it does not apply.
std::string refusal(const data::Value& policy, const Admission& request);

}  // namespace basalt::sim
