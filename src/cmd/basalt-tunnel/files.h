// Files that the tunnel programs read, and TLS identities that follow them.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "net/tls.h"

namespace basalt::cmd {

/// Certificates, tokens and kubeconfigs have kilobytes.
inline constexpr size_t kMaxFileSize = size_t{1} << 20;
/// The whole file. For small local files: blocks the caller.
Result<std::string> read_file(const std::string& path);

/// Where the parts of a TlsConfig lie; an empty path leaves the part as `base` has it.
struct TlsPaths {
    std::string ca;
    std::string cert;
    std::string key;
};

/// A TLS identity that is built anew when its files have changed.
class TlsFiles {
 public:
    enum class Role { kClient, kServer };
    TlsFiles(Role role, TlsPaths paths, net::TlsConfig base)
        : role_(role), paths_(std::move(paths)), base_(std::move(base)) {}
    /// Reads the files; the same context as before when nothing has changed. When the new files are
    /// broken the Error says why and the next call tries again.
    Result<std::shared_ptr<const net::TlsContext>> load();

 private:
    Role role_;
    TlsPaths paths_;
    net::TlsConfig base_;
    std::string seen_ca_;
    std::string seen_cert_;
    Secret seen_key_;
    std::shared_ptr<const net::TlsContext> context_;
};

}  // namespace basalt::cmd
