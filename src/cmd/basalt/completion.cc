// `basalt completion SHELL`: words of the command line, from the same declarations that parse it.
#include <CLI/CLI.hpp>
#include <map>
#include <memory>

#include <fmt/format.h>

#include "cmd/basalt/commands.h"

namespace basalt::cmd {
namespace {

// "basalt nodes" -> "list stop start … --name"
using Words = std::map<std::string, std::string>;

void collect(const CLI::App& app, const std::string& path, Words& words) {
    std::string& own = words[path];
    for (const CLI::App* child : app.get_subcommands([](const CLI::App*) { return true; })) {
        if (child->get_group().empty()) continue;  // Hidden.
        own += child->get_name() + " ";
        collect(*child, path + " " + child->get_name(), words);
    }
    for (const CLI::Option* option : app.get_options()) {
        for (const std::string& name : option->get_lnames()) own += "--" + name + " ";
    }
}

std::string bash_script(const Words& words, const std::string& program) {
    std::string cases;
    for (const auto& [path, list] : words)
        cases += fmt::format("        '{}') words='{}' ;;\n", path, list);
    return fmt::format(R"(_{0}_complete() {{
    local path={0} word words
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case $word in -*) ;; *) path="$path $word" ;; esac
    done
    while :; do
        words=
        case $path in
{1}        esac
        [ -n "$words" ] || [ "$path" = {0} ] && break
        path=${{path% *}}
    done
    COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -F _{0}_complete {0}
)",
                       program, cases);
}

std::string fish_script(const Words& words, const std::string& program) {
    std::string script = fmt::format("complete -c {} -f\n", program);
    for (const auto& [path, list] : words) {
        std::string parents = path.size() > program.size() ? path.substr(program.size() + 1) : "";
        std::string when = parents.empty()
                               ? "__fish_use_subcommand"
                               : fmt::format("string match -q '*{}*' (commandline -p)", path);
        script += fmt::format("complete -c {} -n \"{}\" -a '{}'\n", program, when, list);
    }
    return script;
}

}  // namespace

void add_completion(CLI::App& app, Context& context) {
    CLI::App* command = app.add_subcommand(
        "completion", "Print a completion script: source <(basalt completion bash)");
    auto shell = std::make_shared<std::string>();
    command->add_option("SHELL", *shell, "bash, zsh or fish")
        ->required()
        ->check(CLI::IsMember({"bash", "zsh", "fish"}));
    command->callback([shell, &app, &context] {
        context.action = [shell, &app]() -> Result<int> {
            Words words;
            collect(app, app.get_name(), words);
            if (*shell == "fish") {
                fmt::print("{}", fish_script(words, app.get_name()));
                return 0;
            }
            if (*shell == "zsh") fmt::print("autoload -U +X bashcompinit && bashcompinit\n");
            fmt::print("{}", bash_script(words, app.get_name()));
            return 0;
        };
    });
}

void add_version(CLI::App& app, Context& context) {
    app.add_subcommand("version", "Print the version of this program")->callback([&context] {
        context.action = []() -> Result<int> {
            fmt::print("basalt {}\n", BASALT_VERSION);
            return 0;
        };
    });
}

}  // namespace basalt::cmd
