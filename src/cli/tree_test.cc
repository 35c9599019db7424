#include "cli/tree.h"

#include <gtest/gtest.h>

namespace basalt::cli {
namespace {

Tree example() {
    Tree root{"tenant-a", "Ready", Mood::kGood, {}};
    Tree& pods = root.add({"Pods", "", Mood::kNeutral, {}});
    pods.add({"one", "runs", Mood::kGood, {}});
    pods.add({"two", "waits", Mood::kWaiting, {}});
    root.add({"DataStore", "full", Mood::kBad, {}});
    return root;
}

TEST(Tree, IsDrawnWithBranches) {
    EXPECT_EQ(draw(example(), false),
              "tenant-a  Ready\n"
              "├─ Pods\n"
              "│  ├─ one  runs\n"
              "│  └─ two  waits\n"
              "└─ DataStore  full\n");
}

TEST(Tree, OnlyNotesWithAMoodHaveColour) {
    EXPECT_EQ(draw(example(), true),
              "tenant-a  \033[32mReady\033[0m\n"
              "├─ Pods\n"
              "│  ├─ one  \033[32mruns\033[0m\n"
              "│  └─ two  \033[33mwaits\033[0m\n"
              "└─ DataStore  \033[31mfull\033[0m\n");
    EXPECT_EQ(draw({"label", "note", Mood::kNeutral, {}}, true), "label  note\n");
}

}  // namespace
}  // namespace basalt::cli
