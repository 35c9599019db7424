// `basalt completion SHELL`: words of the command line, from the same declarations that parse it.
#include <CLI/CLI.hpp>
#include <map>
#include <memory>
#include <vector>

#include <fmt/format.h>

#include "base/strings.h"
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

/// All but the program itself: 'basalt nodes'|'basalt nodes list'|…
std::string quoted_commands(const Words& words, const std::string& separator) {
    std::vector<std::string> quoted;
    for (const auto& [path, list] : words) quoted.push_back("'" + path + "'");
    return join(quoted, separator);
}

// Also zsh's, whose own variables (path, words, options, …) must not be declared here. Words that
// are no command of the one before them are values of options and arguments.
std::string bash_script(const Words& words, const std::string& program) {
    std::string cases;
    for (const auto& [path, list] : words)
        cases += fmt::format("        '{}') basalt_choices='{}' ;;\n", path, list);
    return fmt::format(R"(_{0}_complete() {{
    local basalt_place={0} basalt_word basalt_choices=
    for basalt_word in "${{COMP_WORDS[@]:1:$((COMP_CWORD-1))}}"; do
        case "$basalt_place $basalt_word" in
        {2}) basalt_place="$basalt_place $basalt_word" ;;
        esac
    done
    case $basalt_place in
{1}    esac
    COMPREPLY=($(compgen -W "$basalt_choices" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -F _{0}_complete {0}
)",
                       program, cases, quoted_commands(words, "|"));
}

std::string fish_script(const Words& words, const std::string& program) {
    std::string script = fmt::format(R"(function __{0}_place
    set -l place {0}
    for word in (commandline -opc)
        if contains -- "$place $word" {1}
            set place "$place $word"
        end
    end
    echo $place
end
complete -c {0} -f
)",
                                     program, quoted_commands(words, " "));
    for (const auto& [path, list] : words) {
        script += fmt::format("complete -c {0} -n \"test (__{0}_place) = '{1}'\" -a '{2}'\n",
                              program, path, list);
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
