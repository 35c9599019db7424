// The servers of a control plane's Pod, as this program finds them: kube-apiserver,
// kube-controller-manager and kube-scheduler, on loopback.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "net/stream.h"
#include "tunnel/components.h"

namespace basalt::cmd {

/// `gate`: a file to make once the API server is ready, for which others wait (basalt-start); none
/// when empty.
Result<std::unique_ptr<tunnel::Components>> make_components(async::Loop& loop,
                                                            const net::Endpoint& api_server,
                                                            const std::string& gate);

/// Ends when the API server accepted no connection several times in a row and `drained` holds, or
/// at `deadline`: all containers of a Pod are told to stop in the same moment, but the API server
/// still needs what carries its connections.
async::Task<void> until_gone(async::Loop* loop, net::Endpoint api_server, TimePoint deadline,
                             std::function<bool()> drained);

}  // namespace basalt::cmd
