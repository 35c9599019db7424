// PEM blocks (RFC 7468), read leniently: text around blocks, CR LF and blanks inside are fine. For
// src/pki/*.cc.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/secret.h"

namespace basalt::pki {

struct PemBlock {
    std::string label;  ///< "CERTIFICATE", "EC PRIVATE KEY", …
    Secret der;
    bool encrypted =
        false;  ///< By RFC 1421 headers ("Proc-Type: 4,ENCRYPTED"); `der` is then cipher text.
};

/// All blocks in order; none is no error. InvalidArgument with the block's number for broken ones,
/// and for a text above kMaxPemSize.
Result<std::vector<PemBlock>> parse_pem(std::string_view text);

/// Lines of 64 characters, as everybody writes it.
Secret to_pem(std::string_view label, std::string_view der);

}  // namespace basalt::pki
