// The certificate authority of the default DataStore and what it signs, as PEM files in one
// directory: <name>.crt and <name>.key, keys readable by root only.
//
// Made once and kept: running again changes nothing, except that what is missing, broken or not as
// asked for is made anew. An authority is never replaced once its certificate is there. A crash at
// any moment leaves what the next run completes.
#pragma once

#include <string>

#include "base/result.h"
#include "base/time.h"
#include "pki/certificate.h"

namespace basalt::local {

/// <directory>/ca.crt and ca.key. FailedPrecondition names the file when they are not good.
Result<pki::CertificateAuthority> ensure_authority(const std::string& directory,
                                                   const std::string& common_name,
                                                   pki::KeySource& keys, WallTime now);

/// <directory>/<name>.crt and .key. Renewed 60 days before its end, unless the authority ends then,
/// too. Errors are those of CertificateAuthority::issue() and of files.
Result<void> ensure_certificate(const std::string& directory, const std::string& name,
                                const pki::CertificateSpec& spec,
                                const pki::CertificateAuthority& authority, pki::KeySource& keys,
                                WallTime now);

}  // namespace basalt::local
