#include "local/kubectl.h"

#include <thread>

#include <fmt/format.h>

#include "base/strings.h"
#include "linux/process.h"

namespace basalt::local {
namespace {

constexpr auto kPollInterval = std::chrono::milliseconds(250);

}  // namespace

Kubectl::Kubectl(std::string program, std::string kubeconfig)
    : program_(std::move(program)), kubeconfig_(std::move(kubeconfig)) {}

Result<std::string> Kubectl::run(std::vector<std::string> arguments, std::string input,
                                 std::chrono::milliseconds timeout) const {
    linux::Command command;
    command.argv = {program_, "--kubeconfig", kubeconfig_};
    command.argv.insert(command.argv.end(), arguments.begin(), arguments.end());
    command.input = std::move(input);
    command.timeout = timeout;
    // A proxy of the user's shell must not see traffic to the local cluster.
    command.env = {"NO_PROXY=*", "no_proxy=*", "HOME=/root"};
    return linux::run_ok(command);
}

Result<void> Kubectl::apply(const std::string& manifests) const {
    BASALT_TRY(
        run({"apply", "--server-side", "--force-conflicts", "--field-manager=basalt-up", "-f", "-"},
            manifests, std::chrono::minutes(2)));
    return {};
}

Result<void> Kubectl::wait_for_api(std::chrono::milliseconds limit) const {
    return wait_for({"get", "--raw", "/readyz"}, "ok", limit).context("API server");
}

Result<void> Kubectl::wait_for(const std::vector<std::string>& arguments,
                               const std::string& expected, std::chrono::milliseconds limit) const {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    std::string last;
    for (;;) {
        Result<std::string> output = run(arguments, {}, std::chrono::seconds(20));
        last = output.ok() ? std::string(trim(*output)) : output.error().to_string();
        if (output.ok() && last == expected) return {};
        if (std::chrono::steady_clock::now() >= deadline) {
            return deadline_exceeded(fmt::format("kubectl {}: wanted \"{}\", got \"{}\"",
                                                 join(arguments, " "), expected, last));
        }
        std::this_thread::sleep_for(kPollInterval);
    }
}

}  // namespace basalt::local
