// Manifests and configuration files with ${NAME} in them. A name that is not given is an error: a
// manifest must never reach the cluster half filled in. "$$" is a dollar sign.
#pragma once

#include <map>
#include <string>

#include "base/result.h"

namespace basalt::local {

using Variables = std::map<std::string, std::string>;

/// Errors: InvalidArgument naming the variable and its line.
Result<std::string> render_template(const std::string& text, const Variables& variables);
/// Reads and renders; errors carry the path.
Result<std::string> render_template_file(const std::string& path, const Variables& variables);

}  // namespace basalt::local
