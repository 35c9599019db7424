// A tree as text, the way `tree` and `kubectl tree` draw it. Pure.
#pragma once

#include <string>
#include <vector>

namespace basalt::cli {

enum class Mood { kNeutral, kGood, kWaiting, kBad };

struct Tree {
    std::string label;
    std::string note;  ///< After the label, in the colour of the mood.
    Mood mood = Mood::kNeutral;
    std::vector<Tree> children;

    Tree& add(Tree child) {
        children.push_back(std::move(child));
        return children.back();
    }
};

/// One line a node, with a newline each.
std::string draw(const Tree& tree, bool colour);

}  // namespace basalt::cli
