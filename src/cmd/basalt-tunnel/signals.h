// How the programs here end: asked once, they finish what is under way; asked twice, at once.
#pragma once

#include <functional>

#include "async/real_loop.h"
#include "async/task_group.h"

namespace basalt::cmd {

/// Runs the loop until somebody stops it. The first SIGTERM or SIGINT calls `finish`, whose task
/// stops the loop when all is done; the second cancels that task. `finish` may be called at any
/// turn of the loop, once.
void run_until_asked(async::RealLoop& loop, std::function<async::Task<void>()> finish);

}  // namespace basalt::cmd
