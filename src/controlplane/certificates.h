// The Secrets with key material of one control plane: which are good, which are made anew and why.
//
// Pure but for the keys, which come from a KeySource. What is good is returned as it is: a private
// key is never rewritten without a reason, whoever made it and of whatever type it is. Leaves are
// renewed kRenewBefore their end, when their SANs or names are not what the spec asks for, when
// they do not belong to their CA, when their text is broken, or when the rotate annotation asks for
// it; not when they begin in the future of a clock that may have been put back
// (pki::kClockTolerance). A CA, or the key that signs service accounts' tokens, is made only when
// its Secret does not exist: one that is broken stops the pass instead, since replacing it would
// cut off every node.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/time.h"
#include "controlplane/objects.h"
#include "controlplane/settings.h"
#include "data/value.h"
#include "pki/certificate.h"
#include "pki/key.h"

namespace basalt::controlplane {

/// A leaf is renewed this long before its end.
inline constexpr Duration kRenewBefore = 60 * pki::kDay;

/// Key material as it lies in a Secret: key -> bytes.
using SecretData = std::map<std::string, std::string>;

struct CertificateInputs {
    const Settings* settings = nullptr;
    Endpoint endpoint;
    std::string cluster_ip;  ///< Of the Service.
    /// Live Secrets by name; missing ones are absent.
    std::map<std::string, data::SharedValue> secrets;
    /// Of the DataStore: signs the tenant's client certificate.
    std::string datastore_ca_pem;
    Secret datastore_ca_key_pem;
    std::vector<std::string> datastore_endpoints;
    /// Of the DataStores of overrides. An API server has one client certificate and one file of
    /// authorities for all of them.
    struct Authority {
        std::string datastore, ca_pem;
        Secret ca_key_pem;
    };
    std::vector<Authority> override_authorities;
    WallTime now;
};

struct CertificateSet {
    /// Every Secret that has to be, complete.
    std::map<std::string, SecretData> secrets;
    /// "<secret>: reason" for each that was made anew. Empty: nothing to write.
    std::vector<std::string> changes;
    /// Secret -> value of its rotate annotation: the time when it was last followed.
    std::map<std::string, std::string> rotated_at;
    /// When the next one has to be renewed.
    WallTime renew_at;
};

/// What is asked for by a rotate annotation and not done, for Settings::unsupported: another CA or
/// key of service accounts. `find` returns a live Secret by its name, or null.
std::vector<std::string> unsupported_rotations(
    const Settings& settings,
    const std::function<data::SharedValue(const std::string& secret)>& find);

/// FailedPrecondition or InvalidArgument name the Secret and the remedy.
Result<CertificateSet> plan_certificates(const CertificateInputs& inputs, pki::KeySource& keys);

/// What lies in a Secret; keys that are not base64 are left out.
SecretData read_secret(const data::Value& secret);

/// The Secret objects (intents) of a set.
std::vector<data::Value> build_secrets(const Settings& settings, const CertificateSet& set);

/// MD5 over keys and values in order, as the checksum annotation and labels carry it.
std::string checksum(const SecretData& secret);

}  // namespace basalt::controlplane
