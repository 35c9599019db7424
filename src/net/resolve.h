// Names to addresses, for those who have to look at an address before anything is sent to it.
#pragma once

#include <string>
#include <vector>

#include "async/task.h"

namespace basalt::net {

/// The addresses of a name as text, in the system resolver's order; an address is its own, in its
/// canonical form. Needs a RealLoop. Unavailable for a name that does not resolve.
async::Task<Result<std::vector<std::string>>> resolve_addresses(async::Loop& loop,
                                                                std::string host);

}  // namespace basalt::net
