#include "net/deflate.h"

#include <gtest/gtest.h>

#include <random>

namespace basalt::net {
namespace {

TEST(Deflate, GivesBackWhatWentIn) {
    std::mt19937 random(1);
    std::string noise(100'000, '\0');
    for (char& c : noise) c = static_cast<char>(random());
    for (const std::string& text :
         {std::string(), std::string("a"), std::string(70'000, 'x'), std::string(3, '\0'), noise}) {
        const std::string packed = deflate(text);
        EXPECT_EQ(inflate(packed, text.size()), text);
    }
}

TEST(Deflate, EveryLength) {
    std::string text;
    for (int i = 0; text.size() < 3000; ++i) text += "\"key" + std::to_string(i * i) + "\":{},";
    for (size_t size = 0; size <= text.size(); ++size) {
        const std::string part = text.substr(0, size);
        ASSERT_EQ(inflate(deflate(part), size), part);
    }
}

TEST(Deflate, RepetitionGoesAndNoiseHardlyGrows) {
    std::string text;
    for (int i = 0; i < 1000; ++i) text += R"("name":"kube-apiserver",)";
    EXPECT_LT(deflate(text).size(), text.size() / 50);
    std::mt19937 random(1);
    for (char& c : text) c = static_cast<char>(random());
    EXPECT_LT(deflate(text).size(), text.size() + text.size() / 100);
}

}  // namespace
}  // namespace basalt::net
