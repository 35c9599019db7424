#include "cli/tree.h"

namespace basalt::cli {
namespace {

const char* colour_of(Mood mood) {
    switch (mood) {
        case Mood::kGood: return "\033[32m";
        case Mood::kWaiting: return "\033[33m";
        case Mood::kBad: return "\033[31m";
        case Mood::kNeutral: break;
    }
    return "";
}

void draw_node(const Tree& tree, const std::string& prefix, const std::string& child_prefix,
               bool colour, std::string& out) {
    out += prefix + tree.label;
    if (!tree.note.empty()) {
        bool coloured = colour && tree.mood != Mood::kNeutral;
        out += "  ";
        if (coloured) out += colour_of(tree.mood);
        out += tree.note;
        if (coloured) out += "\033[0m";
    }
    out += '\n';
    for (size_t i = 0; i < tree.children.size(); ++i) {
        bool last = i + 1 == tree.children.size();
        draw_node(tree.children[i], child_prefix + (last ? "└─ " : "├─ "),
                  child_prefix + (last ? "   " : "│  "), colour, out);
    }
}

}  // namespace

std::string draw(const Tree& tree, bool colour) {
    std::string out;
    draw_node(tree, "", "", colour, out);
    return out;
}

}  // namespace basalt::cli
