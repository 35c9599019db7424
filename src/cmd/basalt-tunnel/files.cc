#include "cmd/basalt-tunnel/files.h"

#include <cerrno>
#include <cstdio>

namespace basalt::cmd {

Result<std::string> read_file(const std::string& path) {
    std::FILE* file = std::fopen(path.c_str(), "rbe");
    if (file == nullptr) return errno_error(errno, "open " + path);
    std::string text;
    char buffer[16384];
    size_t count = 0;
    while ((count = std::fread(buffer, 1, sizeof buffer, file)) > 0) {
        text.append(buffer, count);
        if (text.size() > kMaxFileSize) break;
    }
    bool failed = std::ferror(file) != 0;
    std::fclose(file);
    secure_wipe(buffer, sizeof buffer);
    if (failed) return internal_error("cannot read " + path);
    if (text.size() > kMaxFileSize) return resource_exhausted(path + " is above 1 MiB");
    return text;
}

Result<std::shared_ptr<const net::TlsContext>> TlsFiles::load() {
    std::string ca = base_.ca_pem;
    std::string cert = base_.cert_pem;
    Secret key = base_.key_pem;
    if (!paths_.ca.empty()) {
        BASALT_ASSIGN(ca, read_file(paths_.ca));
    }
    if (!paths_.cert.empty()) {
        BASALT_ASSIGN(cert, read_file(paths_.cert));
    }
    if (!paths_.key.empty()) {
        BASALT_ASSIGN(std::string text, read_file(paths_.key));
        key = Secret(std::move(text));
    }
    if (context_ && ca == seen_ca_ && cert == seen_cert_ && key == seen_key_) return context_;
    net::TlsConfig config = base_;
    config.ca_pem = ca;
    config.cert_pem = cert;
    config.key_pem = key;
    auto made = role_ == Role::kServer ? net::make_tls_server(std::move(config))
                                       : net::make_tls_client(std::move(config));
    if (!made.ok())
        return std::move(made).error().context(paths_.cert.empty() ? paths_.ca : paths_.cert);
    context_ = *made;
    seen_ca_ = std::move(ca);
    seen_cert_ = std::move(cert);
    seen_key_ = std::move(key);
    return context_;
}

}  // namespace basalt::cmd
