// A node as the commands see it: start, stop, pull the plug, look inside.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "linux/daemon.h"
#include "linux/process.h"
#include "local/node_spec.h"
#include "local/paths.h"

namespace basalt::local {

class Node {
 public:
    Node(const Paths& paths, NodeSpec spec);

    const NodeSpec& spec() const { return spec_; }
    const std::string& name() const { return spec_.name; }
    bool running() const { return daemon_.running(); }

    /// Starts it and waits until containerd answers. Idempotent.
    Result<void> start() const;
    /// Shuts it down as an administrator would. Idempotent.
    Result<void> stop() const;
    /// Pulls the plug: SIGKILL for everything at once. Idempotent.
    Result<void> kill() const;

    /// The node's first process, as the host numbers it.
    Result<pid_t> first_process() const;
    /// `argv` in the node's namespaces, with the node's environment. The command dies with its
    /// caller, and stays in its caller's cgroup.
    Result<std::vector<std::string>> command_inside(const std::vector<std::string>& argv) const;
    /// Runs it to its end; a failure is an error.
    Result<std::string> run_inside(const std::vector<std::string>& argv, std::string input = {},
                                   std::chrono::milliseconds timeout = std::chrono::minutes(2),
                                   std::function<void(std::string_view)> on_line = {}) const;
    /// Kills every process of the node whose name is `name` (as in /proc/PID/comm).
    void kill_processes(const std::string& name) const;
    /// containerd's client on the host, speaking to the node's containerd (namespace k8s.io).
    Result<std::vector<std::string>> ctr(const std::vector<std::string>& arguments) const;
    /// Where a file of the node's /etc lies on the host (only files that the node has written).
    std::string etc_path(const std::string& relative) const { return spec_.etc() + "/" + relative; }

 private:
    const Paths& paths_;
    NodeSpec spec_;
    linux::Daemon daemon_;
};

}  // namespace basalt::local
