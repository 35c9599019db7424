#include "local/template.h"

#include <algorithm>

#include <fmt/format.h>

#include "linux/file.h"

namespace basalt::local {

Result<std::string> render_template(const std::string& text, const Variables& variables) {
    std::string out;
    for (size_t at = 0; at < text.size();) {
        if (text[at] != '$' || at + 1 == text.size()) {
            out += text[at++];
            continue;
        }
        if (text[at + 1] == '$') {
            out += '$';
            at += 2;
            continue;
        }
        const size_t end = text.find('}', at);
        if (text[at + 1] != '{' || end == std::string::npos) {
            out += text[at++];
            continue;
        }
        const std::string name = text.substr(at + 2, end - at - 2);
        auto found = variables.find(name);
        if (found == variables.end()) {
            const auto line =
                1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n');
            return invalid_argument(fmt::format("line {}: no value for ${{{}}}", line, name));
        }
        out += found->second;
        at = end + 1;
    }
    return out;
}

Result<std::string> render_template_file(const std::string& path, const Variables& variables) {
    BASALT_ASSIGN(std::string text, linux::read_file(path));
    return render_template(text, variables).context(path);
}

}  // namespace basalt::local
