// kubectl as a subprocess, for the few things that `basalt up` says to the cluster it made.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "base/result.h"

namespace basalt::local {

class Kubectl {
 public:
    Kubectl(std::string program, std::string kubeconfig);

    Result<std::string> run(std::vector<std::string> arguments, std::string input = {},
                            std::chrono::milliseconds timeout = std::chrono::seconds(60)) const;
    /// Server-side apply of YAML text; fields that others took over are taken back.
    Result<void> apply(const std::string& manifests) const;
    /// Waits until the API server answers.
    Result<void> wait_for_api(std::chrono::milliseconds limit) const;
    /// Runs `arguments` again and again until it prints `expected` (white space apart). The error
    /// holds what it printed last.
    Result<void> wait_for(const std::vector<std::string>& arguments, const std::string& expected,
                          std::chrono::milliseconds limit) const;

 private:
    std::string program_;
    std::string kubeconfig_;
};

}  // namespace basalt::local
