#include "local/certificates.h"

#include <fmt/format.h>

#include "base/strings.h"
#include "linux/file.h"
#include "linux/process.h"

namespace basalt::local {
namespace {

constexpr const char* kDays = "3650";  // as long as a development cluster may live

Result<void> make_key(const std::string& path) {
    BASALT_ASSIGN(std::string key, linux::run_ok({"openssl", "genpkey", "-algorithm", "EC",
                                                  "-pkeyopt", "ec_paramgen_curve:P-256"}));
    return linux::write_file_atomically(path, key, 0600);
}

Result<std::string> openssl(std::vector<std::string> arguments, std::string input) {
    linux::Command command;
    command.argv = {"openssl"};
    command.argv.insert(command.argv.end(), arguments.begin(), arguments.end());
    command.input = std::move(input);
    return linux::run_ok(command);
}

}  // namespace

Result<void> ensure_authority(const std::string& directory, const std::string& common_name) {
    // The certificate is written last: when it is there, all is.
    if (linux::exists(directory + "/ca.crt")) return {};
    BASALT_TRY(linux::make_directories(directory, 0700));
    BASALT_TRY(make_key(directory + "/ca.key"));
    BASALT_ASSIGN(
        std::string certificate,
        openssl({"req", "-x509", "-new", "-key", directory + "/ca.key", "-days", kDays, "-subj",
                 "/CN=" + common_name, "-addext", "basicConstraints=critical,CA:TRUE", "-addext",
                 "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"},
                {}));
    return linux::write_file_atomically(directory + "/ca.crt", certificate);
}

Result<void> ensure_certificate(const std::string& directory, const CertificateRequest& request) {
    const std::string base = directory + "/" + request.name;
    if (linux::exists(base + ".crt")) return {};
    BASALT_TRY(make_key(base + ".key"));
    BASALT_ASSIGN(
        std::string signing_request,
        openssl({"req", "-new", "-key", base + ".key", "-subj", "/CN=" + request.common_name}, {}));
    std::string extensions = fmt::format(
        "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
        "extendedKeyUsage={}clientAuth\n",
        request.server ? "serverAuth," : "");
    if (!request.alternative_names.empty()) {
        extensions += fmt::format("subjectAltName={}\n", join(request.alternative_names, ","));
    }
    BASALT_TRY(linux::write_file_atomically(base + ".ext", extensions));
    BASALT_ASSIGN(
        std::string certificate,
        openssl({"x509", "-req", "-CA", directory + "/ca.crt", "-CAkey", directory + "/ca.key",
                 "-CAcreateserial", "-days", kDays, "-extfile", base + ".ext"},
                signing_request));
    return linux::write_file_atomically(base + ".crt", certificate);
}

}  // namespace basalt::local
